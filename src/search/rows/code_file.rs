//! Codes that are not in memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that only this process sees: it has no name any more. So nothing is left of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct CodeFile {
    /// Where it gets its name for a moment.
    path: PathBuf,
    /// `None` as long as nothing was written.
    file: Option<File>,
    end: u64,
    /// Bytes of it that a chunk has.
    used: u64,
}

impl CodeFile {
    /// One that is made when something is written to it.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, file: None, end: 0, used: 0 }
    }

    /// The file at `path`, of which `used` bytes are codes. It keeps its name.
    pub(super) fn open(path: PathBuf, file: File, end: u64, used: u64) -> Self {
        Self { path, file: Some(file), end, used }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether more than half of it is of no use, and much.
    pub(super) fn is_sparse(&self) -> bool {
        const MUCH: u64 = 16 << 20;
        self.end > 2 * self.used + MUCH
    }

    /// Writes codes; returns where they are.
    pub(super) fn append(&mut self, codes: &[u32]) -> io::Result<u64> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).clone();
                let file = options.open(&self.path)?;
                fs::remove_file(&self.path)?;
                self.file.insert(file)
            }
        };
        let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let at = self.end;
        file.write_all_at(&bytes, at)?;
        self.end += bytes.len() as u64;
        self.used += bytes.len() as u64;
        Ok(at)
    }

    /// Reads so many codes into `codes`, in the place of what it has.
    pub(super) fn read(&self, at: u64, count: usize, codes: &mut Vec<u32>) -> io::Result<()> {
        /// Bytes that are read at a time.
        const PIECE: usize = 16 << 10;
        codes.clear();
        codes.reserve(count);
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let (mut piece, mut at, mut left) = ([0; PIECE], at, count * size_of::<u32>());
        while left > 0 {
            let bytes = &mut piece[..left.min(PIECE)];
            file.read_exact_at(bytes, at)?;
            codes.extend(bytes.as_chunks().0.iter().map(|code| u32::from_le_bytes(*code)));
            at += bytes.len() as u64;
            left -= bytes.len();
        }
        Ok(())
    }

    /// Says that so many codes in it are of no use any more.
    pub(super) fn release(&mut self, count: usize) {
        self.used = self.used.saturating_sub((count * size_of::<u32>()) as u64);
    }
}
