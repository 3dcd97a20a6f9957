//! What is taken in while the shared log is away: a journal of its own, emptied into the log when that is back.
//!
//! Each entry goes by its position here, and the log says up to where it has them, in the same transaction that takes them.
//! So none comes twice, whatever is cut off. A batch of which it is not known whether the log has it is kept here apart until
//! that is known.

use std::path::{Path, PathBuf};

use crate::journal::{Durability, Entry, Event, Journal, JournalError, Replay, Writer, make_private_dir};

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
    /// How many callbacks of a doubtful batch follow in what is read.
    passing: u64,
    /// Callbacks that wait.
    waiting: u64,
    /// The batch of which it is not known whether the log has it, and its callbacks.
    doubtful: Option<(u64, Vec<Entry>)>,
    /// The end of what was read and not yet drained.
    read_to: u64,
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
        let doubtful = |open: &Open| open.doubtful.as_ref().map_or(0, |(_, entries)| entries.len() as u64);
        self.open.as_ref().map_or(0, |open| open.waiting + doubtful(open))
    }

    /// The number of the batch of which it is not known whether the log has it.
    pub(super) fn doubtful(&self) -> Option<u64> {
        self.open.as_ref()?.doubtful.as_ref().map(|(serial, _)| *serial)
    }

    /// Keeps callbacks: they are on the disk when this returns.
    pub(super) fn keep<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), JournalError> {
        let open = self.opened()?;
        let positions = open.writer.append(entries, Durability::Synced)?;
        open.waiting += positions.len() as u64;
        Ok(())
    }

    /// Keeps the callbacks of a batch of which it is not known whether the log has it.
    pub(super) fn keep_doubtful(&mut self, serial: u64, callbacks: Vec<Entry>) -> Result<(), JournalError> {
        let open = self.opened()?;
        let mark = Entry::Event(Event::Doubtful { serial, callbacks: callbacks.len() as u64 });
        open.writer.append(std::iter::once(&mark).chain(&callbacks), Durability::Synced)?;
        open.doubtful = Some((serial, callbacks));
        Ok(())
    }

    /// It is known now whether the log has the doubtful batch. If not, its callbacks wait like the others.
    pub(super) fn settle(&mut self, is_in_log: bool) -> Result<(), JournalError> {
        let open = self.opened()?;
        let Some((serial, callbacks)) = &open.doubtful else { return Ok(()) };
        let mark = Entry::Event(Event::Settled { serial: *serial });
        let again = if is_in_log { &[][..] } else { callbacks };
        open.writer.append(std::iter::once(&mark).chain(again), Durability::Synced)?;
        open.waiting += again.len() as u64;
        open.doubtful = None;
        Ok(())
    }

    /// What the log says it has, by positions here: what was read and is not in it is read again.
    pub(super) fn set_drained(&mut self, drained: u64) -> Result<(), JournalError> {
        self.drained = self.drained.max(drained);
        if let Some(open) = &mut self.open {
            (open.reading, open.passing) = (None, 0);
            open.recount(self.drained)?;
        }
        self.end_if_empty()
    }

    /// What goes into the log next, of about `bytes`.
    pub(super) fn next_chunk(&mut self, bytes: usize) -> Result<Option<Chunk>, JournalError> {
        let drained = self.drained;
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.waiting == 0 {
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
            let (_, entry) = item?;
            open.read_to = reading.end();
            match entry {
                Entry::Event(Event::Doubtful { callbacks, .. }) => open.passing = callbacks,
                Entry::Callback(_) if open.passing > 0 => open.passing -= 1,
                Entry::Callback(callback) => {
                    size += callback.body.len() + 512;
                    chunk.entries.push(Entry::Callback(callback));
                }
                Entry::Event(_) | Entry::Kept(_) => {}
            }
            chunk.end = open.read_to;
        }
        if chunk.entries.is_empty() { Ok(None) } else { Ok(Some(chunk)) }
    }

    /// The log has a chunk.
    pub(super) fn chunk_drained(&mut self, chunk: &Chunk) -> Result<(), JournalError> {
        self.drained = self.drained.max(chunk.end);
        if let Some(open) = &mut self.open {
            open.waiting = open.waiting.saturating_sub(chunk.entries.len() as u64);
        }
        self.end_if_empty()
    }

    fn end_if_empty(&mut self) -> Result<(), JournalError> {
        if let Some(open) = self.open.take_if(|open| open.waiting == 0 && open.doubtful.is_none()) {
            let journal = open.journal.clone();
            drop(open);
            for base in journal.segments_here() {
                journal.remove(base)?;
            }
        }
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
        // Positions here only grow, whatever was removed.
        let writer = Writer::new(journal.clone(), crate::cluster::first_position().max(self.drained))?;
        let mut open =
            Open { journal, writer, reading: None, passing: 0, waiting: 0, doubtful: None, read_to: self.drained };
        open.recount(self.drained)?;
        Ok(open)
    }
}

impl Open {
    /// Counts what waits behind `drained`, and finds the doubtful batch.
    fn recount(&mut self, drained: u64) -> Result<(), JournalError> {
        (self.waiting, self.doubtful, self.read_to) = (0, None, drained);
        let mut passing = 0;
        for item in self.journal.replay(0)? {
            let (position, entry) = item?;
            match entry {
                Entry::Event(Event::Doubtful { serial, callbacks }) => {
                    passing = callbacks;
                    self.doubtful = Some((serial, Vec::new()));
                }
                Entry::Event(Event::Settled { .. }) => self.doubtful = None,
                Entry::Callback(_) if passing > 0 => {
                    passing -= 1;
                    self.doubtful.iter_mut().for_each(|(_, callbacks)| callbacks.push(entry.clone()));
                }
                Entry::Callback(_) if position >= drained => self.waiting += 1,
                Entry::Callback(_) | Entry::Event(_) | Entry::Kept(_) => {}
            }
        }
        Ok(())
    }
}
