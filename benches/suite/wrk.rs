//! wrk, to see that the suite's own client is no slower: what it cannot ask for, no server can answer.

use std::net::SocketAddr;
use std::process::Command;

use crate::Plan;
use crate::callback::{Callback, ONE_REF};
use crate::failure::Failure;
use crate::load::CONNECTIONS;
use crate::peers::PATH;
use crate::process::find;

/// Requests a second that wrk makes of a server. `None` where it is not installed.
pub(crate) fn rate(plan: &Plan, address: SocketAddr) -> Result<Option<f64>, Failure> {
    let Some(program) = find("wrk") else { return Ok(None) };
    let body = Callback::progress(address, PATH, ONE_REF).body(0);
    let script = plan.dir.join("post.lua");
    let body = String::from_utf8_lossy(&body).into_owned();
    std::fs::write(&script, format!("wrk.method = \"POST\"\nwrk.body = [==[{body}]==]\n"))?;
    let (connections, seconds) = (CONNECTIONS.to_string(), plan.pick(1, 3).to_string());
    let mut command = Command::new(program);
    command.args(["-t", "2", "-c", &connections, "-d", &seconds, "-s"]).arg(script);
    let printed = command.arg(format!("http://{address}{PATH}")).output()?.stdout;
    let printed = String::from_utf8_lossy(&printed);
    let rate = printed.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.map(Some).ok_or_else(|| Failure(format!("wrk says: {printed}")))
}
