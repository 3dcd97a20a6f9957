//! A copy of the data directory that can be put back, taken while a service may be writing to it.
//!
//! Segments are only ever appended to, so what is read of one is what was written, perhaps cut off behind the last record,
//! which is then left out. Whatever was acknowledged before is in the copy. A segment that moves into the bucket meanwhile
//! leaves behind what is still open of it, in one that is copied later; but then the copying starts over. What a replica
//! keeps while PostgreSQL is away is copied before, since it moves into the log. The state is not copied: it is made anew
//! from the rest.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::journal::{DamageKind, Journal, JournalError};
use crate::state::EventLog;

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
    /// Callbacks that a replica keeps while PostgreSQL is away.
    pub waiting: u64,
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

/// Copies the journal below `data`, what a replica keeps in `outage`, and the files beside them, into `target`. Blocks.
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
    let (folder, outage) = (target.join("journal"), target.join("outage"));
    let kept = data.join("outage");
    let mut copied = vec![folder.as_path()];
    let (mut waiting, mut damaged_kept) = (0, 0);
    if kept.try_exists().map_err(failed(&kept, "read"))? {
        let segments = copy_journal(&kept, &outage)?;
        copied.push(&outage);
        damaged_kept = read_back(&Journal::open(&outage)?, &segments)?.damaged;
        waiting = EventLog::kept_callbacks(&outage)?;
    }
    let segments = copy_journal(&data.join("journal"), &folder)?;
    let files = copy_files(data, target)?;
    copied.extend([target, target.parent().unwrap_or(Path::new("."))]);
    for made in copied {
        let made = if made.as_os_str().is_empty() { Path::new(".") } else { made };
        File::open(made).and_then(|made| made.sync_all()).map_err(failed(made, "synced"))?;
    }
    let journal = Journal::open(&folder)?;
    let ReadBack { entries, damaged, end } = read_back(&journal, &segments)?;
    let damaged = damaged + damaged_kept;
    Ok(Backup { segments: segments.len(), entries, bytes: journal.disk_bytes(), end, damaged, waiting, files })
}

/// What segments that were copied hold.
#[derive(Default)]
struct ReadBack {
    entries: u64,
    /// Stretches.
    damaged: usize,
    /// The position behind the last entry.
    end: u64,
}

fn read_back(journal: &Journal, segments: &[u64]) -> Result<ReadBack, BackupError> {
    let mut found = ReadBack::default();
    for base in segments {
        let mut read = journal.read_segment(*base);
        for entry in read.by_ref() {
            entry?;
            found.entries += 1;
        }
        found.damaged += read.damage().iter().filter(|damage| damage.kind != DamageKind::TornTail).count();
        found.end = read.end().max(found.end);
    }
    Ok(found)
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
            // It moved into the bucket, or what is kept into the log.
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
        let Ok(name) = item.file_name().into_string() else { continue };
        if name == NOT_COPIED {
            continue;
        }
        let path = item.path();
        let is_link = item.file_type().is_ok_and(|kind| kind.is_symlink());
        let copied = match fs::metadata(&path) {
            Ok(found) if found.is_file() => copy(&path, &target.join(&name), MAX_FILE),
            Ok(found) if is_link && !found.is_dir() => {
                Err(failed(&path, "copied")(io::Error::other("expected a link to a file")))
            }
            Ok(_) => continue,
            Err(error) => Err(failed(&path, "read")(error)),
        };
        match copied {
            // It went since it was listed. A link that is there, and leads nowhere, is a fault.
            Err(BackupError::Io { source, .. }) if source.kind() == ErrorKind::NotFound && !is_link => {}
            copied => {
                copied?;
                names.push(name);
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
