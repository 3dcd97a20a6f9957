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
use super::slots::{Slot, Slots, TooMany};
use super::spool::{Spool, SpoolFile};
use super::within::within;
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
    /// Who holds it may have a large body looked at that is in memory already. There is one, too.
    looks: Slots<Target>,
    max_bytes: usize,
    /// How long a whole body may take that is not on disk.
    longest: Duration,
}

/// A body that is whole.
pub(super) enum Received {
    /// In memory, and what is held of that.
    AtHand(Vec<u8>, Held<Target>),
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
            looks: Slots::new(1, MAX_WAITING),
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
        let mut received = within(time, &mut receiving).await;
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
                Inflated::Whole(plain) => return Ok(Received::AtHand(plain, held)),
                Inflated::Not => return Ok(Received::AtHand(body, held)),
                Inflated::TooLarge => {}
            }
        }
        Ok(Received::OnDisk(LargeBody { file, rest: body, may_be_deflate, held }))
    }

    /// A body that came over `target`'s URL, and what `see` finds in it, which takes long, or much memory. It takes a large
    /// slot if it has none, and waits for its turn; others wait until it is looked at.
    ///
    /// # Errors
    /// When there is no room for it, or its turn does not come.
    pub(super) async fn look_at<T: Send + 'static>(
        &self,
        target: &Target,
        body: Vec<u8>,
        mut held: Held<Target>,
        see: impl FnOnce(&Bytes) -> T + Send + 'static,
    ) -> Result<(Bytes, T), IntakeError> {
        self.memory.hold(&mut held, target, body.len(), true).await?;
        let turn = turn(&self.looks, target).await?;
        let looking = tokio::task::spawn_blocking(move || {
            let body = bytes_holding(body, held);
            let seen = see(&body);
            drop(turn);
            (body, seen)
        });
        looking.await.map_err(|_| IntakeError::Unavailable("the body cannot be read"))
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
        let turn = turn(&self.whole, target).await?;
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

async fn turn(turns: &Slots<Target>, target: &Target) -> Result<Slot<Target>, IntakeError> {
    match timeout(Intake::PATIENCE, turns.acquire(target.clone())).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(TooMany)) | Err(_) => Err(IntakeError::Unavailable("too many large bodies come in at once")),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::FutureExt;
    use secrecy::SecretString;

    use super::*;
    use crate::intake::{Config, QuarantineLimits, ReplyKeys, ReplyUrls};
    use crate::journal::Journal;
    use crate::state::EventLog;

    fn intake_in(dir: &Path) -> Intake {
        let keys = ReplyKeys::new([&SecretString::from("secret")]).unwrap();
        let config = Config {
            max_callback_size: LARGE_BYTES,
            body_time: Config::BODY_TIME,
            adopt_unknown_refs: true,
            sidecars: false,
            confirm: false,
            quarantine: QuarantineLimits::default(),
        };
        let journal = Journal::open(&dir.join("journal")).unwrap();
        let log = EventLog::open(journal, &dir.join("state"), Intake::parse_callback).unwrap();
        Intake::new(config, ReplyUrls::new("http://127.0.0.1".parse().unwrap(), keys), log, &dir.join("spool"))
    }

    #[tokio::test]
    async fn a_small_body_with_many_files_takes_the_memory_of_a_large_one() {
        let dir = tempfile::tempdir().unwrap();
        let intake = intake_in(dir.path());
        intake.log().recovered().await.unwrap();
        let mut taken = Vec::new();
        // A target's share.
        for _ in 0..36 {
            let mut held = Held::Nothing;
            let memory = &intake.inner.bodies.memory;
            memory.hold(&mut held, &Target::Channel, LARGE_BYTES, false).await.unwrap();
            taken.push(held);
        }
        let accept = |files: usize| {
            let files_named = vec![r#"{"file":{"fileUrl":"http://a/b"}}"#; files].join(",");
            let body = format!(
                r#"{{"jobId":"p{files}-u2-a3-bot:minimax","status":"completed","response":{{"attachments":[{files_named}]}}}}"#
            );
            assert!(body.len() < 10_000);
            intake.accept_received(Target::Channel, Received::AtHand(body.into_bytes(), Held::Nothing))
        };
        let mut with_many = Box::pin(accept(256));
        assert!(with_many.as_mut().now_or_never().is_none());
        accept(1).await.unwrap();
        // It would have been recorded with that.
        assert!(with_many.as_mut().now_or_never().is_none());
        drop(taken);
        with_many.await.unwrap();
        intake.log().close();
    }

    #[tokio::test]
    async fn a_body_that_is_not_small_is_looked_at_elsewhere_and_in_its_targets_turn() {
        let spool = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(LARGE_BYTES, Duration::from_secs(60), spool.path());
        let (flooding, other) = (Target::UseApi, Target::Channel);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = move |_: &Bytes| {
            let _ = wait.recv();
        };
        let mut first = Box::pin(bodies.look_at(&flooding, b"{}".to_vec(), Held::Nothing, first));
        assert!(first.as_mut().now_or_never().is_none());
        let look = |target| bodies.look_at(target, b"{}".to_vec(), Held::Nothing, |_| thread::current().id());
        let mut flood: Vec<_> = (0..30).map(|_| Box::pin(look(&flooding))).collect();
        for waiting in &mut flood {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut of_other = Box::pin(look(&other));
        assert!(of_other.as_mut().now_or_never().is_none());
        drop(go);
        first.await.unwrap();
        flood.remove(0).await.unwrap();
        let (body, seen_by) = of_other.await.unwrap();
        assert_eq!(body, "{}");
        assert_ne!(seen_by, thread::current().id());
    }

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
