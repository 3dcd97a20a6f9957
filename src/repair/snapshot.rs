//! Snapshots of the state, with which a new replica begins instead of folding all of the log.
//!
//! One replica at a time makes them: it folds the log into a second state, beside the one that is read, closes it and copies its
//! files into the bucket. What is put there last, the index, makes the snapshot one. The two newest stay; so whoever fetches one
//! while the next is made can finish.
//!
//! A snapshot is a convenience. Whatever is wrong with it (another version's, damaged, of a log that PostgreSQL no longer has,
//! not to be had), the replica folds the log as if there were none.

mod files;
mod format;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fail::fail_point;
use futures_util::TryStreamExt;

use self::files::Folder;
use self::format::{Index, RecordDigest, SnapshotId};
use super::archive::ArchiveKeys;
use crate::bucket::{Bucket, BucketError, ObjectFolder};
use crate::cluster::{Cluster, ClusterError};
use crate::disk::bytes_in;
use crate::journal::{Journal, JournalError};
use crate::state::{EventLog, ParseCallback, RecoveryError, State};

/// Makes snapshots, and fetches them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshots {
    bucket: Bucket,
    keys: ArchiveKeys,
    cluster: Cluster,
}

/// A snapshot that is in the bucket now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// All of the log before this position is in it.
    pub position: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Why a snapshot was not made or fetched.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// PostgreSQL.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The second state.
    #[error(transparent)]
    State(#[from] RecoveryError),
    /// A file of it.
    #[error("{path} cannot be {action}: {source}")]
    Io {
        /// The file or folder.
        path: std::path::PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is in the bucket cannot be used.
    #[error("{0}")]
    Damaged(String),
    /// A part could not be encrypted.
    #[error("a part could not be encrypted")]
    Unsealed,
    /// The journal here does not have the record that ends at this position.
    #[error("the copy of the log has no record that ends at {0}")]
    NoRecord(u64),
    /// Another process makes one on this machine.
    #[error("a snapshot is being made by another process")]
    Busy,
    /// The disk has too little room for one.
    #[error("a snapshot needs {needed} bytes of disk, and {free} are free")]
    NoRoom {
        /// Bytes, with some in reserve.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// The service stops, or another replica makes snapshots from now on.
    #[error("stopped before its end")]
    Stopped,
}

/// How hard a snapshot is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as can be.
    Full,
    /// Half of the time: callbacks come in meanwhile.
    Half,
}

/// How often it is looked whether one is due.
const INTERVAL: Duration = Duration::from_secs(600);
/// The same for the first time.
const FIRST_INTERVAL: Duration = Duration::from_secs(60);
/// So much log, in bytes, is folded in half a minute: a snapshot would not save more.
const LEAST_LOG: u64 = 256 << 20;
/// Of a large state, not all is copied for a little log: for at least this part of its bytes.
const LEAST_PART: u64 = 16;
/// How far behind a state has to be, in bytes of log, to be replaced: as much takes a minute or more to be folded.
const WORTH: u64 = 1 << 30;
/// How many of the newest stay.
const KEPT: usize = 2;
/// An index has 70 bytes for each part: enough for a terabyte.
const MAX_INDEX: u64 = 32 << 20;

impl Snapshots {
    /// Snapshots of the state that is folded from the log of `cluster`, in `bucket`, encrypted with the first of `keys`.
    pub fn new(bucket: Bucket, keys: ArchiveKeys, cluster: Cluster) -> Self {
        Self { bucket, keys, cluster }
    }

    /// Makes one whenever the log has grown by enough, as long as it runs, in the folder `snapshot` below `data`. To be run by
    /// one replica at a time.
    pub async fn run(self, log: EventLog, data: &Path, parse_callback: ParseCallback) {
        if log.recovered().await.is_none() {
            return;
        }
        let mut pause = FIRST_INTERVAL;
        loop {
            tokio::time::sleep(if is_hurried() { Duration::from_millis(100) } else { pause }).await;
            pause = INTERVAL;
            let made = match self.is_due().await {
                Ok(true) => self.make(data, log.journal(), parse_callback, Pace::Half).await,
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            if let Err(error) = made {
                tracing::warn!(%error, "no snapshot of the state could be made: it is tried again");
            }
        }
    }

    async fn is_due(&self) -> Result<bool, SnapshotError> {
        let Some(newest) = self.list().await?.pop_last() else { return Ok(true) };
        let grown = self.cluster.applied().saturating_sub(newest.position);
        if grown < LEAST_LOG {
            return Ok(is_hurried() && grown > 0);
        }
        Ok(self.index(newest).await.map_or(true, |index| grown >= index.bytes() / LEAST_PART))
    }

    /// Makes a snapshot of all that the copy of the log in `journal` has, in the folder `snapshot` below `data`. `None` when
    /// there is nothing newer than the last one.
    ///
    /// # Errors
    /// When that is not possible; the next call goes on from what was done.
    pub async fn make(
        &self,
        data: &Path,
        journal: &Journal,
        parse_callback: ParseCallback,
        pace: Pace,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let began = Instant::now();
        let folder = Arc::new(Folder::lock(&data.join("snapshot"))?);
        let before = self.prepare(&folder, &data.join("state")).await?;
        let stopped = StopOnDrop::default();
        let (position, last) = {
            let (folder, journal, stopped) = (folder.clone(), journal.clone(), stopped.flag());
            blocking(move || fold(&folder, &journal, parse_callback, pace, &stopped)).await?
        };
        if let Some(index) = before.filter(|before| before.position == position) {
            blocking(move || folder.keep(&index)).await?;
            return Ok(None);
        }
        let id = SnapshotId::new(position);
        let index = files::upload(self, &folder, id, last).await?;
        let sealed = index.seal(&self.keys)?;
        self.bucket.put(&id.index(), vec![sealed.into()], "application/octet-stream").await?;
        let made = Snapshot { position, bytes: index.bytes() };
        let kept = folder.clone();
        blocking(move || kept.keep(&index)).await?;
        tracing::info!(position, bytes = made.bytes, took = ?began.elapsed(), "a snapshot of the state was made");
        self.remove_old(id).await?;
        Ok(Some(made))
    }

    /// Sees to it that the second state in `folder` is of the log that there is. Returns the snapshot that it is.
    async fn prepare(&self, folder: &Arc<Folder>, live: &Path) -> Result<Option<Index>, SnapshotError> {
        let known = {
            let folder = folder.clone();
            blocking(move || folder.index()).await?
        };
        if let Some(known) = known
            && self.is_usable(&known).await?
        {
            return Ok(Some(known));
        }
        let (cleared, live) = (folder.clone(), live.to_owned());
        let clear = move || {
            cleared.clear()?;
            let bytes = bytes_in(&live).map_err(files::failed(&live, "measured"))?;
            files::expect_room(cleared.path(), bytes)
        };
        blocking(clear).await?;
        for id in self.list().await?.into_iter().rev().take(KEPT) {
            match self.fetch_one(id, &folder.state()).await {
                Ok(Some(index)) => return Ok(Some(index)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, snapshot = %id, "a snapshot cannot be used");
                    folder.clear()?;
                }
            }
        }
        Ok(None)
    }

    /// Puts the newest state there is into the folder `into`, if it goes far enough beyond the position `applied`. Returns the
    /// position up to which all is folded in there.
    ///
    /// # Errors
    /// When none can be had; then something may be in the folder.
    pub(super) async fn fetch(&self, applied: u64, into: &Path) -> Result<Option<u64>, SnapshotError> {
        let worth = if applied == 0 { 0 } else { applied.saturating_add(WORTH) };
        let mut problem = None;
        for id in self.list().await?.into_iter().rev().take(KEPT) {
            if id.position <= worth {
                break;
            }
            match self.fetch_one(id, into).await {
                Ok(Some(_)) => return Ok(Some(id.position)),
                Ok(None) => {}
                Err(error) => {
                    problem.get_or_insert(error);
                    files::remove(into)?;
                }
            }
        }
        problem.map_or(Ok(None), Err)
    }

    /// `None` when it is of no use here.
    async fn fetch_one(&self, id: SnapshotId, into: &Path) -> Result<Option<Index>, SnapshotError> {
        let index = self.index(id).await?;
        if !self.is_usable(&index).await? {
            return Ok(None);
        }
        files::download(self, id, &index, into).await?;
        Ok(Some(index))
    }

    /// Whether this version reads it, and the log is the one that it was made of.
    async fn is_usable(&self, index: &Index) -> Result<bool, SnapshotError> {
        if index.form != State::FORM {
            tracing::info!(
                form = index.form,
                expected = State::FORM,
                "a snapshot of another version is of no use here"
            );
            return Ok(false);
        }
        let is_same_log = self.cluster.has_record(index.last.position, index.last.sha256.as_bytes()).await?;
        if !is_same_log {
            tracing::warn!(
                position = index.position,
                "a snapshot is of a log that PostgreSQL does not have: passed over"
            );
        }
        Ok(is_same_log)
    }

    async fn index(&self, id: SnapshotId) -> Result<Index, SnapshotError> {
        let sealed = self.bucket.read_whole(&id.index(), MAX_INDEX).await?;
        Index::open(&self.keys, id, &sealed)
    }

    /// Those that are whole, the oldest first.
    async fn list(&self) -> Result<BTreeSet<SnapshotId>, SnapshotError> {
        let listing = self.bucket.list_snapshots(ObjectFolder::snapshots());
        Ok(listing.try_filter_map(|(key, _)| std::future::ready(Ok(SnapshotId::of(&key)))).try_collect().await?)
    }

    /// Removes what is older than the newest few, and what was begun before `made` and never became whole.
    async fn remove_old(&self, made: SnapshotId) -> Result<(), SnapshotError> {
        let whole = self.list().await?;
        let kept: BTreeSet<_> = whole.iter().rev().take(KEPT).copied().chain([made]).collect();
        // An index goes before its parts.
        for folder in [ObjectFolder::snapshots(), ObjectFolder::snapshot_parts()] {
            let mut listing = self.bucket.list_snapshots(folder);
            while let Some((key, _)) = listing.try_next().await? {
                let is_old = SnapshotId::of(&key).is_some_and(|id| id < made && !kept.contains(&id));
                if is_old {
                    self.bucket.remove_snapshot(&key).await?;
                }
            }
        }
        Ok(())
    }
}

/// Folds what is new into the second state. Returns up to where, and the last record before that.
fn fold(
    folder: &Folder,
    journal: &Journal,
    parse_callback: ParseCallback,
    pace: Pace,
    stopped: &AtomicBool,
) -> Result<(u64, RecordDigest), SnapshotError> {
    let mut resumed = Instant::now();
    let mut go_on = || {
        if pace == Pace::Half {
            std::thread::sleep(resumed.elapsed().min(Duration::from_secs(1)));
            resumed = Instant::now();
        }
        !stopped.load(Ordering::Relaxed)
    };
    folder.forget()?;
    let folded = State::fold_aside(&folder.state(), journal, parse_callback, &mut go_on);
    if let Err(RecoveryError::Gaps) = &folded {
        folder.clear()?;
    }
    let position = folded?;
    Ok((position, RecordDigest::before(journal, position)?))
}

/// Tells a thread that nobody waits for it any more.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl StopOnDrop {
    fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(SnapshotError::Stopped))
}

/// Tests do not wait for minutes.
fn is_hurried() -> bool {
    fail_point!("snapshot.hurry", |_| true);
    false
}
