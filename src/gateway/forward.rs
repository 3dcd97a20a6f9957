use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use actix_web::http::StatusCode;
use tokio::time::timeout;

use super::Gateway;
use super::body::{BodyForwarder, Outgoing, poll_forward};
use crate::domain::MediaUrl;
use crate::egress::header::{self, HeaderMap};
use crate::egress::{EgressError, Method, Response};
use crate::http::ApiError;

/// An answer of the provider, and what of the request's body it has not got yet.
pub(super) struct Exchange {
    pub(super) response: Response,
    pub(super) forwarder: Option<BodyForwarder>,
}

/// A request as it goes on.
pub(super) struct Onward {
    pub(super) method: Method,
    pub(super) url: MediaUrl,
    pub(super) headers: HeaderMap,
}

impl Gateway {
    /// Sends a request on.
    ///
    /// # Errors
    /// When the provider cannot be reached, or does not answer.
    pub(super) async fn forward(&self, onward: Onward, outgoing: Outgoing) -> Result<Exchange, ApiError> {
        let Onward { method, url, mut headers } = onward;
        let Outgoing { body, mut forwarder, length_changed } = outgoing;
        if length_changed {
            headers.remove(header::CONTENT_LENGTH);
        }
        let mut sending = pin!(self.inner.http.send(method, &url, headers, body));
        // An answer may come before all of the body is sent.
        let answered = poll_fn(|cx| {
            if let Poll::Ready(answered) = sending.as_mut().poll(cx) {
                return Poll::Ready(Some(answered));
            }
            poll_forward(&mut forwarder, cx);
            // With the pump at its end, what was carried last has still to be sent.
            if forwarder.is_some() { Poll::Pending } else { Poll::Ready(None) }
        });
        let answered = match answered.await {
            Some(answered) => answered,
            None => timeout(Self::SILENCE, sending).await.unwrap_or(Err(EgressError::TimedOut)),
        };
        Ok(Exchange { response: answered.map_err(|error| upstream_error(&error))?, forwarder })
    }
}

/// 502 or 504: the provider's answer is missing.
pub(super) fn upstream_error(error: &EgressError) -> ApiError {
    tracing::warn!(%error, "the provider does not answer a call");
    let (status, code) = match error {
        EgressError::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "provider_timed_out"),
        _ => (StatusCode::BAD_GATEWAY, "provider_unreachable"),
    };
    ApiError::new(status, code, format!("the provider does not answer: {error}"))
}
