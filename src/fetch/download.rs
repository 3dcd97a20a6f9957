use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep, sleep_until};

use super::body_hashes::BodyHashes;
use super::container::Container;
use super::entity::Entity;
use super::speed::SpeedGate;
use super::{ErrorClass, FetchError, Fetcher, ResumePoint};
use crate::domain::{Digest, MediaUrl};
use crate::egress::{EgressError, Response};

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
    checks: BodyHashes,
    speed: SpeedGate,
    reopenings: u32,
    /// Has come and is still to be handed out.
    pending: Bytes,
    /// Small chunks that came and are handed out together, behind `pending`.
    gathered: BytesMut,
    crumbs: Crumbs,
    /// Nothing more is taken before.
    pause: Option<Instant>,
    state: State,
}

/// Chunks smaller than this are handed out together, some [`GATHERED`] bytes at a time: what is done for each costs more
/// than its bytes.
const SMALL: usize = 1 << 10;
const GATHERED: usize = 16 << 10;

/// How many small chunks have come in the current second. Each costs about as much as 10 KiB in one piece, so no more are
/// taken; the time until the second is over counts as waiting for the server, whose speed is judged by that.
#[derive(Default)]
struct Crumbs {
    count: u32,
    since: Option<Instant>,
}

impl Crumbs {
    const EACH_SECOND: u32 = 10_000;

    /// Takes note of a small chunk. Returns how long to wait before the next is taken.
    fn add(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let rest = Duration::from_secs(1).saturating_sub(now - since);
        if rest.is_zero() {
            (self.count, self.since) = (0, Some(now));
        }
        self.count += 1;
        (self.count > Self::EACH_SECOND).then_some(rest)
    }
}

/// Kept in one place so that a `next` that is dropped half-way leaves a download which the following one can go on with.
enum State {
    Receiving(Response),
    /// The response is over, or broke off with an error.
    Closed(Option<EgressError>),
    Interrupted(FetchError),
    Failed(FetchError),
    Whole(Summary),
}

impl Download {
    pub(super) fn new(fetcher: Fetcher, url: MediaUrl, entity: Entity, response: Response) -> Self {
        let checks = BodyHashes::new(entity.declared);
        Self::resumed(fetcher, url, entity, checks, response)
    }

    /// `response` has what follows the bytes that `checks` has taken in.
    pub(super) fn resumed(
        fetcher: Fetcher,
        url: MediaUrl,
        entity: Entity,
        checks: BodyHashes,
        response: Response,
    ) -> Self {
        let download = Self::of_bytes(fetcher, url, entity, Bytes::new());
        Self { checks, state: State::Receiving(response), ..download }
    }

    /// What is at hand already.
    pub(super) fn of_bytes(fetcher: Fetcher, url: MediaUrl, entity: Entity, pending: Bytes) -> Self {
        let checks = BodyHashes::new(entity.declared);
        let speed = SpeedGate::new(fetcher.min_speed, fetcher.speed_window);
        Self {
            fetcher,
            url,
            entity,
            checks,
            speed,
            reopenings: 0,
            pending,
            gathered: BytesMut::new(),
            crumbs: Crumbs::default(),
            pause: None,
            state: State::Closed(None),
        }
    }

    /// How many bytes the server says there are, if it does.
    pub fn declared_length(&self) -> Option<u64> {
        self.entity.length
    }

    /// The `Content-Type` as the server wrote it: a claim, no more.
    pub fn content_type(&self) -> Option<&str> {
        self.entity.content_type.as_deref()
    }

    /// Whether the server says where the body ends, or what it is: a body that came whole by that was not cut on its way.
    pub fn is_proven(&self) -> bool {
        self.entity.length.is_some() || self.entity.declared.any()
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

    /// Where it is, behind the last byte handed out, with the check of these same bytes. `None` when the server gives no
    /// way to prove that a rest belongs to them, or when it is of no use to go on.
    pub fn point(&self, container: &Container) -> Option<ResumePoint> {
        ResumePoint::of(&self.entity, &self.checks, container)
    }

    /// [`Self::next_within`] without a limit.
    ///
    /// # Errors
    /// As there.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        self.next_within(usize::MAX).await
    }

    /// The next bytes as they came from the wire, at most `limit` of them, which must not be zero, and never none; `None` at
    /// the end, when the length and every checksum that the server declared have proved right.
    ///
    /// After an interruption it asks for the rest, up to three times, if the server gave a strong ETag, or
    /// ranges and a checksum. Once it has returned an error or `None`, it returns the same again.
    ///
    /// Dropping it before it is done loses no bytes; a reopening under way is begun anew and counts again.
    ///
    /// # Errors
    /// When the body breaks off, is too long, too slow, or not what the server declared. The bytes handed out before
    /// are then worth nothing.
    pub async fn next_within(&mut self, limit: usize) -> Result<Option<Bytes>, FetchError> {
        loop {
            let is_over = !matches!(self.state, State::Receiving(_));
            if self.pending.is_empty() && (self.gathered.len() >= GATHERED || is_over) {
                self.pending = self.gathered.split().freeze();
            }
            if !self.pending.is_empty() {
                let chunk = self.pending.split_to(limit.min(self.pending.len()));
                self.checks.update(&chunk);
                return Ok(Some(chunk));
            }
            let step = match &mut self.state {
                State::Whole(_) => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
                State::Interrupted(cause) => {
                    let cause = cause.clone();
                    self.reopen(cause).await
                }
                // With all bytes here, how the connection ended does not matter.
                State::Closed(error) => match error.take() {
                    Some(error) if self.entity.length != Some(self.received()) => State::Interrupted(error.into()),
                    _ => self.end(),
                },
                State::Receiving(response) => {
                    let since = Instant::now();
                    if let Some(pause) = self.pause {
                        sleep_until(pause).await;
                        self.pause = None;
                    }
                    match response.chunk().await {
                        Ok(Some(chunk)) if chunk.is_empty() => continue,
                        Ok(Some(chunk)) => match self.accept(&chunk, since.elapsed()) {
                            Ok(()) => {
                                self.keep(chunk);
                                continue;
                            }
                            Err(error) => State::Failed(error),
                        },
                        Ok(None) => State::Closed(None),
                        Err(error) => State::Closed(Some(error)),
                    }
                }
            };
            self.state = step;
        }
    }

    /// Puts a chunk behind what is still to be handed out.
    fn keep(&mut self, chunk: Bytes) {
        if chunk.len() < SMALL {
            self.pause = self.crumbs.add().map(|pause| Instant::now() + pause);
        } else if self.gathered.is_empty() {
            self.pending = chunk;
            return;
        }
        self.gathered.extend_from_slice(&chunk);
    }

    /// Takes in a chunk that is going to be handed out.
    fn accept(&mut self, chunk: &[u8], waited: Duration) -> Result<(), FetchError> {
        let come = self.received() + self.gathered.len() as u64;
        let received = come.saturating_add(chunk.len() as u64);
        self.fetcher.check_size(received)?;
        if let Some(declared) = self.entity.length.filter(|declared| received > *declared) {
            return Err(FetchError::Length { declared, received });
        }
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
        let Some(headers) = self.entity.rest(offset) else { return State::Failed(cause) };
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
pub(super) mod tests;
