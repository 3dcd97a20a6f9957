//! Whole segments: what moves into the archive.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;

use super::frame::{HEADER_SIZE, Header};
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
        let bytes = std::fs::read(self.path(base)).map_err(|source| self.failed(base, "read", source))?;
        let mut bytes = Bytes::from(bytes);
        let next = self.bases().into_iter().filter(|other| *other > base).find_map(|other| self.header(other));
        if let Some(next) = next {
            let counted = next.previous_end.saturating_sub(base).max(HEADER_SIZE as u64);
            bytes.truncate(usize::try_from(counted).unwrap_or(usize::MAX));
        }
        Ok(bytes)
    }

    /// Removes a segment that is elsewhere.
    ///
    /// # Errors
    /// When it cannot be removed, or that not be made durable.
    pub fn remove(&self, base: u64) -> Result<(), JournalError> {
        self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&base);
        let removed = std::fs::remove_file(self.path(base)).and_then(|()| File::open(&*self.dir)?.sync_all());
        removed.map_err(|source| self.failed(base, "removed", source))
    }

    pub(super) fn header(&self, base: u64) -> Option<Header> {
        let mut bytes = [0; HEADER_SIZE];
        File::open(self.path(base)).ok()?.read_exact(&mut bytes).ok()?;
        Header::decode(&bytes)
    }

    fn failed(&self, base: u64, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path(base), action, source }
    }
}
