//! One callback to one receiver.

use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;
use tokio::time::{Instant, sleep, timeout};

use super::Relay;
use super::receivers::Backoff;
use crate::domain::{MediaUrl, RefId, Timestamp};
use crate::egress::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use crate::egress::{Body, EgressError, Method, Response, StatusCode};
use crate::journal::{Durability, Event, JournalError};
use crate::state::{OutboxRecord, RecordError, RefRecord, StateError};

/// What became of the first of a ref's callbacks.
#[derive(Debug)]
pub(super) enum DeliveryOutcome {
    /// It is done with, taken or given up.
    Done,
    /// There was none.
    Nothing,
    /// It was not tried.
    Later(Duration),
    /// It was not tried since too many others of its receiver were.
    Busy,
    /// It is tried again later.
    Failed {
        /// No sooner than the receiver asked.
        retry_after: Option<Duration>,
    },
}

/// What became of a request.
enum Verdict {
    Taken,
    Backoff(Backoff),
    /// With an error that names no more of the URL than its host.
    Failed(String, Option<Duration>),
    GiveUp(&'static str),
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("cut off")]
    Cancelled,
}

impl Relay {
    /// For how long a callback must have looked too old, by a clock that may be wrong, before it is given up.
    const LATE: Duration = Duration::from_secs(3600);
    /// After an error of our own.
    const PAUSE: Duration = Duration::from_secs(5);
    /// What is read of an answer, so that its connection can serve again.
    const MAX_ANSWER: usize = 16 << 10;

    /// Tries the first of what waits to be passed on for a ref, which has looked too old since `late_since`. Says whether it
    /// does.
    pub(super) async fn deliver_next(&self, id: &RefId, late_since: Option<Instant>) -> (DeliveryOutcome, bool) {
        let head = self.state().outbox_head(id).and_then(|head| Ok((head, self.state().reply_ref(id)?)));
        let (position, record, known) = match head {
            Ok((None, _)) => return (DeliveryOutcome::Nothing, false),
            Ok((Some((position, record)), known)) => (position, record, known),
            Err(error) => {
                tracing::debug!(%error, "what is to be passed on cannot be read yet");
                return (DeliveryOutcome::Later(Self::PAUSE), late_since.is_some());
            }
        };
        let url = known.as_ref().and_then(|known| known.forward_url.as_deref());
        let late = Timestamp::now().since(record.at) >= self.inner.patience;
        let verdict = match (&known, url.map(MediaUrl::parse)) {
            (None, _) | (_, None) => Verdict::GiveUp("ref_removed"),
            (_, Some(Err(_))) => Verdict::GiveUp("invalid_url"),
            (Some(known), Some(Ok(url))) => self.pass_on(position, record, known, &url).await,
        };
        let late_for = late_since.filter(|_| late).map(|since| since.elapsed()).unwrap_or_default();
        // The clock alone is not believed: it must have said so for a while, and the receiver must have failed meanwhile.
        let hold = self.inner.patience.min(Self::LATE);
        let verdict = match verdict {
            Verdict::Failed(..) if late && late_for >= hold => Verdict::GiveUp("expired"),
            Verdict::Backoff(Backoff::Paused { failing_for, .. })
                if late && late_for >= hold && failing_for >= hold =>
            {
                Verdict::GiveUp("expired")
            }
            verdict => verdict,
        };
        (self.conclude(id.clone(), position, url, verdict).await, late)
    }

    async fn conclude(&self, id: RefId, position: u64, url: Option<&str>, verdict: Verdict) -> DeliveryOutcome {
        let at = Timestamp::now();
        match verdict {
            Verdict::Taken => {
                fail_point!("relay.sent", |_| DeliveryOutcome::Failed { retry_after: None });
                self.record(Event::PassedOn { at, id, position }).await
            }
            Verdict::GiveUp(why) => {
                let receiver = url.and_then(receiver);
                tracing::warn!(reference = %id, receiver, why, "a callback could not be passed on and is given up");
                self.record(Event::PassOnGivenUp { at, id, position, why: why.to_owned() }).await
            }
            Verdict::Backoff(Backoff::Paused { rest, .. }) => DeliveryOutcome::Later(rest),
            Verdict::Backoff(Backoff::Busy) => DeliveryOutcome::Busy,
            Verdict::Failed(error, retry_after) => {
                let receiver = url.and_then(receiver);
                tracing::info!(reference = %id, receiver, error, "a callback could not be passed on yet");
                DeliveryOutcome::Failed { retry_after }
            }
        }
    }

    async fn pass_on(&self, position: u64, record: OutboxRecord, known: &RefRecord, url: &MediaUrl) -> Verdict {
        fail_point!("relay.send", |_| Verdict::Failed("as asked for".to_owned(), None));
        let receiver = url.expose().origin().ascii_serialization();
        let turn = match self.inner.receivers.admit(&receiver, Self::REQUEST_TIME) {
            Ok(turn) => turn,
            Err(not_now) => return Verdict::Backoff(not_now),
        };
        let kib = u32::try_from(record.bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(Self::BODIES_KIB);
        // Small bodies have room by the number of requests. Whoever waited for more would keep others waiting.
        let large = kib.saturating_sub(Self::SMALL_BODY_KIB);
        let Ok(_room) = self.inner.bodies.try_acquire_many(large) else { return Verdict::Backoff(Backoff::Busy) };
        let body = match self.body(position, known.clone()).await {
            Ok(Some(body)) => body,
            Ok(None) => return Verdict::GiveUp("body_lost"),
            Err(error) => {
                tracing::warn!(%error, "a callback that is to be passed on cannot be read");
                return Verdict::Failed(error.to_string(), None);
            }
        };
        let answer = timeout(Self::REQUEST_TIME, self.post(url, body)).await.unwrap_or(Err(EgressError::TimedOut));
        let (status, retry_after) = match answer {
            Ok(answer) => answer,
            Err(EgressError::Refused(refusal)) => return Verdict::GiveUp(refusal.name()),
            Err(error) => {
                turn.failed(None, &error.to_string());
                return Verdict::Failed(error.to_string(), None);
            }
        };
        let error = format!("it answers {}", status.as_u16());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            turn.failed(retry_after, &error);
        } else {
            turn.answered();
        }
        match status {
            status if status.is_success() => Verdict::Taken,
            StatusCode::GONE => Verdict::GiveUp("gone"),
            _ => Verdict::Failed(error, retry_after),
        }
    }

    async fn post(&self, url: &MediaUrl, body: Bytes) -> Result<(StatusCode, Option<Duration>), EgressError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let mut response = self.inner.client.send(Method::POST, url, headers, Some(Body::from(body))).await?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let mut read = 0;
        // The status has decided it: what breaks off here only costs the connection.
        while read < Self::MAX_ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read += chunk.len();
        }
        Ok((status, retry_after))
    }

    /// What to send of a callback; `None` when something else stands where its bytes should.
    async fn body(&self, position: u64, known: RefRecord) -> Result<Option<Bytes>, ReadError> {
        let inner = self.inner.clone();
        let read = tokio::task::spawn_blocking(move || {
            let at = inner.log.state().callback_at(position)?;
            let callback = inner.log.journal().read(at)?.into_callback();
            Ok(callback.map(|callback| (inner.rewrite)(&known, callback.body)))
        });
        read.await.unwrap_or(Err(ReadError::Cancelled))
    }

    /// Says what became of a callback. While that cannot be recorded, nothing else of its ref is tried.
    async fn record(&self, event: Event) -> DeliveryOutcome {
        loop {
            // It need not be on the disk at once: without it the callback is sent again.
            match self.inner.log.record(event.clone(), Durability::Buffered).await {
                Ok(_) => return DeliveryOutcome::Done,
                Err(RecordError::Stopping) => return DeliveryOutcome::Later(Self::PAUSE),
                Err(RecordError::Journal(_)) => sleep(Self::PAUSE).await,
            }
        }
    }
}

/// As much of a URL as may be shown.
fn receiver(url: &str) -> Option<String> {
    MediaUrl::parse(url).ok().map(|url| url.expose().origin().ascii_serialization())
}

/// What the receiver asks for in seconds; a date is passed over.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
