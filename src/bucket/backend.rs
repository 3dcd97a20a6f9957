//! How each kind of store is opened.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path as StorePath;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer;
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::local::Directory;
use super::url::Location;
use super::{Config, OpenError, credentials, http};

/// What a store can do. `object_store` has a trait for each.
pub(super) struct Store {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) uploads: Uploads,
    pub(super) signer: Option<Arc<dyn Signer>>,
    /// The least a part may have, unless it is the last, in bytes.
    pub(super) min_part: u64,
}

pub(super) enum Uploads {
    Remote(Arc<dyn MultipartStore>),
    Local(Directory),
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>; the same for GCS.
const MIN_PART: u64 = 5 << 20;

/// Opens the store. When it `was_used` before, a directory that cannot be used now is an outage, which ends by itself: its disk
/// is not mounted, or fails.
pub(super) fn open(config: &Config, was_used: bool) -> Result<Store, OpenError> {
    let client_error = |error: object_store::Error| OpenError::client(&config.url, &error);
    match &config.url.0 {
        Location::File(path) => match Directory::open(path) {
            Ok(directory) => {
                let files = LocalFileSystem::new_with_prefix(path).map_err(client_error)?;
                Ok(local(directory, durable(files)))
            }
            Err(error) if was_used => {
                tracing::warn!(path = %path.display(), %error, "the bucket's directory cannot be used yet");
                // What cannot be looked at has no canonical path, so each file is named from the root on.
                let prefix = absolute(path).map_err(|error| client_error(error.into()))?;
                Ok(local(Directory::at(path), PrefixStore::new(durable(LocalFileSystem::new()), prefix)))
            }
            Err(error) => Err(OpenError::directory(path, &error)),
        },
        Location::Memory => {
            let memory = Arc::new(InMemory::new());
            let uploads = Uploads::Remote(memory.clone());
            Ok(Store { objects: memory, uploads, signer: None, min_part: 1 })
        }
        Location::S3 { bucket, prefix } => Ok(remote(s3(config, bucket)?.build().map_err(client_error)?, prefix)),
        Location::Gcs { bucket, prefix } => {
            let store = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(http::options().with_allow_http(config.allow_http))
                .with_http_connector(http::Connector(config.limits))
                .with_retry(http::retries())
                .build()
                .map_err(client_error)?;
            Ok(remote(store, prefix))
        }
    }
}

fn durable(files: LocalFileSystem) -> LocalFileSystem {
    files.with_fsync(true).with_automatic_cleanup(false)
}

fn absolute(path: &Path) -> Result<StorePath, object_store::path::Error> {
    // Without a working directory it stays as it is, and is refused.
    StorePath::from_absolute_path(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

fn local(directory: Directory, files: impl ObjectStore) -> Store {
    Store { objects: Arc::new(files), uploads: Uploads::Local(directory), signer: None, min_part: 1 }
}

fn remote<T>(store: T, prefix: &str) -> Store
where
    T: ObjectStore + MultipartStore + Signer,
{
    let prefixed = Arc::new(PrefixStore::new(store, prefix));
    Store {
        objects: prefixed.clone(),
        uploads: Uploads::Remote(prefixed.clone()),
        signer: Some(prefixed),
        min_part: MIN_PART,
    }
}

fn s3(config: &Config, bucket: &str) -> Result<AmazonS3Builder, OpenError> {
    let missing = |expected| OpenError::Credentials(config.url.clone(), expected);
    let (mut builder, known) = match (&config.access_key_id, &config.secret_access_key) {
        // The environment's session token would not belong to these keys.
        (Some(id), Some(secret)) => {
            let builder = AmazonS3Builder::new()
                .with_access_key_id(id.expose_secret())
                .with_secret_access_key(secret.expose_secret());
            (builder, true)
        }
        (None, None) => credentials::from_environment(),
        _ => return Err(missing("both access_key_id and secret_access_key, or neither")),
    };
    if let Some(endpoint) = &config.endpoint {
        // The key that outranks whatever endpoint the environment names.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, self::endpoint(config, endpoint, bucket)?);
    }
    if !known {
        let elsewhere = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        if elsewhere.iter().any(|key| builder.get_config_value(key).is_some()) {
            return Err(missing(
                "access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in \
                 the shared credentials file",
            ));
        }
        tracing::warn!(
            "no S3 credentials in the configuration, the environment or the shared files: asking AWS's \
                        metadata service for this machine's role"
        );
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    let sealed = is_transport_trusted(&builder);
    Ok(builder
        .with_bucket_name(bucket)
        .with_client_options(http::options())
        .with_allow_http(config.allow_http)
        .with_virtual_hosted_style_request(config.virtual_hosted_style)
        // Otherwise the store compares what it receives with a hash in the signature, which is a quarter of the processor
        // time that an archived file costs here, and work for the store.
        .with_unsigned_payload(sealed)
        .with_http_connector(http::Connector(config.limits))
        .with_retry(http::retries()))
}

/// Whether nothing on the way to the store can change what is sent: TLS sees to it, or there is no way, since the store is
/// on this machine. AWS's clients, too, sign payloads over HTTP only
/// (<https://docs.aws.amazon.com/AWSJavaSDK/latest/javadoc/com/amazonaws/auth/AWS4UnsignedPayloadSigner.html>).
fn is_transport_trusted(builder: &AmazonS3Builder) -> bool {
    let keys = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
    // AWS itself is spoken to over TLS.
    let Some(endpoint) = keys.iter().find_map(|key| builder.get_config_value(key)) else { return true };
    Url::parse(&endpoint).is_ok_and(|url| match url.host() {
        Some(Host::Ipv4(address)) if address.is_loopback() => true,
        Some(Host::Ipv6(address)) if address.is_loopback() => true,
        _ => url.scheme() == "https",
    })
}

/// The endpoint as the builder wants it: with the bucket's name in the host for virtual-hosted requests.
fn endpoint(config: &Config, text: &str, bucket: &str) -> Result<String, OpenError> {
    let expected = OpenError::Endpoint("a URL without user, query and bucket, as in https://s3.example.com");
    let mut url = Url::parse(text).map_err(|_| expected.clone())?;
    let plain = !url.path().trim_end_matches('/').ends_with(&format!("/{bucket}"))
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) if plain => {}
        ("http", Some(_)) if plain && config.allow_http => {}
        ("http", Some(_)) if plain => return Err(OpenError::Endpoint("an https URL, or allow_http = true")),
        _ => return Err(expected),
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    if config.virtual_hosted_style && !host.starts_with(&format!("{bucket}.")) {
        url.set_host(Some(&format!("{bucket}.{host}"))).map_err(|_| expected)?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::tests::config;

    #[test]
    fn endpoints_are_checked_and_get_the_bucket_in_front() {
        let mut config = config("s3://media/a");
        let read = |config: &Config, text: &str| endpoint(config, text, "media").ok();
        assert_eq!(read(&config, "https://s3.example.com:9000/").as_deref(), Some("https://s3.example.com:9000"));
        assert_eq!(read(&config, "https://example.com/v1/s3").as_deref(), Some("https://example.com/v1/s3"));
        for bad in ["", "s3.example.com", "ftp://h", "http://h", "https://me:pw@h", "https://h/media", "https://h/?x"] {
            assert_eq!(read(&config, bad), None, "{bad}");
        }
        config.virtual_hosted_style = true;
        assert_eq!(read(&config, "https://s3.example.com").as_deref(), Some("https://media.s3.example.com"));
        assert_eq!(read(&config, "https://media.s3.example.com").as_deref(), Some("https://media.s3.example.com"));
        config.allow_http = true;
        config.virtual_hosted_style = false;
        assert_eq!(read(&config, "http://127.0.0.1:9000").as_deref(), Some("http://127.0.0.1:9000"));
    }

    #[test]
    fn a_directorys_files_are_synced_also_where_it_could_not_be_used_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, was_used) in [(dir.path().to_owned(), false), (file, true)] {
            let store = open(&config(&format!("file:{}", path.display())), was_used).unwrap();
            let files = format!("{:?}", store.objects);
            assert!(files.contains("fsync: true"), "{files}");
        }
    }

    #[test]
    fn payloads_are_signed_where_they_could_be_changed_on_the_way() {
        let mut config = config("s3://media/a");
        config.access_key_id = Some("AKIA".into());
        config.secret_access_key = Some("hidden".into());
        config.allow_http = true;
        let mut is_unsigned = |endpoint: Option<&str>| {
            config.endpoint = endpoint.map(str::to_owned);
            s3(&config, "media").unwrap().get_config_value(&AmazonS3ConfigKey::UnsignedPayload).unwrap()
        };
        for sealed in [None, Some("https://s3.example.com"), Some("http://127.0.0.1:9000"), Some("http://[::1]:9000")] {
            assert_eq!(is_unsigned(sealed), "true", "{sealed:?}");
        }
        for open in ["http://s3.example.com", "http://10.0.0.1:9000", "http://localhost:9000"] {
            assert_eq!(is_unsigned(Some(open)), "false", "{open}");
        }
    }

    #[test]
    fn half_of_the_credentials_is_none() {
        let mut config = config("s3://media/a");
        config.access_key_id = Some("AKIA".into());
        assert!(matches!(s3(&config, "media"), Err(OpenError::Credentials(..))));
        config.secret_access_key = Some("hidden".into());
        assert!(s3(&config, "media").is_ok());
        assert!(!format!("{config:?}").contains("hidden") && !format!("{config:?}").contains("AKIA"));
    }
}
