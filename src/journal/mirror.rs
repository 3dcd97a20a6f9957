//! A copy, on this machine, of a log that is kept elsewhere: the same records at the same positions, so that everything
//! that reads a journal reads it here.
//!
//! It may be deleted at any time, so nothing is synced but a segment that is left. What a crash takes from the newest
//! segment, or garbles in it, is cut off at the next start, and copied again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::frame;
use super::header::{HEADER_SIZE, Header};
use super::lock::Lock;
use super::{Journal, JournalError};

/// Where a segment begins, as its header says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStart {
    /// The position of the header's first byte.
    pub base: u64,
    /// Where the segment before it ends.
    pub previous_end: u64,
    /// Enters every record's checksum.
    pub salt: u32,
}

impl SegmentStart {
    /// How many positions a header takes up.
    pub const HEADER: u64 = HEADER_SIZE as u64;

    /// The position of the first record.
    pub fn first(&self) -> u64 {
        self.base.saturating_add(Self::HEADER)
    }
}

/// How many positions a record with a payload of so many bytes takes up.
pub fn record_length(payload: usize) -> u64 {
    (frame::FRAME_SIZE + payload) as u64
}

/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = frame::MAX_PAYLOAD;

/// Has the disk confirm all that is in the folder.
///
/// # Errors
/// When it refuses.
pub fn sync_segments(journal: &Journal) -> Result<(), JournalError> {
    for base in journal.bases() {
        let synced = File::open(journal.path(base)).and_then(|file| file.sync_all());
        synced.map_err(|source| journal.failed(base, "synced", source))?;
    }
    let synced = File::open(&*journal.dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| JournalError::Io { path: journal.dir.to_path_buf(), action: "synced", source })
}

impl Journal {
    /// Where the segment with this base begins; `None` when its header is damaged, or of an earlier form.
    pub fn segment_start(&self, base: u64) -> Option<SegmentStart> {
        let header = self.header(base).filter(|header| header.is_intact && header.size == HEADER_SIZE)?;
        Some(SegmentStart { base, previous_end: header.previous_end?, salt: header.salt })
    }
}

/// The only one who writes to the copy.
#[derive(Debug)]
pub struct Mirror {
    journal: Journal,
    lock: Lock,
    segment: Option<Segment>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    start: SegmentStart,
    end: u64,
}

impl Mirror {
    /// What the buffer may keep between batches.
    const KEPT_BUFFER: usize = 1 << 20;

    /// Takes up the copy in `journal`'s folder where it is intact. While there is a mirror or a writer, there is no other.
    ///
    /// # Errors
    /// When another process writes there, or the disk refuses.
    pub fn open(journal: Journal) -> Result<Self, JournalError> {
        let lock = Lock::take(&journal)?;
        let bases = journal.list()?;
        *journal.segments.write() = bases;
        let mut mirror = Self { journal, lock, segment: None, buffer: Vec::new() };
        while let Some(base) = mirror.journal.newest() {
            if let Some(segment) = mirror.intact(base)? {
                mirror.segment = Some(segment);
                break;
            }
            mirror.journal.remove(base)?;
        }
        if let Some(segment) = &mirror.segment {
            segment.file.set_len(segment.end - segment.start.base).map_err(|source| segment.failed("cut", source))?;
            mirror.journal.note_end(segment.end);
        }
        Ok(mirror)
    }

    /// The segment with this base up to its first damage; `None` when its header is damaged.
    fn intact(&self, base: u64) -> Result<Option<Segment>, JournalError> {
        let Some(start) = self.journal.segment_start(base) else { return Ok(None) };
        let mut end = start.first();
        let mut replay = self.journal.read_segment(base);
        while let Some(entry) = replay.next() {
            if entry.is_err() || !replay.damage().is_empty() {
                break;
            }
            end = replay.end();
        }
        let path = self.journal.path(base);
        let opened = OpenOptions::new().write(true).open(&path);
        let file = opened.map_err(|source| self.journal.failed(base, "opened", source))?;
        Ok(Some(Segment { file, path, start, end }))
    }

    /// The position behind the last record copied; `None` when there is no segment.
    pub fn end(&self) -> Option<u64> {
        self.segment.as_ref().map(|segment| segment.end)
    }

    /// The segment that is written to.
    pub fn segment(&self) -> Option<SegmentStart> {
        self.segment.as_ref().map(|segment| segment.start)
    }

    /// The journal this is the copy in.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Leaves the segment, and begins the next.
    ///
    /// # Errors
    /// When the disk refuses; it may be tried again.
    pub fn begin(&mut self, start: SegmentStart) -> Result<(), JournalError> {
        self.lock.check()?;
        if let Some(segment) = &self.segment {
            segment.file.sync_data().map_err(|source| segment.failed("synced", source))?;
        }
        let path = self.journal.path(start.base);
        let failed = |source| JournalError::Io { path: path.clone(), action: "begun", source };
        let header = Header { base: start.base, previous_end: start.previous_end, salt: start.salt };
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        file.write_all(&header.encode()).map_err(failed)?;
        self.journal.segments.write().insert(start.base);
        self.journal.note_end(start.first());
        self.segment = Some(Segment { file, path, start, end: start.first() });
        Ok(())
    }

    /// Appends records at the end.
    ///
    /// # Errors
    /// When the disk refuses; then nothing was appended, and it may be tried again.
    pub fn append<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<(), JournalError> {
        self.lock.check_now_and_then()?;
        let Some(segment) = &mut self.segment else { return Err(JournalError::NotFound(0)) };
        self.buffer.clear();
        for payload in payloads {
            let length =
                frame::encode(&mut self.buffer, segment.start.salt, |buffer| buffer.extend_from_slice(payload));
            if length > frame::MAX_PAYLOAD {
                return Err(JournalError::TooLarge(length));
            }
        }
        let offset = segment.end - segment.start.base;
        segment.file.write_all_at(&self.buffer, offset).map_err(|source| segment.failed("written", source))?;
        segment.end += self.buffer.len() as u64;
        self.journal.note_end(segment.end);
        if self.buffer.capacity() > Self::KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(())
    }
}

impl Segment {
    fn failed(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), action, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_the_copy_is_synced_before_the_next_begins() {
        let dir = tempfile::tempdir().unwrap();
        let mut mirror = Mirror::open(Journal::open(dir.path()).unwrap()).unwrap();
        let first = SegmentStart { base: 0, previous_end: 0, salt: 1 };
        mirror.begin(first).unwrap();
        // /dev/null takes every write, and cannot be synced.
        mirror.segment.as_mut().unwrap().file = OpenOptions::new().write(true).open("/dev/null").unwrap();
        let next = SegmentStart { base: 1 << 20, previous_end: first.first(), salt: 2 };
        assert!(matches!(mirror.begin(next), Err(JournalError::Io { action: "synced", .. })));
        assert_eq!(mirror.segment(), Some(first));
    }

    #[test]
    fn segments_that_cannot_be_synced_do_not_count_as_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut mirror = Mirror::open(Journal::open(dir.path()).unwrap()).unwrap();
        mirror.begin(SegmentStart { base: 0, previous_end: 0, salt: 1 }).unwrap();
        sync_segments(mirror.journal()).unwrap();
        let path = mirror.journal().path(0);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(sync_segments(mirror.journal()), Err(JournalError::Io { action: "synced", .. })));
    }
}
