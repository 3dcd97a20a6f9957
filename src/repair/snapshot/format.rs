//! How a snapshot looks in the bucket.
//!
//! Its parts are `_replyvault/snapshot-parts/{position}-{id}-{number}.enc`: the files of the state's store one behind the other,
//! cut at every 4 MiB. Its index, written last, is `_replyvault/snapshots/{position}-{id}.enc`: JSON. All of them are compressed
//! and encrypted as archived segments are, with the same keys. The id is random, so no two makers write the same object.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::SnapshotError;
use crate::bucket::ObjectKey;
use crate::domain::{Digest, FileName};
use crate::journal::{Entry, Journal};
use crate::repair::archive::{ArchiveKeys, open_segment, seal_segment};

/// Bytes of a part but the last.
pub(super) const PART: usize = 4 << 20;
/// What a part may have in the bucket: what does not compress gets a little longer.
pub(super) const MAX_SEALED: u64 = 2 * PART as u64;
const SUFFIX: &str = ".enc";

/// Which snapshot: the position up to which all is folded in, and a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotId {
    pub(super) position: u64,
    random: u64,
}

/// What a snapshot's index says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    /// The form of the state's records.
    pub(super) form: u32,
    /// All before this position is folded in.
    pub(super) position: u64,
    /// The last record before it, which tells one log from another.
    pub(super) last: RecordDigest,
    /// In the order in which they stand in the parts.
    pub(super) files: Vec<StoredFile>,
    /// The digest of each part.
    pub(super) parts: Vec<Digest>,
}

/// A record of the log, and what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordDigest {
    pub(super) position: u64,
    pub(super) sha256: Digest,
}

/// A file of the state's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFile {
    /// Where it is below the store's folder.
    pub(super) path: String,
    pub(super) bytes: u64,
}

impl SnapshotId {
    pub(super) fn new(position: u64) -> Self {
        Self { position, random: rand::random() }
    }

    pub(super) fn index(self) -> ObjectKey {
        ObjectKey::snapshot(&FileName::clean(&format!("{self}{SUFFIX}")))
    }

    pub(super) fn part(self, number: usize) -> ObjectKey {
        ObjectKey::snapshot_part(&FileName::clean(&format!("{self}-{number:08}{SUFFIX}")))
    }

    /// Whose index or part has this key; `None` when it has none.
    pub(super) fn of(key: &ObjectKey) -> Option<Self> {
        let mut fields = key.file_name().strip_suffix(SUFFIX)?.split('-');
        let (position, random) = (fields.next()?, fields.next()?);
        let is_number = position.len() == 20 && position.bytes().all(|byte| byte.is_ascii_digit());
        let is_random = random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_number || !is_random {
            return None;
        }
        let id = Self { position: position.parse().ok()?, random: u64::from_str_radix(random, 16).ok()? };
        let is_known = match fields.next() {
            None => id.index() == *key,
            Some(number) => id.part(number.parse().ok()?) == *key,
        };
        is_known.then_some(id)
    }
}

impl std::fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:020}-{:016x}", self.position, self.random)
    }
}

impl Index {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn seal(&self, keys: &ArchiveKeys) -> Result<Vec<u8>, SnapshotError> {
        let text = serde_json::to_vec(self).map_err(|error| SnapshotError::Damaged(error.to_string()))?;
        seal_segment(keys, self.position, &text).ok_or(SnapshotError::Unsealed)
    }

    /// Reads the index of the snapshot `id`, and sees to it that what it says can be.
    pub(super) fn open(keys: &ArchiveKeys, id: SnapshotId, object: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what: &str| SnapshotError::Damaged(format!("the index of the snapshot {id} {what}"));
        let opened = open_segment(keys, object).map_err(SnapshotError::Damaged)?;
        if opened.damaged > 0 || opened.base != id.position {
            return Err(damaged("is damaged, or another's"));
        }
        let index: Self = serde_json::from_slice(&opened.bytes).map_err(|error| damaged(&error.to_string()))?;
        let is_inside = |file: &StoredFile| {
            let path = Path::new(&file.path);
            path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
        };
        let parts = index.files.iter().try_fold(0_u64, |bytes, file| bytes.checked_add(file.bytes));
        let is_whole = parts.is_some_and(|bytes| bytes.div_ceil(PART as u64) == index.parts.len() as u64);
        let is_sound = is_whole && index.position == id.position && index.files.iter().all(is_inside);
        if is_sound { Ok(index) } else { Err(damaged("contradicts itself")) }
    }
}

impl RecordDigest {
    /// The record of `journal` that ends at `end`, from a segment that is here. Blocks.
    pub(super) fn before(journal: &Journal, end: u64) -> Result<Self, SnapshotError> {
        let base = journal.segments_here().into_iter().rfind(|base| *base < end);
        let mut replay = base.map(|base| journal.read_segment(base));
        while let Some(item) = replay.as_mut().and_then(Iterator::next) {
            let (position, entry) = item?;
            if replay.as_ref().is_some_and(|replay| replay.end() == end) {
                return Ok(Self { position, sha256: Self::digest(&entry) });
            }
        }
        Err(SnapshotError::NoRecord(end))
    }

    fn digest(entry: &Entry) -> Digest {
        Digest::of(&entry.to_payload())
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn index() -> Index {
        let sha256 = Digest::of(b"record");
        Index {
            form: 1,
            position: 7,
            last: RecordDigest { position: 5, sha256 },
            files: vec![StoredFile { path: "db".to_owned(), bytes: PART as u64 + 1 }],
            parts: vec![sha256, sha256],
        }
    }

    #[test]
    fn names_tell_which_snapshot_an_object_is_of() {
        let id = SnapshotId::new(7);
        assert_eq!(SnapshotId::of(&id.index()), Some(id));
        assert_eq!(SnapshotId::of(&id.part(0)), Some(id));
        assert_eq!(SnapshotId::of(&id.part(123_456_789)), Some(id));
        assert!(SnapshotId::new(8).index().as_str() > id.index().as_str());
        for other in [
            "",
            "x.enc",
            "00000000000000000007-0011223344556677",
            "7-0011223344556677.enc",
            "00000000000000000007-0011223344556677-0.enc",
        ] {
            assert_eq!(SnapshotId::of(&ObjectKey::snapshot(&FileName::clean(other))), None, "{other}");
        }
        // An index's name is no part's.
        let misplaced = ObjectKey::snapshot_part(&FileName::clean(id.index().file_name()));
        assert_eq!(SnapshotId::of(&misplaced), None);
    }

    #[test]
    fn an_index_is_read_as_it_was_written_and_only_under_its_own_name() {
        let secret = SecretString::from("secret");
        let keys = ArchiveKeys::new([&secret]).unwrap();
        let (id, index) = (SnapshotId::new(7), index());
        let sealed = index.seal(&keys).unwrap();
        assert_eq!(Index::open(&keys, id, &sealed).unwrap(), index);
        assert!(Index::open(&keys, SnapshotId::new(8), &sealed).is_err());
        let other = ArchiveKeys::new([&SecretString::from("other")]).unwrap();
        assert!(Index::open(&other, id, &sealed).is_err());
        // What tells where its parts stand is there twice.
        for (at, is_read) in [(0, true), (20, true), (sealed.len() / 2, false), (sealed.len() - 1, true)] {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(Index::open(&keys, id, &flipped).ok(), is_read.then(|| index.clone()), "{at}");
        }
    }

    #[test]
    fn an_index_that_contradicts_itself_is_refused() {
        let secret = SecretString::from("secret");
        let keys = ArchiveKeys::new([&secret]).unwrap();
        let file = |path: &str, bytes| StoredFile { path: path.to_owned(), bytes };
        let two = PART as u64 + 1;
        for files in [
            vec![file("../db", two)],
            vec![file("/db", two)],
            vec![file("", two)],
            vec![file("db", two - 1)],
            vec![file("db", u64::MAX), file("conf", 2)],
            vec![],
        ] {
            let index = Index { files, ..index() };
            let sealed = index.seal(&keys).unwrap();
            assert!(Index::open(&keys, SnapshotId::new(7), &sealed).is_err(), "{index:?}");
        }
    }
}
