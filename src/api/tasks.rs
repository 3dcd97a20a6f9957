//! Long work in the running service, one of a kind at a time. What is known of it is in memory: after a restart there
//! are no tasks, and the work may be started again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path, Payload};
use actix_web::{HttpResponse, ResponseError};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use utoipa::ToSchema;

use super::list::List;
use super::{Api, Problem, input};
use crate::domain::Timestamp;
use crate::intake::ErrorBody;
use crate::repair::{Options, Progress, Report, Sample};

/// How many are remembered.
const REMEMBERED: usize = 50;
/// How many findings of each are kept; all are counted. As many as an answer may well hold.
const FINDINGS: usize = 500;

/// The tasks of this process.
pub(super) struct Tasks {
    /// HTTP threads must not be kept busy with hashing.
    runtime: Handle,
    known: Mutex<VecDeque<Arc<Task>>>,
}

struct Task {
    id: String,
    kind: &'static str,
    started_at: Timestamp,
    progress: Arc<Progress>,
    end: OnceLock<(Timestamp, Option<String>)>,
    abort: AbortHandle,
}

/// What a verification is to do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct VerifyRequest {
    /// Of how many objects the bytes are hashed; `100%` by default.
    #[schema(example = "5%")]
    sample: Option<String>,
    /// Whether to mend what can be; false by default.
    repair: Option<bool>,
}

/// A piece of long work.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskView {
    /// Its id.
    #[schema(example = "task_01jd0000000000000000000000")]
    task_id: String,
    /// `verify`.
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
    report: Report,
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
    fn start<F>(&self, kind: &'static str, work: impl FnOnce(Arc<Progress>) -> F) -> Result<Arc<Task>, String>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = known.iter().find(|task| task.kind == kind && task.end.get().is_none()) {
            return Err(running.id.clone());
        }
        let progress = Arc::new(Progress::new(FINDINGS, |_| {}));
        let running = self.runtime.spawn(work(progress.clone()));
        let id = format!("task_{}", ulid::Ulid::generate().to_string().to_ascii_lowercase());
        let (end, abort) = (OnceLock::new(), running.abort_handle());
        let task = Arc::new(Task { id, kind, started_at: Timestamp::now(), progress, end, abort });
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
        let (done, total) = self.progress.position();
        TaskView {
            task_id: self.id.clone(),
            kind: self.kind,
            state: match end {
                None => "running",
                Some((_, None)) => "done",
                Some((_, Some(_))) => "failed",
            },
            started_at: self.started_at,
            ended_at: end.map(|(at, _)| *at),
            progress: ProgressView { done, total },
            report: self.progress.report(),
            error: end.and_then(|(_, error)| error.clone()),
        }
    }
}

/// Starts reading the bucket back.
#[utoipa::path(
    post, path = "/api/v1/tasks/verify", tag = "tasks", request_body = VerifyRequest,
    responses(
        (status = 202, description = "the task", body = TaskView),
        (status = 409, description = "one is running already", body = ErrorBody),
        (status = 422, description = "not what was expected", body = ErrorBody),
    )
)]
pub(super) async fn verify(api: Data<Api>, payload: Payload) -> Result<HttpResponse, Problem> {
    let request: VerifyRequest = input::json(payload).await?;
    let sample = request.sample.map_or(Ok(Sample::ALL), |text| text.parse());
    let sample = sample.map_err(|error| input::unprocessable(&format!("sample: {error}")))?;
    let options = Options { sample, repair: request.repair.unwrap_or(false) };
    let verifier = api.inner.verifier.clone();
    let started = api.inner.tasks.start("verify", |progress| async move {
        verifier.run(options, &progress).await.map_err(|error| error.to_string())
    });
    match started {
        Ok(task) => Ok(HttpResponse::Accepted().json(task.view())),
        Err(running) => {
            let message = format!("a verification is running already: {running}");
            Err(Problem::new(StatusCode::CONFLICT, "already_running", message))
        }
    }
}

/// For the kinds of tasks that this service cannot do.
pub(super) async fn not_available() -> HttpResponse {
    let message = "this service cannot do that yet";
    Problem::new(StatusCode::NOT_IMPLEMENTED, "not_available", message).error_response()
}

/// Lists the last 50 tasks since the service was started, newest first, without their findings.
#[utoipa::path(
    get, path = "/api/v1/tasks", tag = "tasks",
    responses((status = 200, description = "all there are", body = List<TaskView>))
)]
pub(super) async fn list(api: Data<Api>) -> Json<List<TaskView>> {
    let items = api.inner.tasks.all().into_iter().map(|task| {
        let mut view = task.view();
        view.report.findings.clear();
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
pub(super) async fn show(api: Data<Api>, id: Path<String>) -> Result<Json<TaskView>, Problem> {
    let found = api.inner.tasks.all().into_iter().find(|task| task.id == *id);
    found.map(|task| Json(task.view())).ok_or_else(|| Problem::not_found("task"))
}
