//! Long work in the running service, one of a kind at a time. What is known of it is in memory: after a restart there
//! are no tasks, and the work may be started again. Replicas know of each other's tasks, see [`shared`].

pub(super) mod backfill;
pub(super) mod reconcile;
mod report;
mod shared;
pub(super) mod verify;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use utoipa::ToSchema;

use self::report::{TaskReport, Watched};
use super::list::List;
use super::{Api, ApiError};
use crate::cluster::ClusterError;
use crate::domain::Timestamp;
use crate::http::ErrorBody;
use crate::reconcile::Reconciler;

/// How many are remembered.
const REMEMBERED: usize = 50;

/// The tasks of this process.
pub(super) struct Tasks {
    /// HTTP threads must not be kept busy with hashing.
    runtime: Handle,
    known: Mutex<VecDeque<Arc<Task>>>,
}

struct Task {
    id: String,
    watched: Watched,
    started_at: Timestamp,
    end: OnceLock<(Timestamp, Option<String>)>,
    abort: AbortHandle,
}

/// A piece of long work.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskView {
    /// Its id.
    #[schema(example = "task_01jd0000000000000000000000")]
    task_id: String,
    /// `verify`, `reconcile` or `backfill`.
    kind: &'static str,
    /// `running`, `done` or `failed`. A verification that found damage is `done`.
    state: &'static str,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// How far it is.
    progress: ProgressView,
    /// What it has found so far; in a list without the findings themselves.
    report: TaskReport,
    /// Why it failed.
    error: Option<String>,
}

/// A task of this replica, or of another as that has shown it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum AnyTask {
    Here(Box<TaskView>),
    Elsewhere(Value),
}

/// How far a task is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgressView {
    /// Steps done.
    done: u64,
    /// Steps there will be, as far as can be told.
    total: u64,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { runtime: Handle::current(), known: Mutex::default() }
    }

    pub(super) fn stop(&self) {
        for task in self.known.lock().iter() {
            task.abort.abort();
        }
    }

    /// Starts `work` under an id, unless one of its kind is running; then that one's id is the error.
    fn start(
        &self,
        id: String,
        watched: Watched,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> Result<Arc<Task>, String> {
        let kind = watched.kind();
        let mut known = self.known.lock();
        if let Some(running) = known.iter().find(|task| task.watched.kind() == kind && task.end.get().is_none()) {
            return Err(running.id.clone());
        }
        let running = self.runtime.spawn(work);
        let (end, abort) = (OnceLock::new(), running.abort_handle());
        let task = Arc::new(Task { id, watched, started_at: Timestamp::now(), end, abort });
        // The kinds are fewer than what is remembered, so one that has ended is among them.
        if known.len() == REMEMBERED
            && let Some(oldest) = known.iter().position(|task| task.end.get().is_some())
        {
            known.remove(oldest);
        }
        known.push_back(task.clone());
        let ended = task.clone();
        self.runtime.spawn(async move {
            let error = match running.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(error) if error.is_cancelled() => Some("the service stopped".to_owned()),
                Err(_) => Some("a defect in replyvault cut it off".to_owned()),
            };
            match &error {
                None => tracing::info!(task = ended.id, kind, "a task is done"),
                Some(error) => tracing::error!(task = ended.id, kind, error, "a task failed"),
            }
            let _ = ended.end.set((Timestamp::now(), error));
        });
        Ok(task)
    }

    fn all(&self) -> Vec<Arc<Task>> {
        self.known.lock().iter().rev().cloned().collect()
    }
}

impl Task {
    fn view(&self) -> TaskView {
        let end = self.end.get();
        let (done, total) = self.watched.position();
        TaskView {
            task_id: self.id.clone(),
            kind: self.watched.kind(),
            state: match end {
                None => "running",
                Some((_, None)) => "done",
                Some((_, Some(_))) => "failed",
            },
            started_at: self.started_at,
            ended_at: end.map(|(at, _)| *at),
            progress: ProgressView { done, total },
            report: self.watched.report(),
            error: end.and_then(|(_, error)| error.clone()),
        }
    }
}

/// Starts a task and answers with it, or with the one of its kind that runs here or on another replica.
async fn start(
    api: &Api,
    watched: Watched,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
    what: &str,
) -> Result<HttpResponse, ApiError> {
    let tasks = &api.inner.tasks;
    let conflict = |running: String| {
        let message = format!("{what} is running already: {running}");
        ApiError::new(StatusCode::CONFLICT, "already_running", message)
    };
    let id = format!("task_{}", ulid::Ulid::generate().to_string().to_ascii_lowercase());
    let Some(cluster) = api.intake().log().cluster() else {
        return tasks.start(id, watched, work).map(accepted).map_err(conflict);
    };
    let kind = watched.kind();
    if let Some(running) = shared::claim(cluster, kind, &id).await.map_err(unreachable)? {
        return Err(conflict(running));
    }
    match tasks.start(id.clone(), watched, work) {
        Ok(task) => {
            // Whoever asks another replica next finds it there.
            if let Err(error) = shared::write(cluster, &task).await {
                tracing::debug!(%error, task = task.id, "other replicas do not know of a task yet");
            }
            tasks.runtime.spawn(shared::publish(cluster.clone(), task.clone()));
            Ok(accepted(task))
        }
        Err(running) => {
            shared::give_up(cluster, kind, &id).await;
            Err(conflict(running))
        }
    }
}

fn accepted(task: Arc<Task>) -> HttpResponse {
    HttpResponse::Accepted().json(task.view())
}

fn unreachable(error: ClusterError) -> ApiError {
    tracing::debug!(%error, "tasks of other replicas cannot be asked for");
    ApiError::unavailable("the tasks of other replicas cannot be asked for right now")
}

/// Who asks the provider, if this service has a token for it.
fn provider_asker(api: &Api) -> Result<Reconciler, ApiError> {
    let message = "this service asks the provider nothing: provider.api_token is not set";
    let reconciler = api.inner.reconciler.clone();
    reconciler.ok_or_else(|| ApiError::new(StatusCode::CONFLICT, "no_provider_token", message))
}

/// Lists the last 50 tasks since the service was started, newest first, without their findings. Where there are replicas, the
/// last 100 of all within seven days.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks",
    responses(
        (status = 200, description = "all there are", body = List<TaskView>),
        (status = 503, description = "other replicas' tasks cannot be asked for right now", body = ErrorBody),
    )
)]
pub(super) async fn list(api: Data<Api>) -> Result<Json<List<AnyTask>>, ApiError> {
    let mut items = BTreeMap::new();
    if let Some(cluster) = api.intake().log().cluster() {
        for (id, mut view) in shared::all(cluster).await.map_err(unreachable)? {
            if let Some(findings) = view["report"].get_mut("findings") {
                *findings = json!([]);
            }
            items.insert(Reverse(id), AnyTask::Elsewhere(view));
        }
    }
    for task in api.inner.tasks.all() {
        let mut view = task.view();
        view.report.shorten();
        items.insert(Reverse(task.id.clone()), AnyTask::Here(Box::new(view)));
    }
    Ok(Json(List::new(items.into_values().collect(), None)))
}

/// Shows a task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{taskId}", tag = "tasks", params(("taskId" = String, Path)),
    responses(
        (status = 200, description = "the task", body = TaskView),
        (status = 404, description = "no such task since the service was started", body = ErrorBody),
        (status = 503, description = "other replicas' tasks cannot be asked for right now", body = ErrorBody),
    )
)]
pub(super) async fn show(api: Data<Api>, id: Path<String>) -> Result<Json<AnyTask>, ApiError> {
    if let Some(task) = api.inner.tasks.all().into_iter().find(|task| task.id == *id) {
        return Ok(Json(AnyTask::Here(Box::new(task.view()))));
    }
    let elsewhere = match api.intake().log().cluster() {
        Some(cluster) => shared::find(cluster, &id).await.map_err(unreachable)?,
        None => None,
    };
    elsewhere.map(|view| Json(AnyTask::Elsewhere(view))).ok_or_else(|| ApiError::not_found("task"))
}
