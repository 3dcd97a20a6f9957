//! One callback to one receiver.

use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;
use tokio::time::sleep;

use super::Relay;
use crate::delivery::{Attempt, Backoff, Outcome, Schedule, Tried, Verdict, judge, origin, post, receiver_key};
use crate::domain::{MediaUrl, RefId, Timestamp};
use crate::egress::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use crate::journal::{Durability, Event, JournalError};
use crate::state::{ApplyOutcome, OutboxRecord, RecordError, RefRecord, StateError};

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
    /// After an error of our own.
    const PAUSE: Duration = Duration::from_secs(5);

    /// Tries the first of what waits to be passed on for a ref.
    pub(super) async fn deliver_next(&self, id: &RefId, tried: Tried) -> Attempt {
        let (state, of) = (self.state().clone(), id.clone());
        let head = tokio::task::spawn_blocking(move || Ok((state.outbox_head(&of)?, state.reply_ref(&of)?)));
        // It ends early only when the runtime does.
        let (position, record, known) = match head.await.unwrap_or(Err(StateError::Rebuilding)) {
            Ok((None, _)) => return Attempt { outcome: Outcome::Nothing, late: false, receiver: None },
            Ok((Some((position, record)), known)) => (position, record, known),
            Err(error) => {
                tracing::debug!(%error, "what is to be passed on cannot be read yet");
                let (outcome, late) = (Outcome::Later(Self::PAUSE), tried.late_since.is_some());
                return Attempt { outcome, late, receiver: None };
            }
        };
        let url = known.as_ref().and_then(|known| known.forward_url.as_deref());
        let late = Timestamp::now().since(record.at) >= self.inner.patience;
        let verdict = match (&known, url.map(MediaUrl::parse)) {
            (None, _) | (_, None) => Verdict::GiveUp("ref_removed"),
            (_, Some(Err(_))) => Verdict::GiveUp("invalid_url"),
            (Some(known), Some(Ok(url))) => self.pass_on(position, record, known, &url).await,
        };
        let verdict = tried.expire(verdict, late, self.inner.patience);
        let outcome = self.conclude(id.clone(), position, url, verdict, tried).await;
        Attempt { outcome, late, receiver: url.map(receiver_key) }
    }

    async fn conclude(&self, id: RefId, position: u64, url: Option<&str>, verdict: Verdict, tried: Tried) -> Outcome {
        let at = Timestamp::now();
        let again = |retry_after| {
            let delay = Schedule::RELAY.delay(tried.failures.saturating_add(1), retry_after);
            Outcome::Failed(delay.unwrap_or(Schedule::RELAY.max_retry_after))
        };
        match verdict {
            Verdict::Taken => {
                fail_point!("relay.sent", |_| again(None));
                self.record(Event::PassedOn { at, id, position }).await
            }
            Verdict::GiveUp(why) => {
                let receiver = url.and_then(origin);
                tracing::warn!(reference = %id, receiver, why, "a callback could not be passed on and is given up");
                self.record(Event::PassOnGivenUp { at, id, position, why: why.to_owned() }).await
            }
            Verdict::Backoff(Backoff::Paused { rest, .. }) => Outcome::Later(rest),
            Verdict::Backoff(Backoff::Busy) => Outcome::Busy,
            Verdict::Failed(error, retry_after) => {
                let receiver = url.and_then(origin);
                tracing::info!(reference = %id, receiver, error, "a callback could not be passed on yet");
                again(retry_after)
            }
        }
    }

    async fn pass_on(&self, position: u64, record: OutboxRecord, known: &RefRecord, url: &MediaUrl) -> Verdict {
        fail_point!("relay.send", |_| Verdict::Failed("as asked for".to_owned(), None));
        let permit = match self.inner.receivers.admit(url.expose().as_str(), Self::REQUEST_TIME) {
            Ok(permit) => permit,
            Err(backoff) => return Verdict::Backoff(backoff),
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
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let max_retry_after = Schedule::RELAY.max_retry_after;
        judge(&permit, post(&self.inner.client, url, headers, body, Self::REQUEST_TIME, max_retry_after).await)
    }

    /// What to send of a callback; `None` when something else stands where its bytes should.
    async fn body(&self, position: u64, known: RefRecord) -> Result<Option<Bytes>, ReadError> {
        let (inner, log) = (self.inner.clone(), self.log.clone());
        let read = tokio::task::spawn_blocking(move || {
            let at = log.state().callback_at(position)?;
            let callback = log.journal().read(at)?.into_callback();
            Ok(callback.map(|callback| (inner.rewrite)(&known, callback.body)))
        });
        read.await.unwrap_or(Err(ReadError::Cancelled))
    }

    /// Says what became of a callback. While that cannot be recorded, nothing else of its ref is tried.
    async fn record(&self, event: Event) -> Outcome {
        loop {
            // It need not be on the disk at once: without it the callback is sent again.
            match self.log.record(event.clone(), Durability::Buffered).await {
                // What is told of it here may be from before: it must not be sent again at once.
                Ok(ApplyOutcome::Deferred) => return Outcome::Later(Self::PAUSE),
                Ok(_) => return Outcome::Done,
                Err(RecordError::Stopping) => return Outcome::Later(Self::PAUSE),
                Err(RecordError::Fenced) => return Outcome::Nothing,
                Err(RecordError::Journal(_) | RecordError::Away) => sleep(Self::PAUSE).await,
            }
        }
    }
}
