//! How much room a disk has, how much files take up, and files that are written as a whole.

mod durable_file;

use std::io;
use std::path::Path;

use walkdir::WalkDir;

pub use durable_file::{remove_durably, write_durably};

/// What stays free for others, in bytes, when a state is copied: 1 GiB.
pub const RESERVE: u64 = 1 << 30;

/// Bytes that this user may still write to the file system that `path` is on.
///
/// # Errors
/// When it cannot be asked.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes of all files below a folder.
///
/// # Errors
/// When it cannot be listed.
pub fn bytes_in(folder: &Path) -> io::Result<u64> {
    let bytes = |entry: walkdir::Result<walkdir::DirEntry>| {
        let metadata = entry?.metadata()?;
        Ok(if metadata.is_file() { metadata.len() } else { 0 })
    };
    WalkDir::new(folder).into_iter().map(bytes).sum()
}
