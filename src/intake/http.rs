use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::{Deserialize, Serialize};

use super::{Accepted, Intake};
use crate::domain::QuarantineReason;
use crate::http::{ApiError, ErrorBody};

/// What a kept callback is answered with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallbackAnswer {
    /// Always true.
    pub accepted: bool,
    /// The job it is about.
    pub job_id: String,
    /// The job's reference.
    pub reply_ref: Option<String>,
    /// The job's state now.
    pub state: &'static str,
    /// True once the provider has called the job final.
    pub r#final: bool,
    /// Where to find it in quarantine as well, when it names more files or longer URLs than a job can have. What fits was
    /// taken into account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine_id: Option<String>,
    /// Why it is there: `over_budget`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// What a callback kept aside is answered with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineAnswer {
    /// Always true.
    pub accepted: bool,
    /// Where to find it.
    pub quarantine_id: String,
    /// Why it was kept aside.
    pub reason: &'static str,
}

/// Where a reply URL leads.
const PATH: &str = "/reply/{target}/{signature}";
/// The same with what proxies add that put paths together.
const PATH_WITH_SLASHES: &str = "/{before:/*}reply/{target}/{signature}{after:/*}";

/// Adds `POST /reply/{target}/{signature}`.
pub fn routes(config: &mut ServiceConfig) {
    for path in [PATH, PATH_WITH_SLASHES] {
        config.service(web::resource(path).route(web::post().to(reply)).default_service(web::to(other_method)));
    }
}

async fn other_method() -> HttpResponse {
    let message = "a callback is a POST";
    let api_error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let mut response = api_error.error_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// What stands in a reply URL.
#[derive(Debug, Deserialize)]
pub struct ReplyPath {
    target: String,
    signature: String,
}

/// Takes a callback of the provider.
///
/// 200 and 202 mean that the body is on disk. The body is JSON whatever the Content-Type says; one that a proxy has compressed
/// with gzip or deflate is unpacked.
#[utoipa::path(
    post,
    path = "/reply/{target}/{signature}",
    tag = "callbacks",
    params(
        ("target" = String, Path, description = "`useapi`, `minimax` or a ref's id"),
        ("signature" = String, Path, description = "base64url of the target's HMAC"),
    ),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "understood and durable", body = CallbackAnswer),
        (status = 202, description = "durable, and kept aside", body = QuarantineAnswer),
        (status = 400, description = "not JSON, damaged in unpacking, or not whole within 30 seconds; two minutes above 1 MiB", body = ErrorBody),
        (status = 401, description = "wrong signature or unknown target", body = ErrorBody),
        (status = 413, description = "too large", body = ErrorBody),
        (status = 429, description = "too many progress callbacks for one job over this URL", body = ErrorBody),
        (status = 503, description = "could not be made durable, or too many large ones come at once", body = ErrorBody),
    )
)]
pub async fn reply(
    request: HttpRequest,
    path: web::Path<ReplyPath>,
    intake: Data<Intake>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let ReplyPath { target, signature } = path.into_inner();
    let target = intake.authenticate(&target, &signature).await?;
    let header = |name| request.headers().get(name)?.to_str().ok();
    let declared = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let body = intake.inner.bodies.read(&target, header(CONTENT_ENCODING), declared, payload).await?;
    Ok(accepted_response(intake.accept_received(target, body).await?))
}

/// The answer to a kept callback.
pub fn accepted_response(accepted: Accepted) -> HttpResponse {
    match accepted {
        Accepted::Job { job_id, reply_ref, state, is_final, over_budget } => HttpResponse::Ok().json(CallbackAnswer {
            accepted: true,
            job_id: job_id.as_str().to_owned(),
            reply_ref: reply_ref.map(|name| name.shown().as_str().to_owned()),
            state,
            r#final: is_final,
            quarantine_id: over_budget.map(quarantine_id),
            reason: over_budget.map(|_| QuarantineReason::OverBudget.as_str()),
        }),
        Accepted::Quarantined { position, reason } => HttpResponse::Accepted().json(QuarantineAnswer {
            accepted: true,
            quarantine_id: quarantine_id(position),
            reason,
        }),
    }
}

/// How a quarantined body is named outside.
pub fn quarantine_id(position: u64) -> String {
    format!("q_{position:016x}")
}

/// Reads what [`quarantine_id`] wrote.
pub fn parse_quarantine_id(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("q_").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}
