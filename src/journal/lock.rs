//! One process writes to a journal.
//!
//! The journal's folder itself is locked, so that no removed file lets a second process in. Where a file system has no such
//! locks, or keeps them from other machines, the owner's file tells: whoever begins to write puts its name there, and who
//! finds another's stops. So two may meet for a second; what the first was still told then stands beyond the end that the
//! second knows of, where [`Journal::strays`] finds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Journal, JournalError};

/// Held by whoever writes; let go of when it is dropped, or the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    path: Arc<Path>,
    dir: File,
    owner: Option<Owner>,
    pub(super) checked: Instant,
}

/// A file with the name of whoever writes.
#[derive(Debug)]
struct Owner {
    path: PathBuf,
    file: File,
    name: [u8; 32],
}

impl Lock {
    /// How long the last holder may take to let go.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// How long a look at the lock is good.
    const INTERVAL: Duration = Duration::from_secs(1);

    /// Takes the journal's lock. Blocks for some seconds while another has it.
    pub(super) fn take(journal: &Journal) -> Result<Self, JournalError> {
        let path = journal.dir.clone();
        let fail = |source| JournalError::Io { path: path.to_path_buf(), action: "locked", source };
        let dir = File::open(&*path).map_err(fail)?;
        let end = Instant::now() + Self::PATIENCE;
        loop {
            match dir.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::WouldBlock) => return Err(JournalError::Taken(path.to_path_buf())),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(%error, dir = %path.display(), "the file system locks no folders: see to it that no other process uses this one");
                    break;
                }
            }
        }
        let owner = journal.owner_file.as_deref().map(|path| Owner::take(path).map_err(fail)).transpose()?;
        let mut lock = Self { path, dir, owner, checked: Instant::now() };
        lock.check()?;
        Ok(lock)
    }

    /// Whether another process holds the lock of the journal in `dir`.
    pub(super) fn is_held(dir: &Path) -> bool {
        File::open(dir).is_ok_and(|dir| matches!(dir.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// The same as [`Lock::check`], as of a second ago.
    pub(super) fn check_now_and_then(&mut self) -> Result<bool, JournalError> {
        if self.checked.elapsed() < Self::INTERVAL { Ok(false) } else { self.check() }
    }

    /// That the journal is still this one's to write: nobody else has locked its folder, nor put a name into the owner's file.
    /// Returns whether the folder is another than before, which nobody had locked: what was open in the old one is gone.
    pub(super) fn check(&mut self) -> Result<bool, JournalError> {
        let fail = |source| JournalError::Io { path: self.path.to_path_buf(), action: "looked at", source };
        let found = fs::metadata(&*self.path).map_err(fail)?;
        let is_another = !is_same(&found, &self.dir).map_err(fail)?;
        if is_another {
            let dir = File::open(&*self.path).map_err(fail)?;
            if let Err(TryLockError::WouldBlock) = dir.try_lock() {
                return Err(JournalError::Taken(self.path.to_path_buf()));
            }
            tracing::error!(dir = %self.path.display(), "the journal's folder is another than before");
            self.dir = dir;
        }
        if !self.owner.as_mut().map_or(Ok(true), Owner::check).map_err(fail)? {
            return Err(JournalError::Taken(self.path.to_path_buf()));
        }
        self.checked = Instant::now();
        Ok(is_another)
    }
}

impl Owner {
    fn take(path: &Path) -> io::Result<Self> {
        let mut name = [0; 32];
        name.copy_from_slice(format!("{:032x}", rand::random::<u128>()).as_bytes());
        let file = open(path)?;
        let owner = Self { path: path.to_owned(), file, name };
        owner.write_name()?;
        Ok(owner)
    }

    fn write_name(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&self.name, 0)
    }

    /// Whether the name is still there. A file that was removed or emptied names nobody else, and is written again.
    fn check(&mut self) -> io::Result<bool> {
        let is_same = match fs::metadata(&self.path) {
            Ok(found) => is_same(&found, &self.file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !is_same {
            self.file = open(&self.path)?;
            // The removed one was locked for commands that look whether a service runs.
            let _ = self.file.try_lock();
        }
        let mut name = [0; 33];
        let length = self.file.read_at(&mut name, 0)?;
        if length == 0 {
            self.write_name()?;
            return Ok(true);
        }
        Ok(name[..length] == self.name)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn is_same(found: &fs::Metadata, open: &File) -> io::Result<bool> {
    let open = open.metadata()?;
    Ok((found.dev(), found.ino()) == (open.dev(), open.ino()))
}
