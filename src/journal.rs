//! The append-only, durable record of everything accepted from outside, and of outcomes.
//!
//! The journal is the truth: state is a fold over it. It is a folder of segments, each named by the position of its
//! first byte; a position is a byte offset that only ever grows. A segment starts with a header, twice, that holds a random
//! salt and how far the segment before it counts, then come records, each with a checksum that the salt enters, so
//! that no callback's body can pass for a record.
//!
//! One [`Writer`] appends, and holds a lock on the folder. A write or sync that fails seals its segment: a second sync of
//! the same file proves nothing, so the next append opens a new segment whose header says where the sealed one ends.
//! Zeros at a segment's end are room not yet used.
//!
//! Old segments may move into an [`Archive`], oldest first. What is read then starts there; a stretch that is in neither
//! place is reported as missing.

mod archive;
mod baseline;
mod entry;
mod event;
mod frame;
mod header;
mod lock;
mod mirror;
mod private;
mod progress;
mod reader;
mod resync;
mod segment;
mod strays;
mod unlinked;
mod writer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;

pub use archive::{
    Archive, ArchiveError, Archived, ArchivedBytes, Patience, SEGMENT_HEAD, Standing, StoredAs, may_be_segment,
};
pub use entry::{CallbackEntry, Entry, KeptCallback, Quarantined};
pub use event::Event;
pub use mirror::{MAX_PAYLOAD, Mirror, SegmentStart, record_length, sync_segments};
pub use private::{close_to_others, make_private_dir};
pub use progress::ReadProgress;
pub use reader::{Damage, DamageKind, Replay, SegmentCheck};
pub use strays::Strays;
pub use writer::{Durability, Writer};

use self::archive::Survey;
use self::baseline::Baseline;
use self::header::{FoundHeader, HEADER_SIZE};
use self::unlinked::UnlinkedEnd;

/// Why the journal could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused; nothing of the batch counts.
    #[error("the journal in {path} cannot be {action}: {source}")]
    Io {
        /// The folder or segment.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What is no longer here cannot be read where it is.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// No intact record stands at the position asked for.
    #[error("no intact journal record at position {0}")]
    NotFound(u64),
    /// Another process writes here, or has begun to: this one must not.
    #[error("{0}: another process writes to this journal")]
    Taken(PathBuf),
    /// A record is larger than the format allows.
    #[error("a journal record of {0} bytes; at most {max} fit", max = frame::MAX_PAYLOAD)]
    TooLarge(usize),
}

impl JournalError {
    /// Of what the file system refused: `action` with what is at `path`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), action, source }
    }

    /// Whether it is for want of room on the disk.
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether the disk cannot read what it has (EIO), which may last.
    pub fn is_read_error(&self) -> bool {
        matches!(self, Self::Io { source, .. } if segment::is_read_error(source))
    }

    /// The segment that the archive cannot read while it answers otherwise, by the archive's name. That may last.
    pub fn unreadable_segment(&self) -> Option<&str> {
        match self {
            Self::Archive(ArchiveError::Segment { name, .. }) => Some(name),
            _ => None,
        }
    }
}

/// The journal's folder and what is known of its segments. Cheap to clone; reads may run beside the writer.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: Arc<Path>,
    segments: Arc<RwLock<BTreeSet<u64>>>,
    /// The position after the last byte that this process has tried to write, or 0: behind it the last file may have room.
    written: Arc<AtomicU64>,
    archive: Option<Arc<dyn Archive>>,
    baseline: Arc<Baseline>,
    survey: Arc<Survey>,
    unlinked: Arc<UnlinkedEnd>,
    /// Segments that were archived beside others of the same base.
    conflicts: Arc<AtomicU64>,
    /// Segments whose last read came upon what the disk cannot read.
    unreadable: Arc<RwLock<BTreeSet<u64>>>,
    /// Whether such stretches are passed over.
    reads_around_errors: Arc<AtomicBool>,
    /// Archived segments that count as damaged while they cannot be read.
    passed_over: Arc<RwLock<BTreeSet<String>>>,
    /// Where whoever writes puts its name.
    owner_file: Option<Arc<Path>>,
    /// Whether all of the archive is read, also what nothing here says is missing.
    reads_all: bool,
    watcher: Option<Arc<ReadProgress>>,
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it is not there, and closed to others than its owner.
    ///
    /// # Errors
    /// When the folder cannot be made, closed or listed.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let fail = |action| move |source| JournalError::Io { path: dir.to_owned(), action, source };
        make_private_dir(dir).map_err(fail("made and closed to others"))?;
        let mut journal = Self {
            dir: dir.into(),
            segments: Arc::default(),
            written: Arc::default(),
            archive: None,
            baseline: Arc::default(),
            survey: Arc::default(),
            unlinked: Arc::default(),
            conflicts: Arc::default(),
            unreadable: Arc::default(),
            reads_around_errors: Arc::default(),
            passed_over: Arc::default(),
            owner_file: None,
            reads_all: false,
            watcher: None,
        };
        let bases = journal.list()?;
        for base in &bases {
            // Nobody comes by the folder; a file may have another name elsewhere.
            if let Err(error) = close_to_others(&journal.path(*base)) {
                tracing::warn!(%error, segment = %journal.path(*base).display(), "a segment of the journal stays open to others");
            }
        }
        journal.baseline = Arc::new(Baseline::new(bases.last().copied()));
        *journal.segments.write() = bases;
        Ok(journal)
    }

    /// Opens the journal of the data directory `data`.
    ///
    /// # Errors
    /// As for [`Journal::open`].
    pub fn open_in(data: &Path) -> Result<Self, JournalError> {
        let journal = Self::open(&data.join("journal"))?;
        let baseline = Arc::new(Baseline::open(data, journal.newest()));
        let unlinked = Arc::new(UnlinkedEnd::open(data));
        Ok(Self { owner_file: Some(data.join("lock").into()), baseline, unlinked, ..journal })
    }

    /// Whether another process, or a writer in this one, writes to the journal of the data directory `data`.
    pub fn is_written_to(data: &Path) -> bool {
        lock::Lock::is_held(&data.join("journal"))
    }

    /// The bases of the segments in the folder as it now is.
    fn list(&self) -> Result<BTreeSet<u64>, JournalError> {
        let fail = |source| JournalError::Io { path: self.dir.to_path_buf(), action: "listed", source };
        let mut segments = BTreeSet::new();
        for item in std::fs::read_dir(&*self.dir).map_err(fail)? {
            let name = item.map_err(fail)?.file_name();
            segments.extend(name.to_str().and_then(parse_segment_name));
        }
        Ok(segments)
    }

    /// The same with an archive for what is no longer here, which is asked when that is needed.
    #[must_use]
    pub fn with_archive(self, archive: Arc<dyn Archive>) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// The same when nothing here can tell what the archive has: all of it is read.
    #[must_use]
    pub fn with_full_archive(self) -> Self {
        Self { reads_all: true, ..self }
    }

    /// The same with someone who is told how far each [`Journal::replay`] is.
    #[must_use]
    pub fn with_progress(self, watcher: Arc<ReadProgress>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// The position after the last byte of the last segment: nothing recorded lies beyond it. After a crash room may lie in
    /// front of it.
    ///
    /// # Errors
    /// When the last segment cannot be looked at.
    pub fn end(&self) -> Result<u64, JournalError> {
        let last = self.lengths()?.pop();
        Ok(last.map_or(0, |(base, length)| self.exclude_preallocated(base.saturating_add(length))))
    }

    /// The end of a file without the room that this process has reserved there.
    fn exclude_preallocated(&self, end: u64) -> u64 {
        match self.written.load(Ordering::Relaxed) {
            0 => end,
            written => end.min(written),
        }
    }

    fn note_end(&self, written: u64) {
        self.written.store(written, Ordering::Relaxed);
    }

    /// The end of the last intact record: of the last segment that more than a begun header is left of.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn intact_end(&self) -> Result<u64, JournalError> {
        for (base, length) in self.lengths()?.into_iter().rev() {
            let mut replay = self.read_segment(base);
            for entry in replay.by_ref() {
                match entry {
                    // All of it may have been acknowledged.
                    Err(error) if error.is_read_error() => return Ok(base.saturating_add(length)),
                    entry => drop(entry?),
                }
            }
            match replay.damage() {
                // Nobody was told that anything is in it.
                [Damage { kind: DamageKind::TornTail, from, .. }] if *from == base => {}
                // What cannot be read was written: it must not be taken for something that never was.
                [Damage { kind: DamageKind::Garbled, from, to, .. }] if *from == base => return Ok(*to),
                _ => return Ok(replay.end().max(base)),
            }
        }
        Ok(0)
    }

    /// Bytes on disk, without room that is not yet used.
    pub fn disk_bytes(&self) -> u64 {
        let segments = self.lengths().unwrap_or_default().into_iter();
        segments.map(|(base, length)| self.exclude_preallocated(base.saturating_add(length)).saturating_sub(base)).sum()
    }

    /// Reads the record at `position` again. Blocks; where the archive has it, for as long as that takes.
    ///
    /// # Errors
    /// When there is no intact record, or the disk or the archive fails.
    pub fn read(&self, position: u64) -> Result<Entry, JournalError> {
        match self.read_here(position) {
            Err(JournalError::NotFound(_)) => self.read_archived(position),
            read => read,
        }
    }

    fn read_here(&self, position: u64) -> Result<Entry, JournalError> {
        let Some(base) = self.bases().into_iter().rev().find(|base| *base <= position) else {
            return Err(JournalError::NotFound(position));
        };
        let path = self.path(base);
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound => JournalError::NotFound(position),
            _ => JournalError::Io { path: path.clone(), action: "read", source },
        };
        let file = File::open(&path).map_err(fail)?;
        let mut frame = [0; frame::FRAME_SIZE];
        file.read_exact_at(&mut frame, position - base).map_err(fail)?;
        let length = frame::payload_length(&frame).ok_or(JournalError::NotFound(position))?;
        let mut record = vec![0; frame::FRAME_SIZE + length];
        file.read_exact_at(&mut record, position - base).map_err(fail)?;
        let mut header = Vec::with_capacity(HEADER_SIZE);
        file.take(HEADER_SIZE as u64).read_to_end(&mut header).map_err(fail)?;
        let header = match FoundHeader::read(&header, base) {
            Some(header) => Some(header),
            None => FoundHeader::recover(&self.bytes(base)?, base),
        };
        let is_intact = header.is_some_and(|header| frame::decode(&record, header.salt).is_some());
        // A large body is in memory once.
        let payload = Bytes::from(record).slice(frame::FRAME_SIZE..);
        is_intact.then(|| Entry::decode_shared(&payload)).flatten().ok_or(JournalError::NotFound(position))
    }

    /// How many bytes the record at `position` has, where it is here; `None` where only the archive can tell. Blocks.
    pub fn record_size(&self, position: u64) -> Option<usize> {
        let base = self.bases().into_iter().rev().find(|base| *base <= position)?;
        let mut frame = [0; frame::FRAME_SIZE];
        File::open(self.path(base)).ok()?.read_exact_at(&mut frame, position - base).ok()?;
        frame::payload_length(&frame)
    }

    /// Ends what is being read from the archive, with an error.
    pub(crate) fn close_archive(&self) {
        if let Some(archive) = &self.archive {
            archive.close();
        }
    }

    fn bases(&self) -> Vec<u64> {
        self.segments.read().iter().copied().collect()
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(Self::segment_name(base))
    }
}

fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    // Nobody writes that far; behind the last position nothing could be written.
    let in_reach = |base: &u64| *base < 1 << 63;
    (digits.len() == 20).then(|| digits.parse().ok())?.filter(in_reach)
}

#[cfg(test)]
mod tests;
