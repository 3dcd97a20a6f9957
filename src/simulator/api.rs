//! The provider's API under `/v1/minimax`.

mod agent;
mod create;
mod fields;
mod read;
mod retired;
mod scheduler;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{StatusCode, header};
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpResponse, ResponseError, web};
use serde_json::json;

use super::Shared;
use super::faults::Fault;

/// Why a call is refused, as the provider says it.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Not found.")]
    NotFound,
    #[error("Job not found or expired after 31 days")]
    NoSuchJob,
    #[error("Unable to locate running {0}")]
    NotRunning(String),
    #[error("Account is busy executing jobs")]
    Busy,
    #[error("Too many requests")]
    TooMany,
    #[error("Unusual account activities detected")]
    OnHold,
    #[error("Internal error")]
    Internal,
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        let code = match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NoSuchJob | Self::NotRunning(_) => 404,
            Self::Busy | Self::TooMany => 429,
            Self::Internal => 500,
            Self::OnHold => 596,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let (status, error) = (self.status_code(), self.to_string());
        let mut response = HttpResponse::build(status);
        if let Self::TooMany = self {
            response.insert_header((header::RETRY_AFTER, 1));
        }
        response.json(match self {
            Self::BadRequest(_) | Self::Unauthorized | Self::NotFound | Self::NoSuchJob => {
                json!({"error": error, "code": status.as_u16()})
            }
            Self::NotRunning(_) | Self::Busy | Self::TooMany | Self::OnHold | Self::Internal => json!({"error": error}),
        })
    }
}

type Answer = Result<HttpResponse, Refusal>;

/// Mounts the API.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    let scope = web::scope("/v1/minimax")
        .wrap(from_fn(authorize))
        .route("/videos/create", web::post().to(create::video))
        .route("/images/create", web::post().to(create::images))
        .configure(read::configure)
        .configure(agent::configure)
        .configure(scheduler::configure)
        .configure(retired::configure)
        .default_service(web::to(async || Answer::Err(Refusal::NotFound)));
    app.service(scope);
}

async fn authorize<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    if let Some(shared) = request.app_data::<web::Data<Shared>>() {
        shared.stats.api_requests.one();
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if header.and_then(|value| value.strip_prefix("Bearer ")).is_none_or(|token| token.trim().is_empty()) {
        return Err(Refusal::Unauthorized.into());
    }
    next.call(request).await
}

/// What a call that would make a job may meet instead.
fn capacity(shared: &Shared) -> Result<(), Refusal> {
    let turn = shared.next_create();
    let happens = |fault: Fault| shared.dice.hits(shared.faults.chance(fault), fault.name(), "create", turn);
    if happens(Fault::OnHold) {
        return Err(Refusal::OnHold);
    }
    if happens(Fault::Busy) {
        return Err(Refusal::Busy);
    }
    Ok(())
}
