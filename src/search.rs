//! Finds jobs by time, words and labels without reading them: an index over all jobs, in memory and a file.
//!
//! Every job is a row of 16 bytes in memory under the day it was made on. Each word of its `replyRef` and prompt and each of its
//! labels has four bytes, most of them in the file, beside the state. A query walks the rows, and their words if it asks for any,
//! and only what it finds is read from the state. A clean stop saves the index beside the state, and the next start takes it up;
//! after any other end it is made anew, on a thread of its own. From then on it follows the state's changes. A query first takes
//! in every change that was made before it, so whoever was answered 200 finds what was written. When that takes too long it is
//! refused: nobody waits for an index that never gets there.
//!
//! | word | meaning |
//! |---|---|
//! | row | what the index has of one job |
//! | code | 32 bits that stand for a word, a label, a reference or a model |
//! | resync | reading again the jobs that may have changed unnoticed |

/// The name of the file with the saved index.
const SAVED: &str = "search-index";
/// The name that the file with the words has when it is made.
const WORDS: &str = "search-words";
/// So many words of all jobs are in memory, in 4 MiB: those of the latest jobs, which still change.
const MAX_IN_MEMORY: usize = 1 << 20;
/// For how long a query takes in changes, or waits for others to take them in, before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same of a clean stop, before it saves nothing.
const SAVE_PATIENCE: Duration = Duration::from_secs(10);

mod codes;
mod follow;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

pub use codes::{Text, TooManyWords};
pub use rows::{Place, Query};

use self::follow::Follower;
use self::rows::Rows;
use crate::domain::{JobState, Timestamp};
use crate::state::State;
use crate::supervisor::Supervisor;

/// The index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Search {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rows: RwLock<Rows>,
    follower: Mutex<Follower>,
    /// Set once every job has a row.
    complete: AtomicBool,
    /// Where a clean stop saves the rows.
    saved: PathBuf,
}

/// Not every job has a row that is up to date: the service started a moment ago, jobs change faster than they can be indexed, or
/// the state cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the jobs are being indexed")]
pub struct Incomplete;

/// How many jobs were made on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayCount {
    /// Midnight UTC.
    pub day: Timestamp,
    /// How many.
    pub jobs: u64,
}

impl Search {
    /// Begins to index the jobs of `state`, and follows its changes until it tells of no more.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn start(state: State, supervisor: &Supervisor) -> std::io::Result<Self> {
        let wake = state.changes();
        let (saved, words) = (state.file_beside(SAVED), state.file_beside(WORDS));
        let follower = Mutex::new(Follower::new(state));
        let rows = RwLock::new(Rows::new(words, MAX_IN_MEMORY));
        let inner = Arc::new(Inner { rows, follower, complete: AtomicBool::new(false), saved });
        let search = Self { inner };
        let following = search.clone();
        supervisor.thread("search index", (), move |()| following.follow(wake))?;
        Ok(search)
    }

    /// The sequences of at most `limit` jobs that match, newest first, behind `after` or from the `skip`th on, each with its
    /// place. Blocks for some milliseconds for each hundred thousand jobs, and for about a second at most while jobs change.
    ///
    /// # Errors
    /// While jobs are being indexed, and when that takes longer.
    pub fn find(
        &self,
        query: &Query,
        after: Option<Place>,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Place>, Incomplete> {
        let rows = self.rows_up_to_date(Instant::now() + PATIENCE)?;
        let found = rows.find(query, after, skip, limit);
        found.map_err(|error| self.begin_anew(&error))
    }

    /// How many jobs match, by the day they were made on, newest first. Blocks as [`Self::find`] does.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub fn days(&self, query: &Query) -> Result<Vec<DayCount>, Incomplete> {
        let rows = self.rows_up_to_date(Instant::now() + PATIENCE)?;
        let counted = rows.days(query);
        counted.map_err(|error| self.begin_anew(&error))
    }

    /// Bytes of memory that the index has, about.
    pub fn bytes(&self) -> usize {
        self.rows().bytes()
    }

    /// Saves the index for the next start, when nothing will be folded into the state any more. When it cannot be saved, the next
    /// start reads all jobs. Blocks for as long as the disk takes for some dozens of bytes of each job.
    pub fn save(&self) {
        if !self.inner.complete.load(Ordering::Acquire) {
            return;
        }
        let mut follower = self.inner.follower.lock();
        if !follower.catch_up(&self.inner.rows, Instant::now() + SAVE_PATIENCE) {
            return;
        }
        let saved = match follower.position() {
            Ok(position) => self.rows().save(&self.inner.saved, position),
            Err(_) => return,
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the search index cannot be saved; the next start makes it anew");
            let _ = std::fs::remove_file(&self.inner.saved);
        }
    }

    /// The words cannot be read: all jobs are indexed anew.
    fn begin_anew(&self, error: &std::io::Error) -> Incomplete {
        tracing::error!(%error, "the words of the search index cannot be read; it is made anew");
        self.inner.complete.store(false, Ordering::Release);
        Incomplete
    }

    fn rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.inner.rows.read()
    }

    /// The rows with every change that was made before this, if it does not take longer than until then.
    fn rows_up_to_date(&self, until: Instant) -> Result<RwLockReadGuard<'_, Rows>, Incomplete> {
        let Inner { rows, follower, complete, .. } = &*self.inner;
        if !complete.load(Ordering::Acquire) {
            return Err(Incomplete);
        }
        let mut follower = follower.try_lock_until(until).ok_or(Incomplete)?;
        let is_up_to_date = follower.catch_up(rows, until);
        drop(follower);
        if is_up_to_date { rows.try_read_until(until).ok_or(Incomplete) } else { Err(Incomplete) }
    }
}

/// What the index has of a job.
#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    state: JobState,
    kind: u8,
    provider: u8,
    /// Sorted, each once.
    codes: Vec<u32>,
}

#[cfg(test)]
mod tests;
