//! Reads the bucket back and mends it, and makes the state anew from the journal.
//!
//! [`Verifier`] holds the state against the bucket: every index entry and its object, every ended job and its manifest,
//! and the other way round every object that is listed. It holds one page of the state and one piece of each object it
//! reads, however many there are. What cannot be read is not missing: it is told apart, and when too much in a row cannot
//! be read the run ends with that error. A run that is dropped has done no harm; the next one starts over.
//!
//! Mending never deletes. It stores an object again under the key the index names, from where its bytes once came and
//! only if they are the same; and it writes a manifest again from the job, only if all that it names is there and the one
//! in its place says no more.

mod archive;
mod backup;
mod index;
mod jobs;
mod journal_check;
mod listing;
mod older_copy;
mod rebuild;
mod repair_findings;
mod report;
mod restore;
mod retention;
mod sample;
mod snapshot;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::value::RawValue;

pub use archive::{ArchiveKeys, OpenedSegment, open_event_log, open_journal, open_segment, seal_segment};
pub use backup::{Backup, BackupError, backup};
pub use older_copy::compare_with_archive;
pub use rebuild::{RebuildError, RebuildProgress, Rebuilt, rebuild};
pub use report::{Finding, FindingKind, Progress, Report};
pub use restore::{PendingRestore, RestoreError, restore};
pub use retention::{Retention, RetentionError, trim_copy};
pub use sample::{Sample, SampleError};
pub use snapshot::{Pace, Snapshot, SnapshotError, Snapshots};

use crate::backoff::with_retry;
use crate::bucket::{Bucket, BucketError, ObjectKey};
use crate::fetch::Fetcher;
use crate::state::{EventLog, State, StateError};

/// Hides what is secret in a callback's body; `None` when that is no JSON.
pub type Redact = fn(&[u8]) -> Option<Box<RawValue>>;

/// What a verification is to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Of how many objects the bytes are read and hashed; all are looked for, with their sizes.
    pub sample: Sample,
    /// Whether to mend what can be.
    pub repair: bool,
}

/// Why a verification ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The state.
    #[error("the state could not be read: {0}")]
    State(String),
    /// The bucket, time and again.
    #[error("the bucket could not be read: {0}")]
    Bucket(#[from] BucketError),
    /// The journal, here or in the bucket.
    #[error("the journal could not be read: {0}")]
    Journal(String),
}

/// Verifies. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    log: EventLog,
    bucket: Bucket,
    fetcher: Fetcher,
    redact: Redact,
    /// Held while something is mended: each may take up a part's memory.
    mending: tokio::sync::Mutex<()>,
}

/// Records of the state looked at in one go.
const PAGE: usize = 256;
/// Objects looked at at once.
const AT_ONCE: usize = 8;
/// Objects in a row that cannot be read before the store is given up.
const MAX_CONSECUTIVE_FAILURES: u32 = 8;

impl Verifier {
    /// Verifies what `log`'s state says is in `bucket`; mends from where `fetcher` may fetch.
    pub fn new(log: EventLog, bucket: Bucket, fetcher: Fetcher, redact: Redact) -> Self {
        Self { inner: Arc::new(Inner { log, bucket, fetcher, redact, mending: tokio::sync::Mutex::default() }) }
    }

    /// Looks at everything once, and tells `progress`.
    ///
    /// # Errors
    /// When the state, or the store as a whole, cannot be read. What was found before is in the report.
    pub async fn run(&self, options: Options, progress: &Progress) -> Result<(), VerifyError> {
        let run = Run { inner: &self.inner, options, seed: rand::random(), progress, unreadable: AtomicU32::new(0) };
        let counters = run.state(State::counters).await?;
        let jobs: u64 = counters.jobs.values().sum();
        // What is listed is not known before: about every object and a manifest for every job.
        progress.expect(2 * (counters.objects + jobs));
        run.check_index().await?;
        run.check_jobs().await?;
        run.check_listing().await?;
        run.check_journal().await?;
        progress.complete();
        Ok(())
    }
}

/// One verification.
struct Run<'a> {
    inner: &'a Inner,
    options: Options,
    /// Decides which objects are in the sample: others in each run, so that many runs get to all.
    seed: u64,
    progress: &'a Progress,
    /// Objects in a row that could not be read.
    unreadable: AtomicU32,
}

impl Run<'_> {
    /// Reads the state on a thread that may block; again while it is being opened anew.
    async fn state<T: Send + 'static>(
        &self,
        read: impl Fn(&State) -> Result<T, StateError> + Clone + Send + 'static,
    ) -> Result<T, VerifyError> {
        let once = || async {
            let (read, state) = (read.clone(), self.inner.log.state().clone());
            let done = tokio::task::spawn_blocking(move || read(&state)).await;
            done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        };
        with_retry(|_| true, once).await.map_err(VerifyError::State)
    }

    /// Does `checks`, some at once. They are boxed: the compiler cannot tell that a stream of what a closure makes is
    /// `Send`.
    async fn do_all(&self, checks: Vec<BoxFuture<'_, Result<(), VerifyError>>>) -> Result<(), VerifyError> {
        stream::iter(checks).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Reads the bucket, again after an outage. `None` when it cannot be read, which is then in the report.
    async fn read<T, F>(&self, key: &ObjectKey, read: impl Fn() -> F) -> Result<Option<T>, VerifyError>
    where
        F: Future<Output = Result<T, BucketError>>,
    {
        let error = match with_retry(BucketError::is_outage, read).await {
            Ok(answer) => {
                self.unreadable.store(0, Ordering::Relaxed);
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        self.progress.found(Finding::new(FindingKind::Unreadable, key.as_str(), None, error.to_string()));
        if self.unreadable.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_CONSECUTIVE_FAILURES {
            return Err(error.into());
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}
