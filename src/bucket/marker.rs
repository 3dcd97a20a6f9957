//! A marker in the bucket tells it from one that merely lies at the same place: a directory on which no disk is mounted, or
//! a bucket of that name elsewhere.
//!
//! It is made once, when a vault first uses a bucket, and what it says is remembered beside the journal. From then on
//! nothing is written to a bucket at that place without that marker, and what it does not have does not count as missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::backend::Uploads;
use super::local::{blocking, make_directory};
use super::{Bucket, BucketError, ObjectKey, StorageUrl};
use crate::disk::write_durably;

/// A longer one is none.
const MAX_BYTES: u64 = 1024;

/// What an operator writes in the place of what is remembered, so that whatever bucket lies there is used, an empty one, too.
/// A word, since a copy that was cut off may leave an empty file.
const NEW: &str = "new";

/// What the marker's object holds.
#[derive(Serialize, Deserialize)]
struct Marker {
    /// The vault that first used the bucket.
    vault: String,
}

/// What is remembered of it.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Where the bucket is.
    storage: String,
    /// What its marker says.
    vault: String,
}

/// Which marker the bucket has to have.
pub(super) struct Identity {
    storage: String,
    path: PathBuf,
    /// Whether it says [`NEW`].
    takes_any: bool,
    standing: Mutex<Standing>,
    /// Only one makes a marker.
    making: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
enum Standing {
    /// None is known yet; `Some` says why the bucket is not taken for this vault's.
    Unmarked(Option<String>),
    /// This one. Whether it was there when last looked for; `Err` says what was found instead.
    Marked { vault: String, found: Option<Result<(), String>> },
}

impl Identity {
    /// What is remembered in the file at `path` of the bucket at `storage`.
    pub(super) fn read(path: &Path, storage: &StorageUrl) -> Self {
        let storage = storage.to_string();
        let text = fs::read(path);
        let takes_any = text.as_ref().is_ok_and(|text| text.trim_ascii() == NEW.as_bytes());
        let remembered = match text {
            Ok(_) if takes_any => Ok(None),
            Ok(bytes) => serde_json::from_slice::<Record>(&bytes).map_err(|error| error.to_string()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        };
        let remembered = remembered.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error, "which bucket this vault uses cannot be read and is found out anew");
            None
        });
        let standing = match remembered.filter(|record| record.storage == storage) {
            Some(Record { vault, .. }) => Standing::Marked { vault, found: None },
            None => Standing::Unmarked(None),
        };
        let (standing, making) = (Mutex::new(standing), tokio::sync::Mutex::default());
        Self { storage, path: path.to_owned(), takes_any, standing, making }
    }

    /// Whether the bucket was used before, so that its marker is known.
    pub(super) fn is_marked(&self) -> bool {
        matches!(self.standing(), Standing::Marked { .. })
    }

    fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    fn set(&self, standing: Standing) {
        *self.standing.lock() = standing;
    }

    /// Why the bucket is not used, and how it can be all the same.
    fn refusal(&self, found: &str) -> String {
        format!(
            "{found}: is it mounted, and the right one? To use it from now on, write the word {NEW} into {} and start again",
            self.path.display()
        )
    }

    /// Remembers the marker, for good.
    fn remember(&self, vault: &str) -> Result<(), BucketError> {
        let record = Record { storage: self.storage.clone(), vault: vault.to_owned() };
        let text = serde_json::to_vec(&record).map_err(|error| BucketError::Unavailable(error.to_string()))?;
        write_durably(&self.path, &text).map_err(|error| BucketError::of_io("writing", &self.path, &error))?;
        self.set(Standing::Marked { vault: vault.to_owned(), found: Some(Ok(())) });
        Ok(())
    }
}

impl Bucket {
    /// Whether the bucket is the one that this vault uses. One that was not used yet is marked, unless it is empty although
    /// the vault `holds_objects` and nobody said that it is to be used; one that another vault has marked is taken as it is.
    ///
    /// # Errors
    /// When it is another, or the store fails. Always one that [`BucketError::is_outage`].
    pub async fn identify(&self, holds_objects: bool) -> Result<(), BucketError> {
        let Some(identity) = &self.0.identity else { return Ok(()) };
        let _making = identity.making.lock().await;
        if let Standing::Marked { .. } = identity.standing() {
            return self.check_marker().await;
        }
        identity.set(Standing::Unmarked(None));
        if let Uploads::Local(_) = &self.store().uploads {
            self.ping().await?;
        }
        let vault = match self.read_marker().await? {
            Some(vault) => vault,
            None if holds_objects && !identity.takes_any && self.is_empty().await? => {
                let reason = identity.refusal("the bucket is empty, and objects were stored in it");
                identity.set(Standing::Unmarked(Some(reason.clone())));
                return Err(BucketError::Foreign(reason));
            }
            None => self.make_marker().await?,
        };
        identity.remember(&vault)
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.identity.as_ref().is_some_and(Identity::is_marked)
    }

    /// That the bucket has its marker, where one is known.
    pub(super) async fn check_marker(&self) -> Result<(), BucketError> {
        let Some(identity) = &self.0.identity else { return Ok(()) };
        let vault = match identity.standing() {
            Standing::Marked { vault, .. } => vault,
            Standing::Unmarked(None) => return Ok(()),
            Standing::Unmarked(Some(reason)) => return Err(BucketError::Foreign(reason)),
        };
        let marker = ObjectKey::marker();
        let found = match self.read_marker().await? {
            Some(found) if found == vault => Ok(()),
            Some(_) => Err(identity.refusal(&format!("{marker} says that it is another vault's bucket"))),
            None => Err(identity.refusal(&format!("expected {marker} in the bucket, which is not there or damaged"))),
        };
        identity.set(Standing::Marked { vault, found: Some(found.clone()) });
        found.map_err(BucketError::Foreign)
    }

    /// That the bucket may be written to: looked up each time in a directory, else as it was found last.
    pub(super) async fn expect_marker(&self) -> Result<(), BucketError> {
        let Some(identity) = &self.0.identity else { return Ok(()) };
        match (identity.standing(), &self.store().uploads) {
            (Standing::Marked { found: Some(found), .. }, Uploads::Remote(_)) => found.map_err(BucketError::Foreign),
            _ => self.check_marker().await,
        }
    }

    async fn read_marker(&self) -> Result<Option<String>, BucketError> {
        let key = ObjectKey::marker();
        let found = self.store().objects.get_opts(&key.as_str().into(), GetOptions::default()).await;
        let found = match found.map_err(|error| BucketError::of_store(&key, &error)) {
            Err(BucketError::NotFound(_)) => return Ok(None),
            Err(error) if !error.is_outage() => return Err(BucketError::Unavailable(error.to_string())),
            found => found?,
        };
        if found.meta.size > MAX_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut stream = found.into_stream();
        while let Some(chunk) = stream.try_next().await.map_err(|error| BucketError::of_listing(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > MAX_BYTES {
                return Ok(None);
            }
        }
        Ok(serde_json::from_slice::<Marker>(&bytes).ok().map(|marker| marker.vault))
    }

    /// Puts a marker there. Returns what it says, or that of somebody who was faster.
    async fn make_marker(&self) -> Result<String, BucketError> {
        let marker = Marker { vault: format!("{:032x}", rand::random::<u128>()) };
        let text = serde_json::to_vec(&marker).map_err(|error| BucketError::Unavailable(error.to_string()))?;
        let key = ObjectKey::marker();
        if let Uploads::Local(directory) = &self.store().uploads {
            let folder = directory.root().join(ObjectKey::ABOUT);
            let failed = |error| BucketError::of_io("making", &folder, &error);
            make_directory(&folder).map_err(failed)?;
            // Of one that a crash cut off the staging file is left.
            let directory = directory.clone();
            blocking(move || directory.remove_staging(ObjectKey::ABOUT, &[])).await?;
        }
        // Replicas that see a bucket for the first time may do so at a time. A store that knows no conditions refuses it.
        let alone = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let is_there = match self.store().uploads {
            Uploads::Remote(_) => {
                let put = self.store().objects.put_opts(&key.as_str().into(), text.clone().into(), alone).await;
                let is_there = matches!(put, Ok(_) | Err(object_store::Error::AlreadyExists { .. }));
                // A damaged one is no marker, and nobody else puts another in its place.
                is_there && self.read_marker().await?.is_some()
            }
            Uploads::Local(_) => false,
        };
        if !is_there {
            let put = self.store().objects.put(&key.as_str().into(), text.into()).await;
            put.map_err(|error| BucketError::of_listing(&error))?;
        }
        tracing::info!(%key, "the bucket was marked as this vault's");
        let gone = || BucketError::Unavailable(format!("{key} was written and is not there"));
        self.read_marker().await?.ok_or_else(gone)
    }

    async fn is_empty(&self) -> Result<bool, BucketError> {
        Ok(self.list_all(None, None).try_next().await?.is_none())
    }
}
