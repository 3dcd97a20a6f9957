//! The files of a state, here and in the bucket.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use walkdir::WalkDir;

use super::format::{Index, MAX_SEALED, PART, RecordDigest, SnapshotId, StoredFile};
use super::{SnapshotError, Snapshots, blocking};
use crate::backoff::with_retry;
use crate::bucket::BucketError;
use crate::disk::{RESERVE, free_bytes};
use crate::domain::Digest;
use crate::journal::make_private_dir;
use crate::repair::archive::{open_segment, seal_segment};
use crate::state::State;

/// How many parts are under way at a time: each takes up three times its bytes of memory.
const AT_ONCE: usize = 4;

/// The folder in which snapshots are made, held by this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    pub(super) fn lock(path: &Path) -> Result<Self, SnapshotError> {
        make_private_dir(path).map_err(failed(path, "made"))?;
        let lock = File::open(path).map_err(failed(path, "opened"))?;
        match lock.try_lock() {
            // The file system may have no locks; then the data directory's has to do.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(SnapshotError::Busy),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the second state is.
    pub(super) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    fn index_file(&self) -> PathBuf {
        self.path.join("index.json")
    }

    /// The snapshot that the second state is; `None` when it is not known to be one.
    pub(super) fn index(&self) -> Result<Option<Index>, SnapshotError> {
        let path = self.index_file();
        match fs::read(&path) {
            Ok(read) => Ok(serde_json::from_slice(&read).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed(&path, "read")(source)),
        }
    }

    /// From now on the second state is no snapshot.
    pub(super) fn forget(&self) -> Result<(), SnapshotError> {
        let path = self.index_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path, "removed")(error)),
            _ => Ok(()),
        }
    }

    /// From now on the second state is the snapshot with this index.
    pub(super) fn keep(&self, index: &Index) -> Result<(), SnapshotError> {
        let path = self.index_file();
        let text = serde_json::to_vec(index).map_err(|error| SnapshotError::Damaged(error.to_string()))?;
        fs::write(&path, text).map_err(failed(&path, "written"))
    }

    pub(super) fn clear(&self) -> Result<(), SnapshotError> {
        remove(&self.state())
    }
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> Result<(), SnapshotError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(folder, "removed")(error)),
        _ => Ok(()),
    }
}

/// That the disk has room for so many bytes in `folder`, and some more.
pub(super) fn expect_room(folder: &Path, bytes: u64) -> Result<(), SnapshotError> {
    let needed = bytes.saturating_add(RESERVE);
    let free = free_bytes(folder).map_err(failed(folder, "looked at"))?;
    if free >= needed { Ok(()) } else { Err(SnapshotError::NoRoom { needed, free }) }
}

/// Copies the second state into the bucket, but for the index, which it returns.
pub(super) async fn upload(
    snapshots: &Snapshots,
    folder: &Arc<Folder>,
    id: SnapshotId,
    last: RecordDigest,
) -> Result<Index, SnapshotError> {
    let root = folder.state();
    let files = {
        let root = root.clone();
        blocking(move || files_in(&root)).await?
    };
    let reader = PartReader { root, files: files.clone().into(), open: None };
    let parts = stream::try_unfold((reader, 0), |(mut reader, number)| async move {
        let read = blocking(move || Ok((reader.next_part()?, reader))).await?;
        let (part, reader) = read;
        Ok::<_, SnapshotError>(part.map(|part| ((number, part), (reader, number + 1))))
    });
    let put = |(number, part): (usize, Vec<u8>)| async move {
        let keys = snapshots.keys.clone();
        let sealing = blocking(move || {
            let sealed = seal_segment(&keys, number as u64, &part).ok_or(SnapshotError::Unsealed)?;
            Ok((Digest::of(&part), Bytes::from(sealed)))
        });
        let (digest, sealed) = sealing.await?;
        let key = id.part(number);
        let put = || snapshots.bucket.put(&key, vec![sealed.clone()], "application/octet-stream");
        with_retry(BucketError::is_outage, put).await?;
        Ok(digest)
    };
    let parts = parts.map_ok(put).try_buffered(AT_ONCE).try_collect().await?;
    Ok(Index { form: State::FORM, position: id.position, last, files, parts })
}

/// Copies a snapshot into the folder `into`. It is not synced: whoever opens a state sees whether it is whole.
pub(super) async fn download(
    snapshots: &Snapshots,
    id: SnapshotId,
    index: &Index,
    into: &Path,
) -> Result<(), SnapshotError> {
    let (root, files, bytes) = (into.to_owned(), index.files.clone(), index.bytes());
    let create = move || {
        expect_room(root.parent().unwrap_or(&root), bytes)?;
        PartWriter::create(&root, &files)
    };
    let writer = Arc::new(blocking(create).await?);
    let get = |(number, expected): (usize, Digest)| {
        let writer = writer.clone();
        async move {
            let key = id.part(number);
            let sealed = with_retry(BucketError::is_outage, || snapshots.bucket.read_whole(&key, MAX_SEALED)).await?;
            let keys = snapshots.keys.clone();
            blocking(move || {
                let opened = open_segment(&keys, &sealed).map_err(SnapshotError::Damaged)?;
                if opened.base != number as u64 || Digest::of(&opened.bytes) != expected {
                    return Err(SnapshotError::Damaged(format!("{key} is not what the index says")));
                }
                writer.write(number, &opened.bytes)
            })
            .await
        }
    };
    let parts = stream::iter(index.parts.clone().into_iter().enumerate());
    parts.map(get).buffer_unordered(AT_ONCE).try_collect().await
}

/// The files below a folder, in an order that is always the same.
fn files_in(root: &Path) -> Result<Vec<StoredFile>, SnapshotError> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let found = entry.and_then(|entry| Ok((entry.metadata()?, entry)));
        let (metadata, entry) = found.map_err(|error| failed(root, "listed")(error.into()))?;
        let path = entry.path().strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
        if metadata.is_file() {
            files.push(StoredFile { path: path.to_owned(), bytes: metadata.len() });
        }
    }
    Ok(files)
}

/// Reads files one behind the other, a part at a time.
struct PartReader {
    root: PathBuf,
    files: std::collections::VecDeque<StoredFile>,
    open: Option<io::Take<File>>,
}

impl PartReader {
    /// The next part; `None` at the end of the last file.
    fn next_part(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let mut part = Vec::with_capacity(PART);
        while part.len() < PART {
            let Some(file) = &mut self.open else {
                let Some(next) = self.files.pop_front() else { break };
                let path = self.root.join(&next.path);
                self.open = Some(File::open(&path).map_err(failed(&path, "opened"))?.take(next.bytes));
                continue;
            };
            let room = PART - part.len();
            let read = file.take(room as u64).read_to_end(&mut part).map_err(failed(&self.root, "read"))?;
            if read == 0 {
                self.open = None;
            }
        }
        Ok((!part.is_empty()).then_some(part))
    }
}

/// Writes parts to where they stand in the files.
struct PartWriter {
    root: PathBuf,
    /// Each with the place of its first byte in all of them.
    files: Vec<(u64, u64, File)>,
}

impl PartWriter {
    fn create(root: &Path, files: &[StoredFile]) -> Result<Self, SnapshotError> {
        make_private_dir(root).map_err(failed(root, "made"))?;
        let (mut begin, mut created) = (0, Vec::with_capacity(files.len()));
        for file in files {
            let path = root.join(&file.path);
            if let Some(folder) = path.parent() {
                make_private_dir(folder).map_err(failed(folder, "made"))?;
            }
            let opened = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
            let opened = opened.and_then(|opened| opened.set_len(file.bytes).map(|()| opened));
            created.push((begin, begin + file.bytes, opened.map_err(failed(&path, "made"))?));
            begin += file.bytes;
        }
        Ok(Self { root: root.to_owned(), files: created })
    }

    fn write(&self, number: usize, part: &[u8]) -> Result<(), SnapshotError> {
        let from = (number * PART) as u64;
        let to = from + part.len() as u64;
        for (begin, end, file) in self.files.iter().filter(|(begin, end, _)| *begin < to && from < *end) {
            let (first, last) = (from.max(*begin), to.min(*end));
            let bytes = part.get((first - from) as usize..(last - from) as usize).unwrap_or_default();
            file.write_all_at(bytes, first - begin).map_err(failed(&self.root, "written"))?;
        }
        Ok(())
    }
}

pub(super) fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, action, source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Files of any lengths, empty ones among them, are the same after they were cut into parts and put together.
        #[test]
        fn what_is_cut_into_parts_is_put_together_again(
            lengths in proptest::collection::vec(prop_oneof![Just(0_usize), 1_usize..4096, PART - 2..PART + 3], 1..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            for (number, length) in lengths.iter().enumerate() {
                let path = from.join(format!("{}/{number}", number % 2));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, (0..*length).map(|at| (at / 3 + number) as u8).collect::<Vec<_>>()).unwrap();
            }
            let files = files_in(&from).unwrap();
            let mut reader = PartReader { root: from.clone(), files: files.clone().into(), open: None };
            let mut parts = Vec::new();
            while let Some(part) = reader.next_part().unwrap() {
                parts.push(part);
            }
            let bytes: usize = lengths.iter().sum();
            prop_assert_eq!(parts.len(), bytes.div_ceil(PART));
            let writer = PartWriter::create(&to, &files).unwrap();
            for (number, part) in parts.iter().enumerate().rev() {
                writer.write(number, part).unwrap();
            }
            prop_assert_eq!(files_in(&to).unwrap(), files.clone());
            for file in files {
                prop_assert!(fs::read(from.join(&file.path)).unwrap() == fs::read(to.join(&file.path)).unwrap());
            }
        }
    }

    #[test]
    fn one_process_at_a_time_makes_snapshots_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        let held = Folder::lock(&path).unwrap();
        assert!(matches!(Folder::lock(&path), Err(SnapshotError::Busy)));
        drop(held);
        Folder::lock(&path).unwrap();
    }
}
