//! With which of the segments here the archive is to be compared.
//!
//! A run takes entries before the archive has answered. A later start must not take their segments for what was here before:
//! a file keeps the newest that was, from the first segment that is begun meanwhile until the archive was compared with it.
//! Where there was none, and the archive has some, the file says so until a rebuild has read those.

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
    /// The first segment that was begun where there was none.
    begun: Option<u64>,
    /// Whether no segment may be begun before the file is there.
    must_record: Mutex<bool>,
}

/// What an earlier run has left.
#[derive(Clone, Copy)]
enum Inherited {
    /// The newest segment that was there.
    Newest(u64),
    /// That there was none, and which was begun first then.
    Nothing { begun: u64 },
}

impl Inherited {
    /// Noise stands for the oldest: comparing too much loses nothing.
    fn read(text: &str) -> Self {
        let text = text.trim();
        match text.strip_prefix(Baseline::NONE).and_then(|base| base.parse().ok()) {
            Some(begun) => Self::Nothing { begun },
            None => Self::Newest(text.parse().unwrap_or(0)),
        }
    }
}

impl Baseline {
    /// The file's name in the data directory.
    const FILE: &str = "state.baseline";
    /// What it says where there was no segment, before the base of the first that was begun then.
    const NONE: &str = "none ";

    /// `newest` itself, which is not kept.
    pub(super) fn new(newest: Option<u64>) -> Self {
        Self { newest, ..Self::default() }
    }

    /// What an earlier run has left in the data directory `data`, else `newest`.
    pub(super) fn open(data: &Path, newest: Option<u64>) -> Self {
        let file = data.join(Self::FILE);
        let inherited = match fs::read_to_string(&file) {
            Ok(text) => Some(Inherited::read(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, path = %file.display(), "it cannot be read: all of the bucket's journal is compared");
                Some(Inherited::Newest(0))
            }
        };
        let is_inherited = inherited.is_some();
        // A second copy may be older than the one that the file is of.
        let (newest, must_record, begun) = match inherited {
            None => (newest, true, None),
            // No segment is less than any.
            Some(Inherited::Newest(inherited)) => (newest.min(Some(inherited)), newest < Some(inherited), None),
            // What lies before the first that was begun then is a copy that was put back since.
            Some(Inherited::Nothing { begun }) => {
                let newest = newest.filter(|newest| *newest < begun);
                (newest, newest.is_some(), Some(begun))
            }
        };
        Self { newest, file: Some(file), is_inherited, begun, must_record: Mutex::new(must_record) }
    }

    /// The base of the segment; `None` when there was none.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Whether it comes from an earlier run.
    pub(super) fn is_inherited(&self) -> bool {
        self.is_inherited
    }

    /// Sees to it that later starts find it, unless it is cleared: the segment `base` is to be begun.
    pub(super) fn record(&self, base: u64) -> Result<(), JournalError> {
        let mut must_record = self.must_record.lock();
        let (Some(file), true) = (&self.file, *must_record) else { return Ok(()) };
        let nothing = || format!("{}{}", Self::NONE, self.begun.unwrap_or(base));
        let text = self.newest.map_or_else(nothing, |newest| newest.to_string());
        write_durably(file, text.as_bytes()).map_err(JournalError::io(file, "written"))?;
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
        first.record(8).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
        let second = Baseline::open(data.path(), Some(9));
        assert_eq!((second.newest(), second.is_inherited()), (Some(7), true));
        second.record(8).unwrap();
        second.clear().unwrap();
        second.record(8).unwrap();
        assert!(!file.exists());
        let third = Baseline::open(data.path(), Some(9));
        assert_eq!((third.newest(), third.is_inherited()), (Some(9), false));
        // Noise is no reason to compare less.
        std::fs::write(&file, "noise").unwrap();
        assert_eq!(Baseline::open(data.path(), Some(9)).newest(), Some(0));
    }

    #[test]
    fn that_there_was_no_segment_is_kept_too() {
        let data = tempfile::tempdir().unwrap();
        // Also where a copy was put back before, and is gone as well.
        for before in [None, Some(7)] {
            if before.is_some() {
                Baseline::open(data.path(), before).record(8).unwrap();
            }
            let first = Baseline::open(data.path(), None);
            assert_eq!((first.newest(), first.is_inherited()), (None, before.is_some()));
            first.record(8).unwrap();
            for _ in 0..2 {
                let later = Baseline::open(data.path(), Some(9));
                assert_eq!((later.newest(), later.is_inherited()), (None, true));
                later.record(8).unwrap();
            }
            let copy = Baseline::open(data.path(), Some(5));
            assert_eq!((copy.newest(), copy.is_inherited()), (Some(5), true), "a copy that was put back");
            Baseline::open(data.path(), Some(9)).clear().unwrap();
            assert_eq!(Baseline::open(data.path(), Some(9)).newest(), Some(9));
        }
    }

    #[test]
    fn of_two_copies_that_are_put_back_one_after_the_other_the_older_one_counts() {
        let data = tempfile::tempdir().unwrap();
        for (newest, compared) in [(9, 9), (5, 5), (12, 5), (7, 5)] {
            let baseline = Baseline::open(data.path(), Some(newest));
            assert_eq!(baseline.newest(), Some(compared), "{newest}");
            baseline.record(8).unwrap();
        }
    }

    #[test]
    fn no_segment_is_begun_while_it_cannot_be_kept() {
        let data = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(data.path(), Some(7));
        let draft = data.path().join("state.baseline.new");
        std::fs::create_dir(&draft).unwrap();
        assert!(matches!(baseline.record(8), Err(JournalError::Io { action: "written", .. })));
        std::fs::remove_dir(&draft).unwrap();
        baseline.record(8).unwrap();
        assert_eq!(Baseline::open(data.path(), Some(9)).newest(), Some(7));
    }
}
