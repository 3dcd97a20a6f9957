//! Whole segments: what moves into the archive.

use std::fs::File;
use std::io::{self, Read};
use std::sync::PoisonError;

use bytes::Bytes;

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

    /// All that counts of a segment, as it is on disk: its header, its records, and what became of damaged ones.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn segment(&self, base: u64) -> Result<Bytes, JournalError> {
        Ok(self.counted(base)?.0)
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
        match std::fs::remove_file(self.path(base)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(base, "removed", error)),
            _ => {}
        }
        self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&base);
        let synced = File::open(&*self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| self.failed(base, "removed", source))
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

    pub(super) fn bytes(&self, base: u64) -> Result<Vec<u8>, JournalError> {
        std::fs::read(self.path(base)).map_err(|source| self.failed(base, "read", source))
    }

    pub(super) fn failed(&self, base: u64, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path(base), action, source }
    }
}
