use std::path::PathBuf;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;

use super::frame::{self, HEADER_SIZE, Header};
use super::search::Search;
use super::{Entry, Journal, JournalError, ReadProgress};

/// A stretch of the journal that cannot be read as records. What of it is on disk stays there as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment it is in or in front of.
    pub segment: PathBuf,
    /// Position of the first unreadable byte.
    pub from: u64,
    /// Position of the next intact record, or the end of the segment.
    pub to: u64,
    /// What is wrong.
    pub kind: DamageKind,
}

/// What is wrong with a stretch of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Nothing intact follows in its segment: what a crash in the middle of a write leaves.
    TornTail,
    /// It is not what was written.
    Garbled,
    /// It was written and is not there.
    Missing,
}

/// Reads the journal's entries in order, one segment in memory at a time.
#[derive(Debug)]
pub struct Replay {
    journal: Journal,
    sources: IntoIter<Source>,
    from: u64,
    segment: Option<Loaded>,
    damage: Vec<Damage>,
    end: u64,
    /// Everything before this has been looked at.
    read_to: u64,
    watcher: Option<Arc<ReadProgress>>,
}

/// Where a segment is, and its base.
#[derive(Clone, Copy, Debug)]
enum Source {
    Archive(u64),
    Here(u64),
}

#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    base: u64,
    salt: u32,
    bytes: Bytes,
    at: usize,
    search: Search,
}

impl Journal {
    /// Every intact entry at or after position `from`, in order. Reading blocks.
    ///
    /// # Errors
    /// When the archive is needed and cannot be read.
    pub fn replay(&self, from: u64) -> Result<Replay, JournalError> {
        let here = self.bases();
        let first_here = here.first().copied();
        let begins = first_here.and_then(|base| self.header(base)).map_or(0, |header| header.previous_end);
        let mut sources = Vec::new();
        if let Some(archive) = self.archive.as_ref().filter(|_| from < begins || self.reads_all) {
            let archived = archive.bases()?.into_iter();
            sources.extend(archived.filter(|base| first_here.is_none_or(|first| *base < first)).map(Source::Archive));
        }
        sources.extend(here.into_iter().map(Source::Here));
        let first = sources.iter().rposition(|source| source.base() <= from).unwrap_or(0);
        sources.drain(..first);
        if let Some(watcher) = &self.watcher {
            watcher.expect(sources.len());
        }
        Ok(Replay { watcher: self.watcher.clone(), ..self.read_sources(sources, from) })
    }

    /// The entries of the segment with this base.
    pub fn read_segment(&self, base: u64) -> Replay {
        self.read_sources(vec![Source::Here(base)], base)
    }

    fn read_sources(&self, sources: Vec<Source>, from: u64) -> Replay {
        Replay {
            journal: self.clone(),
            sources: sources.into_iter(),
            from,
            segment: None,
            damage: Vec::new(),
            end: 0,
            read_to: from,
            watcher: None,
        }
    }
}

impl Source {
    fn base(self) -> u64 {
        match self {
            Self::Archive(base) | Self::Here(base) => base,
        }
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

    fn load(&mut self, source: Source) -> Result<Option<Loaded>, JournalError> {
        let base = source.base();
        let path = self.journal.path(base);
        let bytes = match (source, &self.journal.archive) {
            (Source::Archive(base), Some(archive)) => archive.segment(base)?,
            _ => self.journal.segment(base)?,
        };
        let Some(header) = Header::decode(&bytes).filter(|header| header.base == base) else {
            // A crash while a segment was begun leaves a header cut short and nothing acknowledged behind it.
            let kind = if bytes.len() <= HEADER_SIZE { DamageKind::TornTail } else { DamageKind::Garbled };
            self.damaged(path, base, base + bytes.len() as u64, kind);
            return Ok(None);
        };
        // No segment says that of what lies behind it; noise may.
        let previous_end = header.previous_end.min(base);
        if self.read_to < previous_end {
            self.damaged(path.clone(), self.read_to, previous_end, DamageKind::Missing);
        }
        self.read_to = self.read_to.max(base);
        let at = usize::try_from(self.from.saturating_sub(base)).unwrap_or(usize::MAX).max(HEADER_SIZE);
        Ok(Some(Loaded { path, base, salt: header.salt, bytes, at, search: Search::default() }))
    }

    fn damaged(&mut self, segment: PathBuf, from: u64, to: u64, kind: DamageKind) {
        self.damage.push(Damage { segment, from, to, kind });
        self.read_to = self.read_to.max(to);
    }
}

impl Iterator for Replay {
    type Item = Result<(u64, Entry), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(segment) = &mut self.segment else {
                let source = self.sources.next()?;
                match self.load(source) {
                    Ok(loaded) => self.segment = loaded,
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let position = segment.base + segment.at as u64;
            let rest = segment.bytes.get(segment.at..).unwrap_or_default();
            if rest.iter().all(|byte| *byte == 0) {
                if let Some(watcher) = &self.watcher {
                    watcher.read(segment.bytes.len());
                }
                self.segment = None;
                continue;
            }
            if let Some(payload) = frame::decode(rest, segment.salt) {
                segment.at += frame::FRAME_SIZE + payload.len();
                self.end = segment.base + segment.at as u64;
                self.read_to = self.read_to.max(self.end);
                if let Some(entry) = Entry::decode(payload) {
                    return Some(Ok((position, entry)));
                }
                // Intact, and of a type this version does not know.
                let (path, to) = (segment.path.clone(), self.end);
                self.damaged(path, position, to, DamageKind::Garbled);
                continue;
            }
            let next = segment.search.next_record(&segment.bytes, segment.at + 1, segment.salt);
            let to = segment.base + next.unwrap_or(segment.bytes.len()) as u64;
            segment.at = next.unwrap_or(segment.bytes.len());
            let kind = if next.is_none() { DamageKind::TornTail } else { DamageKind::Garbled };
            let path = segment.path.clone();
            self.damaged(path, position, to, kind);
        }
    }
}
