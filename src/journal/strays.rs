//! Records beyond the end of their segment, as the next one says it.
//!
//! Such a record was written by a process that did not know of the next segment, or its write failed and could not be cut
//! off. Nobody can tell whether it was acknowledged. Its position may be another's, too, so it is not replayed: it is
//! recorded again, as something new, and then cut off.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::header::FoundHeader;
use super::resync::Resync;
use super::{Entry, Journal, JournalError, frame};

/// What stands beyond the end of a segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Strays {
    /// The segment's base.
    pub base: u64,
    /// What its intact records hold, in order.
    pub entries: Vec<Entry>,
    /// Where the segment ends, in bytes from its base.
    end: u64,
    /// All that stands behind that.
    bytes: Vec<u8>,
}

impl Journal {
    /// What stands beyond the end of segments that nothing is appended to any more. Blocks.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn strays(&self) -> Result<Vec<Strays>, JournalError> {
        let lengths = self.lengths()?;
        let sealed = lengths.split_last().map_or(&[][..], |(_, sealed)| sealed);
        let mut found = Vec::new();
        for (base, length) in sealed {
            let Some(end) = self.sealed_end(*base).map(|end| end - base).filter(|end| end < length) else { continue };
            let Some(header) = self.header(*base) else { continue };
            let strays = self.strays_of(*base, end, *length, header)?;
            found.extend(Some(strays).filter(|strays| !strays.entries.is_empty()));
        }
        Ok(found)
    }

    fn strays_of(&self, base: u64, end: u64, length: u64, header: FoundHeader) -> Result<Strays, JournalError> {
        let bytes = self.tail(base, end, length)?;
        let (mut entries, mut at, mut search) = (Vec::new(), 0, Resync::default());
        while let Some(record) = search.next_record(&bytes, at, header.salt) {
            let Some(payload) = frame::decode(&bytes[record..], header.salt) else { break };
            entries.extend(Entry::decode(payload));
            at = record + frame::FRAME_SIZE + payload.len();
        }
        Ok(Strays { base, entries, end, bytes })
    }

    /// Cuts off what is recorded elsewhere now. It stays when it has become something else since it was read.
    ///
    /// # Errors
    /// When the segment cannot be read or cut.
    pub fn cut_off(&self, strays: &Strays) -> Result<(), JournalError> {
        let Strays { base, end, bytes, .. } = strays;
        let length = self.lengths()?.into_iter().find(|(found, _)| found == base).map_or(0, |(_, length)| length);
        if length != end + bytes.len() as u64 || self.tail(*base, *end, length)? != *bytes {
            return Ok(());
        }
        let cut = OpenOptions::new().write(true).open(self.path(*base)).and_then(|file| {
            file.set_len(*end)?;
            file.sync_all()
        });
        cut.map_err(|source| self.failed(*base, "cut", source))
    }

    fn tail(&self, base: u64, from: u64, to: u64) -> Result<Vec<u8>, JournalError> {
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or_default()];
        let read = std::fs::File::open(self.path(base)).and_then(|file| file.read_exact_at(&mut bytes, from));
        read.map(|()| bytes).map_err(|source| self.failed(base, "read", source))
    }
}
