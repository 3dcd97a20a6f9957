//! What is taken in while the shared log is away: a journal of its own, emptied into the log when that is back.
//!
//! Each entry goes by its position here, and the log says up to where it has them, in the same transaction that takes them.
//! So none comes twice, whatever is cut off. For that, positions here only grow, whatever the clock does: of a folder that is
//! emptied an empty segment stays, and the next begins behind it. A batch of which it is not known whether the log has it is
//! kept here apart until that is known.

use std::path::{Path, PathBuf};

use super::EventLog;
use crate::cluster::first_position;
use crate::journal::{DamageKind, Durability, Entry, Event, Journal, JournalError, Replay, Writer, make_private_dir};

/// What waits for the log.
#[derive(Debug)]
pub(super) struct Outage {
    dir: PathBuf,
    /// While something waits.
    open: Option<Open>,
    /// Up to where the log has it.
    drained: u64,
}

#[derive(Debug)]
struct Open {
    journal: Journal,
    writer: Writer,
    reading: Option<Replay>,
    /// Where in a doubtful batch that is.
    batch: DoubtfulBatch,
    contents: Contents,
    /// The end of what was read and not yet drained.
    read_to: u64,
}

/// What a folder has.
#[derive(Debug, Default)]
struct Contents {
    /// Callbacks that wait.
    waiting: u64,
    /// The batch of which it is not known whether the log has it, and its callbacks.
    doubtful: Option<(u64, Vec<Entry>)>,
}

/// Tells the callbacks of a doubtful batch from others while they are read: there are as many as the mark in front of them says,
/// and each begins where the one before it ends. A batch whose write was cut off has fewer, and none of what was kept later.
#[derive(Debug, Default)]
struct DoubtfulBatch {
    left: u64,
    next: u64,
}

/// What goes into the log next.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) entries: Vec<Entry>,
    /// Up to where the log has all of it then.
    pub(super) end: u64,
}

impl Outage {
    /// Takes up what a run before left in `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, JournalError> {
        let mut outage = Self { dir: dir.to_owned(), open: None, drained: 0 };
        if dir.is_dir() && !Journal::open(dir)?.segments_here().is_empty() {
            outage.opened()?;
        }
        Ok(outage)
    }

    /// How many callbacks wait.
    pub(super) fn waiting(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.contents.callbacks())
    }

    /// The number of the batch of which it is not known whether the log has it.
    pub(super) fn doubtful(&self) -> Option<u64> {
        self.open.as_ref()?.contents.doubtful.as_ref().map(|(serial, _)| *serial)
    }

    /// Keeps callbacks: they are on the disk when this returns.
    pub(super) fn keep<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), JournalError> {
        let open = self.opened()?;
        let positions = open.writer.append(entries, Durability::Synced)?;
        open.contents.waiting += positions.len() as u64;
        Ok(())
    }

    /// Keeps the callbacks of a batch of which it is not known whether the log has it.
    pub(super) fn keep_doubtful(&mut self, serial: u64, callbacks: Vec<Entry>) -> Result<(), JournalError> {
        let open = self.opened()?;
        let mark = Entry::Event(Event::Doubtful { serial, callbacks: callbacks.len() as u64 });
        open.writer.append(std::iter::once(&mark).chain(&callbacks), Durability::Synced)?;
        open.contents.doubtful = Some((serial, callbacks));
        Ok(())
    }

    /// It is known now whether the log has the doubtful batch. If not, its callbacks wait like the others. After an error it may
    /// be tried again.
    pub(super) fn settle(&mut self, is_in_log: bool) -> Result<(), JournalError> {
        let open = self.opened()?;
        let Some((serial, callbacks)) = &mut open.contents.doubtful else { return Ok(()) };
        if !is_in_log && !callbacks.is_empty() {
            // A crash between this and the mark makes them come twice; the other way round it would lose them.
            open.writer.append(callbacks.iter(), Durability::Synced)?;
            open.contents.waiting += callbacks.len() as u64;
            callbacks.clear();
        }
        let mark = Entry::Event(Event::Settled { serial: *serial });
        open.writer.append([&mark], Durability::Synced)?;
        open.contents.doubtful = None;
        Ok(())
    }

    /// What the log says it has, by positions here: what was read and is not in it is read again. After an error it may be tried
    /// again.
    pub(super) fn set_drained(&mut self, drained: u64) -> Result<(), JournalError> {
        if drained > self.drained {
            // Then the folder tells a start without the log of it, too.
            self.opened()?;
            self.drained = drained;
        }
        if let Some(open) = &mut self.open {
            (open.reading, open.batch) = (None, DoubtfulBatch::default());
            open.recount(self.drained)?;
        }
        self.end_if_empty()
    }

    /// What goes into the log next, of about `bytes`.
    pub(super) fn next_chunk(&mut self, bytes: usize) -> Result<Option<Chunk>, JournalError> {
        let drained = self.drained;
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.contents.waiting == 0 {
            self.end_if_empty()?;
            return Ok(None);
        }
        let mut chunk = Chunk { entries: Vec::new(), end: 0 };
        let mut size = 0;
        while size < bytes {
            let is_fresh = open.reading.is_none();
            let reading = match &mut open.reading {
                Some(reading) => reading,
                None => {
                    open.read_to = open.read_to.max(drained);
                    open.reading.insert(open.journal.replay(open.read_to)?)
                }
            };
            let Some(item) = reading.next() else {
                // What was written since it was opened is read next.
                open.reading = None;
                if is_fresh && chunk.entries.is_empty() {
                    // What was counted cannot be read any more: nobody waits for it for ever.
                    open.recount(drained)?;
                    self.end_if_empty()?;
                    return Ok(None);
                }
                break;
            };
            let (position, entry) = item?;
            open.read_to = reading.end();
            chunk.end = open.read_to;
            if open.batch.has(&entry, position, open.read_to) {
                continue;
            }
            if let Entry::Callback(callback) = entry {
                size += callback.body.len() + 512;
                chunk.entries.push(Entry::Callback(callback));
            }
        }
        if chunk.entries.is_empty() { Ok(None) } else { Ok(Some(chunk)) }
    }

    /// The log has a chunk.
    pub(super) fn chunk_drained(&mut self, chunk: &Chunk) -> Result<(), JournalError> {
        self.drained = self.drained.max(chunk.end);
        if let Some(open) = &mut self.open {
            open.contents.waiting = open.contents.waiting.saturating_sub(chunk.entries.len() as u64);
        }
        self.end_if_empty()
    }

    fn end_if_empty(&mut self) -> Result<(), JournalError> {
        let Some(open) = self.open.as_mut().filter(|open| open.contents.is_empty()) else { return Ok(()) };
        open.writer.begin_next(self.drained)?;
        for base in open.journal.sealed() {
            if let Err(error) = open.remove(base, &self.dir) {
                // It goes with the next.
                tracing::warn!(%error, "what the shared log has stays on this disk");
            }
        }
        self.open = None;
        Ok(())
    }

    fn opened(&mut self) -> Result<&mut Open, JournalError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        Ok(self.open.insert(open))
    }

    fn begin(&self) -> Result<Open, JournalError> {
        let failed = |source| JournalError::Io { path: self.dir.clone(), action: "made", source };
        make_private_dir(&self.dir).map_err(failed)?;
        let journal = Journal::open(&self.dir)?;
        let writer = Writer::new(journal.clone(), first_position().max(self.drained))?;
        let contents = Contents::read(&journal, self.drained)?;
        Ok(Open { journal, writer, reading: None, batch: DoubtfulBatch::default(), contents, read_to: self.drained })
    }
}

impl Open {
    /// Removes a segment from the folder `dir`, of which the log has what can be read. One of which something cannot be read that
    /// was acknowledged stays beside the others, under another name.
    fn remove(&self, base: u64, dir: &Path) -> Result<(), JournalError> {
        if self.is_damaged(base)? {
            let path = dir.join(Journal::segment_name(base));
            let kept = path.with_extension("damaged");
            let failed = |source| JournalError::Io { path: path.clone(), action: "put aside", source };
            std::fs::rename(&path, &kept).map_err(failed)?;
            tracing::error!(kept = %kept.display(), "of what was kept while the shared log was away a part is damaged: \
                the log lacks it");
        }
        self.journal.remove(base)
    }

    fn is_damaged(&self, base: u64) -> Result<bool, JournalError> {
        let mut replay = self.journal.read_segment(base);
        for entry in replay.by_ref() {
            match entry {
                Err(error) if error.is_read_error() => return Ok(true),
                entry => drop(entry?),
            }
        }
        Ok(replay.damage().iter().any(|damage| damage.kind == DamageKind::Garbled))
    }

    fn recount(&mut self, drained: u64) -> Result<(), JournalError> {
        self.contents = Contents::read(&self.journal, drained)?;
        self.read_to = drained;
        Ok(())
    }
}

impl Contents {
    /// Counts what waits behind `drained`, and finds the doubtful batch.
    fn read(journal: &Journal, drained: u64) -> Result<Self, JournalError> {
        let (mut contents, mut batch) = (Self::default(), DoubtfulBatch::default());
        let mut replay = journal.replay(0)?;
        while let Some(item) = replay.next() {
            let (position, entry) = item?;
            let is_doubtful = batch.has(&entry, position, replay.end());
            match (entry, &mut contents.doubtful) {
                (Entry::Event(Event::Doubtful { serial, .. }), doubtful) => *doubtful = Some((serial, Vec::new())),
                (Entry::Event(Event::Settled { .. }), doubtful) => *doubtful = None,
                (callback, Some((_, callbacks))) if is_doubtful => callbacks.push(callback),
                (Entry::Callback(_), _) if !is_doubtful && position >= drained => contents.waiting += 1,
                _ => {}
            }
        }
        Ok(contents)
    }

    /// How many callbacks the log may not have.
    fn callbacks(&self) -> u64 {
        self.waiting + self.doubtful.as_ref().map_or(0, |(_, callbacks)| callbacks.len() as u64)
    }

    fn is_empty(&self) -> bool {
        self.waiting == 0 && self.doubtful.is_none()
    }
}

impl DoubtfulBatch {
    /// Whether the entry that is read next, from `position` to `end`, is one of its callbacks.
    fn has(&mut self, entry: &Entry, position: u64, end: u64) -> bool {
        self.left = match entry {
            Entry::Event(Event::Doubtful { callbacks, .. }) => *callbacks,
            Entry::Callback(_) if self.left > 0 && self.next == position => {
                (self.left, self.next) = (self.left - 1, end);
                return true;
            }
            Entry::Callback(_) | Entry::Event(_) | Entry::Kept(_) => 0,
        };
        self.next = end;
        false
    }
}

impl EventLog {
    /// How many callbacks the folder `outage` keeps that the shared log may not have, which a start of the replica finds out. 0
    /// where there is no folder; it is not made. A service may be running on it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn kept_callbacks(outage: &Path) -> Result<u64, JournalError> {
        if !outage.is_dir() {
            return Ok(0);
        }
        Ok(Contents::read(&Journal::open(outage)?, 0)?.callbacks())
    }
}

#[cfg(test)]
mod tests;
