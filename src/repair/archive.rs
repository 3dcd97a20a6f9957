//! The journal's older segments in the bucket: compressed, one object each, named as they are here.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::patience::patiently;
use crate::bucket::{Bucket, BucketError, ObjectFolder, ObjectKey};
use crate::domain::{Digest, FileName};
use crate::journal::{Archive, ArchiveError, Journal};
use crate::state::{Interpret, Ledger, RecoveryError};

/// What an archived segment is called after its base.
const SUFFIX: &str = ".journal.zst";
/// The most bytes a segment may have, uncompressed: far more than a full one and the largest record behind it.
const MAX_SEGMENT: u64 = 1 << 30;

/// How long a segment stays in memory that a record was read from.
const KEEP: Duration = Duration::from_secs(20);

/// Opens journal and state below `dir`; what is no longer there of the journal is read from `bucket`. Needs a tokio
/// runtime.
///
/// # Errors
/// As for [`Ledger::open`], or when the journal cannot be opened.
pub fn open_ledger(dir: &Path, bucket: &Bucket, interpret: Interpret) -> Result<Ledger, RecoveryError> {
    let archive = Arc::new(SegmentArchive::new(bucket.clone()));
    let journal = Journal::open(&dir.join("journal"))?.with_archive(archive);
    Ledger::open(journal, &dir.join("state"), interpret)
}

/// Segments in a bucket, read on threads that may block.
pub(super) struct SegmentArchive {
    bucket: Bucket,
    runtime: Handle,
    /// The segment a record was last read from, for a while.
    last: Arc<Mutex<Option<(u64, Bytes)>>>,
    closed: watch::Sender<bool>,
}

impl SegmentArchive {
    /// The archive in `bucket`. Needs a tokio runtime.
    pub(super) fn new(bucket: Bucket) -> Self {
        Self { bucket, runtime: Handle::current(), last: Arc::default(), closed: watch::Sender::new(false) }
    }

    /// Does `read`, again after an outage.
    fn read<T, F>(&self, read: impl Fn() -> F) -> Result<T, ArchiveError>
    where
        F: Future<Output = Result<T, BucketError>>,
    {
        let mut closed = self.closed.subscribe();
        self.runtime.block_on(async {
            tokio::select! {
                done = patiently(BucketError::is_outage, read) => done.map_err(|error| ArchiveError(error.to_string())),
                _ = closed.wait_for(|closed| *closed) => Err(ArchiveError("the service is stopping".to_owned())),
            }
        })
    }
}

impl Archive for SegmentArchive {
    fn bases(&self) -> Result<Vec<u64>, ArchiveError> {
        let listed = || async {
            let objects: Vec<_> = self.bucket.list(Some(&ObjectFolder::journal())).try_collect().await?;
            Ok(objects)
        };
        let mut bases: Vec<_> = self.read(listed)?.iter().filter_map(|(key, _)| base_of(key.file_name())).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn segment(&self, base: u64) -> Result<Bytes, ArchiveError> {
        let key = key_of(base);
        let compressed = self.read(|| async {
            let chunks: Vec<Bytes> = self.bucket.read(&key, None).await?.try_collect().await?;
            Ok(chunks.concat())
        })?;
        decompress(&compressed).map_err(|error| ArchiveError(format!("{key}: {error}")))
    }

    fn segment_for_record(&self, base: u64) -> Result<Bytes, ArchiveError> {
        let kept = |last: &Option<(u64, Bytes)>| last.as_ref().filter(|(last, _)| *last == base).cloned();
        if let Some((_, bytes)) = kept(&self.last.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(bytes);
        }
        let bytes = self.segment(base)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((base, bytes.clone()));
        let last = self.last.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(KEEP).await;
            last.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(last, _)| *last == base);
        });
        Ok(bytes)
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

/// Puts a segment into `bucket` and reads it back.
///
/// # Errors
/// When the store fails, or what was read back is not what was written.
pub(super) async fn store(bucket: &Bucket, base: u64, segment: Bytes) -> Result<ObjectKey, BucketError> {
    let key = key_of(base);
    let compressed = tokio::task::spawn_blocking(move || compress(&segment)).await;
    let compressed = compressed.map_err(std::io::Error::other).flatten();
    let compressed = Bytes::from(compressed.map_err(|error| BucketError::Unavailable(error.to_string()))?);
    let expected = Some((Digest::of(&compressed), compressed.len() as u64));
    bucket.put(&key, vec![compressed], "application/zstd").await?;
    if bucket.digest(&key).await? == expected {
        Ok(key)
    } else {
        Err(BucketError::Unavailable(format!("{key}: what is read back is not what was written")))
    }
}

fn compress(segment: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    std::io::copy(&mut &*segment, &mut encoder)?;
    encoder.finish()
}

fn decompress(compressed: &[u8]) -> std::io::Result<Bytes> {
    use std::io::Read;
    let mut bytes = Vec::new();
    zstd::Decoder::with_buffer(compressed)?.take(MAX_SEGMENT).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn key_of(base: u64) -> ObjectKey {
    ObjectKey::journal(&FileName::clean(&format!("{base:020}{SUFFIX}")))
}

fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_segment_stays_only_for_records_and_not_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file:{}", directory.path().display());
        let url = crate::bucket::StorageUrl::parse(&url, Path::new("/")).unwrap();
        let bucket = Bucket::open(&crate::bucket::Config::new(url)).unwrap();
        let segment = Bytes::from_static(b"segment");
        store(&bucket, 7, segment.clone()).await.unwrap();
        let archive = Arc::new(SegmentArchive::new(bucket));
        let read = async |for_record: bool| {
            let archive = archive.clone();
            let work = move || if for_record { archive.segment_for_record(7) } else { archive.segment(7) };
            tokio::task::spawn_blocking(work).await.unwrap().unwrap()
        };
        let is_kept = || archive.last.lock().unwrap().is_some();
        assert_eq!((read(false).await, is_kept()), (segment.clone(), false));
        assert_eq!((read(true).await, is_kept()), (segment.clone(), true));
        std::fs::remove_dir_all(directory.path()).unwrap();
        assert_eq!(read(true).await, segment);
        tokio::time::pause();
        tokio::task::yield_now().await;
        tokio::time::advance(KEEP * 2).await;
        tokio::task::yield_now().await;
        assert!(!is_kept());
    }

    #[test]
    fn names_and_bytes_come_back() {
        assert_eq!(key_of(7).as_str(), "_journal/00000000000000000007.journal.zst");
        assert_eq!(base_of(key_of(u64::MAX).file_name()), Some(u64::MAX));
        assert_eq!([base_of("7.journal.zst"), base_of("00000000000000000007.journal")], [None, None]);
        let segment = b"callback ".repeat(1000);
        let compressed = compress(&segment).unwrap();
        assert!(compressed.len() < segment.len() / 10);
        assert_eq!(decompress(&compressed).unwrap(), segment);
        let mut damaged = compressed;
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        assert!(decompress(&damaged).is_err());
    }
}
