//! One event about nothing, sent at once: whoever sets up an endpoint sees what comes back.

use serde_json::json;

use super::body::{Payload, headers};
use super::{Endpoint, Notifier, client};
use crate::delivery::{Schedule, post};
use crate::domain::{EventType, NotificationId, Timestamp};
use crate::egress::{self, ClientSetupError, EgressError};

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No HTTP client can be made.
    #[error(transparent)]
    Client(#[from] ClientSetupError),
    /// No answer came.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

/// Sends a `test` event to `endpoint`. Returns its id and the status of the answer.
///
/// # Errors
/// When no answer comes.
pub async fn send_test(egress: egress::Config, endpoint: &Endpoint) -> Result<(NotificationId, u16), TestError> {
    let (client, at) = (client(egress)?, Timestamp::now());
    let id = NotificationId::of_random(rand::random());
    let data = json!({"endpoint": endpoint.route.endpoint, "message": "events arrive here"});
    let body = Payload { event: EventType::Test, timestamp: at, data }.to_bytes();
    let headers = headers(&id.to_string(), at, &endpoint.keys.sign(&id, at, &body));
    let max_retry_after = Schedule::STANDARD_WEBHOOKS.max_retry_after;
    let answer = post(&client, &endpoint.url, headers, body, Notifier::REQUEST_TIME, max_retry_after).await;
    Ok((id, answer?.0.as_u16()))
}
