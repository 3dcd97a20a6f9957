//! The provider's APIs: that under `/v1/minimax` with a handler for each call, the others by their table.

mod accounts;
mod agent;
mod agent_video;
mod by_table;
mod create;
mod error;
mod events;
mod fault_middleware;
mod fields;
mod files;
mod limits;
mod list;
mod llm;
mod music;
mod read;
mod request;
mod rules;
mod scheduler;
mod speech;
mod templates;
mod voices;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{Next, from_fn};
use actix_web::{HttpResponse, web};
use secrecy::ExposeSecret;

use super::Shared;
use error::ApiError;
use limits::{admit, admit_others};

type Answer = Result<HttpResponse, ApiError>;

/// Mounts the API.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    let scope = web::scope("/v1/minimax")
        .wrap(from_fn(authorize))
        .wrap(from_fn(fault_middleware::apply))
        .configure(create::configure)
        .configure(agent_video::configure)
        .configure(templates::configure)
        .configure(list::configure)
        .configure(agent::configure)
        .configure(scheduler::configure)
        .configure(accounts::configure)
        .configure(files::configure)
        .configure(llm::configure)
        .configure(music::configure)
        .configure(voices::configure)
        .configure(speech::configure)
        .configure(by_table::first)
        .configure(read::configure)
        .default_service(web::to(async || Answer::Err(ApiError::NotFound)));
    app.service(scope);
    by_table::configure(app);
}

async fn authorize(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody>,
) -> Result<ServiceResponse<impl actix_web::body::MessageBody>, actix_web::Error> {
    let Some(shared) = request.app_data::<web::Data<Shared>>() else { return Err(ApiError::Internal.into()) };
    shared.stats.api_requests.one();
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim).unwrap_or_default();
    let known = match &shared.tokens[..] {
        [] => !token.is_empty(),
        tokens => tokens.iter().any(|known| known.expose_secret() == token),
    };
    // The WebSocket has a token of its own.
    if !known && request.path() != speech::WEB_SOCKET {
        return Err(ApiError::Unauthorized.into());
    }
    if let Some(below) = request.path().strip_prefix("/v1/minimax") {
        rules::account_in_query(shared, request.method().as_str(), below, request.query_string())?;
    }
    next.call(request).await
}
