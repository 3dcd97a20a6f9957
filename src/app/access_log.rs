use std::time::Instant;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;

/// Logs each request, by its route and never by its path: paths of reply URLs hold signatures.
pub(super) async fn log(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let response = next.call(request).await?;
    let route = response.request().match_pattern().unwrap_or_default();
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    let client = || response.request().connection_info().realip_remote_addr().unwrap_or_default().to_owned();
    // That it answers 503, and why, is said where it begins and ends.
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(client = client(), %method, route, status, ?elapsed, "request");
    } else {
        tracing::debug!(client = client(), %method, route, status, ?elapsed, "request");
    }
    Ok(response)
}
