//! Keeps the rows in a file from a clean stop to the next start. To read every job anew takes seconds of a processor's time.
//!
//! The file says at which journal position the state was that the rows are of. A checksum covers all of it, and the start that
//! reads it removes it.
//!
//! All numbers are little-endian:
//!
//! | what | bytes |
//! |---|---|
//! | what all of it depends on: see [`form`] | 8 |
//! | journal position | 8 |
//! | the first day of which words are known | 4 |
//! | how many providers; of each the length of its name, and the name | 1; 2 and the name |
//! | how many days; of each its number, how many rows and how many codes it has, then these | 4; 12, rows, codes |
//! | a row: sequence, milliseconds since midnight, how many codes, state, kind, provider | 16 |
//! | a code; those of a day stand in the order of its rows | 4 |
//! | CRC-32C of all before | 4 |

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{DAY_MS, Day, Row, Rows, codes, time_of};
use crate::domain::{JobState, Kind};

/// Another one whenever the bytes of the file mean something else, or a job gets other codes.
const VERSION: u32 = 1;
const ROW_BYTES: usize = 16;
const CODE_BYTES: usize = 4;
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
        out.write_all(&self.words_from.to_le_bytes())?;
        out.write_all(&[self.providers.len() as u8])?;
        for name in &self.providers {
            // Longer than a name of a provider may ever be.
            let length = u16::try_from(name.len()).map_err(io::Error::other)?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(name.as_bytes())?;
        }
        out.write_all(&(self.days.len() as u32).to_le_bytes())?;
        for (number, day) in &self.days {
            day.save(*number, &mut out)?;
        }
        let Checked { mut inner, crc } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        inner.write_all(&crc.to_le_bytes())
    }

    /// Reads the rows of the state as it is at `position`. `None` when the file has those of another, or is not as it was written.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub(in crate::search) fn load(path: &Path, position: u64) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let Some(length) = file.metadata()?.len().checked_sub(CRC_BYTES) else { return Ok(None) };
        let mut input = BufReader::with_capacity(BUFFER_BYTES, Checked { inner: file.take(length), crc: 0 });
        if number::<8>(&mut input)? != form() || number::<8>(&mut input)? != position {
            return Ok(None);
        }
        let mut rows = Self { words_from: number::<4>(&mut input)? as u32, ..Self::default() };
        for _ in 0..number::<1>(&mut input)? {
            let mut name = vec![0; number::<2>(&mut input)? as usize];
            input.read_exact(&mut name)?;
            let Ok(name) = String::from_utf8(name) else { return Ok(None) };
            rows.providers.push(name);
        }
        for _ in 0..number::<4>(&mut input)? {
            let number = number::<4>(&mut input)? as u32;
            let Some(day) = Day::load(&mut input, length, rows.providers.len())? else { return Ok(None) };
            rows.days.insert(number, day);
        }
        let ended = input.fill_buf()?.is_empty();
        let Checked { inner, crc } = input.into_inner();
        if !ended || number::<4>(&mut inner.into_inner())? != u64::from(crc) {
            return Ok(None);
        }
        rows.count_loaded();
        Ok(Some(rows))
    }

    /// Finds out from the rows what follows from them.
    fn count_loaded(&mut self) {
        for (number, day) in &self.days {
            self.codes += day.codes.capacity();
            for row in &day.rows {
                let state = JobState::ALL[usize::from(row.state)];
                self.by_state[usize::from(row.state)] += 1;
                if state != JobState::Archived {
                    self.unsettled.insert(row.sequence, (time_of(*number, row.at), state));
                }
            }
        }
    }
}

impl Day {
    fn save(&self, number: u32, out: &mut impl Write) -> io::Result<()> {
        let codes: usize = self.rows.iter().map(|row| usize::from(row.codes)).sum();
        for count in [number, self.rows.len() as u32, codes as u32] {
            out.write_all(&count.to_le_bytes())?;
        }
        for row in &self.rows {
            let Row { sequence, at, codes, state, kind, provider, .. } = *row;
            out.write_all(&sequence.to_le_bytes())?;
            out.write_all(&at.to_le_bytes())?;
            out.write_all(&[codes, state, kind, provider])?;
        }
        for row in &self.rows {
            for code in self.codes_of(row) {
                out.write_all(&code.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// `None` when it is not in order: then whoever looked for something in it would panic.
    fn load(input: &mut impl Read, length: u64, providers: usize) -> io::Result<Option<Self>> {
        let (rows, codes) = (number::<4>(input)?, number::<4>(input)?);
        if rows * ROW_BYTES as u64 + codes * CODE_BYTES as u64 > length {
            return Ok(None);
        }
        let mut day = Self::default();
        day.rows.reserve_exact(rows as usize);
        let mut first_code = 0;
        for _ in 0..rows {
            let (sequence, at) = (number::<8>(input)?, number::<4>(input)? as u32);
            let mut rest = [0; 4];
            input.read_exact(&mut rest)?;
            let [codes, state, kind, provider] = rest;
            let row = Row { sequence, at, first_code, codes, state, kind, provider };
            let follows = day.rows.back().is_none_or(|last| (last.at, { last.sequence }) < (at, sequence));
            let is_known = usize::from(state) < JobState::ALL.len() && usize::from(provider) < providers;
            if !follows || !is_known || u64::from(at) >= DAY_MS {
                return Ok(None);
            }
            first_code += u32::from(codes);
            day.rows.push_back(row);
        }
        if u64::from(first_code) != codes {
            return Ok(None);
        }
        day.codes.reserve_exact(codes as usize);
        for _ in 0..codes {
            day.codes.push(number::<4>(input)? as u32);
        }
        Ok(Some(day))
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

/// Reads a number of at most eight bytes.
fn number<const BYTES: usize>(input: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes[..BYTES])?;
    Ok(u64::from_le_bytes(bytes))
}
