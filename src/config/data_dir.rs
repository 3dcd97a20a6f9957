use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::journal::{Journal, close_to_others};

/// The data directory, held by this process until this is dropped. The system lets go of it too when the process dies.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why the data directory is not held.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// By another process.
    #[error("{0}: another replyvault is running on this data directory")]
    Held(PathBuf),
    /// It can't be made or written to.
    #[error("{path}: expected a directory that can be made and written to: {source}")]
    Io {
        /// What failed: the directory or its lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDir {
    /// Takes the directory, which is made if it is not there, and closes what is in it to others than its owner.
    ///
    /// # Errors
    /// When another process holds it, it can't be made or written to, or something in it stays open to others.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        make(path)?;
        let lock = take(path)?;
        // Its lock goes with no file that somebody may remove.
        if Journal::is_written_to(path) {
            return Err(DataDirError::Held(path.to_owned()));
        }
        close_contents(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether [`DataDir::lock`] could make it and write to it. Makes nothing.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(path: &Path) -> Result<(), DataDirError> {
        let mut nearest = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fail = |source| DataDirError::Io { path: path.to_owned(), source };
        loop {
            match fs::metadata(nearest) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => return Err(fail(io::ErrorKind::NotADirectory.into())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fail(error)),
            }
            nearest = match nearest.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
        }
        rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| fail(error.into()))
    }
}

/// Takes the lock file, and sees to it that it is the one that others find.
fn take(path: &Path) -> Result<File, DataDirError> {
    let file = path.join("lock");
    let fail = |source| DataDirError::Io { path: file.clone(), source };
    loop {
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::Held(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        let taken = lock.metadata().map_err(fail)?;
        match fs::metadata(&file) {
            Ok(found) if (found.dev(), found.ino()) == (taken.dev(), taken.ino()) => return Ok(lock),
            // It was removed while it was taken.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
    }
}

/// What replyvault makes in a data directory, besides `state` and its copies.
const OURS: [&str; 8] = ["journal", "outage", "snapshot", "spool", "lock", "replica", "secrets.toml", "bucket"];

pub(super) fn is_ours(name: &str) -> bool {
    let begins = ["state.", "secrets.toml.", "sessions.json", "bucket.json"];
    OURS.contains(&name) || name == "state" || begins.iter().any(|begin| name.starts_with(begin))
}

/// Closes what is in the directory to others than its owner, and the directory itself where it is used for nothing else.
/// A bucket in it is left as it is, and so is `secrets.toml`, which has a check of its own.
fn close_contents(path: &Path) -> Result<(), DataDirError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { path, source }
    };
    let mut is_shared = false;
    for item in fs::read_dir(path).map_err(fail(path))? {
        let item = item.map_err(fail(path))?;
        let name = item.file_name();
        let name = name.to_string_lossy();
        is_shared |= !is_ours(&name);
        if is_ours(&name) && name != "bucket" && !name.starts_with("secrets.toml") {
            close_to_others(&item.path()).map_err(fail(&item.path()))?;
        }
    }
    if is_shared {
        tracing::debug!(path = %path.display(), "the data directory holds other things, too, and stays as open as it is");
    } else if let Err(error) = close_to_others(path) {
        // Nobody comes by the folders in it.
        tracing::warn!(path = %path.display(), %error, "the data directory stays open to others");
    }
    Ok(())
}

/// Makes the directory, for its owner only, if it is not there.
pub(super) fn make(path: &Path) -> Result<(), DataDirError> {
    let fail = |source| DataDirError::Io { path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(fail)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Somebody else may have been faster.
        Err(error) if !path.is_dir() => Err(fail(error)),
        // What will be said to be durable inside must not go with its directory's name.
        _ => File::open(parent).and_then(|parent| parent.sync_all()).map_err(fail),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_process_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/data");
        DataDir::check(&path).unwrap();
        assert!(!path.exists());
        let held = DataDir::lock(&path).unwrap();
        assert_eq!(fs::metadata(held.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataDir::lock(&path).unwrap_err();
        assert!(matches!(&error, DataDirError::Held(_)), "{error}");
        assert!(error.to_string().ends_with("another replyvault is running on this data directory"));
        drop(held);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn one_process_holds_it_whatever_file_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let writer = crate::journal::Writer::new(Journal::open_in(directory.path()).unwrap(), 0).unwrap();
        let held = DataDir::lock(directory.path()).unwrap_err();
        assert!(matches!(held, DataDirError::Held(_)), "{held}");
        fs::remove_file(directory.path().join("lock")).unwrap();
        let held = DataDir::lock(directory.path()).unwrap_err();
        assert!(matches!(held, DataDirError::Held(_)), "{held}");
        drop(writer);
        DataDir::lock(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_was_made_open_is_closed_and_all_that_is_kept_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let open = [("", 0o755), ("journal", 0o755), ("state", 0o775), ("state.damaged-1", 0o755), ("bucket", 0o755)];
        for (name, mode) in open {
            fs::create_dir(data.join(name)).unwrap();
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let files = ["lock", "sessions.json", "journal/00000000000000000000.journal"];
        for name in files {
            fs::write(data.join(name), "").unwrap();
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        drop(DataDir::lock(&data).unwrap());
        drop(crate::journal::Writer::new(Journal::open_in(&data).unwrap(), 0).unwrap());
        let mode = |name: &str| fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
        for (name, _) in &open[..4] {
            assert_eq!(mode(name), 0o700, "{name}");
        }
        assert_eq!((files.map(mode), mode("bucket")), ([0o600; 3], 0o755));
        // A directory that is used for other things is not closed to those who use it.
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(data.join("other"), "").unwrap();
        drop(DataDir::lock(&data).unwrap());
        assert_eq!((mode(""), mode("journal")), (0o755, 0o700));
    }

    #[test]
    fn a_data_dir_that_is_no_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.join("below"), file.clone(), file.join("far/below")] {
            for error in [DataDir::check(&path).unwrap_err(), DataDir::lock(&path).unwrap_err()] {
                assert!(error.to_string().contains("expected a directory that can be made"), "{error}");
            }
        }
    }
}
