//! Rows that stand together, and the codes of each.

use std::io;

use super::code_file::CodeFile;

/// A job. What it is found by, its codes, stands apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) sequence: u64,
    /// Milliseconds since midnight.
    pub(super) at: u32,
    pub(super) codes: u8,
    pub(super) state: u8,
    pub(super) kind: u8,
    pub(super) provider: u8,
}

impl Row {
    pub(super) fn key(&self) -> (u32, u64) {
        (self.at, self.sequence)
    }
}

/// At most [`Chunk::MAX_ROWS`] rows of a day, oldest first.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) rows: Vec<Row>,
    place: CodePlace,
}

/// Where the codes of a chunk are.
#[derive(Debug)]
enum CodePlace {
    Memory(RowCodes),
    /// There, in the order of the rows.
    File(u64),
}

/// The codes of a chunk's rows.
#[derive(Debug, Default)]
pub(super) struct RowCodes {
    codes: Vec<u32>,
    /// Of each row, which of `codes` is its first.
    first: Vec<u32>,
}

impl RowCodes {
    /// Those of the row there.
    pub(super) fn of(&self, index: usize, row: &Row) -> &[u32] {
        let first = self.first[index] as usize;
        &self.codes[first..first + usize::from(row.codes)]
    }

    fn insert(&mut self, index: usize, codes: &[u32]) {
        self.first.insert(index, self.codes.len() as u32);
        self.codes.extend_from_slice(codes);
    }

    fn remove(&mut self, index: usize, count: u8) {
        let first = self.first.remove(index);
        self.codes.drain(first as usize..first as usize + usize::from(count));
        for other in self.first.iter_mut().filter(|other| **other > first) {
            *other -= u32::from(count);
        }
    }

    /// Reads those of rows, which stand in their order.
    fn read(&mut self, rows: &[Row], file: &CodeFile, at: u64) -> io::Result<()> {
        self.first.clear();
        let mut count = 0;
        for row in rows {
            self.first.push(count);
            count += u32::from(row.codes);
        }
        file.read(at, count as usize, &mut self.codes)
    }
}

impl Chunk {
    /// Few enough for one to be put between others in a fraction of a microsecond; so many that the codes of a million jobs are
    /// read in some thousand pieces.
    pub(super) const MAX_ROWS: usize = if cfg!(test) { 8 } else { 1024 };
    /// A chunk with so many codes takes no more rows: all of its codes are read and written again for one that is put between
    /// others, and whoever says when a job was made can have that done for each. 32 KiB.
    const MAX_CODES: usize = if cfg!(test) { 256 } else { 8192 };

    pub(super) fn new() -> Self {
        Self { rows: Vec::new(), place: CodePlace::Memory(RowCodes::default()) }
    }

    /// Rows whose codes are in the file.
    pub(super) fn on_file(rows: Vec<Row>, at: u64) -> Self {
        Self { rows, place: CodePlace::File(at) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= Self::MAX_ROWS || self.count_codes() >= Self::MAX_CODES
    }

    /// How many codes all rows have.
    pub(super) fn count_codes(&self) -> usize {
        match &self.place {
            CodePlace::Memory(codes) => codes.codes.len(),
            CodePlace::File(_) => self.rows.iter().map(|row| usize::from(row.codes)).sum(),
        }
    }

    /// How many of them are in memory.
    pub(super) fn codes_in_memory(&self) -> usize {
        match &self.place {
            CodePlace::Memory(codes) => codes.codes.len(),
            CodePlace::File(_) => 0,
        }
    }

    /// The codes of the rows, which are read into `buffer` if they are not in memory.
    pub(super) fn codes<'a>(&'a self, file: &CodeFile, buffer: &'a mut RowCodes) -> io::Result<&'a RowCodes> {
        match &self.place {
            CodePlace::Memory(codes) => Ok(codes),
            CodePlace::File(at) => {
                buffer.read(&self.rows, file, *at)?;
                Ok(buffer)
            }
        }
    }

    /// Has the codes in memory, so that they can change.
    fn codes_mut(&mut self, file: &mut CodeFile) -> io::Result<&mut RowCodes> {
        if let CodePlace::File(at) = self.place {
            let mut codes = RowCodes::default();
            codes.read(&self.rows, file, at)?;
            file.release(codes.codes.len());
            self.place = CodePlace::Memory(codes);
        }
        match &mut self.place {
            CodePlace::Memory(codes) => Ok(codes),
            CodePlace::File(_) => unreachable!("they have just been read"),
        }
    }

    /// Puts a row there.
    pub(super) fn insert(&mut self, index: usize, row: Row, codes: &[u32], file: &mut CodeFile) -> io::Result<()> {
        self.codes_mut(file)?.insert(index, codes);
        self.rows.insert(index, row);
        Ok(())
    }

    /// Whether the row there has these codes. Reads no more than its own.
    fn has_codes(&self, index: usize, codes: &[u32], file: &CodeFile) -> io::Result<bool> {
        let row = &self.rows[index];
        match &self.place {
            CodePlace::Memory(known) => Ok(known.of(index, row) == codes),
            CodePlace::File(_) if usize::from(row.codes) != codes.len() => Ok(false),
            CodePlace::File(at) => {
                let before: u64 = self.rows[..index].iter().map(|row| u64::from(row.codes)).sum();
                let mut known = Vec::new();
                file.read(at + before * size_of::<u32>() as u64, codes.len(), &mut known)?;
                Ok(known == codes)
            }
        }
    }

    /// Puts a row in the place of the one there.
    pub(super) fn replace(&mut self, index: usize, row: Row, codes: &[u32], file: &mut CodeFile) -> io::Result<()> {
        let before = self.rows[index];
        if !self.has_codes(index, codes, file)? {
            let known = self.codes_mut(file)?;
            known.remove(index, before.codes);
            known.insert(index, codes);
        }
        self.rows[index] = row;
        Ok(())
    }

    /// Takes the row there away.
    pub(super) fn remove(&mut self, index: usize, file: &mut CodeFile) -> io::Result<()> {
        let count = self.rows[index].codes;
        self.codes_mut(file)?.remove(index, count);
        self.rows.remove(index);
        Ok(())
    }

    /// Takes away the later half of the rows.
    pub(super) fn split(&mut self, file: &mut CodeFile) -> io::Result<Self> {
        let middle = self.rows.len() / 2;
        let codes = std::mem::take(self.codes_mut(file)?);
        let mut halves = [RowCodes::default(), RowCodes::default()];
        for (index, row) in self.rows.iter().enumerate() {
            let half = &mut halves[usize::from(index >= middle)];
            half.insert(half.first.len(), codes.of(index, row));
        }
        let [earlier, later] = halves;
        self.place = CodePlace::Memory(earlier);
        Ok(Self { rows: self.rows.split_off(middle), place: CodePlace::Memory(later) })
    }

    /// Has the codes in the file, if they are in memory.
    pub(super) fn spill(&mut self, file: &mut CodeFile) -> io::Result<()> {
        let CodePlace::Memory(codes) = &self.place else { return Ok(()) };
        let in_order: Vec<u32> =
            self.rows.iter().enumerate().flat_map(|(index, row)| codes.of(index, row)).copied().collect();
        self.place = CodePlace::File(file.append(&in_order)?);
        if self.is_full() {
            self.rows.shrink_to_fit();
        }
        Ok(())
    }

    /// Copies the codes into another file, if they are in the first; returns where they are then.
    pub(super) fn copy_codes(
        &self,
        from: &CodeFile,
        to: &mut CodeFile,
        buffer: &mut Vec<u32>,
    ) -> io::Result<Option<u64>> {
        let CodePlace::File(at) = self.place else { return Ok(None) };
        from.read(at, self.count_codes(), buffer)?;
        to.append(buffer).map(Some)
    }

    /// Takes the codes from there from now on.
    pub(super) fn use_copy(&mut self, at: u64) {
        self.place = CodePlace::File(at);
    }
}
