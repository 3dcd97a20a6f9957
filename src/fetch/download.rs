use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::checks::Checks;
use super::entity::Entity;
use super::speed::SpeedGate;
use super::{ErrorClass, FetchError, Fetcher};
use crate::domain::{Digest, MediaUrl};
use crate::egress::Response;
use crate::egress::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};

/// How often one download goes on after an interruption before it leaves trying again to its caller.
const MAX_REOPENINGS: u32 = 3;

/// The longest `Retry-After` that is sat out inside a download.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What a whole body turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The SHA-256 of all bytes.
    pub digest: Digest,
    /// How many there were.
    pub bytes: u64,
}

/// A body on its way, from the first byte to the last.
pub struct Download {
    fetcher: Fetcher,
    url: MediaUrl,
    entity: Entity,
    checks: Checks,
    speed: SpeedGate,
    reopenings: u32,
    state: State,
}

/// Kept in one place so that a `next` that is dropped half-way leaves a download which the following one can go on with.
enum State {
    Receiving(Response),
    Interrupted(FetchError),
    Failed(FetchError),
    Whole(Summary),
}

impl Download {
    pub(super) fn new(fetcher: Fetcher, url: MediaUrl, entity: Entity, response: Response) -> Self {
        let speed = SpeedGate::new(fetcher.min_speed, fetcher.speed_window);
        let checks = Checks::new(entity.declared);
        Self { fetcher, url, entity, checks, speed, reopenings: 0, state: State::Receiving(response) }
    }

    /// How many bytes the server says there are, if it does.
    pub fn declared_length(&self) -> Option<u64> {
        self.entity.length
    }

    /// The `Content-Type` as the server wrote it: a claim, no more.
    pub fn content_type(&self) -> Option<&str> {
        self.entity.content_type.as_deref()
    }

    /// How many bytes were handed out so far.
    pub fn received(&self) -> u64 {
        self.checks.bytes()
    }

    /// SHA-256 and size, once [`Self::next`] has returned `None`; `None` before that.
    pub fn summary(&self) -> Option<Summary> {
        match self.state {
            State::Whole(summary) => Some(summary),
            _ => None,
        }
    }

    /// The next bytes as they came from the wire, never empty; `None` at the end, when the length and every checksum
    /// that the server declared have proved right.
    ///
    /// After an interruption it asks for the rest, up to three times, if the server gave a strong ETag, or
    /// ranges and a checksum. Once it has returned an error or `None`, it returns the same again.
    ///
    /// Dropping it before it is done loses no bytes; a reopening under way is begun anew and counts again.
    ///
    /// # Errors
    /// When the body breaks off, is too long, too slow, or not what the server declared. The bytes handed out before
    /// are then worth nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let step = match &mut self.state {
                State::Whole(_) => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
                State::Interrupted(cause) => {
                    let cause = cause.clone();
                    self.reopen(cause).await
                }
                State::Receiving(response) => {
                    let since = Instant::now();
                    match response.chunk().await {
                        Ok(Some(chunk)) if chunk.is_empty() => continue,
                        Ok(Some(chunk)) => match self.accept(&chunk, since.elapsed()) {
                            Ok(()) => return Ok(Some(chunk)),
                            Err(error) => State::Failed(error),
                        },
                        Ok(None) => self.end(),
                        // With all bytes here, how the connection ended does not matter.
                        Err(_) if self.entity.length == Some(self.received()) => self.end(),
                        Err(error) => State::Interrupted(error.into()),
                    }
                }
            };
            self.state = step;
        }
    }

    /// Takes in a chunk that is going to be handed out.
    fn accept(&mut self, chunk: &[u8], waited: Duration) -> Result<(), FetchError> {
        let received = self.received().saturating_add(chunk.len() as u64);
        self.fetcher.check_size(received)?;
        if let Some(declared) = self.entity.length.filter(|declared| received > *declared) {
            return Err(FetchError::Length { declared, received });
        }
        self.checks.update(chunk);
        let fast_enough = self.speed.record(waited, chunk.len());
        if !fast_enough && self.entity.length != Some(received) {
            self.state = State::Interrupted(FetchError::TooSlow { min_speed: self.fetcher.min_speed });
        }
        Ok(())
    }

    fn end(&mut self) -> State {
        let received = self.received();
        match self.entity.length {
            Some(declared) if declared != received => State::Interrupted(FetchError::Length { declared, received }),
            _ => self.checks.finish().map_or_else(State::Failed, State::Whole),
        }
    }

    /// Asks for the rest. An interruption it cannot or may not go on from is the download's failure.
    async fn reopen(&mut self, cause: FetchError) -> State {
        let asked_pause = cause.retry_after().unwrap_or_default();
        let hopeless = cause.class() != ErrorClass::Transient || asked_pause > MAX_PAUSE;
        if hopeless || !self.entity.is_resumable() || self.reopenings == MAX_REOPENINGS {
            return State::Failed(cause);
        }
        self.reopenings += 1;
        sleep(asked_pause.max(self.fetcher.reopen_pause * self.reopenings)).await;
        let offset = self.received();
        let mut headers = HeaderMap::new();
        match HeaderValue::from_str(&format!("bytes={offset}-")) {
            Ok(range) => headers.insert(RANGE, range),
            Err(_) => return State::Failed(cause),
        };
        if let Some(etag) = &self.entity.etag {
            headers.insert(IF_RANGE, etag.clone());
        }
        let response = match self.fetcher.request(&self.url, headers).await {
            Ok(response) => response,
            Err(error) => return State::Interrupted(error),
        };
        if let Err(error) = self.entity.continue_at(offset, &response) {
            return match error {
                FetchError::Changed => State::Failed(error),
                error => State::Interrupted(error),
            };
        }
        if let Err(error) = self.fetcher.check_size(self.entity.length.unwrap_or(0)) {
            return State::Failed(error);
        }
        self.speed = SpeedGate::new(self.fetcher.min_speed, self.fetcher.speed_window);
        State::Receiving(response)
    }
}

#[cfg(test)]
mod tests;
