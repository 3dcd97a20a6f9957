use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::http::S3Error;
use super::{ObjectKey, StorageUrl};

/// Why the bucket did not do what was asked. Texts are for people and hold no secret; the variant is for code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is no such object, and the store that says so is in order.
    #[error("{0} is not in the bucket")]
    NotFound(ObjectKey),
    /// The store does not know the multipart upload, or will not make an object of its parts. Another one may work.
    #[error("the multipart upload of {key} is lost: {reason}")]
    UploadLost {
        /// The object it would have become.
        key: ObjectKey,
        /// What the store said.
        reason: String,
    },
    /// The range is empty, turned round, or begins at or behind the object's end.
    #[error("{0} has no byte in the range asked for")]
    InvalidRange(ObjectKey),
    /// The object has more bytes than one of its kind may have.
    #[error("{0} has more than {1} bytes")]
    TooLarge(ObjectKey, u64),
    /// The caller cut an object into parts that some store would not take.
    #[error("invalid parts: expected {0}")]
    InvalidPart(&'static str),
    /// Credentials, permissions or a read-only disk stand in the way.
    #[error("storage denied access: {0}")]
    Denied(String),
    /// The store refuses a request for a reason that may lie in it: a key, a size, a rule.
    #[error("storage refuses it: {0}")]
    Refused(String),
    /// The store does not say of an object that it is missing: it answers 403, as S3 does without the permission to list.
    #[error("storage does not tell a missing object from a forbidden one: grant s3:ListBucket")]
    NoListing,
    /// No room: disk full, over quota, or the store says so (507).
    #[error("storage is full: {0}")]
    Full(String),
    /// It is not the bucket that this vault uses.
    #[error("storage is not what it was: {0}")]
    Foreign(String),
    /// The store can't be reached, is out of order, not the one expected, or answers too slowly.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
}

/// Why a bucket could not be opened; says what was expected. For people; holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The directory of a `file:` bucket can't be made or written to.
    #[error("{url}: expected a directory that can be made and written to: {reason}")]
    Directory {
        /// Where it should be.
        url: StorageUrl,
        /// What the system said.
        reason: String,
    },
    /// No S3 credentials anywhere, or half of them.
    #[error("{0}: expected S3 credentials: {1}")]
    Credentials(StorageUrl, &'static str),
    /// The endpoint is no URL, or an `http` one without `allow_http`.
    #[error("endpoint: expected {0}")]
    Endpoint(&'static str),
    /// The part size is zero or above what S3 takes.
    #[error("part_size: expected 1 byte to 5 GiB")]
    PartSize,
    /// The client for the store could not be made, for want of certificates or of valid settings.
    #[error("{url}: {reason}")]
    Client {
        /// The store.
        url: StorageUrl,
        /// What is wrong.
        reason: String,
    },
}

impl BucketError {
    /// Whether the store as a whole is what fails: network, 5xx, timeouts, credentials, permission, no room. The same
    /// call can succeed when that is over, so it is no attempt at the object.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Denied(_)
            | Self::Refused(_)
            | Self::NoListing
            | Self::Full(_)
            | Self::Foreign(_)
            | Self::Unavailable(_) => true,
            Self::NotFound(_)
            | Self::UploadLost { .. }
            | Self::InvalidRange(_)
            | Self::TooLarge(..)
            | Self::InvalidPart(_) => false,
        }
    }

    /// Whether it may be about one object alone, while the store takes others: [`Bucket::probe_write`] tells.
    ///
    /// [`Bucket::probe_write`]: super::Bucket::probe_write
    pub fn may_concern_one_object(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Refused(_))
    }

    pub(super) fn upload_lost(key: &ObjectKey, reason: &str) -> Self {
        Self::UploadLost { key: key.clone(), reason: reason.to_owned() }
    }

    /// What `error`, met while working on `key`, means.
    pub(super) fn of_store(key: &ObjectKey, error: &object_store::Error) -> Self {
        if let Some(refusal) = cause::<S3Error>(error) {
            match (refusal.status, refusal.code.as_str()) {
                (416, _) => return Self::InvalidRange(key.clone()),
                (_, "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => {
                    return Self::upload_lost(key, &refusal.to_string());
                }
                _ => {}
            }
        }
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound(key.clone()),
            other => Self::of_listing(other),
        }
    }

    /// What `error`, met while listing, means: nothing can be missing but the store itself.
    pub(super) fn of_listing(error: &object_store::Error) -> Self {
        use object_store::Error as E;
        let reason = describe(error);
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => Self::Denied(reason),
            _ => match (cause::<S3Error>(error), cause::<io::Error>(error)) {
                (Some(refusal), _) if refusal.is_about_credentials() => Self::Denied(reason),
                (Some(S3Error { status: 507, .. }), _) => Self::Full(reason),
                (Some(S3Error { status: 400 | 405 | 411 | 413 | 414 | 422 | 431, .. }), _) => Self::Refused(reason),
                (_, Some(io)) => Self::of_kind(io.kind(), reason),
                _ => Self::Unavailable(reason),
            },
        }
    }

    /// What an error of the file system means; `doing` says what was tried.
    pub(super) fn of_io(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::of_kind(error.kind(), format!("{doing} {}: {error}", path.display()))
    }

    fn of_kind(kind: ErrorKind, reason: String) -> Self {
        match kind {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::Full(reason),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(reason),
            _ => Self::Unavailable(reason),
        }
    }
}

impl OpenError {
    pub(super) fn directory(path: &std::path::Path, error: &io::Error) -> Self {
        Self::Directory { url: StorageUrl(super::url::Location::File(PathBuf::from(path))), reason: error.to_string() }
    }

    pub(super) fn client(url: &StorageUrl, error: &object_store::Error) -> Self {
        Self::Client { url: url.clone(), reason: describe(error) }
    }
}

/// The first error of type `T` that `error` was caused by.
fn cause<T: StdError + 'static>(error: &object_store::Error) -> Option<&T> {
    let mut current: &(dyn StdError + 'static) = error;
    loop {
        match current.downcast_ref() {
            Some(found) => return Some(found),
            None => current = current.source()?,
        }
    }
}

/// The error and what caused it, each said once, on one line of bounded length. The HTTP layer has taken from the
/// store's answers everything but their error code, since some repeat the request with its credentials.
fn describe(error: &object_store::Error) -> String {
    const MAX_CHARS: usize = 400;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(source: impl StdError + Send + Sync + 'static) -> BucketError {
        let error = object_store::Error::Generic { store: "test", source: Box::new(source) };
        BucketError::of_store(&"a/b".parse().unwrap(), &error)
    }

    #[test]
    fn system_errors_are_told_apart() {
        let of_kind = |kind: ErrorKind| error_of(io::Error::from(kind));
        assert!(matches!(of_kind(ErrorKind::StorageFull), BucketError::Full(_)));
        assert!(matches!(of_kind(ErrorKind::ReadOnlyFilesystem), BucketError::Denied(_)));
        assert!(matches!(of_kind(ErrorKind::ConnectionReset), BucketError::Unavailable(_)));
        for kind in [ErrorKind::StorageFull, ErrorKind::PermissionDenied, ErrorKind::Other] {
            assert!(of_kind(kind).is_outage());
        }
    }

    #[test]
    fn refusals_are_about_the_upload_or_about_the_store() {
        let refused = |status, code: &str| error_of(S3Error { status, code: code.to_owned() });
        assert!(matches!(refused(404, "NoSuchUpload"), BucketError::UploadLost { .. }));
        assert!(matches!(refused(400, "InvalidPart"), BucketError::UploadLost { .. }));
        assert!(matches!(refused(416, "InvalidRange"), BucketError::InvalidRange(_)));
        assert!(matches!(refused(404, "NoSuchBucket"), BucketError::Unavailable(_)));
        assert!(matches!(refused(400, "ExpiredToken"), BucketError::Denied(_)));
        for (status, code) in [(400, "InvalidObjectName"), (400, "EntityTooLarge"), (400, "KeyTooLongError"), (413, "")]
        {
            let error = refused(status, code);
            assert!(matches!(error, BucketError::Refused(_)) && error.may_concern_one_object(), "{error}");
        }
    }

    #[test]
    fn a_text_is_one_line_of_bounded_length() {
        let BucketError::Unavailable(text) = error_of(io::Error::other(format!("a\n{}", "b".repeat(9000)))) else {
            panic!("expected Unavailable");
        };
        assert!(text.contains("a b") && text.chars().count() <= 400 && !text.contains('\n'), "{text}");
    }
}
