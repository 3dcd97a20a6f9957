//! A copy of the data directory that can be put back, taken while a service may be writing to it.
//!
//! Segments are only ever appended to, so what is read of one is what was written, perhaps cut off behind the last record,
//! which is then left out. Whatever was acknowledged before is in the copy. A segment that moves into the bucket meanwhile
//! leaves behind what is still open of it, in one that is copied later; but then the copying starts over. The state is not
//! copied: it is made anew from the rest.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::journal::{DamageKind, Journal, JournalError};

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Segments of the journal.
    pub segments: usize,
    /// Entries in them, all read back.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The position behind the last of them.
    pub end: u64,
    /// Stretches that are damaged here, and so in the copy.
    pub damaged: usize,
    /// The other files, such as `secrets.toml`.
    pub files: Vec<String>,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something there already.
    #[error("{0}: expected a directory that is empty or not there")]
    NotEmpty(PathBuf),
    /// The copy would be a part of what is copied.
    #[error("{0}: expected a directory outside of the data directory")]
    Inside(PathBuf),
    /// There is no journal.
    #[error("{0}: expected a data directory with a journal to copy")]
    Nothing(PathBuf),
    /// A file cannot be copied.
    #[error("{path} cannot be {action}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What was written is not what is read back.
    #[error("{0}: what is read back is not what was written")]
    Differs(PathBuf),
    /// The copy cannot be read as a journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Segments moved into the bucket each time they were copied.
    #[error("the journal changes too fast to be copied")]
    Restless,
}

/// How often it is started over because a segment went.
const ATTEMPTS: usize = 10;
/// What else is in a data directory is small: `sessions.json` has 4 MiB at most.
const MAX_FILE: u64 = 8 << 20;
/// The lock is this machine's.
const NOT_COPIED: &str = "lock";

/// Copies the journal below `data`, and the files beside it, into `target`. Blocks.
///
/// # Errors
/// When that cannot be done; then nothing is left in `target`.
pub fn backup(data: &Path, target: &Path) -> Result<Backup, BackupError> {
    if !data.join("journal").is_dir() {
        return Err(BackupError::Nothing(data.to_owned()));
    }
    make_target(data, target)?;
    copy_all(data, target).inspect_err(|_| clear(target))
}

fn make_target(data: &Path, target: &Path) -> Result<(), BackupError> {
    match fs::read_dir(target) {
        Ok(items) => {
            if items.count() > 0 {
                return Err(BackupError::NotEmpty(target.to_owned()));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(target);
            made.map_err(failed(target, "made"))?;
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Err(BackupError::NotEmpty(target.to_owned())),
        Err(error) => return Err(failed(target, "read")(error)),
    }
    fs::set_permissions(target, Permissions::from_mode(0o700)).map_err(failed(target, "closed to others"))?;
    match (data.canonicalize(), target.canonicalize()) {
        (Ok(data), Ok(inside)) if inside.starts_with(&data) => Err(BackupError::Inside(target.to_owned())),
        _ => Ok(()),
    }
}

fn copy_all(data: &Path, target: &Path) -> Result<Backup, BackupError> {
    let folder = target.join("journal");
    let segments = copy_journal(&data.join("journal"), &folder)?;
    let files = copy_files(data, target)?;
    for made in [&folder, target, target.parent().unwrap_or(Path::new("."))] {
        let made = if made.as_os_str().is_empty() { Path::new(".") } else { made };
        File::open(made).and_then(|made| made.sync_all()).map_err(failed(made, "synced"))?;
    }
    let journal = Journal::open(&folder)?;
    let (mut entries, mut damaged, mut end) = (0, 0, 0);
    for base in &segments {
        let mut read = journal.read_segment(*base);
        for entry in read.by_ref() {
            entry?;
            entries += 1;
        }
        damaged += read.damage().iter().filter(|damage| damage.kind != DamageKind::TornTail).count();
        end = read.end().max(end);
    }
    Ok(Backup { segments: segments.len(), entries, bytes: journal.disk_bytes(), end, damaged, files })
}

/// Returns the bases of what was copied.
fn copy_journal(from: &Path, to: &Path) -> Result<Vec<u64>, BackupError> {
    for _ in 0..ATTEMPTS {
        let _ = fs::remove_dir_all(to);
        DirBuilder::new().mode(0o700).create(to).map_err(failed(to, "made"))?;
        let bases = Journal::open(from)?.segments_here();
        let copied = bases.iter().try_for_each(|base| {
            let name = Journal::segment_name(*base);
            copy(&from.join(&name), &to.join(&name), u64::MAX)
        });
        match copied {
            // It moved into the bucket.
            Err(BackupError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(()) => {
                if let Some(newest) = bases.last() {
                    leave_out_what_is_cut_off(to, *newest)?;
                }
                return Ok(bases);
            }
        }
    }
    Err(BackupError::Restless)
}

/// What stands behind the last record of the newest segment: room, or a record that was being written.
fn leave_out_what_is_cut_off(folder: &Path, newest: u64) -> Result<(), BackupError> {
    let path = folder.join(Journal::segment_name(newest));
    let mut read = Journal::open(folder)?.read_segment(newest);
    for entry in read.by_ref() {
        entry?;
    }
    if read.end() > newest {
        let cut = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(read.end() - newest)?;
            file.sync_all()
        };
        cut().map_err(failed(&path, "cut"))?;
    }
    Ok(())
}

/// The files beside the journal; returns their names.
fn copy_files(data: &Path, target: &Path) -> Result<Vec<String>, BackupError> {
    let mut names = Vec::new();
    for item in fs::read_dir(data).map_err(failed(data, "listed"))? {
        let item = item.map_err(failed(data, "listed"))?;
        let is_file = item.file_type().is_ok_and(|kind| kind.is_file());
        let Ok(name) = item.file_name().into_string() else { continue };
        if is_file && name != NOT_COPIED {
            match copy(&item.path(), &target.join(&name), MAX_FILE) {
                Err(BackupError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                copied => {
                    copied?;
                    names.push(name);
                }
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Copies a file for its owner alone, syncs it, and reads it back.
fn copy(from: &Path, to: &Path, most: u64) -> Result<(), BackupError> {
    let source = File::open(from).map_err(failed(from, "read"))?;
    if most < u64::MAX && source.metadata().map_err(failed(from, "read"))?.len() > most {
        return Err(failed(from, "copied")(ErrorKind::FileTooLarge.into()));
    }
    let mut source = source.take(most);
    let mut file = OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o600).open(to).map_err(failed(to, "written"))?;
    let mut hash = sha2::Sha256::new();
    each_piece(&mut source, |piece| {
        hash.update(piece);
        file.write_all(piece)
    })
    .and_then(|()| file.sync_all())
    .map_err(failed(to, "written"))?;
    let mut found = sha2::Sha256::new();
    let read = File::open(to).and_then(|mut copy| {
        each_piece(&mut copy, |piece| {
            found.update(piece);
            Ok(())
        })
    });
    read.map_err(failed(to, "read back"))?;
    if found.finalize() == hash.finalize() { Ok(()) } else { Err(BackupError::Differs(to.to_owned())) }
}

fn each_piece(source: &mut impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut piece = vec![0; 256 << 10];
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&piece[..length])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// It was empty before.
fn clear(target: &Path) {
    for item in fs::read_dir(target).into_iter().flatten().flatten() {
        let _ = fs::remove_file(item.path()).or_else(|_| fs::remove_dir_all(item.path()));
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, action, source }
}
