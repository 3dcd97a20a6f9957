//! The append-only, durable record of everything accepted from outside, and of outcomes.
//!
//! The journal is the truth: state is a fold over it. It is a folder of segments, each named by the position of its
//! first byte; a position is a byte offset that only ever grows. A segment starts with a header that holds a random
//! salt and how far the segment before it counts, then come records, each with a checksum that the salt enters, so
//! that no callback's body can pass for a record.
//!
//! One [`Writer`] appends. A write or sync that fails seals its segment: a second sync of the same file proves nothing,
//! so the next append opens a new segment whose header says where the sealed one ends. Zeros at a segment's end are
//! room not yet used.
//!
//! Old segments may move into an [`Archive`], oldest first. What is read then starts there; a stretch that is in neither
//! place is reported as missing.

mod archive;
mod entry;
mod event;
mod frame;
mod progress;
mod reader;
mod search;
mod segment;
mod writer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

pub use archive::{
    Archive, ArchiveError, Archived, ArchivedBytes, Patience, SEGMENT_HEAD, Standing, StoredAs, may_be_segment,
};
pub use entry::{CallbackEntry, Entry, KeptCallback, Quarantined};
pub use event::Event;
pub use progress::ReadProgress;
pub use reader::{Damage, DamageKind, Replay, SegmentCheck};
pub use writer::{Durability, Writer};

use self::archive::Survey;
use self::frame::{HEADER_SIZE, Header};

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
    /// A record is larger than the format allows.
    #[error("a journal record of {0} bytes; at most {max} fit", max = frame::MAX_PAYLOAD)]
    TooLarge(usize),
}

/// The journal's folder and what is known of its segments. Cheap to clone; reads may run beside the writer.
#[derive(Clone, Debug)]
pub struct Journal {
    dir: Arc<Path>,
    segments: Arc<RwLock<BTreeSet<u64>>>,
    /// The position after the last byte that this process has tried to write, or 0: behind it the last file may have room.
    written: Arc<AtomicU64>,
    archive: Option<Arc<dyn Archive>>,
    /// The newest segment when this was opened.
    opened_with: Option<u64>,
    survey: Arc<Survey>,
    /// Segments that were archived beside others of the same base.
    conflicts: Arc<AtomicU64>,
    /// Whether all of the archive is read, also what nothing here says is missing.
    reads_all: bool,
    watcher: Option<Arc<ReadProgress>>,
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made or listed.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let fail = |action| move |source| JournalError::Io { path: dir.to_owned(), action, source };
        std::fs::create_dir_all(dir).map_err(fail("created"))?;
        let mut segments = BTreeSet::new();
        for item in std::fs::read_dir(dir).map_err(fail("listed"))? {
            let name = item.map_err(fail("listed"))?.file_name();
            segments.extend(name.to_str().and_then(base_of));
        }
        let opened_with = segments.last().copied();
        let segments = Arc::new(RwLock::new(segments));
        let (written, survey) = (Arc::default(), Arc::default());
        Ok(Self {
            dir: dir.into(),
            segments,
            written,
            archive: None,
            opened_with,
            survey,
            conflicts: Arc::default(),
            reads_all: false,
            watcher: None,
        })
    }

    /// The same with an archive for what is no longer here, which is asked when that is needed.
    #[must_use]
    pub fn with_archive(self, archive: Arc<dyn Archive>) -> Self {
        Self { archive: Some(archive), ..self }
    }

    /// The same when nothing here can tell what the archive has: all of it is read.
    #[must_use]
    pub fn reading_all(self) -> Self {
        Self { reads_all: true, ..self }
    }

    /// The same with someone who is told how far each [`Journal::replay`] is.
    #[must_use]
    pub fn watched_by(self, watcher: Arc<ReadProgress>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// The position after the last byte of the last segment: nothing recorded lies beyond it. After a crash room may lie in
    /// front of it.
    ///
    /// # Errors
    /// When the last segment cannot be looked at.
    pub fn end(&self) -> Result<u64, JournalError> {
        let Some(base) = self.bases().last().copied() else { return Ok(0) };
        let path = self.path(base);
        let length =
            std::fs::metadata(&path).map_err(|source| JournalError::Io { path, action: "read", source })?.len();
        Ok(self.without_room(base + length))
    }

    /// The end of a file without the room that this process has reserved there.
    fn without_room(&self, end: u64) -> u64 {
        match self.written.load(Ordering::Relaxed) {
            0 => end,
            written => end.min(written),
        }
    }

    fn note_end(&self, written: u64) {
        self.written.store(written, Ordering::Relaxed);
    }

    /// The end of the last intact record of the last segment.
    ///
    /// # Errors
    /// When the last segment cannot be read.
    pub fn intact_end(&self) -> Result<u64, JournalError> {
        let Some(base) = self.bases().last().copied() else { return Ok(0) };
        let mut replay = self.read_segment(base);
        for entry in replay.by_ref() {
            entry?;
        }
        Ok(replay.end().max(base))
    }

    /// Bytes on disk, without room that is not yet used.
    pub fn disk_bytes(&self) -> u64 {
        let length = |base| {
            let length = std::fs::metadata(self.path(base)).map_or(0, |metadata| metadata.len());
            self.without_room(base + length).saturating_sub(base)
        };
        self.bases().into_iter().map(length).sum()
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
            io::ErrorKind::UnexpectedEof => JournalError::NotFound(position),
            _ => JournalError::Io { path: path.clone(), action: "read", source },
        };
        let file = File::open(&path).map_err(fail)?;
        let mut header = [0; HEADER_SIZE];
        file.read_exact_at(&mut header, 0).map_err(fail)?;
        let header = Header::decode(&header).ok_or(JournalError::NotFound(position))?;
        let mut frame = [0; frame::FRAME_SIZE];
        file.read_exact_at(&mut frame, position - base).map_err(fail)?;
        let length = frame::payload_length(&frame).ok_or(JournalError::NotFound(position))?;
        let mut record = vec![0; frame::FRAME_SIZE + length];
        file.read_exact_at(&mut record, position - base).map_err(fail)?;
        let payload = frame::decode(&record, header.salt).ok_or(JournalError::NotFound(position))?;
        Entry::decode(payload).ok_or(JournalError::NotFound(position))
    }

    /// Ends what is being read from the archive, with an error.
    pub(crate) fn close_archive(&self) {
        if let Some(archive) = &self.archive {
            archive.close();
        }
    }

    fn bases(&self) -> Vec<u64> {
        self.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner).iter().copied().collect()
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(Self::segment_name(base))
    }
}

fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests;
