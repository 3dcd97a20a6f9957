use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use utoipa::IntoParams;

use super::auth::Caller;
use super::list::{List, PageParams};
use super::refs::reply_ref_parameter;
use super::{Api, ApiError, extract, wait};
use crate::domain::{JobId, JobState, JobView, Kind};
use crate::http::ErrorBody;
use crate::state::{JobFilter, State};

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JobsQuery {
    /// Only those in this state: `running`, `archiving`, `archived`, `failed` or `stuck`.
    state: Option<String>,
    /// Only those of this kind: `video`, `image`, `agent`, `music` or `speech`.
    kind: Option<String>,
    /// Only those of this reference.
    reply_ref: Option<String>,
    /// Only those made with this model.
    model: Option<String>,
    /// Only those of this resolution, as a job shows it.
    resolution: Option<String>,
    /// Only those of this duration in seconds, give or take a twentieth of a second.
    #[param(value_type = Option<f64>, minimum = 0)]
    duration: Option<String>,
    /// Only those created by the call with this `batchId`.
    batch_id: Option<String>,
    /// At most so many, 1 to 200; 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
    /// `presigned`: with links to stored files that the store signs, where it can.
    links: Option<String>,
}

/// How to show a job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowQuery {
    /// Answer when it has ended (`archived`, `failed` or `stuck`), at the latest after this time, such as `60s`; ten minutes at
    /// the most.
    pub(super) wait: Option<String>,
    /// `presigned`: with links to stored files that the store signs, where it can.
    pub(super) links: Option<String>,
}

pub(super) fn wants_presigned(links: Option<&str>) -> Result<bool, ApiError> {
    match extract::non_empty(links) {
        None => Ok(false),
        Some("presigned") => Ok(true),
        Some(_) => Err(ApiError::invalid("links: expected presigned")),
    }
}

impl JobsQuery {
    fn filter(&self) -> Result<JobFilter, ApiError> {
        let state = extract::non_empty(self.state.as_deref());
        let kind = extract::non_empty(self.kind.as_deref());
        let reply_ref = extract::non_empty(self.reply_ref.as_deref());
        Ok(JobFilter {
            state: state.map(|text| one_of("state", text, &JobState::ALL, JobState::as_str)).transpose()?,
            kind: kind.map(|text| one_of("kind", text, &Kind::ALL, Kind::as_str)).transpose()?,
            reply_ref: reply_ref.map(reply_ref_parameter).transpose()?,
            model: extract::non_empty(self.model.as_deref()).map(str::to_owned),
            resolution: extract::non_empty(self.resolution.as_deref()).map(str::to_owned),
            duration: extract::non_empty(self.duration.as_deref()).map(seconds).transpose()?,
            batch_id: extract::non_empty(self.batch_id.as_deref()).map(str::to_owned),
        })
    }
}

fn seconds(text: &str) -> Result<f64, ApiError> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| ApiError::invalid("duration: expected a number of seconds".to_owned()))
}

pub(super) fn one_of<T: Copy>(
    parameter: &str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, ApiError> {
    let found = all.iter().copied().find(|value| name(*value) == text);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|value| name(*value)).collect();
        ApiError::invalid(format!("{parameter}: expected one of {}", names.join(", ")))
    })
}

/// Lists jobs, newest first. A page may hold fewer than asked for although there are more.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs", params(JobsQuery),
    responses(
        (status = 200, description = "a page", body = List<JobView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
    )
)]
pub(super) async fn list(request: HttpRequest, api: Data<Api>) -> Result<Json<List<JobView>>, ApiError> {
    let query: JobsQuery = extract::query(&request)?;
    let PageParams { limit, before } = PageParams::read(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = query.filter()?;
    let presigned = wants_presigned(query.links.as_deref())?;
    let page = api.read(move |state| state.jobs(&filter, limit, before)).await?;
    let mut views = Vec::with_capacity(page.items.len());
    for record in &page.items {
        views.push(api.job_view_with(record, presigned).await?);
    }
    Ok(Json(List::of_page(crate::state::Page { items: views, next: page.next }, |view| view)))
}

/// Shows a job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{jobId}", tag = "jobs",
    params(("jobId" = String, Path, description = "percent-encoded"), ShowQuery),
    responses(
        (status = 200, description = "the job", body = JobView),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 404, description = "no such job", body = ErrorBody),
        (status = 429, description = "too many answers wait for this token already", body = ErrorBody),
        (status = 503, description = "too many answers wait already, or the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn show(
    request: HttpRequest,
    api: Data<Api>,
    caller: Caller,
    id: Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let ShowQuery { wait, links } = extract::query(&request)?;
    let presigned = wants_presigned(links.as_deref())?;
    let id = job_id(&id)?;
    let found = match wait::limit(wait.as_deref())? {
        None => api.read(move |state| state.job(&id)).await?,
        Some(limit) => {
            let waiter = api.state().wait_for_job(&id);
            let read = move |state: &State| state.job(&id);
            api.read_until(&caller.name, limit, waiter, read, |record| record.job.state.is_end()).await?
        }
    };
    let record = found.ok_or_else(|| ApiError::not_found("job"))?;
    Ok(Json(api.job_view_with(&record, presigned).await?))
}

/// Makes a job's stuck files due again.
#[utoipa::path(
    post, path = "/api/v1/jobs/{jobId}/retry", tag = "jobs",
    params(("jobId" = String, Path, description = "percent-encoded")),
    responses(
        (status = 202, description = "the job, as it is now", body = JobView),
        (status = 404, description = "no such job", body = ErrorBody),
        (status = 503, description = "could not be made durable", body = ErrorBody),
    )
)]
pub(super) async fn retry(api: Data<Api>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let record = api.intake().retry(job_id(&id)?).await?;
    let record = record.ok_or_else(|| ApiError::not_found("job"))?;
    Ok(HttpResponse::Accepted().json(api.job_view(&record)))
}

fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("job"))
}
