use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// What of a file's mode lets others in.
const OTHERS: u32 = 0o077;

/// Makes a folder, and those above it, that only its owner can enter; closes it to others when it is there already.
///
/// # Errors
/// When it cannot be made, or others stay able to enter it.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    close_to_others(dir)
}

/// Takes a file or folder from everyone but its owner.
///
/// # Errors
/// When that is not possible.
pub fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = |path| fs::metadata(path).map(|found| found.mode() & 0o7777);
    let before = mode(path)?;
    if before & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(before & !OTHERS))?;
    if mode(path)? & OTHERS != 0 {
        let expected =
            format!("expected that only its owner can read it, found mode {before:04o}, which cannot be changed");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, expected));
    }
    tracing::warn!(path = %path.display(), mode = format!("{before:04o}"), "others could read it: closed to them");
    Ok(())
}
