//! Bodies of callbacks as they come in: bounded in memory, in time, and in what one target may take of either.
//!
//! Memory is taken as bytes come. The slot belongs to the bytes: it is given back when the last who holds the body lets go of
//! it, which is after it is journalled and folded in, however long that takes.
//!
//! A body that outgrows the large slot, too, goes on to the disk as it comes. Once it is whole, it waits until it is the one
//! that may be in memory as a whole.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Payload;
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::coding::{Decoder, Inflated, inflated, json_or_deflated};
use super::memory::{Held, LARGE_BYTES, MAX_WAITING, Memory, bytes_holding};
use super::pace::Pace;
use super::slots::Slots;
use super::spool::{Spool, SpoolFile};
use super::{Intake, IntakeError};
use crate::decompress::DecompressError;
use crate::domain::Target;

/// The room for bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    memory: Memory<Target>,
    spool: Arc<Spool>,
    /// Who holds it may have a body from the disk in memory. There is one, and targets take turns at it.
    whole: Slots<Target>,
    max_bytes: usize,
    /// How long a whole body may take that is not on disk.
    longest: Duration,
}

/// A body that is whole.
pub(super) enum Received {
    /// In memory.
    AtHand(Bytes),
    /// To be had with [`Bodies::load`].
    OnDisk(LargeBody),
}

/// A body that is not in memory as a whole.
pub(super) struct LargeBody {
    /// What is on disk of it; the rest is in memory.
    file: Option<SpoolFile>,
    rest: Vec<u8>,
    /// Whether it may be deflate that begins like JSON.
    may_be_deflate: bool,
    held: Held<Target>,
}

/// What is decoded in one step: a byte of deflate makes 1,032 at most.
const CODED_STEP: usize = 1 << 10;
/// What has to come of a body in the time of its [`Pace`] once it is on disk, where few may be.
const LEAST_BYTES_ON_DISK: usize = 256 << 10;
/// How many times as long a body may take that is put on disk.
const LONGEST_ON_DISK: u32 = 4;

impl Bodies {
    /// Room for bodies of at most `max_bytes`, each of which may take `longest`; what is too large for memory goes to `spool`.
    pub(super) fn new(max_bytes: usize, longest: Duration, spool: &Path) -> Self {
        Self {
            memory: Memory::new(max_bytes),
            spool: Arc::new(Spool::new(spool, max_bytes)),
            whole: Slots::new(1, MAX_WAITING),
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
    ) -> Result<Received, IntakeError> {
        if declared.is_some_and(|length| length > self.max_bytes) {
            return Err(IntakeError::TooLarge(self.max_bytes));
        }
        let is_on_disk = Cell::new(false);
        let mut receiving = Box::pin(self.receive(target, encoding, declared, payload, &is_on_disk));
        let mut time = self.longest;
        let mut received = timeout(time, &mut receiving).await;
        if received.is_err() && is_on_disk.get() {
            time *= LONGEST_ON_DISK;
            received = timeout(time - self.longest, &mut receiving).await;
        }
        match received {
            Ok(body) => body,
            Err(_) => Err(IntakeError::Incomplete(format!("not within {} seconds", time.as_secs()))),
        }
    }

    async fn receive(
        &self,
        target: &Target,
        encoding: Option<&str>,
        declared: Option<usize>,
        mut payload: Payload,
        is_on_disk: &Cell<bool>,
    ) -> Result<Received, IntakeError> {
        let mut decoder = Decoder::new(encoding, self.max_bytes);
        let mut held = Held::Nothing;
        let mut file: Option<SpoolFile> = None;
        let mut pace = Pace::new();
        let mut received = 0;
        loop {
            let is_wanted = || self.memory.is_wanted(&held, target) || (file.is_some() && self.spool.is_wanted(target));
            let Some(chunk) = pace.next(&mut payload, is_wanted).await? else { break };
            received += chunk.len();
            if received > self.max_bytes {
                return Err(IntakeError::TooLarge(self.max_bytes));
            }
            let began = Instant::now();
            let is_coded = decoder.decodes(&chunk);
            if self.memory.hold(&mut held, target, received, is_coded).await? {
                decoder.expect(declared.unwrap_or_default().min(LARGE_BYTES));
            }
            for step in chunk.chunks(if is_coded { CODED_STEP } else { chunk.len().max(1) }) {
                decoder.push(step).map_err(|error| self.refused(error))?;
                if decoder.buffered() <= LARGE_BYTES {
                    continue;
                }
                let file = match &mut file {
                    Some(file) => file,
                    none => {
                        let begun = self.spool.begin(target).await?;
                        is_on_disk.set(true);
                        pace.expect(LEAST_BYTES_ON_DISK);
                        none.insert(begun)
                    }
                };
                file.append(decoder.take()).await?;
            }
            pace.grew_by(chunk.len(), began.elapsed());
        }
        let (body, may_be_deflate) = decoder.finish_undecided().map_err(|error| self.refused(error))?;
        if file.is_none() {
            let plain = if may_be_deflate { inflated(&body, LARGE_BYTES.min(self.max_bytes)) } else { Inflated::Not };
            match plain {
                Inflated::Whole(plain) => return Ok(Received::at_hand(plain, held)),
                Inflated::Not => return Ok(Received::at_hand(body, held)),
                Inflated::TooLarge => {}
            }
        }
        Ok(Received::OnDisk(LargeBody { file, rest: body, may_be_deflate, held }))
    }

    /// A large body that came over `target`'s URL, in memory. It waits for its turn, and others wait until the last who holds
    /// it lets go of it.
    ///
    /// # Errors
    /// When its turn does not come, or the disk cannot read it.
    pub(super) async fn load<T: Send + 'static>(
        &self,
        target: &Target,
        body: LargeBody,
        see: impl FnOnce(&Bytes) -> T + Send + 'static,
    ) -> Result<(Bytes, T), IntakeError> {
        let turn = timeout(Intake::PATIENCE, self.whole.acquire(target.clone())).await;
        let Ok(Ok(turn)) = turn else {
            return Err(IntakeError::Unavailable("too many large bodies come in at once"));
        };
        let max_bytes = self.max_bytes;
        let loading = tokio::task::spawn_blocking(move || {
            let LargeBody { file, rest, may_be_deflate, held } = body;
            let body = match &file {
                None => rest,
                Some(file) => file.read(&rest)?,
            };
            // The disk's room is free from here on.
            drop(file);
            let body = if may_be_deflate { json_or_deflated(body, max_bytes) } else { body };
            let body = bytes_holding(body, (held, turn));
            let seen = see(&body);
            Ok::<_, io::Error>((body, seen))
        });
        match loading.await {
            Ok(loaded) => loaded.map_err(|error| super::spool::failed(&error)),
            Err(_) => Err(IntakeError::Unavailable("the body cannot be read")),
        }
    }

    fn refused(&self, error: DecompressError) -> IntakeError {
        match error {
            DecompressError::TooLarge => IntakeError::TooLarge(self.max_bytes),
            DecompressError::Damaged(error) => IntakeError::Undecodable(error),
        }
    }
}

impl Received {
    fn at_hand(body: Vec<u8>, held: Held<Target>) -> Self {
        Self::AtHand(bytes_holding(body, held))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_large_body_does_not_wait_for_all_those_of_another_target() {
        let spool = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(LARGE_BYTES, Duration::from_secs(60), spool.path());
        let body = || LargeBody { file: None, rest: b"{}".to_vec(), may_be_deflate: false, held: Held::Nothing };
        let (flooding, other) = (Target::UseApi, Target::Channel);
        let first = bodies.load(&flooding, body(), |_| ()).await.unwrap();
        let mut flood: Vec<_> = (0..36).map(|_| Box::pin(bodies.load(&flooding, body(), |_| ()))).collect();
        for waiting in &mut flood {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut of_other = Box::pin(bodies.load(&other, body(), |_| ()));
        assert!(of_other.as_mut().now_or_never().is_none());
        drop(first);
        drop(flood.remove(0).await.unwrap());
        assert_eq!(of_other.await.unwrap().0, "{}");
    }
}
