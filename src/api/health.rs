//! Whether the process serves, and whether it can do its work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::cached_check::CachedCheck;
use crate::bucket::BucketError;
use crate::disk::free_bytes;
use crate::reconcile::Reconciler;

/// How long a write to the journal may take. Callers wait for twice as long.
const STUCK: Duration = Duration::from_secs(5);

/// What readiness remembers between two questions.
pub(super) struct Health {
    data_dir: Arc<std::path::Path>,
    min_free_bytes: u64,
    state: CachedCheck,
    storage: CachedCheck,
    disk: CachedCheck,
}

impl Health {
    pub(super) fn new(data_dir: PathBuf, min_free_bytes: u64) -> Self {
        Self {
            data_dir: data_dir.into(),
            min_free_bytes,
            state: CachedCheck::new(Duration::from_secs(1)),
            // Somebody may be billed for it.
            storage: CachedCheck::new(Duration::from_secs(10)),
            disk: CachedCheck::new(Duration::from_secs(2)),
        }
    }
}

/// Whether the service can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ok` when every check is, else `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// What was looked at.
    pub checks: Checks,
}

/// What was looked at: `ok`, or what is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    /// Whether the last callback could be made durable, and the one being written does not take long.
    #[schema(example = "ok")]
    pub journal: &'static str,
    /// Whether jobs can be looked up, and what comes in reaches them.
    #[schema(example = "ok")]
    pub state: &'static str,
    /// Whether the bucket is there and lets us in.
    #[schema(example = "ok")]
    pub storage: &'static str,
    /// Whether there is room for the journal.
    #[schema(example = "ok")]
    pub disk: &'static str,
    /// Where there are replicas: `ok`, or what is wrong with the log that they share, how many callbacks wait here for it, or
    /// how far this replica is behind. The status does not depend on it: callbacks are taken all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Why the provider does not let us ask, if it does not. The status does not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<&'static str>,
}

/// The process serves.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// 200 while the process serves.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "it serves", body = Alive)))]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(Alive { status: "ok" })
}

/// Whether the service can do its work. Writes nothing, and answers within three seconds.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "it can", body = Readiness),
        (status = 503, description = "a check says what is wrong", body = Readiness),
    )
)]
pub(super) async fn readyz(api: Data<Api>) -> HttpResponse {
    let readiness = api.readiness().await;
    let mut response = match readiness.status {
        "ok" => HttpResponse::Ok(),
        _ => HttpResponse::ServiceUnavailable(),
    };
    response.insert_header((CACHE_CONTROL, "no-store")).json(readiness)
}

impl Api {
    /// Looks at everything the service needs, all at once. Takes two seconds at most.
    pub async fn readiness(&self) -> Readiness {
        let (state, storage, disk) = tokio::join!(self.state_problem(), self.storage_problem(), self.disk_problem());
        let problems = [self.journal_problem(), state, storage, disk];
        let status = if problems.iter().all(Option::is_none) { "ok" } else { "unavailable" };
        let [journal, state, storage, disk] = problems.map(|problem| problem.unwrap_or("ok"));
        let provider = self.inner.reconciler.as_ref().and_then(Reconciler::trouble);
        let cluster = self.intake().log().cluster().map(|cluster| {
            let health = cluster.health();
            match (health.away.is_some(), health.waiting, health.behind) {
                (false, 0, 0) => "ok".to_owned(),
                (false, 0, behind) => format!("behind the shared log by {}", bytesize::ByteSize(behind)),
                (false, waiting, _) => format!("{waiting} callbacks that waited here go into the shared log"),
                (true, waiting, _) => format!("the shared log cannot be reached; {waiting} callbacks wait here"),
            }
        });
        Readiness { status, checks: Checks { journal, state, storage, disk, cluster, provider } }
    }

    /// Why it failed is in the log, with paths that are nobody else's business.
    pub(super) fn journal_problem(&self) -> Option<&'static str> {
        let log = self.intake().log();
        if log.appending_for() >= STUCK {
            return Some("a write is under way for more than 5 s");
        }
        log.journal_failure().map(|_| "the last write failed")
    }

    async fn state_problem(&self) -> Option<&'static str> {
        if let Some(problem) = self.state().problem() {
            return Some(problem);
        }
        let state = self.state().clone();
        let read = move || state.counters().err().map(|_| "it cannot be read");
        self.inner.health.state.problem(|| blocking(read)).await
    }

    async fn storage_problem(&self) -> Option<&'static str> {
        let bucket = self.inner.bucket.clone();
        let probe = async move {
            let error = bucket.probe().await.err()?;
            tracing::warn!(%error, "the storage is not ready");
            Some(match error {
                BucketError::Denied(_) => "access denied",
                BucketError::Full(_) => "full",
                BucketError::NoListing => "s3:ListBucket is not granted: a missing object reads as a forbidden one",
                BucketError::Foreign(_) => "not the bucket of this vault: is it mounted?",
                _ => "not reachable",
            })
        };
        self.inner.health.storage.problem(|| probe).await
    }

    async fn disk_problem(&self) -> Option<&'static str> {
        let (dir, least) = (self.inner.health.data_dir.clone(), self.inner.health.min_free_bytes);
        let look = move || match free_bytes(&dir) {
            Ok(free) if free >= least => None,
            Ok(_) => Some("too little room left"),
            Err(_) => Some("it cannot be looked at"),
        };
        self.inner.health.disk.problem(|| blocking(look)).await
    }
}

async fn blocking(look: impl FnOnce() -> Option<&'static str> + Send + 'static) -> Option<&'static str> {
    tokio::task::spawn_blocking(look).await.unwrap_or(Some("it could not be asked"))
}
