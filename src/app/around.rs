//! What goes around every request. It is one piece of middleware, since each costs allocations and copies of the answer.

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;

use super::access_log::Line;
use super::connections::Busy;
use super::proxies;
use super::unread::Kept;
use crate::api;

/// Belongs around the whole app, and alone.
pub(super) async fn around(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // First, so that everybody behind it is told the truth about the client.
    proxies::sift(&mut request);
    let busy = Busy::with(&request);
    let kept = Kept::of(&mut request);
    let line = Line::begin(request.method());
    let mut response = match next.call(request).await {
        Ok(response) => response,
        Err(error) => return Err(kept.fail(error)),
    };
    line.end(&response);
    api::observe(&mut response);
    let response = kept.answer(response).await;
    Ok(response.map_body(|_, answer| Busy::until_sent(busy, answer)))
}
