//! What one would use instead of replyvault to take callbacks.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::process::{Process, find, free_address};

/// A running server that takes callbacks.
pub(crate) struct Peer {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// Where peers take callbacks: the form of replyvault's own path.
pub(crate) const PATH: &str = "/reply/minimax/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The same web server that replyvault has, which answers and does nothing else.
pub(crate) fn answer(dir: &Path) -> Result<Peer, Failure> {
    let program = find("answer").ok_or_else(|| Failure("the peer `answer` is not built".into()))?;
    start(dir, |address| {
        let mut command = Command::new(program);
        command.arg(address.port().to_string());
        Ok(command)
    })
}

/// FastAPI with SQLite. `None` where it is not installed.
pub(crate) fn receiver(dir: &Path) -> Result<Option<Peer>, Failure> {
    let Some(program) = find("uvicorn") else { return Ok(None) };
    fs::write(dir.join("receiver.py"), include_str!("../peers/receiver.py"))?;
    let peer = start(dir, |address| {
        let mut command = Command::new(program);
        command.args(["receiver:app", "--workers", "2", "--no-access-log", "--log-level", "warning"]);
        command.args(["--port", &address.port().to_string()]).current_dir(dir);
        Ok(command)
    })?;
    Ok(Some(peer))
}

/// FastAPI with procrastinate, a queue in the PostgreSQL at `url`. `None` where it is not installed.
pub(crate) fn queue(dir: &Path, url: &str) -> Result<Option<Peer>, Failure> {
    let (Some(program), Some(procrastinate)) = (find("uvicorn"), find("procrastinate")) else { return Ok(None) };
    fs::write(dir.join("callbacks.py"), include_str!("../peers/queue.py"))?;
    let mut schema = Command::new(procrastinate);
    schema.args(["--app", "callbacks.queue", "schema", "--apply"]).current_dir(dir);
    let made = schema.env("DATABASE", url).env("PYTHONPATH", dir).output()?;
    if !made.status.success() {
        return Err(Failure(format!("procrastinate: {}", String::from_utf8_lossy(&made.stderr))));
    }
    let peer = start(dir, |address| {
        let mut command = Command::new(program);
        command.args(["callbacks:app", "--workers", "2", "--no-access-log", "--log-level", "warning"]);
        command.args(["--port", &address.port().to_string()]).current_dir(dir).env("DATABASE", url);
        Ok(command)
    })?;
    Ok(Some(peer))
}

/// Debian's `webhook`, which starts a program for each callback. `None` where it is not installed.
pub(crate) fn webhook(dir: &Path) -> Result<Option<Peer>, Failure> {
    let Some(program) = find("webhook") else { return Ok(None) };
    let id = PATH.trim_start_matches("/reply/");
    let hooks = serde_json::json!([{"id": id, "execute-command": "/bin/true", "http-methods": ["POST"]}]);
    fs::write(dir.join("hooks.json"), hooks.to_string())?;
    let peer = start(dir, |address| {
        let mut command = Command::new(program);
        command.args(["-ip", "127.0.0.1", "-urlprefix", "reply", "-hooks", "hooks.json"]);
        command.args(["-port", &address.port().to_string()]).current_dir(dir);
        Ok(command)
    })?;
    Ok(Some(peer))
}

fn start(dir: &Path, command: impl FnOnce(SocketAddr) -> Result<Command, Failure>) -> Result<Peer, Failure> {
    let address = free_address()?;
    let process = Process::start(&mut command(address)?, dir)?.listening(address)?;
    Ok(Peer { process, address })
}
