use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

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
    /// Takes the directory, which is made if it is not there.
    ///
    /// # Errors
    /// When another process holds it, or it can't be made or written to.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        make(path)?;
        let file = path.join("lock");
        let fail = |source| DataDirError::Io { path: file.clone(), source };
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::Held(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(fail(source)),
        }
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
    fn what_is_no_directory_is_said() {
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
