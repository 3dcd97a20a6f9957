use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;

use super::frame;
use super::header::{self, FoundHeader};
use super::{Entry, Journal, JournalError};

/// Where segments are that are no longer here, and states that were made of them. Its calls block.
pub trait Archive: std::fmt::Debug + Send + Sync {
    /// The segments there whose base is `from` or beyond, by their bases. Of several with one base, the longest comes first.
    ///
    /// # Errors
    /// When they cannot be found out, which takes as long as `patience` allows; that there are none is no error.
    fn segments(&self, from: u64, patience: Patience) -> Result<Vec<Archived>, ArchiveError>;

    /// At most `length` bytes of a segment from the offset `from` on, as far as they can be read. Damage is no error.
    ///
    /// # Errors
    /// When the archive does not answer, or cannot read the segment now.
    fn read(&self, segment: &Archived, from: u64, length: u64) -> Result<ArchivedBytes, ArchiveError>;

    /// Puts the segment with this base there and reads it back. Replaces nothing that has other bytes.
    ///
    /// # Errors
    /// When it is not there afterwards.
    fn store(&self, base: u64, segment: Bytes) -> Result<StoredAs, ArchiveError>;

    /// Brings what lies there in an older form into today's. Returns how many segments are damaged and stay as they are.
    ///
    /// # Errors
    /// When the archive does not answer, or not all can be brought there; what was done counts.
    fn renew(&self) -> Result<usize, ArchiveError>;

    /// Puts a state that others have made into the folder `into`, which is not there yet, if there is one that goes far enough
    /// beyond the position `applied` to be worth it. Returns the position up to which all is folded in there.
    ///
    /// # Errors
    /// When it cannot be had: then something may be in the folder.
    fn fetch_state(&self, applied: u64, into: &Path) -> Result<Option<u64>, ArchiveError>;

    /// Nobody waits any more: calls that run, and all after, fail soon.
    fn close(&self);
}

/// A segment in the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Archived {
    /// The position of its first byte.
    pub base: u64,
    /// The position after its last byte, where the archive knows it without reading.
    pub end: Option<u64>,
    /// What the archive calls it.
    pub name: String,
}

impl Archived {
    /// The position behind its last byte, or one that is certainly behind it.
    pub fn latest_end(&self) -> u64 {
        self.end.unwrap_or(self.base.saturating_add(LONGEST))
    }
}

/// What could be read of an archived segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchivedBytes {
    /// The segment's first bytes, at most 64, where the archive has them apart.
    pub head: Bytes,
    /// The bytes asked for. Where some cannot be read, others stand in their place that are no records.
    pub bytes: Bytes,
    /// Why not all could be read.
    pub problem: Option<String>,
}

/// How a segment came to be in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAs {
    /// Under its own name; nothing else has its base.
    New(String),
    /// The archive has a longer one that begins with the same bytes.
    PartOf(String),
    /// Beside another with the same base and other bytes.
    Conflicting(String),
}

/// How long an archive may take to be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Some seconds: callers go on without an answer.
    Brief,
    /// As long as it is worth trying.
    Thorough,
}

/// Why segments that are no longer here cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// It does not answer, or refuses everything.
    #[error("the journal's archive cannot be read: {0}")]
    Unavailable(String),
    /// It answers, and cannot read one segment. That may last.
    #[error("the segment {name} in the journal's archive cannot be read: {reason}")]
    Segment {
        /// What the archive calls it.
        name: String,
        /// Why.
        reason: String,
    },
    /// It answers, and some segments stay there in an older form.
    #[error("{left} segments in the journal's archive stay in an older form: {reason}")]
    NotRenewed {
        /// How many.
        left: usize,
        /// Why the first of them does, for people.
        reason: String,
    },
}

/// How the journal here stands to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody knows yet.
    Unknown,
    /// The archive has nothing newer than what was here when the journal was opened.
    InStep,
    /// There was nothing here, and the archive has segments that no rebuild has read. So it is after later starts, too.
    Empty,
    /// What was here is older than the archive: a copy that was put back.
    OlderCopy {
        /// The end of what the archive has.
        archive_end: u64,
    },
}

impl Standing {
    /// Whether what was here is older than the archive.
    pub fn is_older_copy(self) -> bool {
        matches!(self, Self::OlderCopy { .. })
    }
}

/// No segment is longer, where it is not known how long one is.
const LONGEST: u64 = 1 << 28;

/// What the archive was found to have when it was compared with what was here at the start.
#[derive(Debug, Default)]
pub(super) struct Survey {
    state: Mutex<Surveyed>,
}

#[derive(Clone, Debug, Default)]
enum Surveyed {
    #[default]
    Not,
    Failed,
    Done {
        /// The listing has all that begins there or beyond.
        from: u64,
        archived: Vec<Archived>,
        standing: Standing,
    },
}

impl Journal {
    /// How what was here at the start stands to the archive, as far as it was asked. Where there is none, nothing is newer.
    pub fn standing(&self) -> Standing {
        match &*self.survey.state.lock() {
            Surveyed::Not | Surveyed::Failed if self.archive.is_none() => Standing::InStep,
            Surveyed::Not | Surveyed::Failed => Standing::Unknown,
            Surveyed::Done { standing, .. } => *standing,
        }
    }

    /// Asks the archive, whether or not that was tried before. A replay from then on goes by the answer. Blocks.
    ///
    /// # Errors
    /// When the archive does not answer.
    pub fn survey_archive(&self) -> Result<Standing, ArchiveError> {
        let Some(archive) = &self.archive else { return Ok(Standing::InStep) };
        let archived = archive.segments(0, Patience::Thorough)?;
        let standing = self.compare(&archived);
        *self.survey.state.lock() = Surveyed::Done { from: 0, archived, standing };
        Ok(standing)
    }

    /// Archived segments from `from` on that a replay may need. Where it does not know of any that it must have, the archive
    /// is asked briefly, once, and again for what lies before its first answer; without an answer there are none. Nor are there
    /// where nothing was here: those a rebuild reads.
    pub(super) fn archived(&self, from: u64, must: bool) -> Result<Vec<Archived>, ArchiveError> {
        let Some(archive) = &self.archive else { return Ok(Vec::new()) };
        if must {
            return archive.segments(from, Patience::Thorough);
        }
        let newest = self.baseline.newest();
        let lowest = newest.map_or(0, |newest| from.min(newest));
        let is_worth_asking = match &*self.survey.state.lock() {
            Surveyed::Not => true,
            Surveyed::Failed => false,
            Surveyed::Done { from: listed, .. } => lowest < *listed,
        };
        if is_worth_asking {
            // Whoever looks at the standing does not wait for it.
            self.note_listing(lowest, archive.segments(lowest, Patience::Brief));
        }
        match &*self.survey.state.lock() {
            Surveyed::Done { archived, .. } if newest.is_some() => {
                Ok(archived.iter().filter(|segment| segment.base >= from).cloned().collect())
            }
            Surveyed::Done { .. } | Surveyed::Not | Surveyed::Failed => Ok(Vec::new()),
        }
    }

    /// Keeps what the archive was found to have from `from` on. How what was here at the start stands to it, the first answer
    /// says: later ones have what moved since.
    fn note_listing(&self, from: u64, found: Result<Vec<Archived>, ArchiveError>) {
        let mut state = self.survey.state.lock();
        match (found, &mut *state) {
            (Ok(archived), Surveyed::Done { from: listed, archived: known, .. }) if from < *listed => {
                (*listed, *known) = (from, archived);
            }
            (_, Surveyed::Done { .. }) => {}
            (Ok(archived), state) => {
                let standing = self.compare(&archived);
                *state = Surveyed::Done { from, archived, standing };
            }
            (Err(_), state) => *state = Surveyed::Failed,
        }
    }

    /// Has a replay that begins before `end` wait for the archive's answer, now and after later starts: up to there it has
    /// segments that no header here tells of.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note_unlinked(&self, end: u64) -> Result<(), JournalError> {
        self.unlinked.raise(end)
    }

    /// Whether a segment before the position `end` was begun since the newest that the archive is compared with.
    pub fn has_begun_before(&self, end: u64) -> bool {
        self.bases().into_iter().any(|base| base < end && Some(base) > self.baseline.newest())
    }

    /// Whether an earlier run has begun segments before the archive was compared with what was here.
    pub fn has_inherited_baseline(&self) -> bool {
        self.baseline.is_inherited()
    }

    /// Has later starts compare the archive with what is here by then. What follows from the comparison of this run must be
    /// done and on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear_baseline(&self) -> Result<(), JournalError> {
        self.baseline.clear()
    }

    fn compare(&self, archived: &[Archived]) -> Standing {
        let Some(newest) = self.baseline.newest() else {
            // What a rebuild has read, or begun to read, a state that is made anew waits for.
            let is_read = |segment: &Archived| segment.latest_end() <= self.unlinked.get();
            return if archived.iter().all(is_read) { Standing::InStep } else { Standing::Empty };
        };
        let is_beyond = |segment: &&Archived| {
            segment.base > newest || (segment.end.is_some_and(|end| self.is_shorter_here(segment.base, end)))
        };
        let beyond = archived.iter().filter(is_beyond).map(Archived::latest_end).max();
        beyond.map_or(Standing::InStep, |archive_end| Standing::OlderCopy { archive_end })
    }

    /// Whether a segment is here and ends before `end`. Room behind its last record is no part of it.
    pub(super) fn is_shorter_here(&self, base: u64, end: u64) -> bool {
        self.bases().contains(&base) && self.used_end(base).is_ok_and(|used_end| used_end < end)
    }

    /// Puts a segment that is here into the archive. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or is not there afterwards.
    pub fn archive_segment(&self, base: u64) -> Result<StoredAs, JournalError> {
        let archive =
            self.archive.as_ref().ok_or_else(|| ArchiveError::Unavailable("there is no archive".to_owned()))?;
        let stored = archive.store(base, self.segment(base)?)?;
        if let StoredAs::Conflicting(_) = stored {
            self.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(stored)
    }

    /// How many segments were archived beside others of the same base since this was opened.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Brings what lies in the archive in an older form into today's. Returns how many segments are damaged and stay as they
    /// are. Blocks.
    ///
    /// # Errors
    /// When the archive does not answer, or not all can be brought there; what was done counts.
    pub fn renew_archive(&self) -> Result<usize, ArchiveError> {
        self.archive.as_ref().map_or(Ok(0), |archive| archive.renew())
    }

    /// Puts a state from the archive into the folder `into`: see [`Archive::fetch_state`]. `None` without an archive.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn fetch_state(&self, applied: u64, into: &Path) -> Result<Option<u64>, ArchiveError> {
        self.archive.as_ref().map_or(Ok(None), |archive| archive.fetch_state(applied, into))
    }

    pub(super) fn read_archived(&self, position: u64) -> Result<Entry, JournalError> {
        /// More than most records have.
        const FIRST_READ: u64 = 64 << 10;
        let archive = self.archive.as_ref().ok_or(JournalError::NotFound(position))?;
        let segments = archive.segments(0, Patience::Thorough)?;
        let covers = |segment: &&Archived| segment.base <= position && segment.end.is_none_or(|end| position < end);
        let nearest = segments.iter().filter(covers).map(|segment| segment.base).max();
        for segment in segments.iter().filter(|segment| Some(segment.base) == nearest) {
            let offset = position - segment.base;
            let mut found = archive.read(segment, offset, FIRST_READ)?;
            let Some((length, _)) = frame::declared(&found.bytes) else { continue };
            let whole = (frame::FRAME_SIZE + length) as u64;
            if whole > FIRST_READ {
                found = archive.read(segment, offset, whole)?;
            }
            let header = match FoundHeader::read(&found.head, segment.base) {
                Some(header) => Some(header),
                None => FoundHeader::recover(&archive.read(segment, 0, u64::MAX)?.bytes, segment.base),
            };
            let Some(header) = header else { continue };
            if let Some(entry) = frame::decode(&found.bytes, header.salt).and_then(Entry::decode) {
                return Ok(entry);
            }
        }
        Err(JournalError::NotFound(position))
    }
}

/// Whether what a segment begins with may be one: its header, or at least a record.
pub fn may_be_segment(beginning: &[u8]) -> bool {
    let is_marker = |window: &[u8]| window == frame::MARKER;
    header::is_header(beginning) || beginning.windows(frame::MARKER.len()).any(is_marker)
}

/// How many of a segment's first bytes an archive keeps apart: the first copy of its header is in them.
pub const SEGMENT_HEAD: usize = 64;
