//! What people and programs ask of the vault: the query API, health, metrics, and a page that says what this is.
//!
//! Everything under `/api` is behind one guard, which is around the scope and not in the handlers, so that
//! none can forget it. The module decides nothing about jobs: it reads [`State`] and [`Bucket`], and leaves every change
//! to [`Intake`]. Reads of the state block, so they go through `Api::read`.

mod auth;
mod cached_check;
mod cookie;
mod ended_sessions;
mod events;
mod extract;
mod health;
mod jobs;
mod list;
mod manifest;
mod media;
mod metrics;
mod notifications;
mod openapi;
mod page;
mod places;
mod quarantine;
mod rate;
mod refs;
mod session;
mod stats;
mod tasks;
mod wait;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, PathConfig, ServiceConfig};
use actix_web::{HttpResponse, Resource, ResponseError, Route, guard};

pub use auth::{Scope, Token};
pub use health::Readiness;
pub use media::range;
pub use metrics::observe;

use crate::bucket::{Bucket, Links};
use crate::domain::{JobView, Timestamp};
use crate::egress::Policy;
use crate::http::ApiError;
use crate::intake::Intake;
use crate::reconcile::Reconciler;
use crate::repair::Verifier;
use crate::search::Search;
use crate::state::{JobRecord, State, StateError};

/// Who may ask, and what readiness looks at.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who may use the API. Without any, nobody may.
    pub tokens: Vec<Token>,
    /// Where journal and state are.
    pub data_dir: PathBuf,
    /// Bytes that have to be free there for the service to be ready; [`Config::MIN_FREE_BYTES`] is a good number.
    pub min_free_bytes: u64,
    /// Where callers may have events sent.
    pub receivers: Policy,
}

impl Config {
    /// Room for the journal to go on for a while: 64 MiB.
    pub const MIN_FREE_BYTES: u64 = 64 << 20;
}

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    access: auth::Access,
    receivers: Policy,
    intake: Intake,
    search: Search,
    bucket: Bucket,
    links: Links,
    health: health::Health,
    answers: metrics::Answers,
    verifier: Verifier,
    reconciler: Option<Reconciler>,
    tasks: tasks::Tasks,
    waiting: wait::Shares,
    places: places::Places,
    /// Tells event ids of this process from those of others.
    run: u32,
    rate: rate::Rate,
    thumbnails: media::thumbnail::Thumbnails,
}

impl Api {
    /// Answers from what `intake` writes to and from `bucket`. Without a `reconciler` nobody asks the
    /// provider. Long tasks run on the runtime that this is called in.
    pub fn new(
        config: Config,
        intake: Intake,
        search: Search,
        links: Links,
        bucket: Bucket,
        verifier: Verifier,
        reconciler: Option<Reconciler>,
    ) -> Self {
        let Config { tokens, data_dir, min_free_bytes, receivers } = config;
        let access = auth::Access::new(&tokens, &data_dir);
        let health = health::Health::new(data_dir, min_free_bytes);
        let answers = metrics::Answers::default();
        let (run, rate) = (rand::random(), rate::Rate::default());
        let thumbnails = media::thumbnail::Thumbnails::default();
        let tasks = tasks::Tasks::new();
        let (waiting, places) = (wait::Shares::default(), places::Places::default());
        let inner = Inner {
            access,
            receivers,
            intake,
            search,
            bucket,
            links,
            health,
            answers,
            verifier,
            reconciler,
            tasks,
            run,
            rate,
            thumbnails,
            waiting,
            places,
        };
        let api = Self { inner: Arc::new(inner) };
        tokio::spawn(note_rate(Arc::downgrade(&api.inner)));
        api
    }

    /// Ends the long tasks that run: the service stops.
    pub fn stop(&self) {
        self.inner.tasks.stop();
    }

    fn intake(&self) -> &Intake {
        &self.inner.intake
    }

    fn state(&self) -> &State {
        self.inner.intake.log().state()
    }

    /// Reads the state on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let state = self.state().clone();
        match web::block(move || read(&state)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ApiError::unavailable("the state cannot be read right now")),
        }
    }

    /// Adds links to jobs: ours, and those that the store signs where they are wanted.
    async fn add_links(&self, views: &mut [JobView], presigned: bool) -> Result<(), ApiError> {
        for view in views {
            self.inner.links.add(view);
            if presigned {
                let signed = self.inner.links.add_presigned(view).await;
                signed.map_err(|_| ApiError::unavailable("links cannot be signed right now"))?;
            }
        }
        Ok(())
    }
}

/// Counts callbacks by the minute for as long as there is somebody to ask for it.
async fn note_rate(api: std::sync::Weak<Inner>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        let Some(inner) = api.upgrade() else { return };
        let api = Api { inner };
        if let Ok(callbacks) = api.read(|state| Ok(state.counters()?.callbacks)).await {
            api.inner.rate.note(Timestamp::now(), callbacks);
        }
    }
}

/// What is shown of jobs, but for links. Blocks: it belongs into the same [`Api::read`] that they are read in.
fn job_views(state: &State, records: &[JobRecord]) -> Result<Vec<JobView>, StateError> {
    let labels = state.labels_of_all(records.iter().map(|record| &record.job))?;
    Ok(records.iter().map(|record| view_of(state, record, labels.of(&record.job))).collect())
}

/// The same of one.
fn job_view(state: &State, record: &JobRecord) -> Result<JobView, StateError> {
    Ok(view_of(state, record, state.labels_of(&record.job)?))
}

fn view_of(state: &State, JobRecord { sequence, job }: &JobRecord, labels: BTreeMap<String, String>) -> JobView {
    JobView { labels: Some(labels), ..JobView::new(job, |asset| state.is_fetching(*sequence, &asset.slot)) }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

/// Adds every endpoint of this module, and the answer to paths that nobody knows. They need `Data<Api>`; [`observe`]
/// is for every answer of the whole app.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/", "GET, HEAD").route(get().to(page::index)))
        .service(resource("/ui/{version}/{file:.*}", "GET, HEAD").route(get().to(page::asset)))
        .service(resource("/healthz", "GET, HEAD").route(get().to(health::healthz)))
        .service(resource("/readyz", "GET, HEAD").route(get().to(health::readyz)))
        .service(resource("/metrics", "GET, HEAD").route(get().to(metrics::metrics)))
        .service(
            web::scope("/api")
                .wrap(from_fn(auth::guard))
                .app_data(PathConfig::default().error_handler(|_, _| ApiError::not_found("path").into()))
                .service(web::scope("/v1").configure(v1))
                .default_service(web::to(unknown_path)),
        )
        .default_service(web::to(unknown_path));
}

fn v1(config: &mut ServiceConfig) {
    config
        .service(resource("/jobs", "GET, HEAD").route(get().to(jobs::list)))
        .service(resource("/jobs/days", "GET, HEAD").route(get().to(jobs::days)))
        .service(resource("/jobs/zip", "GET, HEAD").route(get().to(jobs::zip::zip)))
        .service(resource("/jobs/{jobId}", "GET, HEAD").route(get().to(jobs::show)))
        .service(resource("/jobs/{jobId}/retry", "POST").route(web::post().to(jobs::retry)))
        .service(resource("/jobs/{jobId}/manifest", "GET, HEAD").route(get().to(manifest::show)))
        .service(resource("/media", "GET, HEAD").route(get().to(media::list)))
        .service(resource("/media/{sha256}", "GET, HEAD").route(get().to(media::show)))
        .service(
            resource("/media/{sha256}/thumbnail", "GET, HEAD, POST")
                .route(get().to(media::thumbnail::show))
                .route(web::post().to(media::thumbnail::keep)),
        )
        .service(resource("/media/{sha256}/content", "GET, HEAD").route(get().to(media::content)))
        .service(resource("/refs", "GET, HEAD, POST").route(get().to(refs::list)).route(web::post().to(refs::create)))
        .service(
            resource("/refs/{refId}", "DELETE, GET, HEAD")
                .route(get().to(refs::show))
                .route(web::delete().to(refs::delete)),
        )
        .service(
            resource("/quarantine", "DELETE, GET, HEAD")
                .route(get().to(quarantine::list))
                .route(web::delete().to(quarantine::delete_all)),
        )
        .service(
            resource("/quarantine/{id}", "DELETE, GET, HEAD")
                .route(get().to(quarantine::show))
                .route(web::delete().to(quarantine::delete)),
        )
        .service(resource("/quarantine/{id}/replay", "POST").route(web::post().to(quarantine::replay)))
        .service(resource("/notifications", "GET, HEAD").route(get().to(notifications::list)))
        .service(resource("/notifications/{id}/retry", "POST").route(web::post().to(notifications::retry)))
        .service(resource("/events", "GET").route(web::get().to(events::events)))
        .service(resource("/stats", "GET, HEAD").route(get().to(stats::stats)))
        .service(resource("/tasks", "GET, HEAD").route(get().to(tasks::list)))
        .service(resource("/tasks/verify", "POST").route(web::post().to(tasks::verify::verify)))
        .service(resource("/tasks/reconcile", "POST").route(web::post().to(tasks::reconcile::reconcile)))
        .service(resource("/tasks/backfill", "POST").route(web::post().to(tasks::backfill::backfill)))
        .service(resource("/tasks/{taskId}", "GET, HEAD").route(get().to(tasks::show)))
        .service(
            resource("/session", "DELETE, GET, HEAD, POST")
                .route(get().to(session::show))
                .route(web::post().to(session::open))
                .route(web::delete().to(session::close)),
        )
        .service(resource("/openapi.json", "GET, HEAD").route(get().to(openapi::document)));
}

/// HEAD is answered as GET is; the server leaves the body out.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn resource(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || std::future::ready(other_method(allow))))
}

fn other_method(allow: &'static str) -> HttpResponse {
    let message = format!("expected one of: {allow}");
    let mut response = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).error_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

async fn unknown_path() -> HttpResponse {
    ApiError::not_found("path").error_response()
}
