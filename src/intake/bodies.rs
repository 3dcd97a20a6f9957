//! Bodies of callbacks as they come in: bounded in memory, in time, and in what one target may take of either.
//!
//! Memory is taken as bytes come, in two sizes of slots: every body takes a small one with its first bytes, and one that
//! outgrows it a large one, so that small bodies never wait for large ones. The slot belongs to the bytes: it is given back
//! when the last who holds the body lets go of it, which is after it is journalled and folded in, however long that takes.

use std::time::Duration;

use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::IntakeError;
use super::coding::Decoder;
use super::slots::{Slot, Slots, TooMany};
use crate::decompress::DecompressError;
use crate::domain::Target;

/// The memory for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    small: Slots<Target>,
    large: Slots<Target>,
    max_bytes: usize,
    /// How long a whole body may take.
    longest: Duration,
}

/// The largest body that needs no large slot, in bytes.
const SMALL_BYTES: usize = 16 << 10;
/// Memory for small bodies.
const SMALL_POOL_BYTES: usize = 16 << 20;
/// Memory for large ones.
const LARGE_POOL_BYTES: usize = 48 << 20;
/// Large bodies that may come in at a time even if they are larger than their pool.
const MIN_LARGE: usize = 4;
/// Bodies of either size that may wait for a slot. Those that wait for a large one hold small ones, though not all.
const MAX_WAITING: usize = 1024;
/// How long a body may wait for a slot.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// Until it is whole, so much of a body has to come ...
const LEAST_BYTES: usize = 16 << 10;
/// ... in this time, ...
const LEAST_TIME: Duration = Duration::from_secs(10);
/// ... or in this while others wait for its slot.
const LEAST_TIME_WANTED: Duration = Duration::from_secs(1);

impl Bodies {
    /// Memory for bodies of at most `max_bytes`, each of which may take `longest`.
    pub(super) fn new(max_bytes: usize, longest: Duration) -> Self {
        let large = (LARGE_POOL_BYTES / max_bytes.max(1)).clamp(MIN_LARGE, LARGE_POOL_BYTES / SMALL_BYTES);
        Self {
            small: Slots::new(SMALL_POOL_BYTES / SMALL_BYTES, MAX_WAITING),
            large: Slots::new(large, MAX_WAITING),
            max_bytes,
            longest,
        }
    }

    /// Reads a body that is sent to `target`, with `encoding` as its Content-Encoding and `declared` as its length, if it
    /// has any.
    ///
    /// # Errors
    /// When it is too large, too slow or broken off, cannot be decoded, or there is no room for it.
    pub(super) async fn read(
        &self,
        target: &Target,
        encoding: Option<&str>,
        declared: Option<usize>,
        payload: Payload,
    ) -> Result<Bytes, IntakeError> {
        if declared.is_some_and(|length| length > self.max_bytes) {
            return Err(IntakeError::TooLarge(self.max_bytes));
        }
        match timeout(self.longest, self.receive(target, encoding, declared, payload)).await {
            Ok(body) => body,
            Err(_) => Err(IntakeError::Incomplete(format!("not within {} seconds", self.longest.as_secs()))),
        }
    }

    async fn receive(
        &self,
        target: &Target,
        encoding: Option<&str>,
        declared: Option<usize>,
        mut payload: Payload,
    ) -> Result<Bytes, IntakeError> {
        let mut decoder = Decoder::new(encoding, self.max_bytes);
        let mut held = Held::Nothing;
        let mut pace = Pace { since: Instant::now(), bytes: 0 };
        let mut received = 0;
        while let Some(chunk) = self.next(&mut payload, &mut pace, &held).await? {
            received += chunk.len();
            if received > self.max_bytes {
                return Err(IntakeError::TooLarge(self.max_bytes));
            }
            let began = Instant::now();
            let is_small = received <= SMALL_BYTES && !decoder.decodes(&chunk);
            match held {
                Held::Large(_) => {}
                Held::Small(_) if is_small => {}
                Held::Nothing if is_small => held = Held::Small(slot(&self.small, target).await?),
                Held::Nothing | Held::Small(_) => {
                    held = Held::Large(slot(&self.large, target).await?);
                    decoder.expect(declared.unwrap_or_default());
                }
            }
            // To wait for a slot is no slowness of its own.
            pace.grew_by(chunk.len(), began.elapsed());
            decoder.push(&chunk).map_err(|error| self.refused(error))?;
        }
        let body = decoder.finish().map_err(|error| self.refused(error))?;
        Ok(Bytes::from_owner(Body { body, _held: held }))
    }

    /// The next piece; `None` at the end.
    async fn next(&self, payload: &mut Payload, pace: &mut Pace, held: &Held) -> Result<Option<Bytes>, IntakeError> {
        loop {
            let chunk = timeout(LEAST_TIME_WANTED, payload.next()).await;
            let slow = pace.since.elapsed();
            if let Ok(None) = chunk {
                return Ok(None);
            }
            if slow >= LEAST_TIME {
                let (kib, seconds) = (LEAST_BYTES >> 10, LEAST_TIME.as_secs());
                return Err(IntakeError::Incomplete(format!("less than {kib} KiB came in {seconds} seconds")));
            }
            if slow >= LEAST_TIME_WANTED && self.is_wanted(held) {
                return Err(IntakeError::Unavailable("others wait for the memory that this body holds"));
            }
            if let Ok(Some(chunk)) = chunk {
                return chunk.map(Some).map_err(|error| IntakeError::Incomplete(error.to_string()));
            }
        }
    }

    fn refused(&self, error: DecompressError) -> IntakeError {
        match error {
            DecompressError::TooLarge => IntakeError::TooLarge(self.max_bytes),
            DecompressError::Damaged(error) => IntakeError::Undecodable(error),
        }
    }

    fn is_wanted(&self, held: &Held) -> bool {
        match held {
            Held::Nothing => false,
            Held::Small(_) => self.small.are_wanted(),
            Held::Large(_) => self.large.are_wanted(),
        }
    }
}

async fn slot(slots: &Slots<Target>, target: &Target) -> Result<Slot<Target>, IntakeError> {
    match timeout(MAX_WAIT, slots.acquire(target.clone())).await {
        Ok(Ok(slot)) => Ok(slot),
        Ok(Err(TooMany)) | Err(_) => Err(IntakeError::Unavailable("too many bodies come in at once")),
    }
}

/// The memory that a body has taken.
#[derive(Debug)]
enum Held {
    Nothing,
    Small(#[expect(dead_code, reason = "it is given back when dropped")] Slot<Target>),
    Large(#[expect(dead_code, reason = "it is given back when dropped")] Slot<Target>),
}

/// When the last [`LEAST_BYTES`] began to come.
struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn grew_by(&mut self, bytes: usize, waited: Duration) {
        self.since += waited;
        self.bytes += bytes;
        if self.bytes >= LEAST_BYTES {
            *self = Self { since: Instant::now(), bytes: 0 };
        }
    }
}

/// A body together with its slot.
struct Body {
    body: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
