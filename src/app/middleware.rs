//! What goes around every request. It is one piece of middleware, since each costs allocations and copies of the answer.

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use super::access_log::AccessLogEntry;
use super::body_drain::HeldBody;
use super::forwarded;
use super::idle_timeout::RequestGuard;
use crate::api;

/// Belongs around the whole app, and alone.
pub(super) async fn around(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // First, so that everybody behind it is told the truth about the client.
    forwarded::apply_forwarded_headers(&mut request);
    let busy = RequestGuard::with(&request);
    let kept = HeldBody::of(&mut request);
    let line = AccessLogEntry::begin(request.method());
    let mut response = match next.call(request).await {
        Ok(response) => response,
        Err(error) => return Err(kept.fail(error)),
    };
    line.end(&response);
    api::observe(&mut response);
    let response = kept.answer(response).await;
    Ok(response.map_body(|_, answer| RequestGuard::attach_to_body(busy, answer)))
}
