use actix_web::web::{self, Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::list::{List, Slice};
use super::{Api, Problem, input};
use crate::domain::Timestamp;
use crate::intake::{
    CallbackAnswer, ErrorBody, QuarantineAnswer, accepted_response, parse_quarantine_id, quarantine_id,
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
    /// The body as it came, but for `…` in place of signatures and the queries of URLs.
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
    )
)]
pub(super) async fn list(request: HttpRequest, api: Data<Api>) -> Result<Json<List<QuarantineView>>, Problem> {
    let QuarantineQuery { limit, cursor } = input::query(&request)?;
    let Slice { limit, before } = Slice::read(limit.as_deref(), cursor.as_deref())?;
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
pub(super) async fn show(api: Data<Api>, id: Path<String>) -> Result<Json<QuarantinedBody>, Problem> {
    let position = position(&id)?;
    let record = api.read(move |state| state.quarantined(position)).await?;
    let record = record.ok_or_else(no_such_body)?;
    let intake = api.intake().clone();
    let body = web::block(move || Ok::<_, Problem>(intake.quarantined_shown(position)?));
    let body = body.await.map_err(|_| Problem::unavailable("the journal cannot be read right now"))??;
    Ok(Json(QuarantinedBody { of: record.into(), body: body.ok_or_else(no_such_body)? }))
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
pub(super) async fn replay(api: Data<Api>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let accepted = api.intake().replay_quarantined(position(&id)?).await?;
    Ok(accepted_response(accepted.ok_or_else(no_such_body)?))
}

fn position(id: &str) -> Result<u64, Problem> {
    parse_quarantine_id(id).ok_or_else(no_such_body)
}

fn no_such_body() -> Problem {
    Problem::not_found("body in quarantine")
}
