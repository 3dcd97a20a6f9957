//! What an event says.

use bytes::Bytes;
use serde::Serialize;

use super::Notifier;
use crate::bucket::BucketError;
use crate::domain::{EventType, Job, JobView, Notification, Timestamp};
use crate::egress::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use crate::state::StateError;

/// The body of every event.
#[derive(Debug, Serialize)]
pub(super) struct Payload<T> {
    #[serde(rename = "type")]
    pub(super) event: EventType,
    /// When what it tells of came about.
    pub(super) timestamp: Timestamp,
    pub(super) data: T,
}

/// Why there is no body yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("cut off")]
    Cancelled,
}

impl Notifier {
    /// The job as it was when the event came about, with its files as they are: what was stored then stays stored.
    pub(super) async fn body(&self, notification: Notification, presigned: bool) -> Result<Bytes, BodyError> {
        let Notification { event, at: timestamp, job_id, job, .. } = notification;
        let state = self.state().clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = state.job(&job_id)?.map(|record| record.job);
            let assets = now.as_ref().map(|job| job.assets.clone()).unwrap_or_default();
            let Some(then) = job.map(|job| Job { assets, ..*job }).or(now) else { return Ok(None) };
            let mut view = JobView::new(&then, |_| false);
            view.labels = Some(state.labels_of(&then)?);
            Ok(Some(view))
        });
        let view = read.await.unwrap_or(Err(BodyError::Cancelled))?;
        let Some(mut job) = view else { return Err(BodyError::Cancelled) };
        self.inner.links.add(&mut job);
        if presigned {
            self.inner.links.add_presigned(&mut job).await?;
        }
        Ok(Payload { event, timestamp, data: job }.to_bytes())
    }
}

impl<T: Serialize> Payload<T> {
    pub(super) fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// The headers of the specification.
pub(super) fn headers(id: &str, at: Timestamp, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let seconds = (at.millis() / 1000).to_string();
    for (name, value) in [("webhook-id", id), ("webhook-timestamp", &seconds), ("webhook-signature", signature)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}
