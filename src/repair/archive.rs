//! The journal's older segments in the bucket: compressed and encrypted, one object each.
//!
//! No object is ever written over by other bytes: a name has the segment's base, its end and a part of its digest. Nor is
//! anything of what is read trusted to be small or whole: it is taken in piece by piece, up to what a segment may have, and
//! damage leaves a hole and a report, never an outage.

mod clear;
mod keys;
mod name;
mod pieces;
mod sealed;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use self::keys::ArchiveKeys;
use self::pieces::Pieces;
use super::PendingRestore;
use super::snapshot::Snapshots;
use crate::backoff::with_retry;
use crate::bucket::{Bucket, BucketError, ObjectKey};
use crate::cluster::Cluster;
use crate::domain::{Digest, FileName};
use crate::journal::{Archive, ArchiveError, Archived, ArchivedBytes, Journal, JournalError, Patience, StoredAs};
use crate::state::{EventLog, ParseCallback, RecoveryError};

/// The most bytes a segment may have: more than a full one, the last batch behind it and the largest callback.
const MAX_SEGMENT: u64 = 160 << 20;
/// How long a listing may take that can be done without.
const BRIEF: Duration = Duration::from_secs(5);
/// How many different problems are remembered.
const MAX_PROBLEMS: usize = 100;

/// Opens journal and state below `dir`, the journal as a copy of what `cluster` shares if there is one; what is no longer there
/// of the journal is read from `bucket`. Needs a tokio runtime.
///
/// # Errors
/// As for [`EventLog::open`], or when the journal cannot be opened.
pub fn open_event_log(
    dir: &Path,
    bucket: &Bucket,
    keys: ArchiveKeys,
    cluster: Option<Cluster>,
    parse_callback: ParseCallback,
) -> Result<EventLog, RecoveryError> {
    let snapshots = cluster.clone().map(|cluster| Snapshots::new(bucket.clone(), keys.clone(), cluster));
    let archive = SegmentArchive { snapshots, ..SegmentArchive::new(bucket.clone(), keys) };
    let journal = Journal::open_in(dir)?.with_archive(Arc::new(archive));
    let state = dir.join("state");
    match cluster {
        Some(cluster) => EventLog::open_shared(journal, &state, &dir.join("outage"), cluster, parse_callback),
        None => {
            // A start that is cut off while the state is made leaves one that no later start takes for new.
            if journal.newest().is_some()
                && !state.is_dir()
                && let Err(error) = PendingRestore::beside(&state).record()
            {
                tracing::warn!(%error, "a start that is cut off may leave jobs out that only manifests tell of");
            }
            EventLog::open(journal, &state, parse_callback)
        }
    }
}

/// Opens the journal below `dir` to be read, with what `bucket` has of it. Needs a tokio runtime.
///
/// # Errors
/// As for [`Journal::open`].
pub fn open_journal(dir: &Path, bucket: &Bucket, keys: ArchiveKeys) -> Result<Journal, JournalError> {
    Ok(Journal::open_in(dir)?.with_archive(Arc::new(SegmentArchive::new(bucket.clone(), keys))))
}

/// Whether an object has the name of an archived segment.
pub(super) fn is_segment(key: &ObjectKey) -> bool {
    name::parse(key.file_name()).is_some_and(|segment| name::key(&segment) == *key)
}

/// What an archived segment's object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedSegment {
    /// The position of the segment's first byte.
    pub base: u64,
    /// Its bytes. Where some cannot be read, others stand in their place that are no records.
    pub bytes: Vec<u8>,
    /// How many stretches of 256 KiB cannot be read.
    pub damaged: usize,
}

/// The object that a segment of at most 160 MiB becomes in the bucket: compressed, and encrypted with the first key. `None` when
/// that cannot be done.
pub fn seal_segment(keys: &ArchiveKeys, base: u64, segment: &[u8]) -> Option<Vec<u8>> {
    sealed::seal(keys, base, segment)
}

/// What such an object holds, as far as it can be read.
///
/// # Errors
/// When nothing of it can, with the reason for people.
pub fn open_segment(keys: &ArchiveKeys, object: &[u8]) -> Result<OpenedSegment, String> {
    let object = futures_util::stream::iter([Ok(Bytes::copy_from_slice(object))]);
    let mut pieces = Pieces::new(Box::pin(object));
    let opened = async {
        let index = sealed::index(&mut pieces, keys).await.map_err(|error| error.to_string())??;
        let (numbers, _) = index.stretches(0, index.length);
        let (bytes, damaged) = index.open(&mut pieces, numbers).await.map_err(|error| error.to_string())?;
        Ok(OpenedSegment { base: index.base, bytes, damaged })
    };
    // All of it is in memory: nothing has to be waited for.
    opened.now_or_never().unwrap_or_else(|| Err("it cannot be read".to_owned()))
}

/// Segments in a bucket, read and written on threads that may block.
pub(super) struct SegmentArchive {
    bucket: Bucket,
    keys: ArchiveKeys,
    /// Of the state, where there are other replicas that make some.
    snapshots: Option<Snapshots>,
    runtime: Handle,
    /// What was found damaged, each said once.
    problems: Mutex<BTreeSet<String>>,
    closed: watch::Sender<bool>,
}

impl SegmentArchive {
    /// The archive in `bucket`. Needs a tokio runtime.
    pub(super) fn new(bucket: Bucket, keys: ArchiveKeys) -> Self {
        let (runtime, closed) = (Handle::current(), watch::Sender::new(false));
        Self { bucket, keys, snapshots: None, runtime, problems: Mutex::default(), closed }
    }

    /// What of the segments that were read was damaged.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().iter().cloned().collect()
    }

    fn until_closed<T, E: std::fmt::Display>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ArchiveError> {
        let mut closed = self.closed.subscribe();
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done.map_err(|error| ArchiveError(error.to_string())),
                _ = closed.wait_for(|closed| *closed) => Err(ArchiveError("the service is stopping".to_owned())),
            }
        })
    }

    async fn list(&self, from: u64) -> Result<Vec<Archived>, BucketError> {
        let mut segments = Vec::new();
        let mut listing = self.bucket.list_journal(&name::before(from));
        while let Some((key, _)) = listing.try_next().await? {
            segments.extend(name::parse(key.file_name()));
        }
        segments.sort_by_key(|segment| (segment.base, std::cmp::Reverse(segment.end), segment.name.clone()));
        Ok(segments)
    }

    /// Bytes of a segment, as far as they can be read; one that is not there has none.
    async fn open(&self, segment: &Archived, from: u64, length: u64) -> Result<ArchivedBytes, BucketError> {
        let key = name::key(segment);
        let read = async {
            if !name::is_clear(segment) {
                return self.open_sealed(segment, &key, from, length).await;
            }
            let found = clear::read(Pieces::new(self.bucket.read(&key, None).await?), from, length, true).await?;
            if found.problem.is_none() {
                return Ok(found);
            }
            // A checksum over all of it tells of damage and takes what is whole along.
            let more = clear::read(Pieces::new(self.bucket.read(&key, None).await?), from, length, false).await?;
            let longer = if more.bytes.len() > found.bytes.len() { more } else { found.clone() };
            Ok(ArchivedBytes { problem: found.problem, ..longer })
        };
        match read.await {
            Err(BucketError::NotFound(_)) => {
                Ok(ArchivedBytes { problem: Some("it is gone".to_owned()), ..Default::default() })
            }
            Err(BucketError::InvalidRange(_)) => {
                Ok(ArchivedBytes { problem: Some("it is empty".to_owned()), ..Default::default() })
            }
            read => read,
        }
    }

    async fn open_sealed(
        &self,
        segment: &Archived,
        key: &ObjectKey,
        from: u64,
        length: u64,
    ) -> Result<ArchivedBytes, BucketError> {
        let is_all = from == 0 && length >= MAX_SEGMENT;
        let range = (!is_all).then_some(0..sealed::INDEX_WITHIN);
        let mut pieces = Pieces::new(self.bucket.read(key, range).await?);
        let index = match sealed::index(&mut pieces, &self.keys).await? {
            Ok(index) if index.base == segment.base => index,
            Ok(_) => {
                return Ok(ArchivedBytes { problem: Some("it is another segment".to_owned()), ..Default::default() });
            }
            Err(problem) => return Ok(ArchivedBytes { problem: Some(problem), ..Default::default() }),
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(index.length);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(index.length - from);
        let (numbers, place) = index.stretches(from, length);
        if place.is_empty() {
            return Ok(ArchivedBytes { head: index.head, ..Default::default() });
        }
        if !is_all {
            pieces = match self.bucket.read(key, Some(place)).await {
                Ok(stream) => Pieces::new(stream),
                // It is cut short.
                Err(BucketError::InvalidRange(_)) => Pieces::new(Box::pin(futures_util::stream::empty())),
                Err(error) => return Err(error),
            };
        }
        let before = index.first_byte(&numbers);
        let (bytes, damaged) = index.open(&mut pieces, numbers).await?;
        let bytes = Bytes::from(bytes);
        let start = (from - before).min(bytes.len());
        let bytes = bytes.slice(start..bytes.len().min(start + length));
        let problem = (damaged > 0).then(|| format!("{damaged} of its stretches are damaged"));
        Ok(ArchivedBytes { head: index.head, bytes, problem })
    }

    /// Puts `bytes` there, unless they are, and reads them back.
    async fn put(&self, name: &FileName, base: u64, bytes: &Bytes) -> Result<(), BucketError> {
        let (keys, plain) = (self.keys.clone(), bytes.clone());
        let sealed = tokio::task::spawn_blocking(move || sealed::seal(&keys, base, &plain)).await;
        let failed = || BucketError::Unavailable("a segment could not be encrypted".to_owned());
        let sealed = Bytes::from(sealed.ok().flatten().ok_or_else(failed)?);
        let key = ObjectKey::journal(name);
        self.bucket.put(&key, vec![sealed], "application/octet-stream").await?;
        let segment = Archived { base, end: None, name: name.as_str().to_owned() };
        let found = self.open_sealed(&segment, &key, 0, u64::MAX).await?;
        if found.problem.is_none() && Digest::of(&found.bytes) == Digest::of(bytes) {
            return Ok(());
        }
        Err(BucketError::Unavailable(format!("{key}: what is read back is not what was written")))
    }

    async fn store_segment(&self, base: u64, bytes: Bytes) -> Result<StoredAs, BucketError> {
        if bytes.len() as u64 > MAX_SEGMENT {
            return Err(BucketError::TooLarge(ObjectKey::journal(&name::before(base)), MAX_SEGMENT));
        }
        let name = name::sealed(base, &bytes);
        let others: Vec<_> = self.list(base).await?.into_iter().filter(|segment| segment.base == base).collect();
        let (mut parts, mut conflict) = (Vec::new(), false);
        for other in others {
            let found = self.open(&other, 0, u64::MAX).await?;
            let is_sealed = !name::is_clear(&other);
            match found.problem {
                None if other.name == name.as_str() && found.bytes == bytes => return Ok(StoredAs::New(other.name)),
                None if is_sealed && found.bytes.starts_with(&bytes) => return Ok(StoredAs::PartOf(other.name)),
                None if bytes.starts_with(&found.bytes) => parts.push(other),
                // A damaged copy of the same is written anew.
                Some(_) if other.name == name.as_str() => {}
                _ => conflict = true,
            }
        }
        self.put(&name, base, &bytes).await?;
        for part in parts {
            // Whoever may not remove it has it twice, which is known when it is read.
            if let Err(error) = self.bucket.remove_journal(&name::file_name(&part)).await {
                tracing::warn!(segment = part.name, %error, "a segment that is part of another cannot be removed");
            }
        }
        let name = name.as_str().to_owned();
        Ok(if conflict { StoredAs::Conflicting(name) } else { StoredAs::New(name) })
    }

    /// Whether the segment is now encrypted with the first key.
    async fn seal_again(&self, segment: &Archived) -> Result<bool, BucketError> {
        if !name::is_clear(segment) {
            let range = Some(0..sealed::INDEX_WITHIN);
            let mut pieces = Pieces::new(self.bucket.read(&name::key(segment), range).await?);
            match sealed::index(&mut pieces, &self.keys).await? {
                Ok(index) if self.keys.seals_with(index.key_id) => return Ok(true),
                Ok(_) => {}
                Err(_) => return Ok(false),
            }
        }
        let found = self.open(segment, 0, u64::MAX).await?;
        if found.problem.is_some() {
            return Ok(false);
        }
        let name = name::sealed(segment.base, &found.bytes);
        // Of one with another key the name is the same; the bytes are, too.
        self.put(&name, segment.base, &found.bytes).await?;
        if segment.name != name.as_str() {
            self.bucket.remove_journal(&name::file_name(segment)).await?;
        }
        tracing::info!(from = segment.name, to = %name, "an archived segment of the journal was encrypted");
        Ok(true)
    }
}

impl Archive for SegmentArchive {
    fn segments(&self, from: u64, patience: Patience) -> Result<Vec<Archived>, ArchiveError> {
        match patience {
            Patience::Thorough => self.until_closed(with_retry(BucketError::is_outage, || self.list(from))),
            Patience::Brief => self.until_closed(async {
                let late = |_| Err(BucketError::Unavailable(format!("no answer within {} s", BRIEF.as_secs())));
                tokio::time::timeout(BRIEF, self.list(from)).await.unwrap_or_else(late)
            }),
        }
    }

    fn read(&self, segment: &Archived, from: u64, length: u64) -> Result<ArchivedBytes, ArchiveError> {
        let mut found = self.until_closed(with_retry(BucketError::is_outage, || self.open(segment, from, length)))?;
        if let Some(problem) = &found.problem {
            let problem = format!("{}: {problem}", name::key(segment));
            let mut known = self.problems.lock();
            if known.len() < MAX_PROBLEMS && known.insert(problem.clone()) {
                tracing::error!(problem, "an archived segment of the journal cannot be read as it was written");
            }
        }
        if found.bytes.len() as u64 > MAX_SEGMENT {
            found.bytes.truncate(MAX_SEGMENT as usize);
        }
        Ok(found)
    }

    fn store(&self, base: u64, segment: Bytes) -> Result<StoredAs, ArchiveError> {
        self.until_closed(self.store_segment(base, segment))
    }

    /// What lies there in clear, or under another key, is encrypted with the first.
    fn renew(&self) -> Result<usize, ArchiveError> {
        let mut damaged = 0;
        for segment in self.segments(0, Patience::Thorough)? {
            damaged += usize::from(!self.until_closed(self.seal_again(&segment))?);
        }
        Ok(damaged)
    }

    fn fetch_state(&self, applied: u64, into: &Path) -> Result<Option<u64>, ArchiveError> {
        let Some(snapshots) = &self.snapshots else { return Ok(None) };
        self.until_closed(snapshots.fetch(applied, into))
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }
}

impl std::fmt::Debug for SegmentArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentArchive").finish_non_exhaustive()
    }
}
