use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::PutMultipartOptions;
use object_store::multipart::PartId as StorePartId;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::domain::Digest;

use super::backend::Uploads;
use super::local::{Directory, blocking, stream as file_stream};
use super::read::hash;
use super::{Bucket, BucketError, ObjectFolder, ObjectKey, attributes};

/// A multipart upload under way. Record it before its first part is sent: stores keep the parts of one nobody knows
/// of, invisible and billed, and `object_store` can't list them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// What the object will be called.
    pub key: ObjectKey,
    /// What the store calls the upload.
    pub id: String,
    /// Bytes of each of its parts but the last, whatever the configuration has become since.
    pub part_size: u64,
    /// The content type that the object will have; `None` for one that an earlier version began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether it has been here from its beginning. One that is read from a record may have a staging file that something
    /// changed meanwhile, such as an older copy of the bucket.
    #[serde(skip)]
    pub(super) begun_here: bool,
}

/// One part that the store has. Recorded, it is still good after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartId {
    /// What the store calls it: on S3 its ETag.
    pub tag: String,
    /// Its length.
    pub bytes: u64,
}

/// The most parts an object may have, on every store:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
pub const MAX_PARTS: usize = 10_000;

impl Bucket {
    /// Begins a multipart upload. Nothing is visible before [`Bucket::complete_upload`].
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start_upload(&self, key: &ObjectKey, content_type: &str) -> Result<Upload, BucketError> {
        self.expect_marker().await?;
        let id = match &self.store().uploads {
            Uploads::Local(directory) => {
                let (directory, key) = (directory.clone(), key.clone());
                blocking(move || directory.start(&key)).await?
            }
            Uploads::Remote(store) => {
                let options = PutMultipartOptions { attributes: attributes(content_type), ..Default::default() };
                store
                    .create_multipart_opts(&Path::from(key.as_str()), options)
                    .await
                    .map_err(|error| BucketError::of_store(key, &error))?
            }
        };
        let content_type = Some(content_type.to_owned());
        Ok(Upload { key: key.clone(), id, part_size: self.part_size(), content_type, begun_here: true })
    }

    /// Sends part `index`, counted from 0, which is durable when this returns. Parts go in any order, concurrently,
    /// and again: the last one sent counts. All have [`Upload::part_size`] bytes but the last, which may have fewer.
    ///
    /// # Errors
    /// [`BucketError::InvalidPart`] beyond [`MAX_PARTS`] parts, for an empty and for an oversized part;
    /// [`BucketError::UploadLost`] when the store does not know the upload; otherwise when the store fails.
    pub async fn put_part(&self, upload: &Upload, index: usize, chunks: Vec<Bytes>) -> Result<PartId, BucketError> {
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        if index >= MAX_PARTS {
            return Err(BucketError::InvalidPart("at most 10,000 parts: a larger part_size"));
        }
        if bytes == 0 || bytes > upload.part_size {
            return Err(BucketError::InvalidPart("a part of 1 to part_size bytes"));
        }
        let tag = match &self.store().uploads {
            Uploads::Local(directory) => {
                let (directory, upload) = (directory.clone(), upload.clone());
                let offset = index as u64 * upload.part_size;
                blocking(move || directory.put_part(&upload.key, &upload.id, offset, &chunks)).await?;
                index.to_string()
            }
            Uploads::Remote(store) => {
                store
                    .put_part(&Path::from(upload.key.as_str()), &upload.id, index, chunks.into_iter().collect())
                    .await
                    .map_err(|error| of_upload(upload, &error))?
                    .content_id
            }
        };
        Ok(PartId { tag, bytes })
    }

    /// Makes one object of the parts, given in their order; in one moment it is wholly visible, over whatever was
    /// there. Doing it again is fine, also when nobody knows whether the first time got through: an object under the key
    /// is taken for this one when, read back, it has the digest `sha256`. The staging file of an upload that was read from a
    /// record is compared with it, too.
    ///
    /// # Errors
    /// [`BucketError::InvalidPart`] for no parts, or when one but the last has not [`Upload::part_size`] bytes;
    /// [`BucketError::UploadLost`] when the store does not know the upload and the object is not there, or when it
    /// refuses the parts; otherwise when the store fails.
    pub async fn complete_upload(
        &self,
        upload: &Upload,
        parts: Vec<PartId>,
        sha256: &Digest,
    ) -> Result<(), BucketError> {
        let Some((last, full)) = parts.split_last() else {
            return Err(BucketError::InvalidPart("at least one part"));
        };
        // Equal, as R2 and GCS-compatible stores want it, and as the offsets in a staging file need it.
        if full.iter().any(|part| part.bytes != upload.part_size) || last.bytes > upload.part_size {
            return Err(BucketError::InvalidPart("parts of part_size bytes before the last"));
        }
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let completed = match &self.store().uploads {
            Uploads::Local(directory) => {
                let (directory, upload) = (directory.clone(), upload.clone());
                match check_staging(&directory, &upload, sha256).await {
                    Ok(()) => blocking(move || directory.complete(&upload.key, &upload.id, bytes)).await,
                    Err(error) => Err(error),
                }
            }
            Uploads::Remote(store) => {
                let parts = parts.into_iter().map(|part| StorePartId { content_id: part.tag }).collect();
                let completed = store.complete_multipart(&Path::from(upload.key.as_str()), &upload.id, parts).await;
                completed.map(drop).map_err(|error| of_upload(upload, &error))
            }
        };
        match completed {
            Ok(()) => self.is_readable(&upload.key),
            Err(lost @ BucketError::UploadLost { .. }) => {
                // The first answer may have been lost.
                if !self.appears(&upload.key, bytes, sha256).await? {
                    return Err(lost);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the object is there, or is soon. A completion that was not waited for may still be at work: some stores do not know
    /// the upload then any more, and do not show the object yet.
    async fn appears(&self, key: &ObjectKey, bytes: u64, sha256: &Digest) -> Result<bool, BucketError> {
        /// Little beside the download that begins anew when it does not appear.
        const PAUSES_MS: [u64; 5] = [0, 200, 500, 1000, 2000];
        let pauses = match &self.store().uploads {
            Uploads::Local(_) => &PAUSES_MS[..1],
            Uploads::Remote(_) => &PAUSES_MS[..],
        };
        for &pause in pauses {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            // Another object of that size proves nothing. It is read once.
            if self.size(key).await? == Some(bytes) {
                return Ok(self.digest(key).await? == Some((*sha256, bytes)));
            }
        }
        Ok(false)
    }

    /// Gives the upload up and frees its parts. An upload that the store does not know, completed or aborted before,
    /// is fine.
    ///
    /// # Errors
    /// When the store fails: the parts may still be there.
    pub async fn abort_upload(&self, upload: &Upload) -> Result<(), BucketError> {
        let aborted = match &self.store().uploads {
            Uploads::Local(directory) => {
                let (directory, upload) = (directory.clone(), upload.clone());
                blocking(move || directory.abort(&upload.key, &upload.id)).await
            }
            Uploads::Remote(store) => store
                .abort_multipart(&Path::from(upload.key.as_str()), &upload.id)
                .await
                .map_err(|error| of_upload(upload, &error)),
        };
        match aborted {
            Err(BucketError::UploadLost { .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether a crash can leave staging files beside the objects.
    pub fn has_staging(&self) -> bool {
        matches!(self.store().uploads, Uploads::Local(_))
    }

    /// Removes what a crash may have left in a folder of a `file:` bucket: the staging files of single puts and of
    /// uploads, recorded or not, but for those of `keep`. Other stores have none. Not while anyone writes there.
    ///
    /// # Errors
    /// When the directory can't be read or a file not removed.
    pub async fn remove_staging(&self, folder: &ObjectFolder, keep: &[Upload]) -> Result<(), BucketError> {
        match &self.store().uploads {
            Uploads::Local(directory) => {
                let (directory, folder) = (directory.clone(), folder.clone());
                let keep: Vec<_> = keep.iter().map(|upload| directory.staging(&upload.key, &upload.id)).collect();
                blocking(move || directory.remove_staging(folder.as_str(), &keep)).await
            }
            Uploads::Remote(_) => Ok(()),
        }
    }
}

/// That the staging file of an upload that was read from a record has the digest `sha256`. That there is none,
/// [`Directory::complete`] says.
async fn check_staging(directory: &Directory, upload: &Upload, sha256: &Digest) -> Result<(), BucketError> {
    if upload.begun_here {
        return Ok(());
    }
    let path = directory.staging(&upload.key, &upload.id);
    let (directory, key, id) = (directory.clone(), upload.key.clone(), upload.id.clone());
    let Some((file, bytes)) = blocking(move || directory.open_staging(&key, &id)).await? else { return Ok(()) };
    match hash(file_stream(file, path, 0..bytes).boxed()).await {
        Ok((found, _)) if found == *sha256 => Ok(()),
        Ok(_) => Err(BucketError::upload_lost(&upload.key, "its staging file has other bytes than were sent")),
        // Of a file on a bad block no attempt would ever make an object.
        Err(error) => Err(BucketError::upload_lost(&upload.key, &error.to_string())),
    }
}

/// What an error of an upload that was begun means.
fn of_upload(upload: &Upload, error: &object_store::Error) -> BucketError {
    match (error, BucketError::of_store(&upload.key, error)) {
        // The memory store has this error for one thing only: an upload it does not know or that lacks a part.
        (object_store::Error::Generic { store: "InMemory", .. }, _) | (_, BucketError::NotFound(_)) => {
            BucketError::upload_lost(&upload.key, "the store does not know it")
        }
        (_, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::bucket::Config;
    use crate::bucket::tests::config;

    #[tokio::test]
    async fn an_upload_read_from_a_record_is_lost_when_its_staging_file_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().display());
        let bucket = Bucket::open(&Config { part_size: 4, ..config(&url) }).unwrap();
        let Uploads::Local(directory) = &bucket.store().uploads else { panic!("expected a directory") };
        let key: ObjectKey = "job/video.mp4".parse().unwrap();
        let part = |text: &'static str| vec![Bytes::from_static(text.as_bytes())];
        for changed_at in [Some(2), Some(5), None] {
            let begun = bucket.start_upload(&key, "video/mp4").await.unwrap();
            let first = bucket.put_part(&begun, 0, part("0123")).await.unwrap();
            let upload: Upload = serde_json::from_str(&serde_json::to_string(&begun).unwrap()).unwrap();
            let second = bucket.put_part(&upload, 1, part("4567")).await.unwrap();
            if let Some(at) = changed_at {
                let staging = OpenOptions::new().write(true).open(directory.staging(&key, &upload.id)).unwrap();
                staging.write_all_at(b"!", at).unwrap();
            }
            let completed = bucket.complete_upload(&upload, vec![first, second], &Digest::of(b"01234567")).await;
            assert_eq!(matches!(completed, Err(BucketError::UploadLost { .. })), changed_at.is_some(), "{completed:?}");
            assert_eq!(bucket.size(&key).await.unwrap(), changed_at.is_none().then_some(8));
        }
    }
}
