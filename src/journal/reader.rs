use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;

use super::frame;
use super::header::{FoundHeader, HEADER_SIZE};
use super::resync::{self, Resync};
use super::{ArchiveError, Archived, ArchivedBytes, Entry, Journal, JournalError, ReadProgress};

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
    /// Nothing intact follows in its segment, of which nobody says where it ends: what a crash in the middle of a write
    /// leaves.
    TornTail,
    /// It is a copy of a segment's header. What it says is known all the same, and the records are read.
    Header,
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
    /// Other forms of segments that are here, no longer than these, by their bases: read only where what is here is damaged.
    spares: BTreeMap<u64, Vec<Archived>>,
    /// Of the segment that is read. They come next.
    wanted_spares: Vec<Archived>,
    from: u64,
    /// The base of the segment that was read last.
    base: u64,
    segment: Option<Loaded>,
    damage: Vec<Damage>,
    end: u64,
    /// Everything before this has been looked at.
    read_to: u64,
    lost_to: u64,
    /// What was read of the segments with one base, where there are several.
    twins: Option<Twins>,
    /// What the archive said of the last segment read from it.
    problem: Option<String>,
    watcher: Option<Arc<ReadProgress>>,
}

/// What a look at one segment found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentCheck {
    /// What it is called where it is.
    pub name: String,
    /// Whether it is in the archive.
    pub is_archived: bool,
    /// Intact entries.
    pub entries: u64,
    /// What of it, and in front of it, cannot be read.
    pub damage: Vec<Damage>,
    /// Why, where the archive says it.
    pub problem: Option<String>,
}

/// Where a segment is.
#[derive(Clone, Debug)]
enum Source {
    Archive(Archived),
    Here(u64),
}

/// The records of several segments with one base, which may be forms of one segment.
#[derive(Debug)]
struct Twins {
    base: u64,
    /// Of each intact record its position, the salt and the checksum.
    records: HashSet<(u64, u32, u32)>,
    /// Whether what is read may lack what another of them has.
    may_lack: bool,
}

#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    base: u64,
    salt: u32,
    bytes: Bytes,
    at: usize,
    is_archived: bool,
    /// Whether all of it was known to whoever wrote the next, or moved it away, so nothing of it can be a write cut off.
    is_sealed: bool,
    search: Resync,
}

impl Journal {
    /// Every intact entry at or after position `from`, in order. Reading blocks.
    ///
    /// # Errors
    /// When the archive is needed and cannot be read.
    pub fn replay(&self, from: u64) -> Result<Replay, JournalError> {
        let lengths = self.lengths()?;
        let here: Vec<_> = lengths.iter().map(|(base, _)| *base).collect();
        let lowest =
            if self.reads_all { 0 } else { here.iter().rev().find(|base| **base <= from).copied().unwrap_or(0) };
        let mut sources: Vec<_> = here.iter().copied().map(Source::Here).collect();
        let mut spares = BTreeMap::<u64, Vec<Archived>>::new();
        for segment in self.archived(lowest, self.reads_all || self.lacks_segments(&lengths, from))? {
            let is_here = here.binary_search(&segment.base).is_ok();
            let is_longer = segment.end.is_none_or(|end| self.is_shorter_here(segment.base, end));
            if !is_here || is_longer {
                sources.push(Source::Archive(segment));
            } else {
                // A crash after a segment was archived leaves it in both places, and is no reason to read it twice.
                spares.entry(segment.base).or_default().push(segment);
            }
        }
        // Stable: what is here comes first, and of several in the archive the longest.
        sources.sort_by_key(Source::base);
        let first_base = sources.iter().rev().map(Source::base).find(|base| *base <= from).unwrap_or(0);
        sources.retain(|source| source.base() >= first_base);
        if let Some(watcher) = &self.watcher {
            watcher.expect(sources.len());
        }
        Ok(Replay { watcher: self.watcher.clone(), spares, ..self.read_sources(sources, from) })
    }

    /// Whether some of what follows `from` is not in the segments `here`, or nobody can tell; false without an archive.
    fn lacks_segments(&self, here: &[(u64, u64)], from: u64) -> bool {
        if self.archive.is_none() {
            return false;
        }
        // Of what was never here, no header here tells.
        if from < self.unlinked.get() {
            return true;
        }
        let mut end = from;
        for (base, length) in here {
            // Which cannot tell where the one before it ends may have none before it.
            let previous_end = || self.header(*base).and_then(|header| header.previous_end).unwrap_or(*base);
            if *base > from && previous_end().min(*base) > end {
                return true;
            }
            let file_end = base.saturating_add(*length);
            if file_end > end {
                end = end.max(self.used_end(*base).unwrap_or(file_end));
            }
        }
        false
    }

    /// The entries of the segment with this base.
    pub fn read_segment(&self, base: u64) -> Replay {
        self.read_sources(vec![Source::Here(base)], base)
    }

    /// Goes through all segments in the archive and then those here, for [`Replay::check_next`].
    ///
    /// # Errors
    /// When the archive does not answer.
    pub fn check_archive(&self) -> Result<Replay, JournalError> {
        let mut sources: Vec<_> = self.archived(0, true)?.into_iter().map(Source::Archive).collect();
        sources.extend(self.bases().into_iter().map(Source::Here));
        sources.sort_by_key(Source::base);
        Ok(self.read_sources(sources, 0))
    }

    fn read_sources(&self, sources: Vec<Source>, from: u64) -> Replay {
        Replay {
            journal: self.clone(),
            sources: sources.into_iter(),
            spares: BTreeMap::new(),
            wanted_spares: Vec::new(),
            from,
            base: 0,
            segment: None,
            damage: Vec::new(),
            end: 0,
            read_to: from,
            lost_to: 0,
            twins: None,
            problem: None,
            watcher: None,
        }
    }
}

impl Source {
    fn base(&self) -> u64 {
        match self {
            Self::Archive(segment) => segment.base,
            Self::Here(base) => *base,
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

    /// The end of the last stretch so far that moved away and is lost, or 0: it is missing, or cannot be read in the archive.
    /// What was open of it was written again behind it. A segment that is damaged here has not moved.
    pub fn lost_to(&self) -> u64 {
        self.lost_to
    }

    /// Reads the next segment and says what of it cannot be read. Blocks.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn check_next(&mut self) -> Option<Result<SegmentCheck, JournalError>> {
        let source = self.sources.next()?;
        let (name, is_archived) = match &source {
            Source::Archive(segment) => (segment.name.clone(), true),
            Source::Here(base) => (Journal::segment_name(*base), false),
        };
        self.damage.clear();
        self.problem = None;
        let base = source.base();
        match self.load(source) {
            Ok(loaded) => self.segment = loaded,
            Err(error) if error.is_read_error() || error.unreadable_segment().is_some() => {
                let segment = self.journal.path(base);
                let damage = vec![Damage { segment, from: base, to: base, kind: DamageKind::Garbled }];
                let problem = Some(error.to_string());
                return Some(Ok(SegmentCheck { name, is_archived, entries: 0, damage, problem }));
            }
            Err(error) => return Some(Err(error)),
        }
        let mut entries = 0;
        while self.next_in_segment().is_some() {
            entries += 1;
        }
        let (damage, problem) = (std::mem::take(&mut self.damage), self.problem.take());
        Some(Ok(SegmentCheck { name, is_archived, entries, damage, problem }))
    }

    fn load(&mut self, source: Source) -> Result<Option<Loaded>, JournalError> {
        let base = source.base();
        self.base = base;
        let is_archived = matches!(source, Source::Archive(_));
        let mut path = self.journal.path(base);
        let (head, bytes, archived_end, is_sealed) = match (source, &self.journal.archive) {
            (Source::Archive(segment), Some(archive)) => {
                let found = match archive.read(&segment, 0, u64::MAX) {
                    Err(ArchiveError::Segment { name, reason }) if self.journal.passed_over.read().contains(&name) => {
                        ArchivedBytes { problem: Some(reason), ..ArchivedBytes::default() }
                    }
                    found => found?,
                };
                path = PathBuf::from(&segment.name);
                self.problem = found.problem;
                (found.head, found.bytes, segment.end, true)
            }
            _ => {
                let (bytes, is_sealed) = self.journal.counted(base)?;
                (Bytes::new(), bytes, None, is_sealed)
            }
        };
        let end = base.saturating_add(bytes.len() as u64).max(archived_end.unwrap_or_default());
        let header = FoundHeader::read(&bytes, base).or_else(|| FoundHeader::read(&head, base));
        let Some(header) = header.or_else(|| FoundHeader::recover(&bytes, base)) else {
            // A crash while a segment was begun leaves half a header, and nothing behind it.
            let is_begun = bytes.len() <= HEADER_SIZE || bytes.iter().all(|byte| *byte == 0);
            let is_torn = archived_end.is_none() && is_begun && resync::next_marker(&bytes, 0).is_none();
            let kind = if is_torn { DamageKind::TornTail } else { DamageKind::Garbled };
            self.damaged(path, base, end, kind, is_archived);
            return Ok(None);
        };
        // No segment says that of what lies behind it; noise may.
        let previous_end = header.previous_end.map_or(0, |end| end.min(base));
        if self.read_to < previous_end {
            self.damaged(path.clone(), self.read_to, previous_end, DamageKind::Missing, is_archived);
        }
        self.read_to = self.read_to.max(base);
        if !header.is_intact {
            let kind = if bytes.len() < header.size { DamageKind::TornTail } else { DamageKind::Header };
            let to = end.min(base.saturating_add(header.size as u64));
            self.damage.push(Damage { segment: path.clone(), from: base, to, kind });
        }
        if self.twins.as_ref().is_none_or(|twins| twins.base != base) {
            let comes_next = self.sources.as_slice().first().is_some_and(|next| next.base() == base);
            let has_twin = comes_next || self.spares.contains_key(&base);
            self.twins = has_twin.then(|| Twins { base, records: HashSet::new(), may_lack: comes_next });
        }
        let at = usize::try_from(self.from.saturating_sub(base)).unwrap_or(usize::MAX).max(header.size);
        let (salt, search) = (header.salt, Resync::default());
        Ok(Some(Loaded { path, base, salt, bytes, at, is_archived, is_sealed, search }))
    }

    fn next_source(&mut self) -> Option<Source> {
        self.wanted_spares.pop().map(Source::Archive).or_else(|| self.sources.next())
    }

    /// Leaves the segment that was read.
    fn leave(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        if let Some(watcher) = &self.watcher {
            watcher.read(segment.bytes.len());
        }
    }

    fn damaged(&mut self, segment: PathBuf, from: u64, to: u64, kind: DamageKind, is_archived: bool) {
        self.damage.push(Damage { segment, from, to, kind });
        self.read_to = self.read_to.max(to);
        if kind == DamageKind::Missing || (is_archived && kind == DamageKind::Garbled) {
            self.lost_to = self.lost_to.max(to);
        }
        if kind == DamageKind::Garbled
            && !is_archived
            && let Some(spares) = self.spares.remove(&self.base)
        {
            self.wanted_spares.extend(spares);
            if let Some(twins) = &mut self.twins {
                twins.may_lack |= twins.base == self.base;
            }
        }
    }
}

impl Replay {
    /// Whether the segment being read has several forms: what one of them lacks may still come, before [`Replay::end`].
    pub(crate) fn is_among_twins(&self) -> bool {
        self.twins.as_ref().is_some_and(|twins| twins.may_lack)
    }

    /// The next entry of the segment that is being read; `None` at its end, which leaves it.
    fn next_in_segment(&mut self) -> Option<(u64, Entry)> {
        loop {
            let segment = self.segment.as_mut()?;
            let position = segment.base + segment.at as u64;
            let is_archived = segment.is_archived;
            let rest = segment.bytes.get(segment.at..).unwrap_or_default();
            if rest.iter().all(|byte| *byte == 0) {
                self.leave();
                return None;
            }
            if let Some(payload) = frame::decode(rest, segment.salt) {
                let checksum = frame::declared(rest).map_or(0, |(_, checksum)| checksum);
                let record = (position, segment.salt, checksum);
                segment.at += frame::FRAME_SIZE + payload.len();
                let end = segment.base + segment.at as u64;
                self.end = self.end.max(end);
                self.read_to = self.read_to.max(end);
                // Of two forms of a segment, either may have whole what is damaged in the other. The rest counts once.
                if self.twins.as_mut().is_some_and(|twins| !twins.records.insert(record)) {
                    continue;
                }
                if let Some(entry) = Entry::decode(payload) {
                    return Some((position, entry));
                }
                // Intact, and of a type this version does not know.
                let path = segment.path.clone();
                self.damaged(path, position, end, DamageKind::Garbled, is_archived);
                continue;
            }
            let next = segment.search.next_record(&segment.bytes, segment.at + 1, segment.salt);
            let to = segment.base + next.unwrap_or(segment.bytes.len()) as u64;
            segment.at = next.unwrap_or(segment.bytes.len());
            let is_torn = next.is_none() && !segment.is_sealed;
            let kind = if is_torn { DamageKind::TornTail } else { DamageKind::Garbled };
            let path = segment.path.clone();
            self.damaged(path, position, to, kind, is_archived);
        }
    }
}

impl Iterator for Replay {
    type Item = Result<(u64, Entry), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.next_in_segment() {
                return Some(Ok(entry));
            }
            let source = self.next_source()?;
            match self.load(source) {
                Ok(loaded) => self.segment = loaded,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
