use std::collections::BTreeMap;

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Json, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::{Caller, Scope};
use super::jobs::{ShowQuery, wants_presigned};
use super::list::{List, bad_cursor, read_limit};
use super::{Api, ApiError, extract, job_views, wait};
use crate::domain::{JobView, MediaUrl, Origin, RefId, ReplyRef, Target, Timestamp};
use crate::egress::Policy;
use crate::gateway::Veil;
use crate::http::ErrorBody;
use crate::intake::{NewRef, ReplyUrls};
use crate::state::{JobFilter, RefRecord, State, StateError};

/// A ref to register.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RefBody {
    /// The caller's reference, 1 to 1,024 characters; one is made when there is none.
    #[schema(example = "boat-0017", min_length = 1, max_length = 1024)]
    reply_ref: Option<String>,
    /// Where to tell of changes: an absolute http or https URL of at most 1,024 characters.
    #[schema(format = "uri", min_length = 8, max_length = 1024, pattern = "^https?://[^/?#]+")]
    notify_url: Option<String>,
    /// At most 32 labels: names of 1 to 64 characters, texts of at most 256.
    labels: Option<BTreeMap<String, String>>,
}

/// A ref.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefView {
    /// Its id.
    #[schema(example = "ref_01jd0000000000000000000000")]
    ref_id: String,
    /// The caller's reference, a signature of ours in it hidden.
    reply_ref: String,
    /// The URL to give to the provider. A secret: only for admin tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_url: Option<String>,
    /// `registered`, `adopted` from a callback, or made for a call through the `gateway`.
    #[schema(value_type = String, example = "registered")]
    origin: Origin,
    /// `active`: deleted ones are not shown.
    state: &'static str,
    /// The caller's labels.
    labels: BTreeMap<String, String>,
    /// Where to tell of changes; its query, and a signature of ours in it, only for admin tokens.
    notify_url: Option<String>,
    /// The replyUrl that a caller of the gateway gave: callbacks are passed on to it. Its query, and a signature of ours in
    /// it, only for admin tokens.
    #[serde(rename = "passOnTo", skip_serializing_if = "Option::is_none")]
    forward_url: Option<String>,
    /// When it was registered, adopted or made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// A ref and its jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefWithJobs {
    #[serde(flatten)]
    of: RefView,
    /// The newest of its jobs, at most 100, and about a MiB.
    jobs: Vec<JobView>,
    /// Whether all of these have ended: `archived`, `failed` or `stuck`. False while there is none. The images that one call
    /// through the gateway created are known from its answer on, so this says when the last of them is done.
    ended: bool,
    /// True when there may be more of those.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(value_type = Option<bool>)]
    more_jobs: bool,
}

impl RefView {
    fn new(record: RefRecord, api: &Api, caller: &Caller) -> Self {
        let is_admin = caller.scope == Scope::Admin;
        let shown = |url: String| if is_admin { url } else { without_secrets(api.intake().urls(), &url) };
        Self {
            ref_id: record.id.as_str().to_owned(),
            reply_ref: record.reply_ref.shown().as_str().to_owned(),
            reply_url: is_admin.then(|| api.intake().urls().reply_url(&Target::Ref(record.id))),
            origin: record.origin,
            state: "active",
            labels: record.labels,
            notify_url: record.notify_url.map(shown),
            forward_url: record.forward_url.map(shown),
            created_at: record.created_at,
        }
    }
}

/// A receiver's URL as anybody may see it: many a one has a token in its query, and one that leads back here has a signature.
fn without_secrets(urls: &ReplyUrls, url: &str) -> String {
    let shown = MediaUrl::parse(url).map_or_else(|_| "…".to_owned(), |url| url.to_string());
    match Veil::over(urls, shown.as_bytes()) {
        Ok(None) => shown,
        Ok(Some(hidden)) => String::from_utf8_lossy(&hidden).into_owned(),
        Err(_) => "…".to_owned(),
    }
}

/// Registers a ref.
#[utoipa::path(
    post, path = "/api/v1/refs", tag = "refs", request_body = RefBody,
    responses(
        (status = 201, description = "registered", body = RefView),
        (status = 200, description = "the same was registered already", body = RefView),
        (status = 400, description = "not JSON", body = ErrorBody),
        (status = 409, description = "the replyRef is registered with other content", body = ErrorBody),
        (status = 413, description = "more than 64 KiB", body = ErrorBody),
        (status = 422, description = "not what was expected", body = ErrorBody),
        (status = 503, description = "could not be made durable", body = ErrorBody),
    )
)]
pub(super) async fn create(api: Data<Api>, caller: Caller, payload: Payload) -> Result<HttpResponse, ApiError> {
    let body: RefBody = extract::json(payload).await?;
    let (record, created) = api.intake().register(body.check(&api.inner.receivers)?).await?;
    let location = format!("/api/v1/refs/{}", record.id);
    let mut response = if created { HttpResponse::Created() } else { HttpResponse::Ok() };
    if created {
        response.insert_header((LOCATION, location));
    }
    Ok(response.json(RefView::new(record, &api, &caller)))
}

impl RefBody {
    fn check(self, receivers: &Policy) -> Result<NewRef, ApiError> {
        let Self { reply_ref, notify_url, labels } = self;
        let reply_ref = reply_ref.map(|text| ReplyRef::new(&text)).transpose();
        let reply_ref = reply_ref.map_err(|error| extract::unprocessable(&format!("replyRef: {error}")))?;
        let new = NewRef { reply_ref, notify_url, labels: labels.unwrap_or_default() };
        new.check(|url| receivers.check_url(url)).map_err(|problem| extract::unprocessable(&problem))?;
        Ok(new)
    }
}

/// Which refs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RefsQuery {
    /// Only those with this reference: several where calls through the gateway repeated it.
    reply_ref: Option<String>,
    /// At most so many, 1 to 200; 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists refs, newest first.
#[utoipa::path(
    get, path = "/api/v1/refs", tag = "refs", params(RefsQuery),
    responses(
        (status = 200, description = "a page", body = List<RefView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn list(
    request: HttpRequest,
    api: Data<Api>,
    caller: Caller,
) -> Result<Json<List<RefView>>, ApiError> {
    let RefsQuery { reply_ref, limit, cursor } = extract::query(&request)?;
    let limit = read_limit(limit.as_deref())?;
    let before = extract::non_empty(cursor.as_deref()).map(RefId::parse).transpose().map_err(|_| bad_cursor())?;
    let named = extract::non_empty(reply_ref.as_deref()).map(reply_ref_parameter).transpose()?;
    let (records, more) = api
        .read(move |state| match named {
            Some(named) => state.refs_named(&named, limit, before.as_ref()),
            None => state.refs(limit, before.as_ref()),
        })
        .await?;
    let next = records.last().filter(|_| more).map(|record| record.id.as_str().to_owned());
    Ok(Json(List::new(records.into_iter().map(|record| RefView::new(record, &api, &caller)).collect(), next)))
}

pub(super) fn reply_ref_parameter(text: &str) -> Result<ReplyRef, ApiError> {
    ReplyRef::new(text).map_err(|error| ApiError::invalid(format!("replyRef: {error}")))
}

/// Shows a ref and its jobs.
#[utoipa::path(
    get, path = "/api/v1/refs/{refId}", tag = "refs", params(("refId" = String, Path), ShowQuery),
    responses(
        (status = 200, description = "the ref", body = RefWithJobs),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 404, description = "no such ref", body = ErrorBody),
        (status = 429, description = "too many answers wait for this token already", body = ErrorBody),
        (status = 503, description = "too many answers wait already, or the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn show(
    request: HttpRequest,
    api: Data<Api>,
    caller: Caller,
    id: Path<String>,
) -> Result<Json<RefWithJobs>, ApiError> {
    let ShowQuery { wait, links } = extract::query(&request)?;
    let presigned = wants_presigned(links.as_deref())?;
    let id = ref_id(&id)?;
    let by_id = id.clone();
    let read = move |state: &State| state.reply_ref(&by_id)?.map(|record| with_jobs(state, record)).transpose();
    let found = match wait::limit(wait.as_deref())? {
        None => api.read(read).await?,
        Some(limit) => {
            // Jobs go by the replyRef, which never changes.
            let known = api.read(move |state| state.reply_ref(&id)).await?.ok_or_else(|| ApiError::not_found("ref"))?;
            let waiter = api.state().wait_for_jobs(&known.reply_ref);
            api.read_until(&caller.name, limit, waiter, read, |(_, jobs, _)| have_ended(jobs)).await?
        }
    };
    let (record, mut jobs, more_jobs) = found.ok_or_else(|| ApiError::not_found("ref"))?;
    let ended = have_ended(&jobs);
    api.add_links(&mut jobs, presigned).await?;
    Ok(Json(RefWithJobs { of: RefView::new(record, &api, &caller), jobs, ended, more_jobs }))
}

fn have_ended(jobs: &[JobView]) -> bool {
    !jobs.is_empty() && jobs.iter().all(|job| job.state.is_end())
}

fn with_jobs(state: &State, of: RefRecord) -> Result<(RefRecord, Vec<JobView>, bool), StateError> {
    const MAX_JOBS_SHOWN: usize = 100;
    /// Jobs of a deleted ref of the same name are passed over, so many at most.
    const PAGES: usize = 10;
    let filter = JobFilter { reply_ref: Some(of.reply_ref.clone()), ..Default::default() };
    let (mut jobs, mut before) = (Vec::new(), None);
    for _ in 0..PAGES {
        let page = state.jobs(&filter, MAX_JOBS_SHOWN, before)?;
        // A page that ends before so many are on it has as many bytes as it may have.
        let is_full = page.items.len() < MAX_JOBS_SHOWN;
        jobs.extend(page.items.into_iter().filter(|record| record.job.ref_id.as_ref() == Some(&of.id)));
        before = page.next;
        if before.is_none() || jobs.len() >= MAX_JOBS_SHOWN || (is_full && !jobs.is_empty()) {
            break;
        }
    }
    let more = before.is_some() || jobs.len() > MAX_JOBS_SHOWN;
    jobs.truncate(MAX_JOBS_SHOWN);
    Ok((of, job_views(state, &jobs)?, more))
}

/// Deletes a ref: its URL answers 401 from then on, its jobs stay.
#[utoipa::path(
    delete, path = "/api/v1/refs/{refId}", tag = "refs", params(("refId" = String, Path)),
    responses(
        (status = 204, description = "deleted"),
        (status = 404, description = "no such ref", body = ErrorBody),
        (status = 503, description = "could not be made durable", body = ErrorBody),
    )
)]
pub(super) async fn delete(api: Data<Api>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    match api.intake().remove_ref(&ref_id(&id)?).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(ApiError::not_found("ref")),
    }
}

fn ref_id(text: &str) -> Result<RefId, ApiError> {
    RefId::parse(text).map_err(|_| ApiError::not_found("ref"))
}
