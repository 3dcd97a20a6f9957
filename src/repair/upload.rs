//! From a URL into an object, visible only when the bytes are those that were stored.

use bytes::{Bytes, BytesMut};

use super::Run;
use super::index::Expected;
use crate::bucket::{BucketError, ObjectKey, PartId, Upload};
use crate::domain::{AssetId, Digest, JobId, MediaUrl, Timestamp};
use crate::fetch::{Download, FetchError};
use crate::journal::{Durability, Event};
use crate::state::RecordError;

/// Why bytes were not stored again.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the source has other bytes now")]
    OtherBytes,
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Journal(#[from] RecordError),
    #[error("the upload's name cannot be recorded")]
    Name,
}

/// A multipart upload under way. One that is cut off stays recorded, and is aborted at the next start of the service.
struct Sending {
    upload: Upload,
    parts: Vec<PartId>,
}

impl Run<'_> {
    pub(super) async fn store_again(
        &self,
        url: &MediaUrl,
        key: &ObjectKey,
        expected: &Expected,
        file: (JobId, AssetId),
    ) -> Result<(), StoreError> {
        let mut download = self.inner.fetcher.open(url).await?;
        if download.declared_length().is_some_and(|length| length != expected.bytes) {
            return Err(StoreError::OtherBytes);
        }
        let mut sending = None;
        let received = self.receive(&mut download, key, expected, file, &mut sending).await;
        let stored = match (received, &mut sending) {
            (Err(error), _) => Err(error),
            (Ok(last), None) => {
                self.inner.bucket.put(key, vec![last], &expected.content_type).await.map_err(StoreError::from)
            }
            (Ok(last), Some(sending)) => self.complete(sending, last, &expected.sha256).await,
        };
        if let Some(Sending { upload, .. }) = sending
            && let Err(error) = self.end(&upload, stored.is_ok()).await
        {
            // It stays recorded, and is swept at the next start of the service.
            tracing::warn!(%key, %error, "an upload could not be ended");
        }
        stored
    }

    /// An upload is no more: nothing of one that was not completed must stay behind.
    async fn end(&self, upload: &Upload, completed: bool) -> Result<(), StoreError> {
        if !completed {
            self.inner.bucket.abort_upload(upload).await?;
        }
        let upload = serde_json::to_string(upload).map_err(|_| StoreError::Name)?;
        let event = Event::UploadEnded { at: Timestamp::now(), upload };
        self.inner.log.record(event, Durability::Buffered).await?;
        Ok(())
    }

    /// Takes in all bytes, sends all parts but the last, and gives that, once the whole has proved right.
    async fn receive(
        &self,
        download: &mut Download,
        key: &ObjectKey,
        expected: &Expected,
        (job, slot): (JobId, AssetId),
        sending: &mut Option<Sending>,
    ) -> Result<Bytes, StoreError> {
        let part_size = usize::try_from(self.inner.bucket.part_size()).unwrap_or(usize::MAX);
        let capacity = usize::try_from(expected.bytes).unwrap_or(usize::MAX).min(part_size);
        let mut part = BytesMut::with_capacity(capacity);
        while let Some(mut chunk) = download.next().await? {
            if download.received() > expected.bytes {
                return Err(StoreError::OtherBytes);
            }
            while !chunk.is_empty() {
                if part.len() == part_size {
                    if sending.is_none() {
                        let upload = self.start(key, expected, job.clone(), slot.clone()).await?;
                        *sending = Some(Sending { upload, parts: Vec::new() });
                    }
                    if let Some(sending) = sending {
                        self.send(sending, part.split().freeze()).await?;
                    }
                    part = BytesMut::with_capacity(capacity);
                }
                part.extend_from_slice(&chunk.split_to(chunk.len().min(part_size - part.len())));
            }
        }
        let right = download.summary().is_some_and(|summary| summary.digest == expected.sha256);
        if right { Ok(part.freeze()) } else { Err(StoreError::OtherBytes) }
    }

    async fn start(
        &self,
        key: &ObjectKey,
        expected: &Expected,
        job: JobId,
        slot: AssetId,
    ) -> Result<Upload, StoreError> {
        let upload = self.inner.bucket.start_upload(key, &expected.content_type).await?;
        let recorded = match serde_json::to_string(&upload) {
            Ok(name) => {
                let event = Event::UploadStarted { at: Timestamp::now(), job, slot, upload: name };
                self.inner.log.record(event, Durability::Synced).await.map_err(StoreError::from).map(drop)
            }
            Err(_) => Err(StoreError::Name),
        };
        match recorded {
            Ok(()) => Ok(upload),
            Err(error) => {
                self.inner.bucket.abort_upload(&upload).await?;
                Err(error)
            }
        }
    }

    async fn send(&self, sending: &mut Sending, part: Bytes) -> Result<(), StoreError> {
        let index = sending.parts.len();
        sending.parts.push(self.inner.bucket.put_part(&sending.upload, index, vec![part]).await?);
        Ok(())
    }

    async fn complete(&self, sending: &mut Sending, last: Bytes, sha256: &Digest) -> Result<(), StoreError> {
        if !last.is_empty() {
            self.send(sending, last).await?;
        }
        Ok(self.inner.bucket.complete_upload(&sending.upload, std::mem::take(&mut sending.parts), sha256).await?)
    }
}
