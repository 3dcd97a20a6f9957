//! How much room a disk has.

use std::io;
use std::path::Path;

/// Bytes that this user may still write to the file system that `path` is on.
///
/// # Errors
/// When it cannot be asked.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
