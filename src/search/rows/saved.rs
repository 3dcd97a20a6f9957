//! Keeps the rows in a file from a clean stop to the next start. To read every job anew takes seconds of a processor's time.
//!
//! The file says at which journal position the state was that the rows are of. A checksum covers all of it, and the start that
//! reads it removes it. The codes stay there: the file goes on without a name, as [`CodeFile`] would be made.
//!
//! All numbers are little-endian:
//!
//! | what | bytes |
//! |---|---|
//! | what all of it depends on: see [`form`] | 8 |
//! | journal position | 8 |
//! | how many providers; of each the length of its name, and the name | 1; 2 and the name |
//! | how many chunks; of each its day and how many rows it has, then its rows and their codes | 4; 8, rows, codes |
//! | a row: sequence, milliseconds since midnight, how many codes, state, kind, provider | 16 |
//! | a code; those of a chunk stand in the order of its rows | 4 |
//! | CRC-32C of all before | 4 |

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::chunk::{Chunk, Row, RowCodes};
use super::code_file::CodeFile;
use super::{DAY_MS, Rows, codes, time_of};
use crate::domain::{JobState, Kind};

/// Another one whenever the bytes of the file mean something else, or a job gets other codes.
const VERSION: u32 = 2;
const CODE_BYTES: u64 = 4;
const CRC_BYTES: u64 = 4;
const BUFFER_BYTES: usize = 64 << 10;

/// Stands for what the bytes of the file depend on: its version, the numbers of states and kinds, and how the standard library
/// hashes words, which may change with the compiler.
fn form() -> u64 {
    let mut hasher = DefaultHasher::new();
    (VERSION, format!("{:?} {:?}", JobState::ALL, Kind::ALL), codes::model_code("form")).hash(&mut hasher);
    hasher.finish()
}

impl Rows {
    /// Writes the rows of the state as it is at `position`. Afterwards the file may still be in memory: [`Self::load`] passes over
    /// what a power cut leaves of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(in crate::search) fn save(&self, path: &Path, position: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, Checked { inner: file, crc: 0 });
        out.write_all(&form().to_le_bytes())?;
        out.write_all(&position.to_le_bytes())?;
        out.write_all(&[self.providers.len() as u8])?;
        for name in &self.providers {
            // Longer than a name of a provider may ever be.
            let length = u16::try_from(name.len()).map_err(io::Error::other)?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(name.as_bytes())?;
        }
        let mut buffer = RowCodes::default();
        out.write_all(&(self.chunks().count() as u32).to_le_bytes())?;
        for (number, day) in &self.days {
            for chunk in &day.chunks {
                chunk.save(*number, chunk.codes(&self.file, &mut buffer)?, &mut out)?;
            }
        }
        let Checked { mut inner, crc } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        inner.write_all(&crc.to_le_bytes())
    }

    /// Reads the rows of the state as it is at `position`, and keeps the file for the codes. `None` when it has those of another
    /// state, or is not as it was written.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub(in crate::search) fn load(&self, path: &Path, position: u64) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let Some(checked) = length.checked_sub(CRC_BYTES) else { return Ok(None) };
        let checked = Checked { inner: file.try_clone()?.take(checked), crc: 0 };
        let mut input = Input { inner: BufReader::with_capacity(BUFFER_BYTES, checked), at: 0 };
        if input.number::<8>()? != form() || input.number::<8>()? != position {
            return Ok(None);
        }
        let mut rows = Self::new(self.file.path().to_owned(), self.max_in_memory);
        for _ in 0..input.number::<1>()? {
            let mut name = vec![0; input.number::<2>()? as usize];
            input.fill(&mut name)?;
            let Ok(name) = String::from_utf8(name) else { return Ok(None) };
            rows.providers.push(name);
        }
        let (mut last, mut codes) = (None, 0);
        for _ in 0..input.number::<4>()? {
            let day = input.number::<4>()? as u32;
            let Some(chunk) = Chunk::load(&mut input, rows.providers.len())? else { return Ok(None) };
            let ends = [chunk.rows.first(), chunk.rows.last()].map(|row| row.map(|row| (day, row.key())));
            if last >= ends[0] {
                return Ok(None);
            }
            last = ends[1];
            codes += chunk.count_codes() as u64;
            let day = rows.days.entry(day).or_default();
            day.rows += chunk.rows.len();
            day.chunks.push(chunk);
        }
        let ended = input.inner.fill_buf()?.is_empty();
        let Checked { inner, crc } = input.inner.into_inner();
        let mut found = [0; CRC_BYTES as usize];
        inner.into_inner().read_exact(&mut found)?;
        if !ended || found != crc.to_le_bytes() {
            return Ok(None);
        }
        rows.file = CodeFile::open(self.file.path().to_owned(), file, length, codes * CODE_BYTES);
        rows.count_loaded();
        Ok(Some(rows))
    }

    /// Finds out from the rows what follows from them.
    fn count_loaded(&mut self) {
        for (number, day) in &self.days {
            for row in day.chunks.iter().flat_map(|chunk| &chunk.rows) {
                self.by_state[usize::from(row.state)] += 1;
                if row.state != JobState::Archived as u8 {
                    self.unsettled.insert(row.sequence, time_of(*number, row.at));
                }
            }
        }
    }
}

impl Chunk {
    fn save(&self, day: u32, codes: &RowCodes, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&day.to_le_bytes())?;
        out.write_all(&(self.rows.len() as u32).to_le_bytes())?;
        for row in &self.rows {
            let Row { sequence, at, codes, state, kind, provider } = *row;
            out.write_all(&sequence.to_le_bytes())?;
            out.write_all(&at.to_le_bytes())?;
            out.write_all(&[codes, state, kind, provider])?;
        }
        for (index, row) in self.rows.iter().enumerate() {
            for code in codes.of(index, row) {
                out.write_all(&code.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// `None` when it is not in order: then whoever looked for something in it would panic.
    fn load(input: &mut Input<impl Read>, providers: usize) -> io::Result<Option<Self>> {
        let count = input.number::<4>()? as usize;
        if count == 0 || count > Self::MAX_ROWS {
            return Ok(None);
        }
        let mut rows = Vec::<Row>::with_capacity(count);
        for _ in 0..count {
            let (sequence, at) = (input.number::<8>()?, input.number::<4>()? as u32);
            let mut rest = [0; 4];
            input.fill(&mut rest)?;
            let [codes, state, kind, provider] = rest;
            let row = Row { sequence, at, codes, state, kind, provider };
            let follows = rows.last().is_none_or(|last| last.key() < row.key());
            let is_known = usize::from(state) < JobState::ALL.len() && usize::from(provider) < providers;
            if !follows || !is_known || u64::from(at) >= DAY_MS {
                return Ok(None);
            }
            rows.push(row);
        }
        let chunk = Self::on_file(rows, input.at);
        input.pass_over(chunk.count_codes() as u64 * CODE_BYTES)?;
        Ok(Some(chunk))
    }
}

/// Sums up what passes through.
struct Checked<T> {
    inner: T,
    crc: u32,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes[..read]);
        Ok(read)
    }
}

/// A file that is read from its beginning.
struct Input<R> {
    inner: BufReader<R>,
    at: u64,
}

impl<R: Read> Input<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.inner.read_exact(bytes)
    }

    /// Reads a number of at most eight bytes.
    fn number<const BYTES: usize>(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes[..BYTES])?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn pass_over(&mut self, count: u64) -> io::Result<()> {
        self.at += count;
        let passed = io::copy(&mut self.inner.by_ref().take(count), &mut io::sink())?;
        if passed == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}
