use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::list::{List, PageParams};
use super::{Api, ApiError, extract};
use crate::domain::{QuarantineReason, Timestamp};
use crate::http::ErrorBody;
use crate::intake::{
    CallbackAnswer, QuarantineAnswer, QuarantineFilter, accepted_response, parse_quarantine_id, quarantine_id,
};
use crate::state::QuarantineRecord;

/// A body kept aside.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QuarantineView {
    /// Its id.
    #[schema(example = "q_0000000000001f40")]
    quarantine_id: String,
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The channel or ref over whose URL it came.
    target: String,
    /// Why it was kept aside.
    #[schema(example = "unknown_shape")]
    reason: &'static str,
    /// The job it names, if it names one.
    job_id: Option<String>,
    /// Its size in bytes.
    bytes: u64,
}

/// A body kept aside, with the body.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuarantinedBody {
    #[serde(flatten)]
    of: QuarantineView,
    /// The body as it came, but for `…` in place of signatures and the queries of URLs, and above 4 MiB of texts of more than
    /// 64 KiB.
    #[schema(value_type = serde_json::Value)]
    body: Box<RawValue>,
}

impl From<QuarantineRecord> for QuarantineView {
    fn from(record: QuarantineRecord) -> Self {
        let QuarantineRecord { position, at, target, reason, job_id, bytes } = record;
        Self {
            quarantine_id: quarantine_id(position),
            at,
            target: target.as_str().to_owned(),
            reason: reason.as_str(),
            job_id: job_id.map(|id| id.as_str().to_owned()),
            bytes,
        }
    }
}

/// Which bodies to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QuarantineQuery {
    /// At most so many, 1 to 200; 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists what was kept aside, newest first.
#[utoipa::path(
    get, path = "/api/v1/quarantine", tag = "quarantine", params(QuarantineQuery),
    responses(
        (status = 200, description = "a page", body = List<QuarantineView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn list(request: HttpRequest, api: Data<Api>) -> Result<Json<List<QuarantineView>>, ApiError> {
    let QuarantineQuery { limit, cursor } = extract::query(&request)?;
    let PageParams { limit, before } = PageParams::read(limit.as_deref(), cursor.as_deref())?;
    let page = api.read(move |state| state.quarantine(limit, before)).await?;
    Ok(Json(List::of_page(page, QuarantineView::from)))
}

/// Shows a body that was kept aside.
#[utoipa::path(
    get, path = "/api/v1/quarantine/{id}", tag = "quarantine", params(("id" = String, Path)),
    responses(
        (status = 200, description = "the body, and why it is here", body = QuarantinedBody),
        (status = 404, description = "no such body", body = ErrorBody),
        (status = 503, description = "it cannot be read", body = ErrorBody),
    )
)]
pub(super) async fn show(api: Data<Api>, id: Path<String>) -> Result<Json<QuarantinedBody>, ApiError> {
    let position = position(&id)?;
    let record = api.read(move |state| state.quarantined(position)).await?;
    let record = record.ok_or_else(no_such_body)?;
    let body = api.intake().quarantined_shown(position).await?;
    Ok(Json(QuarantinedBody { of: record.into(), body: body.ok_or_else(no_such_body)? }))
}

/// Which bodies to delete; without any of it, all.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QuarantineSelection {
    /// Only those that were kept aside for this reason.
    #[param(example = "unknown_shape")]
    reason: Option<String>,
    /// Only those that came before.
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<String>,
}

/// How many bodies were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deleted {
    /// Their number.
    #[schema(example = 12)]
    deleted: u64,
}

/// Deletes a body that was kept aside.
#[utoipa::path(
    delete, path = "/api/v1/quarantine/{id}", tag = "quarantine", params(("id" = String, Path)),
    responses(
        (status = 204, description = "it is deleted"),
        (status = 404, description = "no such body", body = ErrorBody),
        (status = 503, description = "could not be made durable", body = ErrorBody),
    )
)]
pub(super) async fn delete(api: Data<Api>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let deleted = api.intake().delete_quarantined(position(&id)?).await?;
    if deleted { Ok(HttpResponse::NoContent().finish()) } else { Err(no_such_body()) }
}

/// Deletes what was kept aside by now.
#[utoipa::path(
    delete, path = "/api/v1/quarantine", tag = "quarantine", params(QuarantineSelection),
    responses(
        (status = 200, description = "how many are deleted", body = Deleted),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "could not be made durable; some may be deleted", body = ErrorBody),
    )
)]
pub(super) async fn delete_all(request: HttpRequest, api: Data<Api>) -> Result<Json<Deleted>, ApiError> {
    let QuarantineSelection { reason, before } = extract::query(&request)?;
    let known = |name: &str| QuarantineReason::ALL.into_iter().find(|reason| reason.as_str() == name);
    let reason = extract::non_empty(reason.as_deref())
        .map(|name| known(name).ok_or_else(|| ApiError::invalid("reason: expected a reason as the list shows it")))
        .transpose()?;
    let before = extract::non_empty(before.as_deref())
        .map(|text| {
            let time = Timestamp::parse_rfc3339_clamped(text);
            time.ok_or_else(|| ApiError::invalid("before: expected an RFC 3339 time"))
        })
        .transpose()?;
    let deleted = api.intake().delete_quarantine(QuarantineFilter { reason, before }).await?;
    Ok(Json(Deleted { deleted }))
}

/// Looks at a body again, as if it came now over the URL it came over.
#[utoipa::path(
    post, path = "/api/v1/quarantine/{id}/replay", tag = "quarantine", params(("id" = String, Path)),
    responses(
        (status = 200, description = "understood now, and out of quarantine", body = CallbackAnswer),
        (status = 202, description = "still kept aside", body = QuarantineAnswer),
        (status = 404, description = "no such body", body = ErrorBody),
        (status = 503, description = "could not be made durable", body = ErrorBody),
    )
)]
pub(super) async fn replay(api: Data<Api>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let accepted = api.intake().replay_quarantined(position(&id)?).await?;
    Ok(accepted_response(accepted.ok_or_else(no_such_body)?))
}

fn position(id: &str) -> Result<u64, ApiError> {
    parse_quarantine_id(id).ok_or_else(no_such_body)
}

fn no_such_body() -> ApiError {
    ApiError::not_found("body in quarantine")
}
