//! The objects: their keys, atomic and multipart writes, reads, presigned links.
//!
//! Nothing is ever half visible: a single put and a completed upload each appear in one moment, and what comes before
//! it is either recorded ([`Upload`]) or a staging file that no listing shows. The module holds no state of its own and
//! decides nothing: which key, in which order and what to do about an error is the worker's to say, for which every
//! error tells whether it [is an outage](BucketError::is_outage).
//!
//! Stores: a directory (`file:`), anything that speaks S3 (`s3:`), Google Cloud Storage (`gs:`), memory (`memory:`).

mod backend;
mod credentials;
mod error;
mod http;
mod key;
mod links;
mod listing;
mod local;
mod manifest;
mod marker;
mod read;
mod template;
mod upload;
mod url;

use std::sync::Arc;

use bytes::Bytes;
use fail::fail_point;
use object_store::path::Path;
use object_store::{Attribute, Attributes, PutOptions};
use parking_lot::Mutex;
use secrecy::SecretString;

pub use error::{BucketError, OpenError};
pub use http::Limits;
pub use key::{KeyParseError, ObjectFolder, ObjectKey};
pub use links::{LinkConfig, Links};
pub use manifest::Manifest;
pub use read::ObjectMeta;
pub use template::{KeyTemplate, KeyTemplateError};
pub use upload::{MAX_PARTS, PartId, Upload};
pub use url::{StorageUrl, StorageUrlError};

/// How to reach the store, and how to use it. All but `url` and `part_size` matter to `s3:` only.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the objects are.
    pub url: StorageUrl,
    /// Where the S3 API is, for stores other than AWS: scheme, host and port.
    pub endpoint: Option<String>,
    /// The region; where absent the environment's, else `us-east-1`. R2 wants `auto`.
    pub region: Option<String>,
    /// With [`Self::secret_access_key`], or neither: then the AWS environment, shared files and roles are asked.
    pub access_key_id: Option<SecretString>,
    /// See [`Self::access_key_id`].
    pub secret_access_key: Option<SecretString>,
    /// Whether the endpoint may be an `http` one.
    pub allow_http: bool,
    /// Whether the bucket's name goes into the host rather than the path.
    pub virtual_hosted_style: bool,
    /// Bytes of each part of a multipart upload but the last: 1 to 5 GiB, and as many of them are held in memory as
    /// are sent at a time. `s3:` and `gs:` take at least 5 MiB; less means that.
    pub part_size: u64,
    /// How long `s3:` and `gs:` may take.
    pub limits: Limits,
}

impl Config {
    /// The store at `url` with nothing else said.
    pub fn new(url: StorageUrl) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            allow_http: false,
            virtual_hosted_style: false,
            part_size: 8 << 20,
            limits: Limits::default(),
        }
    }
}

/// A store that is open. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Bucket(Arc<Inner>);

struct Inner {
    store: backend::Store,
    part_size: u64,
    /// An object that is there and can be read, as far as is known.
    readable: Mutex<Option<ObjectKey>>,
    identity: Option<marker::Identity>,
}

impl Bucket {
    /// Opens a store. Makes the directory of a `file:` bucket and checks that it can be written to; of the others only
    /// the settings are checked: whether they can be reached [`Bucket::probe`] tells. Needs a tokio runtime from then
    /// on.
    ///
    /// # Errors
    /// When the settings are not valid, the directory not usable, or no client can be made.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        Self::open_with(config, None)
    }

    /// The same for a vault that remembers in the file `record` which bucket it uses; [`Bucket::identify`] finds that out. A
    /// directory that was used before need not be usable yet: what is asked of it fails until it is.
    ///
    /// # Errors
    /// As for [`Bucket::open`].
    pub fn open_for_vault(config: &Config, record: &std::path::Path) -> Result<Self, OpenError> {
        // Each bucket in memory is another.
        let is_lasting = !matches!(config.url.0, url::Location::Memory);
        Self::open_with(config, is_lasting.then(|| marker::Identity::read(record, &config.url)))
    }

    fn open_with(config: &Config, identity: Option<marker::Identity>) -> Result<Self, OpenError> {
        const MAX_PART: u64 = 5 << 30;
        if !(1..=MAX_PART).contains(&config.part_size) {
            return Err(OpenError::PartSize);
        }
        // reqwest is built without a provider of its own. Who was first does not matter: there is but one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let was_used = identity.as_ref().is_some_and(marker::Identity::is_marked);
        let store = backend::open(config, was_used)?;
        let part_size = config.part_size.max(store.min_part);
        if part_size != config.part_size {
            tracing::warn!(part_size, "part_size is below what the store takes: raised");
        }
        Ok(Self(Arc::new(Inner { store, part_size, readable: Mutex::default(), identity })))
    }

    /// Writes an object in one request, without copying the chunks, over whatever was there. It is durable when this
    /// returns, and visible wholly or not at all.
    ///
    /// # Errors
    /// When the store fails; then the old object, if any, is still there, or the new one is.
    pub async fn put(&self, key: &ObjectKey, chunks: Vec<Bytes>, content_type: &str) -> Result<(), BucketError> {
        self.expect_marker().await?;
        let attributes = match self.store().uploads {
            backend::Uploads::Remote(_) => attributes(content_type),
            // A file has none.
            backend::Uploads::Local(_) => Attributes::new(),
        };
        let options = PutOptions { attributes, ..Default::default() };
        let put = self.store().objects.put_opts(&Path::from(key.as_str()), chunks.into_iter().collect(), options).await;
        match put.map_err(|error| BucketError::of_store(key, &error)) {
            Err(error @ BucketError::NotFound(_)) => Err(BucketError::Unavailable(error.to_string())),
            other => {
                // In a directory, `object_store` has synced file and folder.
                fail_point!("bucket.synced");
                other.map(|_| self.is_readable(key))
            }
        }
    }

    /// Bytes of each part but the last of the uploads begun from now on; up to this an object is a single put.
    pub fn part_size(&self) -> u64 {
        self.0.part_size
    }

    fn is_readable(&self, key: &ObjectKey) {
        let mut readable = self.0.readable.lock();
        if readable.as_ref() != Some(key) {
            *readable = Some(key.clone());
        }
    }

    fn readable(&self) -> Option<ObjectKey> {
        self.0.readable.lock().clone()
    }

    fn store(&self) -> &backend::Store {
        &self.0.store
    }
}

/// Without the store: its builders and clients show credentials.
impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("part_size", &self.part_size()).finish_non_exhaustive()
    }
}

fn attributes(content_type: &str) -> Attributes {
    Attributes::from_iter([(Attribute::ContentType, content_type.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The simplest configuration for a store.
    pub(super) fn config(url: &str) -> Config {
        Config::new(StorageUrl::parse(url, std::path::Path::new("/")).unwrap())
    }

    #[test]
    fn part_sizes_are_bounded() {
        let open = |url: &str, part_size| Bucket::open(&Config { part_size, ..config(url) });
        assert_eq!(open("memory:", 0).unwrap_err(), OpenError::PartSize);
        assert_eq!(open("memory:", u64::MAX).unwrap_err(), OpenError::PartSize);
        assert_eq!(open("memory:", 1).unwrap().part_size(), 1);
    }

    #[test]
    fn a_directory_that_can_not_be_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for url in [format!("file:{}", file.display()), format!("file:{}/below", file.display())] {
            let error = Bucket::open(&config(&url)).unwrap_err();
            assert!(matches!(error, OpenError::Directory { .. }) && error.to_string().contains("/file"), "{error}");
        }
    }
}
