use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::StatusCode;
use tokio::time::timeout;
use url::Url;

use super::body::{BodyForwarder, Outgoing, poll_forward};
use crate::domain::MediaUrl;
use crate::egress::header::{self, HeaderMap};
use crate::egress::{self, ClientSetupError, EgressError, Method, Policy, Response};
use crate::http::ApiError;
use crate::provider::Api;

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

/// The provider, as calls go on to it.
pub(super) struct Upstream {
    /// Without a slash at its end.
    pub(super) base: String,
    pub(super) http: egress::Client,
}

impl Upstream {
    /// For a connection to the provider.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// The longest that the provider may keep silent, with the whole request sent: an agent job is waited for 15 minutes.
    const SILENCE: Duration = Duration::from_secs(20 * 60);
    /// The longest that sending a request may take with all that: 5 GB over 4 Mbit/s, and some more.
    const LONGEST_UPLOAD: Duration = Duration::from_secs(4 * 60 * 60);

    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(base: &Url, config: egress::Config) -> Result<Self, ClientSetupError> {
        let http = egress::ClientConfig {
            connect_timeout: Self::CONNECT_TIMEOUT,
            head_timeout: Self::LONGEST_UPLOAD,
            idle_timeout: Self::SILENCE,
            // WebSockets need a connection of their own.
            allow_http2: false,
            // A second call might make a second job.
            may_repeat: false,
        };
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, http: egress::Client::new(Policy::new(config), http)? })
    }

    /// The URL at the provider for a path of an API, in normal form.
    pub(super) fn url(&self, api: Api, path: &str, query: Option<&str>) -> Result<MediaUrl, ApiError> {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = MediaUrl::parse(&format!("{}/{}{}{query}", self.base, api.base(), api.sent_path(path)));
        url.map_err(|error| ApiError::invalid(format!("the path: {error}")))
    }

    /// Sends a request on.
    ///
    /// # Errors
    /// When the provider cannot be reached, or does not answer.
    pub(super) async fn forward(&self, onward: Onward, outgoing: Outgoing) -> Result<Exchange, ApiError> {
        let Onward { method, url, mut headers } = onward;
        let Outgoing { body, mut forwarder, length_changed, length } = outgoing;
        if length_changed {
            headers.remove(header::CONTENT_LENGTH);
        }
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let mut sending = pin!(self.http.send(method, &url, headers, body));
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
