//! Long work in the running service, one of a kind at a time. What is known of it is in memory: after a restart there
//! are no tasks, and the work may be started again.

pub(super) mod backfill;
pub(super) mod reconcile;
mod report;
pub(super) mod verify;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use utoipa::ToSchema;

use self::report::{TaskReport, Watched};
use super::list::List;
use super::{Api, ApiError};
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
        for task in self.known.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            task.abort.abort();
        }
    }

    /// Starts `work`, unless one of its kind is running; then that one's id is the error.
    fn start(
        &self,
        watched: Watched,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> Result<Arc<Task>, String> {
        let kind = watched.kind();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = known.iter().find(|task| task.watched.kind() == kind && task.end.get().is_none()) {
            return Err(running.id.clone());
        }
        let running = self.runtime.spawn(work);
        let id = format!("task_{}", ulid::Ulid::generate().to_string().to_ascii_lowercase());
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
        self.known.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
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

/// Answers with the task that was started, or with the one of its kind that runs.
fn started(started: Result<Arc<Task>, String>, what: &str) -> Result<HttpResponse, ApiError> {
    match started {
        Ok(task) => Ok(HttpResponse::Accepted().json(task.view())),
        Err(running) => {
            let message = format!("{what} is running already: {running}");
            Err(ApiError::new(StatusCode::CONFLICT, "already_running", message))
        }
    }
}

/// Who asks the provider, if this service has a token for it.
fn provider_asker(api: &Api) -> Result<Reconciler, ApiError> {
    let message = "this service asks the provider nothing: provider.api_token is not set";
    let reconciler = api.inner.reconciler.clone();
    reconciler.ok_or_else(|| ApiError::new(StatusCode::CONFLICT, "no_provider_token", message))
}

/// Lists the last 50 tasks since the service was started, newest first, without their findings.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks",
    responses((status = 200, description = "all there are", body = List<TaskView>))
)]
pub(super) async fn list(api: Data<Api>) -> Json<List<TaskView>> {
    let items = api.inner.tasks.all().into_iter().map(|task| {
        let mut view = task.view();
        view.report.shorten();
        view
    });
    Json(List::new(items.collect(), None))
}

/// Shows a task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{taskId}", tag = "tasks", params(("taskId" = String, Path)),
    responses(
        (status = 200, description = "the task", body = TaskView),
        (status = 404, description = "no such task since the service was started", body = ErrorBody),
    )
)]
pub(super) async fn show(api: Data<Api>, id: Path<String>) -> Result<Json<TaskView>, ApiError> {
    let found = api.inner.tasks.all().into_iter().find(|task| task.id == *id);
    found.map(|task| Json(task.view())).ok_or_else(|| ApiError::not_found("task"))
}
