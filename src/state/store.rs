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
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::thread;
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
}

/// Tells whether somebody still holds a store: a reader, or the thread that writes.
#[derive(Debug, Default)]
pub(super) struct StoreHold(Weak<Shared>);

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
    /// When the last commit was.
    last_commit: Instant,
    /// True while the writer waits for something to do.
    idle: bool,
    /// How many wait for what they committed to be written, or for room.
    hurrying: usize,
    in_bulk: bool,
    closing: bool,
    /// Since when sled has been writing.
    writing_since: Option<Instant>,
    failed: Option<StateError>,
}

/// What waits may take up about this much memory; who commits more waits. A burst of 100,000 callbacks has room.
const MOST: usize = 112 << 20;
/// From here on nothing holds the writer back.
const MUCH: usize = 96 << 20;
/// How long who commits waits for room before giving up: the disk hangs then, and callbacks wait.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// The same when nobody waits for an answer.
const ROOM_PATIENCE_IN_BULK: Duration = Duration::from_secs(15);
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
    /// What takes longer than this hangs.
    pub(super) const STALLED: Duration = Duration::from_secs(10);

    /// Keeps records in `written`, which nobody else writes to.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn new(written: Blocks) -> Result<Self, StateError> {
        let store = Self::without_writer(written);
        let shared = store.shared.clone();
        // It ends by itself when the store is dropped; whoever needs it gone looks at `hold`.
        thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || shared.write_behind())
            .map_err(sled::Error::Io)?;
        Ok(store)
    }

    /// One that writes nothing to sled.
    pub(super) fn without_writer(written: Blocks) -> Self {
        let pace = Pace {
            last_commit: Instant::now(),
            idle: false,
            hurrying: 0,
            in_bulk: false,
            closing: false,
            writing_since: None,
            failed: None,
        };
        let shared = Shared {
            written,
            waiting: RwLock::default(),
            pace: Mutex::new(pace),
            to_write: Condvar::new(),
            has_written: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
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

    /// Makes `writes` visible, all at once. Waits while too much is not written yet, for some seconds.
    ///
    /// # Errors
    /// When sled has failed; then it has to be opened anew. [`StateError::Stalled`] when there is no room in time.
    pub(super) fn commit(&self, writes: Vec<Write>) -> Result<(), StateError> {
        let bytes = waiting::size(&writes);
        let has_room = |waiting: &Waiting| waiting.bytes() == 0 || waiting.bytes() + bytes <= MOST;
        let patience = if self.shared.pace().in_bulk { ROOM_PATIENCE_IN_BULK } else { ROOM_PATIENCE };
        let pace = self.shared.wait_until(patience, has_room);
        if let Some(failed) = &pace.failed {
            return Err(failed.clone());
        }
        if !has_room(&self.shared.waiting()) {
            return Err(StateError::Stalled);
        }
        drop(pace);
        self.shared.waiting.write().unwrap_or_else(PoisonError::into_inner).push(writes);
        let mut pace = self.shared.pace();
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

    /// Whether sled has been busy with one write for too long.
    pub(super) fn is_stalled(&self) -> bool {
        let pace = self.shared.pace();
        !pace.in_bulk && pace.writing_since.is_some_and(|since| since.elapsed() > Self::STALLED)
    }

    /// What tells whether somebody still holds it, when this handle is gone.
    pub(super) fn hold(&self) -> StoreHold {
        StoreHold(Arc::downgrade(&self.shared))
    }

    /// Waits until sled has all that is committed by now, and the system has it, too; at most for `patience`. Returns whether
    /// it has.
    ///
    /// # Errors
    /// When sled has failed.
    pub(super) fn settle(&self, patience: Duration) -> Result<bool, StateError> {
        let last = self.shared.waiting().last();
        let is_written = |waiting: &Waiting| Some(waiting.first()) > last;
        let pace = self.shared.wait_until(patience, is_written);
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
    }
}

impl StoreHold {
    /// Whether somebody still holds the store.
    pub(super) fn is_held(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Pace {
    /// Whether so many bytes are worth being written.
    fn is_enough(&self, bytes: usize) -> bool {
        let least = if self.in_bulk && self.hurrying == 0 { ENOUGH_IN_BULK } else { 1 };
        bytes >= least
    }
}

/// Of the two locks `pace` is taken first. What waits changes without it, and whoever changed it takes it afterwards: who
/// waits for a change cannot miss it.
impl Shared {
    fn waiting(&self) -> RwLockReadGuard<'_, Waiting> {
        self.waiting.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the writer hurry until `enough` is true, sled fails, or `patience` has passed.
    fn wait_until(&self, patience: Duration, enough: impl Fn(&Waiting) -> bool) -> MutexGuard<'_, Pace> {
        let enough = || enough(&self.waiting());
        let until = Instant::now() + patience;
        let mut pace = self.pace();
        if enough() {
            return pace;
        }
        pace.hurrying += 1;
        self.to_write.notify_one();
        while pace.failed.is_none() && !enough() {
            let left = until.saturating_duration_since(Instant::now());
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
            self.pace().writing_since = Some(began);
            // sled answers some damage with a panic instead of an error.
            let written = catch_unwind(AssertUnwindSafe(|| self.write_some(self.at_once())));
            let failed = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(panic) => Some(StateError::of_panic(&*panic)),
            };
            self.pace().writing_since = None;
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
        while !pace.closing && !pace.is_enough(self.waiting().bytes()) {
            pace.idle = true;
            pace = self.to_write.wait(pace).unwrap_or_else(PoisonError::into_inner);
            if self.waiting().bytes() > 0 && !pace.closing && !pace.in_bulk && pace.hurrying == 0 {
                pace = self.to_write.wait_timeout(pace, LINGER).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        !pace.closing
    }

    /// Leaves the processors to those who commit, the more so the less waits.
    fn rest(&self, worked: Duration) {
        let pace = self.pace();
        let bytes = self.waiting().bytes();
        let hurries = pace.closing || pace.in_bulk || pace.hurrying > 0 || bytes > MUCH;
        if !hurries && bytes > 0 && pace.last_commit.elapsed() < BUSY {
            let rest = worked.mul_f64(REST * (1.0 - bytes as f64 / MUCH as f64));
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
        fail_point!("state.write", |_| Err(sled::Error::Io(std::io::Error::from_raw_os_error(28)).into()));
        self.written.write(merged.writes)?;
        self.waiting.write().unwrap_or_else(PoisonError::into_inner).retire(merged.commits);
        if self.pace().hurrying > 0 {
            self.has_written.notify_all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
