//! What the state is kept in: a sled tree, and in memory before it what was folded in and is not yet written there.
//!
//! A commit goes into memory, where readers find it at once; a thread of its own writes it to sled, behind the back of
//! those who wait for an answer. That thread merges what was committed one after the other, so that what is put and
//! soon taken away again, as most of the queue is, never reaches sled, and a job that moves on several times is written
//! once. It takes its time while commits come thick, and hurries when much waits; how much may wait is bounded.
//!
//! Every commit is a cut: it has the record that says which journal position it covers, and what sled has is the state
//! as of one cut, always. What a crash takes from memory is folded in again from the journal.

mod blocks;
mod range;
mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fail::fail_point;
use sled::IVec;

pub(super) use self::blocks::Blocks;
use self::waiting::Waiting;
use super::StateError;

/// What a commit writes under a key; `None` removes what is there.
pub(super) type Write = (IVec, Option<IVec>);

/// The state's records, in the order of their keys.
#[derive(Debug)]
pub(super) struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    written: Blocks,
    waiting: RwLock<Waiting>,
    pace: Mutex<Pace>,
    /// Told when there is something to write, or a reason to hurry.
    to_write: Condvar,
    /// Told when something was written, or never will be.
    has_written: Condvar,
}

/// What decides how fast is written.
#[derive(Debug)]
struct Pace {
    /// What waits takes up about this much memory.
    bytes: usize,
    /// When the last commit was.
    last_commit: Instant,
    /// True while the writer waits for something to do.
    idle: bool,
    /// How many wait for what they committed to be written, or for room.
    hurrying: usize,
    in_bulk: bool,
    closing: bool,
    failed: Option<StateError>,
}

/// What waits may take up about this much memory; who commits more waits. A burst of 100,000 callbacks has room.
const MOST: usize = 112 << 20;
/// From here on nothing holds the writer back.
const MUCH: usize = 96 << 20;
/// For how long what was committed may wait for more to be merged with.
const LINGER: Duration = Duration::from_millis(100);
/// For how long after a commit more are expected.
const BUSY: Duration = Duration::from_millis(20);
/// While commits come thick and little waits, the writer rests so many times as long as it writes.
const REST: f64 = 8.0;
/// How many writes go into sled at once: nobody can read it meanwhile, for some milliseconds.
const AT_ONCE: usize = 256;
/// The same when somebody waits for it.
const AT_ONCE_HURRYING: usize = 2048;
/// The same when nobody reads yet: the more is merged, the less is written, since neighbours share a block.
const AT_ONCE_IN_BULK: usize = 1 << 14;
/// What waits then takes up this much before any of it is written.
const ENOUGH_IN_BULK: usize = 16 << 20;

impl Store {
    /// Keeps records in `written`, which nobody else writes to.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn new(written: Blocks) -> Result<Self, StateError> {
        let mut store = Self::without_writer(written);
        let shared = store.shared.clone();
        let writer = std::thread::Builder::new().name("state-writer".to_owned()).spawn(move || shared.write_behind());
        store.writer = Some(writer.map_err(sled::Error::Io)?);
        Ok(store)
    }

    fn without_writer(written: Blocks) -> Self {
        let pace = Pace {
            bytes: 0,
            last_commit: Instant::now(),
            idle: false,
            hurrying: 0,
            in_bulk: false,
            closing: false,
            failed: None,
        };
        let shared = Shared {
            written,
            waiting: RwLock::default(),
            pace: Mutex::new(pace),
            to_write: Condvar::new(),
            has_written: Condvar::new(),
        };
        Self { shared: Arc::new(shared), writer: None }
    }

    /// The value under a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StateError> {
        // What waits is looked at first: it is taken away from there only after sled has it.
        let waiting = self.shared.waiting().get(key);
        match waiting {
            Some(value) => Ok(value),
            None => self.shared.written.get(key),
        }
    }

    /// Whether there is something under a key.
    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, StateError> {
        let waiting = self.shared.waiting().has(key);
        match waiting {
            Some(is_there) => Ok(is_there),
            None => Ok(self.shared.written.get(key)?.is_some()),
        }
    }

    /// Makes `writes` visible, all at once. Waits while too much is not written yet.
    ///
    /// # Errors
    /// When sled has failed; then it has to be opened anew.
    pub(super) fn commit(&self, writes: Vec<Write>) -> Result<(), StateError> {
        let bytes = waiting::size(&writes);
        let pace = self.shared.wait_until(None, |pace| pace.bytes == 0 || pace.bytes + bytes <= MOST);
        if let Some(failed) = &pace.failed {
            return Err(failed.clone());
        }
        drop(pace);
        self.shared.waiting.write().unwrap_or_else(PoisonError::into_inner).push(writes, bytes);
        let mut pace = self.shared.pace();
        pace.bytes += bytes;
        pace.last_commit = Instant::now();
        if std::mem::take(&mut pace.idle) {
            self.shared.to_write.notify_one();
        }
        Ok(())
    }

    /// Says that from now on, or no longer, much is committed and nobody reads.
    pub(super) fn set_in_bulk(&self, in_bulk: bool) {
        self.shared.pace().in_bulk = in_bulk;
        self.shared.to_write.notify_one();
    }

    pub(super) fn is_in_bulk(&self) -> bool {
        self.shared.pace().in_bulk
    }

    /// What sled failed with, if it failed.
    pub(super) fn failure(&self) -> Option<StateError> {
        self.shared.pace().failed.clone()
    }

    /// Waits until sled has all that is committed by now, and the system has it, too; at most for `patience`. Returns whether
    /// it has.
    ///
    /// # Errors
    /// When sled has failed.
    pub(super) fn settle(&self, patience: Duration) -> Result<bool, StateError> {
        let last = self.shared.waiting().last();
        let is_written = |_: &Pace| Some(self.shared.waiting().first()) > last;
        let pace = self.shared.wait_until(Some(patience), is_written);
        if let Some(failed) = &pace.failed {
            return Err(failed.clone());
        }
        drop(pace);
        self.shared.written.flush()?;
        Ok(Some(self.shared.waiting().first()) > last)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.pace().closing = true;
        self.shared.to_write.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Pace {
    /// Whether what waits is worth being written.
    fn has_enough(&self) -> bool {
        let least = if self.in_bulk && self.hurrying == 0 { ENOUGH_IN_BULK } else { 1 };
        self.bytes >= least
    }
}

impl Shared {
    fn waiting(&self) -> std::sync::RwLockReadGuard<'_, Waiting> {
        self.waiting.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the writer hurry until `enough` is true, sled fails, or `patience` has passed.
    fn wait_until(&self, patience: Option<Duration>, enough: impl Fn(&Pace) -> bool) -> MutexGuard<'_, Pace> {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut pace = self.pace();
        if enough(&pace) {
            return pace;
        }
        pace.hurrying += 1;
        self.to_write.notify_one();
        while pace.failed.is_none() && !enough(&pace) {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            // Nobody needs to be told that patience is at its end.
            let left = left.min(Duration::from_secs(1));
            pace = self.has_written.wait_timeout(pace, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        pace.hurrying -= 1;
        pace
    }

    fn write_behind(&self) {
        while self.wait_for_work() {
            let began = Instant::now();
            // sled answers some damage with a panic instead of an error.
            let written = catch_unwind(AssertUnwindSafe(|| self.write_some(self.at_once())));
            let failed = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(StateError::Panicked),
            };
            if failed.is_some() {
                self.pace().failed = failed;
                self.has_written.notify_all();
                return;
            }
            self.rest(began.elapsed());
        }
    }

    /// Returns false when there will be nothing more to do.
    fn wait_for_work(&self) -> bool {
        let mut pace = self.pace();
        while !pace.closing && !pace.has_enough() {
            pace.idle = true;
            pace = self.to_write.wait(pace).unwrap_or_else(PoisonError::into_inner);
            if pace.bytes > 0 && !pace.closing && !pace.in_bulk && pace.hurrying == 0 {
                pace = self.to_write.wait_timeout(pace, LINGER).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        !pace.closing
    }

    /// Leaves the processors to those who commit, the more so the less waits.
    fn rest(&self, worked: Duration) {
        let pace = self.pace();
        let hurries = pace.closing || pace.in_bulk || pace.hurrying > 0 || pace.bytes > MUCH;
        if !hurries && pace.bytes > 0 && pace.last_commit.elapsed() < BUSY {
            let rest = worked.mul_f64(REST * (1.0 - pace.bytes as f64 / MUCH as f64));
            drop(self.to_write.wait_timeout(pace, rest).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn at_once(&self) -> usize {
        let pace = self.pace();
        match pace.hurrying {
            _ if pace.in_bulk => AT_ONCE_IN_BULK,
            0 => AT_ONCE,
            _ => AT_ONCE_HURRYING,
        }
    }

    /// Writes the oldest commits to sled: as many as have `at_once` writes together, and at least one.
    fn write_some(&self, at_once: usize) -> Result<(), StateError> {
        let merged = self.waiting().oldest(at_once);
        fail_point!("state.write", |_| Err(StateError::Store(sled::Error::Io(std::io::Error::other("injected")))));
        self.written.write(merged.writes)?;
        let bytes = self.waiting.write().unwrap_or_else(PoisonError::into_inner).retire(merged.commits);
        let mut pace = self.pace();
        pace.bytes -= bytes;
        if pace.hurrying > 0 {
            self.has_written.notify_all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
