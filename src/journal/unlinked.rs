//! Up to where the archive has segments that no header here tells of.
//!
//! A header says where the segment before it ends, so a reader knows that it lacks one that moved. It does not know of those
//! that were never here, because an older copy was put back or the directory was lost: a file says that there are some. It
//! is never removed, since the archive has them from then on.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::JournalError;
use crate::disk::write_durably;

/// The position behind the last such segment, or 0.
#[derive(Debug, Default)]
pub(super) struct UnlinkedEnd {
    end: Mutex<u64>,
    /// Where later starts find it; `None` for a journal that stands alone.
    file: Option<PathBuf>,
}

impl UnlinkedEnd {
    /// The file's name in the data directory.
    const FILE: &str = "state.archived";

    /// What an earlier run has left in the data directory `data`.
    pub(super) fn open(data: &Path) -> Self {
        let file = data.join(Self::FILE);
        let end = match fs::read_to_string(&file) {
            // Asking the archive for nothing loses nothing.
            Ok(text) => text.trim().parse().unwrap_or(u64::MAX),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => {
                tracing::warn!(%error, path = %file.display(), "it cannot be read: all of the bucket's journal is waited for");
                u64::MAX
            }
        };
        Self { end: Mutex::new(end), file: Some(file) }
    }

    pub(super) fn get(&self) -> u64 {
        *self.end.lock()
    }

    /// Sees to it that later starts find at least `end`.
    pub(super) fn raise(&self, end: u64) -> Result<(), JournalError> {
        let mut known = self.end.lock();
        if end > *known {
            if let Some(file) = &self.file {
                write_durably(file, end.to_string().as_bytes()).map_err(JournalError::io(file, "written"))?;
            }
            *known = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_starts_find_the_highest_end() {
        let data = tempfile::tempdir().unwrap();
        let open = || UnlinkedEnd::open(data.path());
        assert_eq!(open().get(), 0);
        for (end, found) in [(7, 7), (5, 7), (9, 9)] {
            let unlinked = open();
            unlinked.raise(end).unwrap();
            assert_eq!((unlinked.get(), open().get()), (found, found));
        }
        // Noise is no reason to do without the archive.
        std::fs::write(data.path().join(UnlinkedEnd::FILE), "noise").unwrap();
        assert_eq!(open().get(), u64::MAX);
    }
}
