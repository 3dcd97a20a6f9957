//! Small files in the data directory that say one thing: each is there as a whole or not at all, also after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::JournalError;

/// Writes a file for its owner alone, in the place of one that is there. It is on the disk when this returns. Blocks.
///
/// # Errors
/// When the disk refuses; what was there stays.
pub fn write_durably(path: &Path, text: &str) -> Result<(), JournalError> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_folder_of(path)
    };
    let written = write().inspect_err(|_| {
        // A full disk gets its name back.
        let _ = fs::remove_file(&draft);
    });
    written.map_err(failed(path, "written"))
}

/// Removes a file, if there is one. It is gone from the disk when this returns. Blocks.
///
/// # Errors
/// When the disk refuses.
pub fn remove_durably(path: &Path) -> Result<(), JournalError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_folder_of(path)),
    };
    removed.map_err(failed(path, "removed"))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, action, source }
}
