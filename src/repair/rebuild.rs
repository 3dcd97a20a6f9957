//! Makes the state anew. It is a view: journal and bucket have all that it is made of.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt;

use super::archive::{ArchiveKeys, SegmentArchive};
use super::older_copy::clear_baseline;
use super::{PendingRestore, RestoreError, restore};
use crate::bucket::Bucket;
use crate::domain::JobState;
use crate::journal::{Archive, ArchiveError, Archived, Journal, JournalError, Patience, ReadProgress};
use crate::state::{Counters, EventLog, ParseCallback, Recovery, RecoveryError, StateError};

/// A state that was made anew.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// How many entries it was made of, and what of the journal could not be read.
    pub recovery: Recovery,
    /// Segments of the journal that were read from the bucket.
    pub segments: usize,
    /// What of those was damaged, or encrypted with another key.
    pub problems: Vec<String>,
    /// Jobs that only a manifest in the bucket told of.
    pub manifests: u64,
    /// What it holds.
    pub counters: Counters,
}

/// How far a rebuild is. Shared by who runs it and who watches.
#[derive(Debug, Default)]
pub struct RebuildProgress {
    journal: Arc<ReadProgress>,
    /// Set once the journal is read, and then not 0.
    manifests: AtomicU64,
    manifests_read: AtomicU64,
}

impl RebuildProgress {
    /// How far the journal is read.
    pub fn journal(&self) -> &ReadProgress {
        &self.journal
    }

    /// Once the journal is read: how many manifests were looked at, and how many there are, as far as can be told.
    pub fn manifests(&self) -> Option<(u64, u64)> {
        let (read, all) = (self.manifests_read.load(Ordering::Relaxed), self.manifests.load(Ordering::Relaxed));
        (all > 0).then_some((read, all.max(read)))
    }

    fn expect_manifests(&self, counters: &Counters) {
        let in_state = |state| counters.jobs.get(&state).copied().unwrap_or_default();
        let ended = in_state(JobState::Archived) + in_state(JobState::Failed);
        self.manifests.store(ended.max(1), Ordering::Relaxed);
    }
}

/// Why the state was not made anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is nothing to make it of.
    #[error("expected a journal to make the state of in {0} or in the bucket, or manifests there; found none")]
    Nothing(PathBuf),
    /// The journal is not there and a state is, which knows more than the bucket. It is still there.
    #[error(
        "expected a journal to make the state of in {0}, found none; without the state beside it, it would be made of \
         what is in the bucket"
    )]
    NoJournal(PathBuf),
    /// The journal cannot be read. The old state is still there.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What of the journal is in the bucket cannot be read. The old state is still there.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The old state cannot be removed.
    #[error("{path} cannot be removed: {source}")]
    Remove {
        /// The state's folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The new one cannot be made; the old one is gone. It may be tried again.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The new one cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The new one has what the journal tells of, and not all that only manifests do. It may be tried again.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// It was stopped before its end; the next start goes on.
    #[error("stopped before the state was complete")]
    Stopped,
}

/// Makes the state below `dir` anew from the journal there and in `bucket`, and from manifests of jobs that neither has. Nobody
/// else may use it meanwhile; `progress` is told how far it is. What cannot be read is tried again, and is never taken for
/// missing.
///
/// # Errors
/// When journal or bucket cannot be read, or the state not be removed or written.
pub async fn rebuild(
    dir: &Path,
    bucket: &Bucket,
    keys: ArchiveKeys,
    parse_callback: ParseCallback,
    progress: &RebuildProgress,
) -> Result<Rebuilt, RebuildError> {
    let (journal, state) = (Journal::open_in(dir)?, dir.join("state"));
    let archive = Arc::new(SegmentArchive::new(bucket.clone(), keys));
    // Asked before anything is removed.
    let asked = archive.clone();
    let segments = tokio::task::spawn_blocking(move || asked.segments(0, Patience::Thorough))
        .await
        .map_err(|_| RebuildError::Stopped)??;
    let archive_end = segments.iter().map(Archived::latest_end).max().unwrap_or(0);
    let segments = segments.len();
    let pending = PendingRestore::beside(&state);
    // What a rebuild has begun knows no more than the bucket.
    if journal.newest().is_none() && state.is_dir() && !pending.is_of_rebuild() {
        return Err(RebuildError::NoJournal(dir.join("journal")));
    }
    if journal.newest().is_none() && segments == 0 && !has_manifest(bucket).await? {
        return Err(RebuildError::Nothing(dir.join("journal")));
    }
    // The next start goes on when this one is cut off.
    pending.record_rebuild()?;
    // Of what is archived, no header tells in a directory that was lost.
    journal.note_unlinked(archive_end)?;
    match tokio::fs::remove_dir_all(&state).await {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(RebuildError::Remove { path: state, source });
        }
        _ => {}
    }
    let journal = journal.with_archive(archive.clone()).with_full_archive().with_progress(progress.journal.clone());
    let opened = tokio::task::spawn_blocking(move || EventLog::open(journal, &state, parse_callback)).await;
    let log = opened.map_err(|_| RebuildError::Stopped)??;
    let rebuilt = async {
        let recovery = log.recovered().await.ok_or(RebuildError::Stopped)?;
        progress.expect_manifests(&log.state().counters()?);
        let manifests = restore(&log, bucket, parse_callback, &progress.manifests_read).await?;
        let problems = archive.problems();
        Ok(Rebuilt { recovery, segments, problems, manifests, counters: log.state().counters()? })
    };
    let rebuilt: Result<Rebuilt, RebuildError> = rebuilt.await;
    let (closing, is_whole) = (log.clone(), rebuilt.is_ok());
    let _ = tokio::task::spawn_blocking(move || {
        let clear = || clear_baseline(&closing).and_then(|()| PendingRestore::of(&closing).clear(&closing));
        if is_whole && let Err(error) = clear() {
            tracing::warn!(%error, "the next start may make the state anew once more");
        }
        closing.close();
    })
    .await;
    rebuilt
}

async fn has_manifest(bucket: &Bucket) -> Result<bool, RestoreError> {
    let mut listing = bucket.list(None);
    while let Some((key, _)) = listing.try_next().await? {
        if key.is_manifest() {
            return Ok(true);
        }
    }
    Ok(false)
}
