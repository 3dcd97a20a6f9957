//! Lists the directory of a `file:` bucket.
//!
//! `object_store` ends a listing with an error at the first name that is no UTF-8 or holds a control character. Here such a
//! name is passed over, as is every other that no key has: replyvault did not write it.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use walkdir::{DirEntry, WalkDir};

use super::local::{Directory, blocking};
use super::{BucketError, ObjectKey};

/// How many entries are looked at on a thread that may block before it is given back.
const BATCH: usize = 1024;

impl Directory {
    /// Every object below `folder`, or in the whole directory, whose key sorts behind `after`, with its size in bytes.
    pub(super) fn list(
        &self,
        folder: Option<&str>,
        after: Option<&str>,
    ) -> BoxStream<'static, Result<(ObjectKey, u64), BucketError>> {
        let root = folder.map_or_else(|| self.root().to_owned(), |folder| self.root().join(folder));
        let walk = Walk {
            root: self.root().to_owned(),
            entries: WalkDir::new(root).min_depth(1).follow_links(true).into_iter(),
            after: after.unwrap_or_default().to_owned(),
            skipped: 0,
            example: None,
            is_whole: folder.is_none(),
        };
        let batches = stream::try_unfold(Some(walk), |walk| async {
            let Some(mut walk) = walk else { return Ok(None) };
            blocking(move || {
                let mut found = Vec::new();
                for _ in 0..BATCH {
                    let Some(entry) = walk.entries.next() else {
                        walk.report();
                        return Ok(Some((found, None)));
                    };
                    found.extend(walk.look_at(entry)?);
                }
                Ok(Some((found, Some(walk))))
            })
            .await
        });
        batches.map_ok(|found| stream::iter(found.into_iter().map(Ok))).try_flatten().boxed()
    }
}

struct Walk {
    root: PathBuf,
    entries: walkdir::IntoIter,
    after: String,
    /// Names that no key has, and one of them.
    skipped: u64,
    example: Option<PathBuf>,
    is_whole: bool,
}

impl Walk {
    /// The object that an entry is; `None` when it is none.
    fn look_at(&mut self, entry: walkdir::Result<DirEntry>) -> Result<Option<(ObjectKey, u64)>, BucketError> {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return self.judge(&error).map(|()| None),
        };
        let is_folder = entry.file_type().is_dir();
        if is_staging(entry.file_name()) && !is_folder {
            return Ok(None);
        }
        let below = entry.path().strip_prefix(&self.root).ok().and_then(|path| path.to_str());
        let Some(key) = below.and_then(ObjectKey::from_listing) else {
            self.skip(entry.into_path());
            if is_folder {
                // Nothing below has a key either.
                self.entries.skip_current_dir();
            }
            return Ok(None);
        };
        if is_folder || key.as_str() <= self.after.as_str() {
            return Ok(None);
        }
        match entry.metadata() {
            Ok(metadata) => Ok(metadata.is_file().then_some((key, metadata.len()))),
            Err(error) => self.judge(&error).map(|()| None),
        }
    }

    /// Whether the listing can do without what an error is about.
    fn judge(&mut self, error: &walkdir::Error) -> Result<(), BucketError> {
        let path = error.path().unwrap_or(&self.root).to_owned();
        let kind = error.io_error().map(std::io::Error::kind);
        // The folder that file systems put what they recovered into is root's alone.
        let is_lost_and_found = path.file_name().is_some_and(|name| name == "lost+found") && error.depth() == 1;
        match kind {
            // Gone since, or a link to nothing.
            Some(ErrorKind::NotFound) => Ok(()),
            // A link to a folder above it.
            None if error.loop_ancestor().is_some() => {
                self.skip(path);
                Ok(())
            }
            Some(ErrorKind::PermissionDenied) if is_lost_and_found => {
                self.skip(path);
                Ok(())
            }
            _ => match error.io_error() {
                Some(error) => Err(BucketError::of_io("listing", &path, error)),
                None => Err(BucketError::Unavailable(format!("listing {}", path.display()))),
            },
        }
    }

    fn skip(&mut self, path: PathBuf) {
        self.skipped += 1;
        self.example.get_or_insert(path);
    }

    fn report(&self) {
        let (skipped, example) = (self.skipped, self.example.as_deref());
        match example {
            Some(example) if self.is_whole => {
                tracing::warn!(skipped, ?example, "names in the bucket's directory that no key has are passed over");
            }
            Some(example) => tracing::debug!(skipped, ?example, "names that no key has are passed over"),
            None => {}
        }
    }
}

/// Whether this is the file of an upload under way, ours or `object_store`'s.
fn is_staging(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| Some(name.split_once('#')?.1));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
