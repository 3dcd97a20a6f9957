//! Multipart uploads into a directory, which `object_store` has no recordable form of, and faster reads from it.
//!
//! An upload is a staging file beside its destination, `<file>#<id>`. No key has a `#` in it and `object_store` leaves
//! such names out of listings, so what a crash leaves behind is never taken for an object.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fail::fail_point;
use futures_util::{Stream, stream};

use super::{BucketError, ObjectKey};

/// A `file:` bucket's directory. Its methods block.
#[derive(Clone)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Makes the directory where it is missing.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        make_directory(root)?;
        let directory = Self::at(root);
        directory.check()?;
        Ok(directory)
    }

    /// The same, however things are there now.
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether objects could be written here now. Writes nothing.
    pub(super) fn check(&self) -> io::Result<()> {
        use rustix::fs::Access;
        if !fs::metadata(&self.root)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(rustix::fs::access(&self.root, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
    }

    /// Makes the staging file; gives its id, which no other upload ever has.
    pub(super) fn start(&self, key: &ObjectKey) -> Result<String, BucketError> {
        let target = self.path(key);
        if let Some(folder) = target.parent() {
            make_directory(folder).map_err(|error| BucketError::of_io("making", folder, &error))?;
        }
        let id = rand::random::<u64>().to_string();
        let staging = staging(&target, &id);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&staging)
            .map_err(|error| BucketError::of_io("making", &staging, &error))?;
        Ok(id)
    }

    /// Writes one part and syncs it: the caller records parts as done, and they must be so after a power cut.
    pub(super) fn put_part(&self, key: &ObjectKey, id: &str, offset: u64, chunks: &[Bytes]) -> Result<(), BucketError> {
        let staging = staging(&self.path(key), id);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound => BucketError::upload_lost(key, "its staging file is gone"),
            _ => BucketError::of_io("writing", &staging, &error),
        };
        let file = OpenOptions::new().write(true).open(&staging).map_err(failed)?;
        let mut offset = offset;
        for chunk in chunks {
            file.write_all_at(chunk, offset).map_err(failed)?;
            offset += chunk.len() as u64;
        }
        file.sync_data().map_err(failed)
    }

    /// The staging file, to be read back, and its length; `None` when there is none.
    pub(super) fn open_staging(&self, key: &ObjectKey, id: &str) -> Result<Option<(File, u64)>, BucketError> {
        let staging = self.staging(key, id);
        let opened = File::open(&staging).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((bytes, file)) => Ok(Some((file, bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BucketError::of_io("reading", &staging, &error)),
        }
    }

    /// Makes the object visible. [`BucketError::UploadLost`] also when it was before: then the object is there.
    pub(super) fn complete(&self, key: &ObjectKey, id: &str, bytes: u64) -> Result<(), BucketError> {
        let target = self.path(key);
        let staging = staging(&target, id);
        let failed = |error: &io::Error| BucketError::of_io("completing", &staging, error);
        match File::open(&staging) {
            Ok(file) => {
                let written = file.metadata().map_err(|error| failed(&error))?.len();
                if written != bytes {
                    let reason = format!("{written} bytes were written, {bytes} expected");
                    return Err(BucketError::upload_lost(key, &reason));
                }
                file.sync_all().and_then(|()| fs::rename(&staging, &target)).map_err(|error| failed(&error))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // A crash may have come between the rename and its sync.
                if let Some(folder) = target.parent().filter(|folder| folder.exists()) {
                    sync_directory(folder).map_err(|error| BucketError::of_io("syncing", folder, &error))?;
                }
                return Err(BucketError::upload_lost(key, "its staging file is gone"));
            }
            Err(error) => return Err(failed(&error)),
        }
        if let Some(folder) = target.parent() {
            sync_directory(folder).map_err(|error| BucketError::of_io("syncing", folder, &error))?;
        }
        fail_point!("bucket.synced");
        Ok(())
    }

    /// Removes the staging file; fine when there is none.
    pub(super) fn abort(&self, key: &ObjectKey, id: &str) -> Result<(), BucketError> {
        remove(&staging(&self.path(key), id))
    }

    /// Removes every staging file in a folder but those of `keep`.
    pub(super) fn remove_staging(&self, folder: &str, keep: &[PathBuf]) -> Result<(), BucketError> {
        let folder = self.root.join(folder);
        let failed = |error: &io::Error| BucketError::of_io("listing", &folder, error);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(&error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed(&error))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| Some(name.rsplit_once('#')?.1));
            let is_staging = number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()));
            if is_staging && !keep.contains(&entry.path()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The staging file of an upload.
    pub(super) fn staging(&self, key: &ObjectKey, id: &str) -> PathBuf {
        staging(&self.path(key), id)
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }
}

/// The ids are digits; anything else in a recorded upload is not allowed to lead elsewhere.
fn staging(target: &Path, id: &str) -> PathBuf {
    let mut path = target.as_os_str().to_owned();
    path.push("#");
    path.push(id.chars().filter(char::is_ascii_digit).collect::<String>());
    path.into()
}

fn remove(path: &Path) -> Result<(), BucketError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(BucketError::of_io("removing", path, &error)),
        _ => Ok(()),
    }
}

/// Makes a directory and those above it; each new entry is on the disk when this returns.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
    fs::create_dir_all(path)?;
    for made in missing {
        match made.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync_directory(parent)?,
            None => sync_directory(Path::new("."))?,
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The bytes of an open file, in pieces of 256 KiB: `object_store` hands every 8 KiB to another thread.
pub(super) fn stream(file: File, path: PathBuf, range: Range<u64>) -> impl Stream<Item = Result<Bytes, BucketError>> {
    const PIECE: u64 = 256 * 1024;
    stream::try_unfold((file, range), move |(file, range)| {
        let path = path.clone();
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            blocking(move || {
                let mut piece = vec![0; PIECE.min(range.end - range.start) as usize];
                let mut file = file;
                file.seek(SeekFrom::Start(range.start))
                    .and_then(|_| io::Read::read_exact(&mut file, &mut piece))
                    .map_err(|error| BucketError::of_io("reading", &path, &error))?;
                let rest = range.start + piece.len() as u64..range.end;
                Ok(Some((Bytes::from(piece), (file, rest))))
            })
            .await
        }
    })
}

/// Runs what blocks on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BucketError> + Send + 'static,
) -> Result<T, BucketError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(BucketError::Unavailable(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_or_an_object_that_the_disk_does_not_confirm_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let key: ObjectKey = "job/video.mp4".parse().unwrap();
        let id = directory.start(&key).unwrap();
        let staging = directory.staging(&key, &id);
        // /dev/null takes every write, and cannot be synced.
        fs::remove_file(&staging).unwrap();
        std::os::unix::fs::symlink("/dev/null", &staging).unwrap();
        assert!(directory.put_part(&key, &id, 0, &[Bytes::from_static(b"part")]).is_err());
        assert!(directory.complete(&key, &id, 0).is_err());
        assert!(!directory.path(&key).exists());
    }
}
