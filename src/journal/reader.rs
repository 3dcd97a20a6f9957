use std::path::PathBuf;
use std::vec::IntoIter;

use super::frame::{self, HEADER_SIZE, Header};
use super::{Entry, Journal, JournalError};

/// A stretch of the journal that cannot be read as records. It stays on disk as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: PathBuf,
    /// Position of the first unreadable byte.
    pub from: u64,
    /// Position of the next intact record, or the end of the segment.
    pub to: u64,
    /// True when nothing intact follows: what a crash in the middle of a write leaves.
    pub torn_tail: bool,
}

/// Reads the journal's entries in order, one segment in memory at a time.
#[derive(Debug)]
pub struct Replay {
    journal: Journal,
    bases: IntoIter<u64>,
    from: u64,
    segment: Option<Loaded>,
    damage: Vec<Damage>,
    end: u64,
}

#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    base: u64,
    salt: u32,
    bytes: Vec<u8>,
    at: usize,
}

impl Journal {
    /// Every intact entry at or after position `from`, in order.
    pub fn replay(&self, from: u64) -> Replay {
        let bases = self.bases();
        let first = bases.iter().rposition(|base| *base <= from).unwrap_or(0);
        let bases: Vec<u64> = bases.into_iter().skip(first).collect();
        Replay { journal: self.clone(), bases: bases.into_iter(), from, segment: None, damage: Vec::new(), end: 0 }
    }
}

impl Replay {
    /// What had to be passed over so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The end of the last intact record read so far, or 0.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn load(&mut self, base: u64) -> Result<Option<Loaded>, JournalError> {
        let path = self.journal.path(base);
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| JournalError::Io { path: path.clone(), action: "read", source })
        };
        let mut bytes = read(&path)?;
        let Some(header) = Header::decode(&bytes).filter(|header| header.base == base) else {
            // A crash while a segment was begun leaves a header cut short and nothing acknowledged behind it.
            let torn_tail = bytes.len() <= HEADER_SIZE;
            self.damage.push(Damage { segment: path, from: base, to: base + bytes.len() as u64, torn_tail });
            return Ok(None);
        };
        if let Some(next) = self.bases.as_slice().iter().find_map(|next| self.header(*next)) {
            let counted = next.previous_end.saturating_sub(base).max(HEADER_SIZE as u64);
            bytes.truncate(usize::try_from(counted).unwrap_or(usize::MAX));
        }
        let at = usize::try_from(self.from.saturating_sub(base)).unwrap_or(usize::MAX).max(HEADER_SIZE);
        Ok(Some(Loaded { path, base, salt: header.salt, bytes, at }))
    }

    fn header(&self, base: u64) -> Option<Header> {
        use std::io::Read;
        let mut bytes = [0; HEADER_SIZE];
        std::fs::File::open(self.journal.path(base)).ok()?.read_exact(&mut bytes).ok()?;
        Header::decode(&bytes)
    }
}

impl Iterator for Replay {
    type Item = Result<(u64, Entry), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(segment) = &mut self.segment else {
                let base = self.bases.next()?;
                match self.load(base) {
                    Ok(loaded) => self.segment = loaded,
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let position = segment.base + segment.at as u64;
            let rest = segment.bytes.get(segment.at..).unwrap_or_default();
            if rest.iter().all(|byte| *byte == 0) {
                self.segment = None;
                continue;
            }
            if let Some(payload) = frame::decode(rest, segment.salt) {
                segment.at += frame::FRAME_SIZE + payload.len();
                self.end = segment.base + segment.at as u64;
                if let Some(entry) = Entry::decode(payload) {
                    return Some(Ok((position, entry)));
                }
                // Intact, and of a type this version does not know.
                self.damage.push(Damage {
                    segment: segment.path.clone(),
                    from: position,
                    to: self.end,
                    torn_tail: false,
                });
                continue;
            }
            let next = frame::next_record(&segment.bytes, segment.at + 1, segment.salt);
            let to = segment.base + next.unwrap_or(segment.bytes.len()) as u64;
            self.damage.push(Damage { segment: segment.path.clone(), from: position, to, torn_tail: next.is_none() });
            segment.at = next.unwrap_or(segment.bytes.len());
        }
    }
}
