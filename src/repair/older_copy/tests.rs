use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;
use crate::domain::{QuarantineReason, Target, Timestamp};
use crate::journal::{
    Archive, ArchiveError, Archived, ArchivedBytes, CallbackEntry, Durability, Entry, Journal, Patience, StoredAs,
    Writer,
};
use crate::state::{ApplyOutcome, ParsedCallback};

/// An archive with one segment, which cannot be read until that is allowed.
#[derive(Debug)]
struct SlowArchive {
    base: u64,
    segment: Bytes,
    /// Told when somebody begins to read.
    reading: Notify,
    /// Closed when reading is allowed.
    barrier: Mutex<mpsc::Receiver<()>>,
}

impl Archive for SlowArchive {
    fn segments(&self, from: u64, _: Patience) -> Result<Vec<Archived>, ArchiveError> {
        let end = Some(self.base + self.segment.len() as u64);
        let archived = Archived { base: self.base, end, name: self.base.to_string() };
        Ok([archived].into_iter().filter(|segment| segment.base >= from).collect())
    }

    fn read(&self, _: &Archived, _: u64, _: u64) -> Result<ArchivedBytes, ArchiveError> {
        self.reading.notify_one();
        let _ = self.barrier.lock().recv();
        Ok(ArchivedBytes { head: self.segment.slice(..64), bytes: self.segment.clone(), problem: None })
    }

    fn store(&self, _: u64, _: Bytes) -> Result<StoredAs, ArchiveError> {
        Err(ArchiveError::Unavailable("read only".to_owned()))
    }

    fn renew(&self) -> Result<usize, ArchiveError> {
        Ok(0)
    }

    fn fetch_state(&self, _: u64, _: &Path) -> Result<Option<u64>, ArchiveError> {
        Ok(None)
    }

    fn close(&self) {}
}

fn parse_callback(_: &[u8]) -> ParsedCallback {
    ParsedCallback::Unrecognised(QuarantineReason::UnknownShape)
}

fn callback() -> Entry {
    Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: Bytes::from_static(b"{}"),
    })
}

async fn record(log: &EventLog) -> ApplyOutcome {
    log.record_callback(callback(), parse_callback(b"{}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_clock_that_is_behind_what_is_accepted_while_the_bucket_is_read_is_known_in_the_end() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Writer::new(Journal::open_in(data.path()).unwrap(), 0).unwrap().append([&callback()], Durability::Synced).unwrap();
    // Two thousand years from now.
    let base = 1 << 62;
    let beyond = Journal::open(elsewhere.path()).unwrap();
    Writer::new(beyond.clone(), base).unwrap().append([&callback()], Durability::Synced).unwrap();
    let (allowed, barrier) = mpsc::channel();
    let archive = Arc::new(SlowArchive {
        base,
        segment: beyond.segment(base).unwrap(),
        reading: Notify::new(),
        barrier: Mutex::new(barrier),
    });
    let journal = Journal::open_in(data.path()).unwrap().with_archive(archive.clone());
    let log = EventLog::open(journal, &data.path().join("state"), parse_callback).unwrap();
    archive.reading.notified().await;
    assert_eq!(record(&log).await, ApplyOutcome::Deferred);
    drop(allowed);
    log.recovered().await.unwrap();
    assert_eq!(record(&log).await, ApplyOutcome::Deferred, "its position is one that the state has read");
    compare_with_archive(&log).await.unwrap();
    assert_eq!(log.state().counters().unwrap().quarantined, 4);
    // From then on it is told at once, and a later start has nothing to compare.
    record(&log).await;
    assert_eq!(log.state().counters().unwrap().quarantined, 5);
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
    let later = Journal::open_in(data.path()).unwrap();
    assert!(!later.has_inherited_baseline() && later.newest() > Some(base));
}
