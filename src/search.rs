//! Finds jobs by time, words and labels without reading them: an index in memory over all jobs.
//!
//! Every job is a row of 20 bytes under the day it was made on, and four bytes for each word of its `replyRef` and prompt and
//! for each of its labels. Words have [`MAX_CODE_BYTES`] together: when there are more, those of the oldest day are forgotten,
//! and a query for words that reaches back so far reads these jobs from the state, a bounded number for each page. A query
//! walks these rows, and only what it finds is read from the state. A clean stop saves the index beside the state, and the next
//! start takes it up; after any other end it is made anew, on a thread of its own. From then on it follows the state's changes. A
//! query first takes in every change that was made before it, so whoever was answered 200 finds what was written.
//!
//! | word | meaning |
//! |---|---|
//! | row | what the index has of one job |
//! | code | 32 bits that stand for a word, a label, a reference or a model |
//! | resync | reading again the jobs that may have changed unnoticed |

/// The most bytes that the words of all jobs have: enough for three million jobs of twenty words each.
pub const MAX_CODE_BYTES: usize = 256 << 20;

/// The name of the file with the saved index.
const FILE: &str = "search-index";

mod codes;
mod follow;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

pub use codes::Text;
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
    file: PathBuf,
}

/// Not every job has a row that is up to date: the service started a moment ago, or the state cannot be read.
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
        let file = state.file_beside(FILE);
        let follower = Mutex::new(Follower::new(state));
        let inner = Arc::new(Inner { rows: RwLock::default(), follower, complete: AtomicBool::new(false), file });
        let search = Self { inner };
        let following = search.clone();
        supervisor.thread("search index", (), move |()| following.follow(wake))?;
        Ok(search)
    }

    /// The sequences of at most `limit` jobs that match, newest first, behind `after` or from the `skip`th on, each with its
    /// place. Blocks for some milliseconds for each hundred thousand jobs.
    ///
    /// # Errors
    /// While jobs are being indexed.
    pub fn find(
        &self,
        query: &Query,
        after: Option<Place>,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Place>, Incomplete> {
        self.catch_up()?;
        Ok(self.rows().find(query, after, skip, limit))
    }

    /// How many jobs match, by the day they were made on, newest first. Blocks as [`Self::find`] does.
    ///
    /// # Errors
    /// While jobs are being indexed.
    pub fn days(&self, query: &Query) -> Result<Vec<DayCount>, Incomplete> {
        self.catch_up()?;
        Ok(self.rows().days(query))
    }

    /// Whether what is found has to be looked at. Of words that are given by how they begin the index knows three letters; of
    /// jobs beyond [`MAX_CODE_BYTES`] it knows no words at all.
    pub fn is_vague(&self, query: &Query) -> bool {
        query.text.is_vague() || self.rows().is_vague(query)
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
        if !follower.catch_up(&self.inner.rows) {
            return;
        }
        let saved = match follower.position() {
            Ok(position) => self.rows().save(&self.inner.file, position),
            Err(_) => return,
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the search index cannot be saved; the next start makes it anew");
            let _ = std::fs::remove_file(&self.inner.file);
        }
    }

    fn rows(&self) -> parking_lot::RwLockReadGuard<'_, Rows> {
        self.inner.rows.read()
    }

    fn catch_up(&self) -> Result<(), Incomplete> {
        if !self.inner.complete.load(Ordering::Acquire) {
            return Err(Incomplete);
        }
        let mut follower = self.inner.follower.lock();
        if follower.catch_up(&self.inner.rows) { Ok(()) } else { Err(Incomplete) }
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
