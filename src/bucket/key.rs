use crate::domain::{Digest, FileName};

/// The first segment below which nothing but the journal's own segments may lie.
const JOURNAL: &str = "_journal";
/// The first segment below which thumbnails lie, which can be made again at any time.
const THUMBNAILS: &str = "_thumbs";
/// First segments that no job's folder may have.
pub(super) const RESERVED: [&str; 3] = [JOURNAL, ObjectKey::ABOUT, THUMBNAILS];

/// The longest segment of a key, in bytes: file systems stop at 255, and a staging file's suffix must fit, too.
pub(super) const MAX_SEGMENT: usize = 200;

/// The key of an object below the bucket's prefix, such as `video/2026/11/20/video-3/video.mp4`.
///
/// Relative, at most [`ObjectKey::MAX_BYTES`] bytes of ASCII letters, digits and `-_.=+@,!()`, in `/`-separated
/// segments of 1 to 200 bytes, none of them `.` or `..`. So it can't leave the prefix, and no key can be taken for a
/// staging file (`name#1`). Read from text it never lies below `_journal/`, `_replyvault/` or `_thumbs/`;
/// only [`ObjectKey::journal`], [`ObjectKey::snapshot`], [`ObjectKey::snapshot_part`], `ObjectKey::marker` and
/// [`ObjectKey::thumbnail`] do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Box<str>);

/// The folder of a job: a key without its last segment, short enough for any file name to follow.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectFolder(Box<str>);

/// The text is no valid key or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct KeyParseError(&'static str);

impl ObjectKey {
    /// The longest key, in bytes, the bucket's prefix not counted. S3 allows 1,024 with the prefix.
    pub const MAX_BYTES: usize = 512;

    const EXPECTED: KeyParseError = KeyParseError(
        "an object key: a relative path of plain ASCII, at most 512 bytes, not below _journal/, _replyvault/ or _thumbs/",
    );

    /// The key of one of the journal's own segments.
    pub fn journal(name: &FileName) -> Self {
        Self(format!("{JOURNAL}/{name}").into())
    }

    /// The key of what tells of a snapshot of the state.
    pub fn snapshot(name: &FileName) -> Self {
        Self(format!("{}/{name}", Self::SNAPSHOTS).into())
    }

    /// The key of a part of a snapshot.
    pub fn snapshot_part(name: &FileName) -> Self {
        Self(format!("{}/{name}", Self::SNAPSHOT_PARTS).into())
    }

    /// The key of the thumbnail of the bytes with a digest.
    pub fn thumbnail(of: &Digest) -> Self {
        let digest = of.to_string();
        Self(format!("{THUMBNAILS}/{}/{digest}.jpg", &digest[..2]).into())
    }

    /// The first segment below which what tells of the bucket itself lies.
    pub(super) const ABOUT: &str = "_replyvault";

    const SNAPSHOTS: &str = "_replyvault/snapshots";
    const SNAPSHOT_PARTS: &str = "_replyvault/snapshot-parts";

    /// The key of the marker that tells whose bucket this is.
    pub(super) fn marker() -> Self {
        Self(format!("{}/vault.json", Self::ABOUT).into())
    }

    /// Reads a key as a listing shows it, reserved ones included; `None` for what replyvault can't have written.
    pub(super) fn from_listing(text: &str) -> Option<Self> {
        (text.len() <= Self::MAX_BYTES && is_path(text)).then(|| Self(text.into()))
    }

    /// Whether this names a job's manifest.
    pub fn is_manifest(&self) -> bool {
        self.0.ends_with(FileName::MANIFEST) && self.file_name() == FileName::MANIFEST
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether this lies in `folder` or below it.
    pub fn is_below(&self, folder: &ObjectFolder) -> bool {
        self.0.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_reserved(&self) -> bool {
        is_reserved(&self.0)
    }

    /// Whether this is a part of a snapshot, or tells of one.
    pub(super) fn is_snapshot(&self) -> bool {
        self.is_below(&ObjectFolder::snapshots()) || self.is_below(&ObjectFolder::snapshot_parts())
    }
}

impl ObjectFolder {
    /// The longest folder, in bytes.
    pub const MAX_BYTES: usize = ObjectKey::MAX_BYTES - 1 - FileName::MAX_BYTES;

    const EXPECTED: KeyParseError = KeyParseError(
        "a folder: a relative path of plain ASCII, at most 411 bytes, not below _journal/, _replyvault/ or _thumbs/",
    );

    /// The folder of the journal's own segments.
    pub fn journal() -> Self {
        Self(JOURNAL.into())
    }

    /// The folder of what tells of snapshots.
    pub fn snapshots() -> Self {
        Self(ObjectKey::SNAPSHOTS.into())
    }

    /// The folder of the parts of snapshots.
    pub fn snapshot_parts() -> Self {
        Self(ObjectKey::SNAPSHOT_PARTS.into())
    }

    /// What a template makes of a job, which is a folder by the template's own checks.
    pub(super) fn of_template(text: String) -> Self {
        debug_assert!(text.len() <= Self::MAX_BYTES && is_path(&text) && !is_reserved(&text), "{text}");
        Self(text.into())
    }

    /// The key of a file in this folder.
    pub fn file(&self, name: &FileName) -> ObjectKey {
        ObjectKey(format!("{self}/{name}").into())
    }

    /// The key of the job's manifest.
    pub fn manifest(&self) -> ObjectKey {
        ObjectKey(format!("{self}/{}", FileName::MANIFEST).into())
    }

    /// The folder as text, without a `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `char` may stand in a key. Neither AWS nor Google advise against any of these, no file system forbids one,
/// and none needs encoding in a URL's path.
pub(super) fn is_key_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "-_.=+@,!()".contains(char)
}

/// Whether every segment is one that a key may have.
pub(super) fn is_path(text: &str) -> bool {
    text.split('/').all(|segment| {
        (1..=MAX_SEGMENT).contains(&segment.len()) && !matches!(segment, "." | "..") && segment.chars().all(is_key_char)
    })
}

/// In any case: some file systems do not tell the difference.
fn is_reserved(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    RESERVED.iter().any(|reserved| first.eq_ignore_ascii_case(reserved))
}

impl std::str::FromStr for ObjectKey {
    type Err = KeyParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_listing(text).filter(|key| !key.is_reserved()).ok_or(Self::EXPECTED)
    }
}

impl std::str::FromStr for ObjectFolder {
    type Err = KeyParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= Self::MAX_BYTES && is_path(text) && !is_reserved(text);
        if valid { Ok(Self(text.into())) } else { Err(Self::EXPECTED) }
    }
}

/// Display, Debug and serde as plain text, read back through `FromStr`.
macro_rules! text_form {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.as_str().serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_form!(ObjectKey);
text_form!(ObjectFolder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_leave_the_prefix_or_hide_is_refused() {
        let long_segment = "a".repeat(MAX_SEGMENT + 1);
        let long = format!("{}b", "abcdefg/".repeat(64));
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "a/./b",
            "..",
            "a/../b",
            "a\\b",
            "a b",
            "a\0",
            "ä",
            "a#1",
            "a/b#1",
            "a%2e",
            "a?b",
            "_journal/0001",
            "_JOURNAL/0001",
            "_ReplyVault/vault.json",
            "_journal",
            &long_segment,
            &long,
        ] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad:?}");
        }
        for good in ["a", "video/2026/11/20/video-3/video.mp4", "_journals/a", "a/_journal/b", "..a/b..", ".hidden"] {
            assert_eq!(good.parse::<ObjectKey>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn a_folder_leaves_room_for_any_file() {
        let longest = format!("{}{}", "abcdefg/".repeat(51), "abc");
        assert_eq!(longest.len(), ObjectFolder::MAX_BYTES);
        let folder: ObjectFolder = longest.parse().unwrap();
        let key = folder.file(&FileName::clean(&"x".repeat(500)));
        assert_eq!(key.as_str().parse(), Ok(key.clone()));
        assert!(key.is_below(&folder) && !key.is_manifest() && folder.manifest().is_manifest());
        assert!(format!("{longest}d").parse::<ObjectFolder>().is_err());
        assert!(!"ab/c".parse::<ObjectKey>().unwrap().is_below(&"a".parse().unwrap()));
    }

    #[test]
    fn the_journal_has_its_own_way_in() {
        let key = ObjectKey::journal(&FileName::clean("00000001.log"));
        assert_eq!(key.as_str(), "_journal/00000001.log");
        assert!(key.is_below(&ObjectFolder::journal()));
        assert!(serde_json::from_str::<ObjectKey>("\"_journal/00000001.log\"").is_err());
        assert!(serde_json::from_str::<ObjectFolder>("\"_journal\"").is_err());
    }
}
