use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt, future};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStoreExt};
use url::Url;

use super::backend::Uploads;
use super::local::{Directory, blocking, stream as file_stream};
use super::{Bucket, BucketError, ObjectFolder, ObjectKey};
use crate::domain::{Digest, FileName, Timestamp};

/// What a store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its length.
    pub bytes: u64,
    /// The store's name for this content, with its quotes; never a digest that may be relied on.
    pub etag: Option<String>,
    /// When it was written.
    pub last_modified: Timestamp,
}

/// How long [`Bucket::probe`] waits.
const PROBE: Duration = Duration::from_secs(5);

/// The longest that a presigned URL is valid, with SigV4:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html>.
const MAX_PRESIGNED: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Bucket {
    /// The object's size in bytes; `None` only when a store in order says that there is no such object.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn size(&self, key: &ObjectKey) -> Result<Option<u64>, BucketError> {
        Ok(self.meta(key).await?.map(|meta| meta.bytes))
    }

    /// What the store says of the object; `None` only when a store in order says that there is no such object.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn meta(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, BucketError> {
        use object_store::Error as E;
        let found = match self.store().objects.head(&Path::from(key.as_str())).await {
            // A HEAD has no body to say what is missing or forbidden; GET does, and so asks again.
            Err(E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }) => {
                match self.get(key, None).await {
                    Err(BucketError::NotFound(_)) => return Ok(None),
                    other => other?.meta,
                }
            }
            other => other.map_err(|error| BucketError::of_store(key, &error))?,
        };
        self.is_readable(key);
        let millis = u64::try_from(found.last_modified.timestamp_millis()).unwrap_or_default();
        let last_modified = Timestamp::from_millis_clamped(millis);
        Ok(Some(ObjectMeta { bytes: found.size, etag: found.e_tag, last_modified }))
    }

    /// The object's bytes, or those of a range, whose end may lie behind the object's. The stream ends early only
    /// with an error.
    ///
    /// # Errors
    /// [`BucketError::NotFound`]; [`BucketError::InvalidRange`]; otherwise when the store fails.
    pub async fn read(
        &self,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<BoxStream<'static, Result<Bytes, BucketError>>, BucketError> {
        if range.as_ref().is_some_and(|range| range.start >= range.end) {
            return Err(BucketError::InvalidRange(key.clone()));
        }
        let start = range.as_ref().map(|range| range.start);
        let found = match (self.get(key, range).await, start) {
            (Ok(found), _) => found,
            // Only S3 says clearly that a range begins behind the end.
            (Err(error @ BucketError::Unavailable(_)), Some(start)) => match self.size(key).await? {
                Some(bytes) if start >= bytes => return Err(BucketError::InvalidRange(key.clone())),
                _ => return Err(error),
            },
            (Err(error), _) => return Err(error),
        };
        let range = found.range.clone();
        Ok(match found.payload {
            GetResultPayload::File(file, path) => file_stream(file, path, range).boxed(),
            GetResultPayload::Stream(stream) => {
                let key = key.clone();
                stream.map_err(move |error| BucketError::of_store(&key, &error)).boxed()
            }
        })
    }

    /// The whole object, when it has at most `most` bytes; more are not read.
    ///
    /// # Errors
    /// As for [`Bucket::read`]; [`BucketError::TooLarge`].
    pub async fn read_whole(&self, key: &ObjectKey, most: u64) -> Result<Bytes, BucketError> {
        let mut stream = self.read(key, None).await?;
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.try_next().await? {
            if (whole.len() + chunk.len()) as u64 > most {
                return Err(BucketError::TooLarge(key.clone(), most));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Reads the object back and hashes it, holding one piece of it at a time: its digest and size in bytes; `None`
    /// only when a store in order says that there is no such object.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn digest(&self, key: &ObjectKey) -> Result<Option<(Digest, u64)>, BucketError> {
        match self.read(key, None).await {
            Err(BucketError::NotFound(_)) => Ok(None),
            found => Ok(Some(hash(found?).await?)),
        }
    }

    /// Every object below `folder`, or in the whole bucket but for the journal, with its size in bytes, in no order
    /// that all stores share. Leaves out what is under no valid [`ObjectKey`], which replyvault did not write.
    pub fn list(&self, folder: Option<&ObjectFolder>) -> BoxStream<'static, Result<(ObjectKey, u64), BucketError>> {
        let listing = self.list_all(folder, None);
        let folder = folder.cloned();
        keys(self.clone(), listing, move |key| match &folder {
            Some(folder) => key.is_below(folder),
            None => !key.is_reserved(),
        })
    }

    /// The same for the journal's own segments, only those whose names sort behind `after`.
    pub fn list_journal(&self, after: &FileName) -> BoxStream<'static, Result<(ObjectKey, u64), BucketError>> {
        let folder = ObjectFolder::journal();
        let listing = self.list_all(Some(&folder), Some(&ObjectKey::journal(after)));
        keys(self.clone(), listing, move |key| key.is_below(&folder))
    }

    /// The same for snapshots of the state, [`ObjectFolder::snapshots`] or [`ObjectFolder::snapshot_parts`].
    pub fn list_snapshots(&self, folder: ObjectFolder) -> BoxStream<'static, Result<(ObjectKey, u64), BucketError>> {
        let listing = self.list_all(Some(&folder), None);
        keys(self.clone(), listing, move |key| key.is_below(&folder) && key.is_snapshot())
    }

    /// Every object below `folder`, or in the whole bucket, behind `after`, whoever wrote it. Names that are no key are left out.
    pub(super) fn list_all(
        &self,
        folder: Option<&ObjectFolder>,
        after: Option<&ObjectKey>,
    ) -> BoxStream<'static, Result<(ObjectKey, u64), BucketError>> {
        if let Uploads::Local(directory) = &self.store().uploads {
            return directory.list(folder.map(ObjectFolder::as_str), after.map(ObjectKey::as_str));
        }
        let path = folder.map(|folder| Path::from(folder.as_str()));
        let listing = match after {
            Some(after) => self.store().objects.list_with_offset(path.as_ref(), &Path::from(after.as_str())),
            None => self.store().objects.list(path.as_ref()),
        };
        let listed = listing.map_err(|error| BucketError::of_listing(&error)).try_filter_map(|found| {
            let key = ObjectKey::from_listing(found.location.as_ref());
            future::ready(Ok(key.map(|key| (key, found.size))))
        });
        listed.boxed()
    }

    /// Removes one of the journal's own segments; that it is not there is fine. Nothing but these and parts of snapshots is ever
    /// removed.
    ///
    /// # Errors
    /// When the store fails; the segment may still be there.
    pub async fn remove_journal(&self, name: &FileName) -> Result<(), BucketError> {
        self.remove(&ObjectKey::journal(name)).await
    }

    /// Removes what tells of a snapshot, or a part of one; that it is not there is fine. Any other key is left alone.
    ///
    /// # Errors
    /// When the store fails; the object may still be there.
    pub async fn remove_snapshot(&self, key: &ObjectKey) -> Result<(), BucketError> {
        if key.is_snapshot() { self.remove(key).await } else { Ok(()) }
    }

    async fn remove(&self, key: &ObjectKey) -> Result<(), BucketError> {
        match self.store().objects.delete(&Path::from(key.as_str())).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(BucketError::of_store(key, &error)),
        }
    }

    /// A link that gives the object, or its ranges, to whoever has it, for `expires`, at most seven days, and with
    /// the answer's `Content-Disposition` set where one is given. `None` where the store has no such links.
    ///
    /// # Errors
    /// When the credentials to sign with can't be had.
    pub async fn presign(
        &self,
        key: &ObjectKey,
        expires: Duration,
        disposition: Option<&str>,
    ) -> Result<Option<Url>, BucketError> {
        let Some(signer) = &self.store().signer else { return Ok(None) };
        let expires = expires.clamp(Duration::from_secs(1), MAX_PRESIGNED);
        let query = disposition.map(|value| ("response-content-disposition", value));
        let options = SignedUrlOptions::new().with_query(query);
        let url = signer.signed_url_opts(Method::GET, &Path::from(key.as_str()), expires, &options).await;
        url.map(Some).map_err(|error| BucketError::of_store(key, &error))
    }

    /// Whether the store is there, lets us in and is the one that this vault uses: asks for one key at most, writes nothing,
    /// takes five seconds at most.
    ///
    /// # Errors
    /// When it is not, always one that [`BucketError::is_outage`].
    pub async fn probe(&self) -> Result<(), BucketError> {
        let late = |_| Err(BucketError::Unavailable(format!("no answer within {} s", PROBE.as_secs())));
        tokio::time::timeout(PROBE, self.ping()).await.unwrap_or_else(late)
    }

    /// Whether the store takes objects from us at all. Writes nothing that anybody sees: an upload is begun and given up.
    /// Takes five seconds at most.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe_write(&self) -> Result<(), BucketError> {
        let key = ObjectKey::journal(&FileName::clean("probe"));
        let probe = async {
            match &self.store().uploads {
                Uploads::Local(directory) => look_at(directory).await,
                Uploads::Remote(_) => {
                    let upload = self.start_upload(&key, "application/octet-stream").await?;
                    if let Err(error) = self.abort_upload(&upload).await {
                        tracing::warn!(%error, "an upload without parts could not be given up");
                    }
                    Ok(())
                }
            }
        };
        let late = |_| Err(BucketError::Unavailable(format!("no answer within {} s", PROBE.as_secs())));
        tokio::time::timeout(PROBE, probe).await.unwrap_or_else(late)
    }

    /// What a 403 to a GET means. Without the permission to list, S3 answers so for what is missing, too: then an object
    /// that is known to be there can still be read.
    async fn denied(&self, key: &ObjectKey, error: BucketError) -> BucketError {
        match self.readable() {
            Some(known) if known != *key => match self.store().objects.head(&Path::from(known.as_str())).await {
                Ok(_) => BucketError::NotFound(key.clone()),
                Err(_) => error,
            },
            _ if self.probe_write().await.is_ok() => BucketError::NoListing,
            _ => error,
        }
    }

    pub(super) async fn ping(&self) -> Result<(), BucketError> {
        if let Uploads::Local(directory) = &self.store().uploads {
            look_at(directory).await?;
        }
        self.check_marker().await?;
        // Whoever was asked for that has answered.
        if self.is_marked() || matches!(&self.store().uploads, Uploads::Local(_)) {
            return Ok(());
        }
        // That there is no such object is an answer, and a quick one: some stores take long to list a single key of many.
        let nothing = ObjectKey::journal(&FileName::clean("probe"));
        match self.store().objects.get_opts(&Path::from(nothing.as_str()), GetOptions::default()).await {
            Ok(_) => Ok(()),
            Err(error) => match BucketError::of_store(&nothing, &error) {
                BucketError::NotFound(_) => Ok(()),
                BucketError::Denied(_) if self.probe_write().await.is_ok() => Err(BucketError::NoListing),
                error if error.is_outage() => Err(error),
                error => Err(BucketError::Unavailable(error.to_string())),
            },
        }
    }

    /// The object, when there is one; [`BucketError::NotFound`] only from a store in order.
    async fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<GetResult, BucketError> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..Default::default() };
        let found = self.store().objects.get_opts(&Path::from(key.as_str()), options).await;
        let error = match found {
            Ok(found) => {
                self.is_readable(key);
                return Ok(found);
            }
            Err(error) => BucketError::of_store(key, &error),
        };
        let error = match (&error, &self.store().uploads) {
            (BucketError::Denied(text), Uploads::Remote(_)) if is_access_denied(text) => self.denied(key, error).await,
            _ => error,
        };
        // A disk that is not mounted looks like an empty one.
        if matches!((&error, &self.store().uploads), (BucketError::NotFound(_), Uploads::Local(_))) {
            self.ping().await?;
        }
        Err(error)
    }
}

/// The digest of what a stream brings, and its length in bytes.
pub(super) async fn hash(
    mut stream: BoxStream<'static, Result<Bytes, BucketError>>,
) -> Result<(Digest, u64), BucketError> {
    use sha2::Digest as _;
    let (mut hash, mut bytes) = (sha2::Sha256::new(), 0);
    while let Some(chunk) = stream.try_next().await? {
        hash.update(&chunk);
        bytes += chunk.len() as u64;
    }
    Ok((Digest::from_bytes(hash.finalize().into()), bytes))
}

async fn look_at(directory: &Directory) -> Result<(), BucketError> {
    let directory = directory.clone();
    blocking(move || {
        let failed = |error| BucketError::of_io("looking at", directory.root(), &error);
        directory.check().map_err(failed)
    })
    .await
}

/// The one code of S3's for what may not be read or is not there; other codes speak of credentials or of an object's state.
fn is_access_denied(text: &str) -> bool {
    text.contains("AccessDenied")
}

fn keys(
    bucket: Bucket,
    listing: BoxStream<'static, Result<(ObjectKey, u64), BucketError>>,
    is_wanted: impl Fn(&ObjectKey) -> bool + Send + 'static,
) -> BoxStream<'static, Result<(ObjectKey, u64), BucketError>> {
    // A disk that is not mounted looks like an empty one.
    let checked = stream::once(async move { bucket.expect_marker().await });
    let listed = listing.try_filter(move |(key, _)| future::ready(is_wanted(key)));
    checked.map_ok(|()| None).chain(listed.map_ok(Some)).try_filter_map(|found| future::ready(Ok(found))).boxed()
}
