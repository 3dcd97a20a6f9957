//! With which of the segments here the archive is to be compared.
//!
//! A run takes entries before the archive has answered. A later start must not take their segments for what was here before:
//! a file keeps the newest that was, from the first segment that is begun meanwhile until the archive was compared with it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::JournalError;
use crate::disk::{remove_durably, write_durably};

/// The newest of the segments that the archive is to be compared with.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    newest: Option<u64>,
    /// Where later starts find it; `None` for a journal that stands alone.
    file: Option<PathBuf>,
    is_inherited: bool,
    /// Whether no segment may be begun before the file is there.
    must_record: Mutex<bool>,
}

impl Baseline {
    /// The file's name in the data directory.
    const FILE: &str = "state.baseline";

    /// `newest` itself, which is not kept.
    pub(super) fn new(newest: Option<u64>) -> Self {
        Self { newest, ..Self::default() }
    }

    /// What an earlier run has left in the data directory `data`, else `newest`.
    pub(super) fn open(data: &Path, newest: Option<u64>) -> Self {
        let file = data.join(Self::FILE);
        let inherited: Option<u64> = match fs::read_to_string(&file) {
            // Noise stands for the oldest: comparing too much loses nothing.
            Ok(text) => Some(text.trim().parse().unwrap_or(0)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, path = %file.display(), "it cannot be read: all of the bucket's journal is compared");
                Some(0)
            }
        };
        let is_inherited = inherited.is_some();
        let newest = newest.map(|newest| inherited.map_or(newest, |inherited| inherited.min(newest)));
        // A second copy may be older than the one that the file is of.
        let must_record = newest.is_some_and(|newest| inherited.is_none_or(|inherited| newest < inherited));
        Self { newest, file: Some(file), is_inherited, must_record: Mutex::new(must_record) }
    }

    /// The base of the segment; `None` when there was none.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Whether it comes from an earlier run.
    pub(super) fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Sees to it that later starts find it, unless it is cleared: a segment is to be begun.
    pub(super) fn record(&self) -> Result<(), JournalError> {
        let mut must_record = self.must_record.lock();
        let (Some(file), Some(newest), true) = (&self.file, self.newest, *must_record) else { return Ok(()) };
        write_durably(file, newest.to_string().as_bytes()).map_err(JournalError::io(file, "written"))?;
        *must_record = false;
        Ok(())
    }

    /// Has later starts begin with what is here by then.
    pub(super) fn clear(&self) -> Result<(), JournalError> {
        let mut must_record = self.must_record.lock();
        let Some(file) = &self.file else { return Ok(()) };
        remove_durably(file).map_err(JournalError::io(file, "removed"))?;
        *must_record = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_kept_from_the_first_segment_of_a_run_until_it_is_cleared() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join(Baseline::FILE);
        let first = Baseline::open(data.path(), Some(7));
        assert_eq!((first.newest(), first.is_inherited(), file.exists()), (Some(7), false, false));
        first.record().unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
        let second = Baseline::open(data.path(), Some(9));
        assert_eq!((second.newest(), second.is_inherited()), (Some(7), true));
        second.record().unwrap();
        second.clear().unwrap();
        second.record().unwrap();
        assert!(!file.exists());
        let third = Baseline::open(data.path(), Some(9));
        assert_eq!((third.newest(), third.is_inherited()), (Some(9), false));
        // Noise is no reason to compare less.
        std::fs::write(&file, "noise").unwrap();
        assert_eq!(Baseline::open(data.path(), Some(9)).newest(), Some(0));
    }

    #[test]
    fn of_two_copies_that_are_put_back_one_after_the_other_the_older_one_counts() {
        let data = tempfile::tempdir().unwrap();
        for (newest, compared) in [(9, 9), (5, 5), (12, 5), (7, 5)] {
            let baseline = Baseline::open(data.path(), Some(newest));
            assert_eq!(baseline.newest(), Some(compared), "{newest}");
            baseline.record().unwrap();
        }
    }

    #[test]
    fn no_segment_is_begun_while_it_cannot_be_kept() {
        let data = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(data.path(), Some(7));
        let draft = data.path().join("state.baseline.new");
        std::fs::create_dir(&draft).unwrap();
        assert!(matches!(baseline.record(), Err(JournalError::Io { action: "written", .. })));
        std::fs::remove_dir(&draft).unwrap();
        baseline.record().unwrap();
        assert_eq!(Baseline::open(data.path(), Some(9)).newest(), Some(7));
    }
}
