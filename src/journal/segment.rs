//! Whole segments: what moves into the archive.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use fail::fail_point;
use rustix::io::Errno;

use super::header::{FoundHeader, HEADER_SIZE};
use super::{Journal, JournalError};
use crate::domain::Timestamp;

impl Journal {
    /// The bases of the segments that nothing is appended to any more, oldest first.
    pub fn sealed(&self) -> Vec<u64> {
        let mut bases = self.bases();
        bases.pop();
        bases
    }

    /// The bases of the segments that are here, oldest first.
    pub fn segments_here(&self) -> Vec<u64> {
        self.bases()
    }

    /// What the file of the segment with this base is called.
    pub fn segment_name(base: u64) -> String {
        format!("{base:020}.journal")
    }

    /// The base of the newest segment, if there is one.
    pub fn newest(&self) -> Option<u64> {
        self.bases().last().copied()
    }

    /// When a segment was last written to.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn written_at(&self, base: u64) -> Result<Timestamp, JournalError> {
        let modified = std::fs::metadata(self.path(base)).and_then(|metadata| metadata.modified());
        let modified = modified.map_err(|source| self.failed(base, "looked at", source))?;
        let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Timestamp::from_millis_clamped(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Has a segment pass for one that was last written to now.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn reset_written_at(&self, base: u64) -> Result<(), JournalError> {
        let reset = File::open(self.path(base)).and_then(|file| file.set_modified(SystemTime::now()));
        reset.map_err(|source| self.failed(base, "marked as written to now", source))
    }

    /// All that counts of a segment, as it is on disk: its header, its records, and what became of damaged ones.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn segment(&self, base: u64) -> Result<Bytes, JournalError> {
        let mut bytes = self.counted(base)?.0;
        // A copy of a running service has room where its state knows of records: other bytes than the segment in the end had.
        let used = self.used_end(base)?.saturating_sub(base);
        bytes.truncate(usize::try_from(used).unwrap_or(usize::MAX));
        Ok(bytes)
    }

    /// The position behind the last record of a segment, or behind its last byte that is not zero, and at least behind its
    /// header. Zeros that follow are room.
    pub(super) fn used_end(&self, base: u64) -> Result<u64, JournalError> {
        let failed = |source| self.failed(base, "looked at", source);
        let file = File::open(self.path(base)).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut last = [0_u8];
        let may_have_room = length > 0 && file.read_exact_at(&mut last, length - 1).is_ok() && last == [0];
        if !may_have_room {
            return Ok(base.saturating_add(length));
        }
        let bytes = self.bytes(base)?;
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let used = used.max(HEADER_SIZE.min(bytes.len())) as u64;
        // A record may end in zeros.
        let mut replay = self.read_segment(base);
        for entry in replay.by_ref() {
            entry?;
        }
        Ok(replay.end().max(base.saturating_add(used)))
    }

    /// The same, and whether it is known where the segment ends.
    pub(super) fn counted(&self, base: u64) -> Result<(Bytes, bool), JournalError> {
        let mut bytes = Bytes::from(self.bytes(base)?);
        let end = self.sealed_end(base);
        if let Some(end) = end {
            bytes.truncate(usize::try_from(end.saturating_sub(base)).unwrap_or(usize::MAX));
        }
        Ok((bytes, end.is_some()))
    }

    /// Removes a segment that is elsewhere. One that cannot be removed stays known.
    ///
    /// # Errors
    /// When it cannot be removed, or that not be made durable.
    pub fn remove(&self, base: u64) -> Result<(), JournalError> {
        let fail = |error| Err(self.failed(base, "removed", error));
        fail_point!("journal.remove", self.bases().first() == Some(&base), |_| fail(
            io::ErrorKind::PermissionDenied.into()
        ));
        match std::fs::remove_file(self.path(base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return fail(error),
            _ => {}
        }
        self.segments.write().remove(&base);
        File::open(&*self.dir).and_then(|dir| dir.sync_all()).or_else(fail)
    }

    /// Where a segment ends, as the next says whose header can be read; at least behind its own header.
    pub(super) fn sealed_end(&self, base: u64) -> Option<u64> {
        let later = self.bases().into_iter().filter(|other| *other > base);
        let end = later.into_iter().find_map(|other| self.header(other)?.previous_end)?;
        let header = self.header(base).map_or(HEADER_SIZE, |header| header.size);
        Some(end.max(base.saturating_add(header as u64)))
    }

    /// What is known of a segment's header; `None` when nothing is, or it cannot be read.
    pub(super) fn header(&self, base: u64) -> Option<FoundHeader> {
        let mut bytes = Vec::with_capacity(HEADER_SIZE);
        File::open(self.path(base)).ok()?.take(HEADER_SIZE as u64).read_to_end(&mut bytes).ok()?;
        FoundHeader::read(&bytes, base).or_else(|| FoundHeader::recover(&self.bytes(base).ok()?, base))
    }

    /// Base and length in bytes of every segment that is here, oldest first.
    pub(super) fn lengths(&self) -> Result<Vec<(u64, u64)>, JournalError> {
        let look = |base| match std::fs::metadata(self.path(base)) {
            Ok(metadata) => Some(Ok((base, metadata.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Err(self.failed(base, "looked at", error))),
        };
        self.bases().into_iter().filter_map(look).collect()
    }

    /// The bytes of a segment's file. What the disk cannot read is an error, or passed over from
    /// [`Journal::read_around_errors`] on: then bytes stand there that are no record.
    pub(super) fn bytes(&self, base: u64) -> Result<Vec<u8>, JournalError> {
        let (path, around) = (self.path(base), self.reads_around_errors.load(Ordering::Relaxed));
        let read = read_all(base, &path, around);
        let is_readable = match &read {
            Ok((_, unreadable)) => *unreadable == 0,
            Err(error) => !is_read_error(error),
        };
        let mut known = self.unreadable.write();
        if is_readable {
            known.remove(&base);
        } else if known.insert(base) {
            tracing::error!(segment = %path.display(), "a segment of the journal has a stretch that the disk cannot read");
        }
        read.map(|(bytes, _)| bytes).map_err(|source| self.failed(base, "read", source))
    }

    /// Takes what the disk cannot read for damage from now on, so that the rest can be had.
    pub(crate) fn read_around_errors(&self) {
        self.reads_around_errors.store(true, Ordering::Relaxed);
    }

    /// The same for one archived segment: whenever the archive cannot read it.
    pub(crate) fn pass_over(&self, archived: &str) {
        self.passed_over.write().insert(archived.to_owned());
    }

    /// How many segments have a stretch that the disk could not read the last time.
    pub fn unreadable_segments(&self) -> usize {
        self.unreadable.read().len()
    }

    pub(super) fn failed(&self, base: u64, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path(base), action, source }
    }
}

/// Whether the disk cannot read what it has.
pub(super) fn is_read_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// The bytes of a file, and with `around` how many of them could not be read.
fn read_all(base: u64, path: &Path, around: bool) -> io::Result<(Vec<u8>, usize)> {
    /// What is read at a time.
    const PIECE: usize = 1 << 20;
    /// The same from the first error on: what a disk reads or does not.
    const BLOCK: usize = 4096;
    /// No record begins with it, and room is zeros.
    const HOLE: u8 = 0xFF;
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    let (mut at, mut piece, mut unreadable) = (0, PIECE, 0);
    while at < bytes.len() {
        let to = bytes.len().min(at + piece - at % piece);
        match read_at(&file, base, &mut bytes[at..to], at as u64) {
            // It was cut meanwhile.
            Ok(0) => bytes.truncate(at),
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if !around || !is_read_error(&error) => return Err(error),
            Err(_) if piece > BLOCK => piece = BLOCK,
            Err(_) => {
                bytes[at..to].fill(HOLE);
                unreadable += to - at;
                at = to;
            }
        }
    }
    Ok((bytes, unreadable))
}

/// Reads of the segment at `base`, from `offset` in its file on.
fn read_at(file: &File, base: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    // With `base/first-last`: the segment, and which bytes of its file cannot be read.
    fail_point!("journal.read", |bad| {
        let bad = bad.unwrap_or_default();
        let (segment, stretch) = bad.split_once('/').unwrap_or_default();
        let (first, last) = stretch.split_once('-').unwrap_or_default();
        let (first, last): (u64, u64) = (first.parse().unwrap_or(0), last.parse().unwrap_or(u64::MAX));
        let is_bad = segment.parse() == Ok(base) && offset <= last && first < offset + buffer.len() as u64;
        if is_bad { Err(Errno::IO.into()) } else { file.read_at(buffer, offset) }
    });
    // Only the failure point asks which segment it is.
    let _ = base;
    file.read_at(buffer, offset)
}
