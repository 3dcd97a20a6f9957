mod find;
pub(super) mod zip;
mod zip_format;

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use self::find::{JobsCursor, MAX_LOOKED_AT, Start, find, in_order_heard, look, must_be_read};
use super::auth::Caller;
use super::list::{List, bad_cursor, read_limit};
use super::refs::reply_ref_parameter;
use super::{Api, ApiError, extract, job_view, job_views, wait};
use crate::domain::{JobId, JobState, JobView, Kind, Timestamp};
use crate::http::ErrorBody;
use crate::search::{DayCount, Incomplete, Query, Text};
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
    /// Only those of this provider, such as `minimax`.
    provider: Option<String>,
    /// Only those whose ref has this label, as `name:text`.
    #[param(example = "project:harbour")]
    label: Option<String>,
    /// Only those with all these words, at most 16, in `replyRef` or prompt, in any case and order. `boa*` stands for every word
    /// that begins so; it needs three letters.
    q: Option<String>,
    /// Only those made on this day or later, in UTC.
    #[param(format = Date, example = "2026-11-01")]
    from: Option<String>,
    /// Only those made on this day or earlier, in UTC.
    #[param(format = Date, example = "2026-11-30")]
    to: Option<String>,
    /// Passes over so many of the newest first. Not together with `cursor`, and not of use to `jobs/days`.
    #[param(value_type = Option<u64>, minimum = 0)]
    skip: Option<String>,
    /// At most so many, 1 to 200; 50 by default. Not of use to `jobs/days`.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
    /// `presigned`: with links to stored files that the store signs, where it can. Not of use to `jobs/days`.
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

impl JobsQuery {
    /// What the index is asked for.
    fn wanted(&self) -> Result<Query, ApiError> {
        let state = extract::non_empty(self.state.as_deref());
        let JobFilter { kind, reply_ref, model, batch_id, .. } = self.filter()?;
        let state = state.map(|text| one_of("state", text, &JobState::ALL, JobState::as_str)).transpose()?;
        let (from, to) = self.days()?;
        Ok(Query {
            from,
            to,
            states: state.into_iter().collect(),
            kind,
            provider: extract::non_empty(self.provider.as_deref()).map(str::to_owned),
            reply_ref,
            labels: extract::non_empty(self.label.as_deref()).map(label).transpose()?.into_iter().collect(),
            model,
            batch_id,
            text: words(self.q.as_deref().unwrap_or_default())?,
        })
    }

    /// The first and the last day. No job was made before 1970.
    fn days(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), ApiError> {
        let from = extract::non_empty(self.from.as_deref()).map(|text| date("from", text)).transpose()?;
        let to = extract::non_empty(self.to.as_deref()).map(|text| date("to", text)).transpose()?;
        Ok(match to {
            // From the last of all days to the first: none.
            Some(None) => (Some(Timestamp::from_millis_clamped(u64::MAX)), Some(Timestamp::default())),
            to => (from.flatten(), to.flatten()),
        })
    }

    fn skip(&self) -> Result<usize, ApiError> {
        let Some(skip) = extract::non_empty(self.skip.as_deref()) else { return Ok(0) };
        let digits = skip.bytes().all(|byte| byte.is_ascii_digit());
        let number = skip.parse().ok().filter(|_| digits && extract::non_empty(self.cursor.as_deref()).is_none());
        number.ok_or_else(|| ApiError::invalid("skip: expected a number, and no cursor"))
    }

    /// Whether the state alone cannot answer.
    fn needs_index(&self) -> bool {
        let Self { provider, label, q, from, to, skip, .. } = self;
        [provider, label, q, from, to, skip]
            .into_iter()
            .any(|parameter| extract::non_empty(parameter.as_deref()).is_some())
    }
}

/// The begin of a day; `None` for a day before 1970.
fn date(parameter: &str, text: &str) -> Result<Option<Timestamp>, ApiError> {
    let midnight = format!("{text}T00:00:00Z");
    if text.len() != "2026-11-20".len() || Timestamp::parse_rfc3339_clamped(&midnight).is_none() {
        return Err(ApiError::invalid(format!("{parameter}: expected a date such as 2026-11-20")));
    }
    Ok(Timestamp::parse_rfc3339(&midnight))
}

/// A label as it was given: names may have colons, too, so it cannot be told where one ends.
fn label(text: &str) -> Result<String, ApiError> {
    if text.contains(':') { Ok(text.to_owned()) } else { Err(ApiError::invalid("label: expected name:text")) }
}

fn words(text: &str) -> Result<Text, ApiError> {
    Text::read(text).map_err(|error| ApiError::invalid(format!("q: {error}")))
}

fn indexing(incomplete: Incomplete) -> ApiError {
    ApiError::unavailable(incomplete.to_string())
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

/// Lists jobs, newest first: by when they were made. A page may hold fewer than asked for although there are more.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs", params(JobsQuery),
    responses(
        (status = 200, description = "a page", body = List<JobView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "jobs are being indexed or the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn list(request: HttpRequest, api: Data<Api>) -> Result<Json<List<JobView>>, ApiError> {
    let query: JobsQuery = extract::query(&request)?;
    let limit = read_limit(query.limit.as_deref())?;
    let cursor = JobsCursor::read(query.cursor.as_deref())?;
    let (filter, wanted, skip) = (query.filter()?, query.wanted()?, query.skip()?);
    let presigned = wants_presigned(query.links.as_deref())?;
    let searches = query.needs_index();
    let search = api.inner.search.clone();
    let look = move |state: &State| {
        let start = match cursor {
            Some(JobsCursor::Heard(before)) => return in_order_heard(state, &filter, limit, Some(before)).map(Ok),
            Some(JobsCursor::Made { after, skip }) => Start { after: Some(after), skip },
            None => Start { after: None, skip },
        };
        match find(state, &search, &filter, &wanted, start, limit) {
            // What needs no index goes without it in the first seconds, and while it is behind.
            Ok(Err(Incomplete)) if !searches && start.after.is_none() => {
                in_order_heard(state, &filter, limit, None).map(Ok)
            }
            found => found,
        }
    };
    let read = move |state: &State| match look(state)? {
        Ok((records, next)) => Ok(Ok((job_views(state, &records)?, next))),
        Err(incomplete) => Ok(Err(incomplete)),
    };
    let (mut jobs, next) = api.read(read).await?.map_err(indexing)?;
    api.add_links(&mut jobs, presigned).await?;
    Ok(Json(List::new(jobs, next)))
}

/// Counts jobs by the day they were made on, in UTC, newest first. Where words are given by how they begin, or `resolution` or
/// `duration` is given, a page looks at a bounded number of jobs: a day may then begin on one page and go on on the next.
#[utoipa::path(
    get, path = "/api/v1/jobs/days", tag = "jobs", params(JobsQuery),
    responses(
        (status = 200, description = "the days on which any were made", body = List<DayView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "jobs are being indexed or the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn days(request: HttpRequest, api: Data<Api>) -> Result<Json<List<DayView>>, ApiError> {
    let query: JobsQuery = extract::query(&request)?;
    let start = match JobsCursor::read(query.cursor.as_deref())? {
        Some(JobsCursor::Made { after, skip: 0 }) => Start { after: Some(after), skip: 0 },
        Some(_) => return Err(bad_cursor()),
        None => Start::default(),
    };
    let (filter, wanted) = (query.filter()?, query.wanted()?);
    let search = api.inner.search.clone();
    let (counts, next) = api
        .read(move |state| {
            if !must_be_read(&filter, &wanted) {
                return Ok(search.days(&wanted).map(|days| (days, None)));
            }
            let found = match look(state, &search, &filter, &wanted, start, usize::MAX, MAX_LOOKED_AT)? {
                Ok(found) => found,
                Err(incomplete) => return Ok(Err(incomplete)),
            };
            let mut days: Vec<DayCount> = Vec::new();
            for (place, _) in &found.jobs {
                let day = place.made.midnight();
                match days.last_mut() {
                    Some(last) if last.day == day => last.jobs += 1,
                    _ => days.push(DayCount { day, jobs: 1 }),
                }
            }
            Ok(Ok((days, found.next)))
        })
        .await?
        .map_err(indexing)?;
    let shown = |DayCount { day, jobs }: DayCount| {
        let (year, month, day) = day.date();
        DayView { day: format!("{year:04}-{month:02}-{day:02}"), jobs }
    };
    Ok(Json(List::new(counts.into_iter().map(shown).collect(), next.map(JobsCursor::write))))
}

/// How many jobs were made on a day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DayView {
    /// The day, in UTC.
    #[schema(example = "2026-11-20", format = Date)]
    day: String,
    /// How many.
    jobs: u64,
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
    let by_id = id.clone();
    let read = move |state: &State| state.job(&by_id)?.map(|record| job_view(state, &record)).transpose();
    let found = match wait::limit(wait.as_deref())? {
        None => api.read(read).await?,
        Some(limit) => {
            // A job may have other ids, such as the one in the path; its end wakes those who wait for its own, which never
            // changes.
            let own_id = move |state: &State| Ok(state.job(&id)?.map(|record| record.job.id));
            let own_id = api.read(own_id).await?.ok_or_else(|| ApiError::not_found("job"))?;
            let waiter = api.state().wait_for_job(&own_id);
            api.read_until(&caller.name, limit, waiter, read, |job| job.state.is_end()).await?
        }
    };
    let mut job = found.ok_or_else(|| ApiError::not_found("job"))?;
    api.add_links(std::slice::from_mut(&mut job), presigned).await?;
    Ok(Json(job))
}

/// Makes a job's stuck files due again. Of a job whose end or results are missing, the provider is asked now.
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
    let mut job = api.read(move |state| job_view(state, &record)).await?;
    api.add_links(std::slice::from_mut(&mut job), false).await?;
    Ok(HttpResponse::Accepted().json(job))
}

pub(super) fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("job"))
}
