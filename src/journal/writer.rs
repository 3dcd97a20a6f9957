use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use fail::fail_point;
use rustix::fs::{FallocateFlags, fallocate};

use super::frame;
use super::header::{HEADER_SIZE, Header};
use super::lock::Lock;
use super::{Entry, Journal, JournalError, Standing};

/// What must be true before an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It is with the operating system: it outlives this process, not the power.
    Buffered,
    /// The disk has confirmed it.
    Synced,
}

/// The only one who appends.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    pub(super) lock: Lock,
    segment_size: u64,
    pub(super) segment: Option<Segment>,
    /// The base of the next segment: beyond every byte ever attempted.
    pub(super) next_base: u64,
    /// The end of what has been acknowledged.
    pub(super) acknowledged: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    path: PathBuf,
    base: u64,
    pub(super) length: u64,
    /// How far the file reaches: what lies behind `length` is room, and reads as zeros.
    reserved: u64,
    /// How far room was really reserved: the file may have grown beyond it.
    allocated: u64,
    salt: u32,
}

impl Writer {
    /// Bytes after which a new segment is begun.
    pub const SEGMENT_SIZE: u64 = 32 << 20;
    /// Bytes of room that are reserved at a time: a sync is a third faster when it need not change the file's size.
    const PREALLOCATE: u64 = 256 << 10;
    /// What the buffer may keep between batches.
    const KEPT_BUFFER: usize = 1 << 20;

    /// The writer of `journal`, which appends after everything in it and after `at_least`. While there is one, there is no
    /// other: not in this process, nor in another.
    ///
    /// The first append opens a segment of its own, so that whatever a crash left at the end of the last stays as it is.
    ///
    /// # Errors
    /// When another process writes, or the folder cannot be read.
    pub fn new(journal: Journal, at_least: u64) -> Result<Self, JournalError> {
        let lock = Lock::take(&journal)?;
        // What another has written until just now is to be known, too.
        let bases = journal.list()?;
        // Of a segment that was begun and no more, the name is used up.
        let behind_newest = bases.last().map_or(0, |base| base + 1);
        *journal.segments.write() = bases;
        let acknowledged = journal.intact_end()?;
        let next_base = journal.end()?.max(at_least).max(behind_newest);
        let segment_size = Self::SEGMENT_SIZE;
        Ok(Self { journal, lock, segment_size, segment: None, next_base, acknowledged, buffer: Vec::new() })
    }

    /// Has the next segment begin at `known` or behind it. What is here up to there was acknowledged, so that what is damaged of
    /// it was no write that was cut off.
    ///
    /// # Errors
    /// When the last segment cannot be looked at.
    pub fn begin_behind(&mut self, known: u64) -> Result<(), JournalError> {
        if known <= self.journal.end()? {
            self.acknowledged = self.acknowledged.max(known);
        }
        self.next_base = self.next_base.max(known);
        Ok(())
    }

    /// The same with segments of another size, in bytes.
    #[must_use]
    pub fn with_segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self
    }

    /// Appends all of `entries` in one write, and one sync if `durability` asks for it. Returns their positions.
    ///
    /// # Errors
    /// When the disk refuses. Then none of them counts, and the next append starts a new segment.
    pub fn append<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a Entry>,
        durability: Durability,
    ) -> Result<Vec<u64>, JournalError> {
        let result = self.lock.check_now_and_then().and_then(|is_another_folder| {
            if is_another_folder {
                // It is open in the old one, where nobody would find what is written to it.
                self.segment = None;
            }
            self.try_append(entries, durability)
        });
        if result.is_err() {
            self.seal();
        }
        if self.buffer.capacity() > Self::KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        result
    }

    /// Leaves the segment as it is, full or not, and begins the next, at `at_least` or behind.
    ///
    /// # Errors
    /// When the disk refuses; the next append tries again.
    pub fn begin_next(&mut self, at_least: u64) -> Result<(), JournalError> {
        // What could not be synced is not synced again.
        self.roll().inspect_err(|_| self.seal())?;
        self.next_base = self.next_base.max(at_least);
        self.segment = Some(self.begin_segment()?);
        Ok(())
    }

    /// The position after the last acknowledged byte.
    pub fn end(&self) -> u64 {
        self.acknowledged
    }

    fn try_append<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a Entry>,
        durability: Durability,
    ) -> Result<Vec<u64>, JournalError> {
        if self.segment.as_ref().is_some_and(|segment| segment.length >= self.segment_size) {
            self.roll()?;
        }
        if self.segment.is_none() {
            self.segment = Some(self.begin_segment()?);
        }
        let Some(segment) = &mut self.segment else { unreachable!("a segment was begun above") };
        let start = segment.base + segment.length;
        self.buffer.clear();
        let mut positions = Vec::new();
        for entry in entries {
            positions.push(start + self.buffer.len() as u64);
            let length = frame::encode(&mut self.buffer, segment.salt, |buffer| entry.encode(buffer));
            if length > frame::MAX_PAYLOAD {
                return Err(JournalError::TooLarge(length));
            }
        }
        self.next_base = start + self.buffer.len() as u64;
        fail_point!("journal.write", |_| Err(segment.failed("written", io::Error::other("injected"))));
        segment.reserve(self.buffer.len() as u64, Self::PREALLOCATE);
        let written = segment.file.write_all_at(&self.buffer, segment.length);
        self.journal.note_end(self.next_base);
        written.map_err(|source| segment.failed("written", source))?;
        if durability == Durability::Synced {
            fail_point!("journal.sync", |_| Err(segment.failed("synced", io::Error::other("injected"))));
            segment.file.sync_data().map_err(|source| segment.failed("synced", source))?;
            fail_point!("journal.synced");
        }
        segment.length += self.buffer.len() as u64;
        self.acknowledged = self.next_base;
        Ok(positions)
    }

    /// Leaves a segment. What was only written in it is synced, so that later records never outlive earlier ones.
    fn roll(&mut self) -> Result<(), JournalError> {
        if let Some(segment) = &self.segment {
            segment.release_preallocated();
            segment.file.sync_data().map_err(|source| segment.failed("synced", source))?;
        }
        self.segment = None;
        Ok(())
    }

    /// Leaves a segment after a failure. What was not acknowledged is cut off, as far as a disk that fails lets it be.
    pub(super) fn seal(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        if self.lock.check().is_ok()
            && segment.file.set_len(segment.length).is_ok()
            && segment.allocated > segment.length
        {
            // The room stays taken: a full disk would otherwise go on taking small entries, each in a segment of its own,
            // after it has refused a large one.
            let room = segment.allocated - segment.length;
            let _ = fallocate(&segment.file, FallocateFlags::empty(), segment.length, room);
        }
    }

    /// Nobody else begins segments; who finds one that it did not begin is not alone, whatever the lock says.
    fn expect_to_be_alone(&mut self) -> Result<(), JournalError> {
        self.lock.check()?;
        let known = self.journal.newest().unwrap_or_default();
        let found = self.journal.list()?.last().copied().unwrap_or_default();
        if found > known { Err(JournalError::Taken(self.journal.dir.to_path_buf())) } else { Ok(()) }
    }

    fn begin_segment(&mut self) -> Result<Segment, JournalError> {
        self.expect_to_be_alone()?;
        if self.journal.standing() != Standing::InStep {
            self.journal.baseline.record(self.next_base)?;
        }
        let header = Header { base: self.next_base, previous_end: self.acknowledged, salt: rand::random() };
        let path = self.journal.path(header.base);
        let failed = |source| JournalError::Io { path: path.clone(), action: "begun", source };
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(failed)?;
        let written = file.write_all(&header.encode()).and_then(|()| file.sync_all());
        let written = written.and_then(|()| File::open(&*self.journal.dir)?.sync_all());
        // A full disk must not fill up with names, too. One that stays is used up.
        let is_removed = written.is_err() && std::fs::remove_file(&path).is_ok();
        if !is_removed {
            self.next_base = header.base + HEADER_SIZE as u64;
            self.journal.note_end(self.next_base);
            self.journal.segments.write().insert(header.base);
        }
        written.map_err(failed)?;
        let length = HEADER_SIZE as u64;
        Ok(Segment { file, path, base: header.base, length, reserved: length, allocated: length, salt: header.salt })
    }
}

/// What is left of a segment's room goes back. Whether that succeeds makes no difference to what can be read.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(segment) = &self.segment {
            segment.release_preallocated();
        }
    }
}

impl Segment {
    /// Sees to it that there is room for `bytes` more. Where there is none to reserve, the file grows as it is written to, or
    /// that fails.
    fn reserve(&mut self, bytes: u64, room: u64) {
        let needed = self.length + bytes;
        if needed > self.reserved {
            let reserved = needed + room;
            let flags = FallocateFlags::empty();
            let done = fallocate(&self.file, flags, self.reserved, reserved - self.reserved).is_ok();
            self.reserved = if done { reserved } else { needed };
            if done {
                self.allocated = reserved;
            }
        }
    }

    fn release_preallocated(&self) {
        if self.reserved > self.length {
            let _ = self.file.set_len(self.length);
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), action, source }
    }
}
