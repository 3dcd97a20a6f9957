//! Long work that the running service does, watched from here.

use std::pin::pin;

use serde_json::Value;

use super::progress::{ProgressDisplay, TICK};
use super::{Failure, client};
use crate::app;
use crate::config::Config;

/// Has the running service do work of a kind. `each` is shown the task as it goes on, and names what is counted. Gives the
/// task as it was last seen, and why it is not done.
pub(super) async fn watch(
    config: &Config,
    kind: &str,
    body: &Value,
    shown: &ProgressDisplay,
    mut each: impl FnMut(&Value) -> Result<String, Failure>,
) -> Result<(Value, Option<String>), Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let mut task = client::post(config, &credentials, &format!("/api/v1/tasks/{kind}"), body).await?;
    let id = task["taskId"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/tasks/{id}");
    let mut shutdown_signal = pin!(app::shutdown_signal());
    let error = loop {
        let what = each(&task)?;
        let number = |name: &str| task["progress"][name].as_u64().unwrap_or_default();
        shown.at((number("done"), number("total")), &what);
        if task["state"] != "running" {
            break task["error"].as_str().map(str::to_owned);
        }
        tokio::select! {
            () = &mut shutdown_signal => break Some(format!("not waited for: {id} goes on in the service")),
            () = tokio::time::sleep(TICK) => {}
        }
        task = client::get(config, &credentials, &path).await?;
    };
    Ok((task, error))
}

/// What a task has found, in the form of its kind.
pub(super) fn report<R: serde::de::DeserializeOwned>(task: &Value) -> Result<R, Failure> {
    serde_json::from_value(task["report"].clone()).map_err(|_| Failure::runtime("the service's answer is not a task"))
}
