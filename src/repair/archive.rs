//! The journal's older segments in the bucket: compressed and encrypted, one object each.
//!
//! No object is ever written over by other bytes: a name has the segment's base, its end and a part of its digest. Nor is
//! anything of what is read trusted to be small or whole: it is taken in piece by piece, up to what a segment may have, and
//! damage leaves a hole and a report, never an outage. Nor is one that cannot be read while the bucket answers.

mod clear;
mod keys;
mod name;
mod pieces;
mod renew;
mod sealed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, TryFutureExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use self::keys::ArchiveKeys;
use self::pieces::Pieces;
use self::renew::Renewal;
use super::PendingRestore;
use super::snapshot::Snapshots;
use crate::backoff::with_retry;
use crate::bucket::{Bucket, BucketError, ObjectKey};
use crate::cluster::Cluster;
use crate::domain::FileName;
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
    let from = |start: usize| {
        let rest = Bytes::copy_from_slice(object.get(start..).unwrap_or_default());
        Pieces::new(Box::pin(futures_util::stream::iter([Ok(rest)])))
    };
    let opened = async {
        let mut pieces = from(0);
        let index = match sealed::index(&mut pieces, keys).await.map_err(|error| error.to_string())? {
            Ok(index) => index,
            Err(problem) => {
                let index = sealed::index_at_end(object, keys).ok_or(problem)?;
                pieces = from(usize::try_from(index.stretches(0, index.length).1.start).unwrap_or(usize::MAX));
                index
            }
        };
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
    /// How far segments have come to be encrypted with the first key, by name.
    renewals: Mutex<BTreeMap<String, Renewal>>,
    closed: watch::Sender<bool>,
}

impl SegmentArchive {
    /// The archive in `bucket`. Needs a tokio runtime.
    pub(super) fn new(bucket: Bucket, keys: ArchiveKeys) -> Self {
        let (runtime, closed) = (Handle::current(), watch::Sender::new(false));
        let (problems, renewals) = (Mutex::default(), Mutex::default());
        Self { bucket, keys, snapshots: None, runtime, problems, renewals, closed }
    }

    /// What of the segments that were read was damaged.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().iter().cloned().collect()
    }

    fn until_closed<T, E: std::fmt::Display>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ArchiveError> {
        self.runtime.block_on(self.or_closed(work.map_err(|error| ArchiveError::Unavailable(error.to_string()))))
    }

    async fn or_closed<T>(&self, work: impl Future<Output = Result<T, ArchiveError>>) -> Result<T, ArchiveError> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            done = work => done,
            _ = closed.wait_for(|closed| *closed) => {
                Err(ArchiveError::Unavailable("the service is stopping".to_owned()))
            }
        }
    }

    /// Reads from one segment, and again where that may help.
    async fn open_with_retry(&self, segment: &Archived, from: u64, length: u64) -> Result<ArchivedBytes, ArchiveError> {
        let error = match with_retry(BucketError::is_outage, || self.open(segment, from, length)).await {
            Ok(found) => return Ok(found),
            Err(error) => error.to_string(),
        };
        // Whoever reads nothing but this one must not take it for all.
        Err(match self.bucket.probe().await {
            Ok(()) => ArchiveError::Segment { name: segment.name.clone(), reason: error },
            Err(_) => ArchiveError::Unavailable(error),
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
        let (index, lost) = match sealed::index(&mut pieces, &self.keys).await? {
            Ok(index) => (index, None),
            Err(problem) => match self.index_at_end(key).await? {
                Some(index) => (index, Some("its first index is damaged, and the second is whole".to_owned())),
                None => return Ok(ArchivedBytes { problem: Some(problem), ..Default::default() }),
            },
        };
        if index.base != segment.base {
            return Ok(ArchivedBytes { problem: Some("it is another segment".to_owned()), ..Default::default() });
        }
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(index.length);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(index.length - from);
        let (numbers, place) = index.stretches(from, length);
        if place.is_empty() {
            return Ok(ArchivedBytes { head: index.head, bytes: Bytes::new(), problem: lost });
        }
        // What was read is no index.
        if !is_all || lost.is_some() {
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
        let mut problem = (damaged > 0).then(|| format!("{damaged} of its stretches are damaged")).or(lost);
        if is_all && problem.is_none() {
            let end = pieces.take(sealed::INDEX_WITHIN as usize).await?;
            if !end.is_empty() && sealed::index_at_end(&end, &self.keys).is_none() {
                problem = Some("its second index is damaged, and the first is whole".to_owned());
            }
        }
        Ok(ArchivedBytes { head: index.head, bytes, problem })
    }

    /// The copy of a segment's index at its object's end, if it has one that can be read.
    async fn index_at_end(&self, key: &ObjectKey) -> Result<Option<sealed::Index>, BucketError> {
        let Some(size) = self.bucket.size(key).await? else { return Ok(None) };
        let range = size.saturating_sub(sealed::INDEX_WITHIN)..size;
        let mut pieces = Pieces::new(self.bucket.read(key, Some(range)).await?);
        let end = pieces.take(sealed::INDEX_WITHIN as usize).await?;
        Ok(sealed::index_at_end(&end, &self.keys))
    }

    /// Puts `bytes` there, unless they are, and reads them back.
    async fn put(&self, name: &FileName, base: u64, bytes: &Bytes) -> Result<(), BucketError> {
        let (keys, plain) = (self.keys.clone(), bytes.clone());
        let sealed = tokio::task::spawn_blocking(move || sealed::seal(&keys, base, &plain)).await;
        let failed = || BucketError::Unavailable("a segment could not be encrypted".to_owned());
        let sealed = Bytes::from(sealed.ok().flatten().ok_or_else(failed)?);
        let key = ObjectKey::journal(name);
        self.bucket.put(&key, vec![sealed], "application/octet-stream").await?;
        if self.has(name, base, bytes).await? {
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
        let read = self.open_with_retry(segment, from, length);
        let mut found = self.runtime.block_on(self.or_closed(read))?;
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
        let segments = self.segments(0, Patience::Thorough)?;
        self.runtime.block_on(self.or_closed(self.renew_all(&segments)))
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
