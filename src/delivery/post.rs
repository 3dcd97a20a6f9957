//! One request to one receiver, and what its answer means. A receiver is a stranger: requests obey the outbound policy, follow
//! no redirect and read next to nothing of the answer.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::receivers::{Backoff, Permit};
use crate::cluster::text_key;
use crate::domain::MediaUrl;
use crate::egress::header::HeaderMap;
use crate::egress::{Body, Client, EgressError, Method, StatusCode};
use crate::http::retry_after;

/// What is read of an answer, so that its connection can serve again.
const MAX_ANSWER: usize = 16 << 10;

/// What became of a request.
#[derive(Debug)]
pub enum Verdict {
    /// The receiver took it.
    Taken,
    /// It was not sent.
    Backoff(Backoff),
    /// It is to be sent again, no sooner than the receiver asks. The error names no more of the URL than its host.
    Failed(String, Option<Duration>),
    /// It is not to be sent again, for this reason.
    GiveUp(&'static str),
}

/// Sends a body, within `time` altogether. Returns the status, and for how long the receiver wants to be left alone, at most
/// `max_retry_after`.
///
/// # Errors
/// When the policy refuses the URL, or no answer comes.
pub async fn post(
    client: &Client,
    url: &MediaUrl,
    headers: HeaderMap,
    body: Bytes,
    time: Duration,
    max_retry_after: Duration,
) -> Result<(StatusCode, Option<Duration>), EgressError> {
    let sent = async {
        let mut response = client.send(Method::POST, url, headers, Some(Body::from(body))).await?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), max_retry_after));
        let mut read = 0;
        // The status has decided it: what breaks off here only costs the connection.
        while read < MAX_ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read += chunk.len();
        }
        Ok((status, retry_after))
    };
    timeout(time, sent).await.unwrap_or(Err(EgressError::TimedOut))
}

/// What an answer means, for what was sent and for its receiver.
pub fn judge(permit: &Permit<'_>, answer: Result<(StatusCode, Option<Duration>), EgressError>) -> Verdict {
    let (status, retry_after) = match answer {
        Ok(answer) => answer,
        Err(EgressError::Refused(refusal)) => return Verdict::GiveUp(refusal.name()),
        Err(error) => {
            permit.failed(&error.to_string());
            return Verdict::Failed(error.to_string(), None);
        }
    };
    let error = format!("it answers {}", status.as_u16());
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        permit.failed(&error);
    } else {
        permit.answered();
    }
    match status {
        status if status.is_success() => Verdict::Taken,
        StatusCode::GONE => Verdict::GiveUp("gone"),
        _ => Verdict::Failed(error, retry_after),
    }
}

/// As much of a URL as may be shown.
pub fn origin(url: &str) -> Option<String> {
    MediaUrl::parse(url).ok().map(|url| url.expose().origin().ascii_serialization())
}

/// By scheme, host and port.
pub(super) fn receiver_at(url: &str) -> String {
    origin(url).unwrap_or_else(|| url.to_owned())
}

/// What stands for the host that a URL leads to, whatever the port.
pub(super) fn host_key(url: &str) -> u64 {
    let parsed = MediaUrl::parse(url).ok();
    parsed.and_then(|url| url.expose().host_str().map(text_key)).unwrap_or_default()
}

/// What stands for the receiver that a URL leads to.
pub fn receiver_key(url: &str) -> u64 {
    text_key(&receiver_at(url))
}
