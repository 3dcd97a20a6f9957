//! Tasks of all replicas: each writes what becomes of its own where the others can read it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Task;
use crate::cluster::{Cluster, ClusterError, Note};
use crate::domain::Timestamp;

/// Notes of this kind have a task's id, and the task as the API shows it.
const TASK: &str = "task";
/// Notes of this kind have the kind of a task, and the id of the one that runs.
const RUNNING: &str = "running-task";
/// Between two looks at a task that runs.
const PAUSE: Duration = Duration::from_secs(5);
/// A replica that has written nothing about a task for so long runs it no more, in seconds.
const LEASE: u32 = 30;
/// For how long it can be read what became of a task, in seconds.
const REMEMBERED: u32 = 7 * 24 * 60 * 60;
/// Of how many tasks, at most: a report can have hundreds of findings.
const MAX_TASKS: u32 = 100;
/// For how long it is tried to write that down.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Has no other replica begin a task of this kind. The id of the one that runs, if one does.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) async fn claim(cluster: &Cluster, kind: &str, id: &str) -> Result<Option<String>, ClusterError> {
    cluster.claim_note(RUNNING, kind, id, LEASE).await
}

/// Takes that back.
pub(super) async fn give_up(cluster: &Cluster, kind: &str, id: &str) {
    if let Err(error) = cluster.remove_note(RUNNING, kind, id).await {
        tracing::debug!(%error, "another task of its kind can begin in half a minute");
    }
}

/// Writes down how far a task is.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) async fn write(cluster: &Cluster, task: &Task) -> Result<(), ClusterError> {
    let body = serde_json::to_string(&task.view()).unwrap_or_default();
    cluster.put_note(TASK, &task.id, &body, REMEMBERED).await
}

/// Writes down how far a task is until it has ended.
pub(super) async fn publish(cluster: Cluster, task: Arc<Task>) {
    let kind = task.watched.kind();
    let mut ended_at = None;
    loop {
        let has_ended = task.end.get().is_some();
        match write(&cluster, &task).await {
            Ok(()) if has_ended => {
                if let Err(error) = cluster.trim_notes(TASK, MAX_TASKS).await {
                    tracing::debug!(%error, "old tasks are forgotten after the next one");
                }
                return give_up(&cluster, kind, &task.id).await;
            }
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, task = task.id, "other replicas do not know how far a task is"),
        }
        if has_ended {
            if ended_at.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                return;
            }
        } else if let Err(error) = claim(&cluster, kind, &task.id).await {
            tracing::debug!(%error, task = task.id, "another replica may begin a task of this kind");
        }
        sleep(PAUSE).await;
    }
}

/// A task that another replica runs or ran.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) async fn find(cluster: &Cluster, id: &str) -> Result<Option<Value>, ClusterError> {
    Ok(cluster.notes(TASK, &[id]).await?.first().and_then(view))
}

/// The tasks of all replicas, newest first.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) async fn all(cluster: &Cluster) -> Result<Vec<(String, Value)>, ClusterError> {
    let notes = cluster.notes(TASK, &[]).await?;
    Ok(notes.iter().filter_map(|note| Some((note.key.clone(), view(note)?))).collect())
}

/// The task as its replica wrote it; a task of a replica that is gone has failed.
fn view(note: &Note) -> Option<Value> {
    let mut view: Value = serde_json::from_str(&note.body).ok()?;
    if view["state"] == "running" && note.age > u64::from(LEASE) {
        let last = Timestamp::from_millis_clamped(Timestamp::now().millis().saturating_sub(note.age * 1000));
        view["state"] = json!("failed");
        view["endedAt"] = json!(last);
        view["error"] = json!("the replica that it ran on has ended");
    }
    Some(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_task_of_a_replica_that_is_gone_has_failed() {
        let body = r#"{"taskId":"task_1","state":"running","endedAt":null,"error":null}"#;
        let shown = |age| view(&Note { key: "task_1".to_owned(), body: body.to_owned(), age }).unwrap();
        assert_eq!(shown(u64::from(LEASE))["state"], "running");
        let failed = shown(u64::from(LEASE) + 1);
        assert_eq!(failed["state"], "failed");
        assert!(failed["endedAt"].is_string() && failed["error"].is_string(), "{failed}");
    }
}
