use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::key::is_path;

/// Where the objects are: the setting `storage.url`.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageUrl(pub(super) Location);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Location {
    File(PathBuf),
    S3 { bucket: String, prefix: String },
    Gcs { bucket: String, prefix: String },
    Memory,
}

/// Why a text is no [`StorageUrl`]; says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StorageUrlError {
    /// No scheme, or another one.
    #[error("expected file:<directory>, s3://<bucket>/<prefix>, gs://<bucket>/<prefix> or memory:")]
    Scheme,
    /// No directory, one on another host, or one that is not text.
    #[error("expected a directory, as in file:data/bucket or file:///srv/bucket, with %25 for a percent sign")]
    Directory,
    /// Not a bucket's name.
    #[error("expected a bucket's name of letters, digits, '.', '-' and '_' after the two slashes")]
    BucketName,
    /// Not a prefix.
    #[error(
        "expected a prefix of at most {MAX_PREFIX} bytes of ASCII letters, digits and -_.=+@,!() between single \
         slashes, without . and .."
    )]
    Prefix,
}

/// The longest prefix, in bytes: with it a key keeps within the 1,024 bytes that S3 and GCS allow.
const MAX_PREFIX: usize = 400;

impl StorageUrl {
    /// Reads a storage URL; a relative directory is one below `base`.
    ///
    /// # Errors
    /// When it is none of the forms listed in [`StorageUrlError::Scheme`].
    pub fn parse(text: &str, base: &Path) -> Result<Self, StorageUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(StorageUrlError::Scheme)?;
        let location = match scheme.to_ascii_lowercase().as_str() {
            "file" => Location::File(base.join(directory(rest)?)),
            "memory" if rest.trim_matches('/').is_empty() => Location::Memory,
            "s3" => bucket(rest).map(|(bucket, prefix)| Location::S3 { bucket, prefix })?,
            "gs" => bucket(rest).map(|(bucket, prefix)| Location::Gcs { bucket, prefix })?,
            _ => return Err(StorageUrlError::Scheme),
        };
        Ok(Self(location))
    }
}

fn directory(rest: &str) -> Result<PathBuf, StorageUrlError> {
    let path = match rest.strip_prefix("//") {
        Some(with_host) => {
            let slash = with_host.find('/').ok_or(StorageUrlError::Directory)?;
            let (host, path) = with_host.split_at(slash);
            if !host.is_empty() && host != "localhost" {
                return Err(StorageUrlError::Directory);
            }
            path
        }
        None => rest,
    };
    let path = percent_decode_str(path).decode_utf8().map_err(|_| StorageUrlError::Directory)?;
    if path.is_empty() || path.contains('\0') {
        return Err(StorageUrlError::Directory);
    }
    Ok(PathBuf::from(path.as_ref()))
}

fn bucket(rest: &str) -> Result<(String, String), StorageUrlError> {
    let rest = rest.strip_prefix("//").ok_or(StorageUrlError::BucketName)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let named = (1..=255).contains(&bucket.len())
        && bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        && bucket.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !named {
        return Err(StorageUrlError::BucketName);
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && (prefix.len() > MAX_PREFIX || !is_path(prefix)) {
        return Err(StorageUrlError::Prefix);
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

impl fmt::Display for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Location::File(directory) => write!(f, "file:{}", directory.display().to_string().replace('%', "%25")),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Location::Gcs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            Location::Memory => f.write_str("memory:"),
        }
    }
}

impl fmt::Debug for StorageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, StorageUrlError> {
        StorageUrl::parse(text, Path::new("/base")).map(|url| url.to_string())
    }

    #[test]
    fn every_form_is_read() {
        for (text, expected) in [
            ("file:data/bucket", "file:/base/data/bucket"),
            ("file:./bucket", "file:/base/./bucket"),
            ("file:/srv/bucket", "file:/srv/bucket"),
            ("file:///srv/bucket", "file:/srv/bucket"),
            ("file://localhost/srv/bucket", "file:/srv/bucket"),
            ("FILE:/srv/my%20bucket%25", "file:/srv/my bucket%25"),
            ("s3://media", "s3://media/"),
            ("s3://media/", "s3://media/"),
            ("s3://media.example/a/b/", "s3://media.example/a/b"),
            ("gs://media/a", "gs://media/a"),
            ("memory:", "memory:"),
            ("memory:///", "memory:"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_was_expected() {
        use StorageUrlError as E;
        let long = format!("s3://b/{}", "abcdefg/".repeat(60));
        for (bad, expected) in [
            ("", E::Scheme),
            ("data/bucket", E::Scheme),
            ("az://c/p", E::Scheme),
            ("https://s3.example.com/b", E::Scheme),
            ("memory:x", E::Scheme),
            ("file:", E::Directory),
            ("file://", E::Directory),
            ("file://server/share", E::Directory),
            ("file:%ff", E::Directory),
            ("s3:media", E::BucketName),
            ("s3://", E::BucketName),
            ("s3:///prefix", E::BucketName),
            ("s3://me:pw@host/b", E::BucketName),
            ("s3://b/a//b", E::Prefix),
            ("s3://b/../c", E::Prefix),
            ("s3://b/a?region=x", E::Prefix),
            (&long, E::Prefix),
        ] {
            assert_eq!(shown(bad), Err(expected), "{bad}");
        }
    }
}
