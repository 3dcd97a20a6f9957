//! Uploads that outlive an attempt: recorded while they grow, gone on with by the next attempt, in this process or
//! another, or aborted. None stays in the bucket without a job that is due, unless storage refuses to abort it.

use fail::fail_point;
use serde::{Deserialize, Serialize};

use super::Resources;
use super::attempt::candidates;
use super::attempt_error::AttemptError;
use super::multipart::MultipartUpload;
use super::storage_health::StorageHealth;
use super::task::Task;
use crate::bucket::{Bucket, Upload};
use crate::domain::{AssetState, Digest, FileName, Job, JobState, MediaUrl, Timestamp};
use crate::fetch::ResumePoint;
use crate::journal::{Durability, Event};
use crate::state::{EventLog, UploadRecord};

/// The uploads that are recorded, and what is recorded of them through `log`.
#[derive(Clone, Copy)]
pub(super) struct Uploads<'a> {
    log: &'a EventLog,
    bucket: &'a Bucket,
    storage: &'a StorageHealth,
    /// See [`super::Config::clean_only`].
    clean_only: bool,
}

/// What an upload can be gone on with from, as it is recorded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UploadCheckpoint {
    /// The URL its bytes come from without its query, by SHA-256: links are signed anew, and the ETag tells files apart.
    source: Digest,
    pub(super) download: ResumePoint,
}

impl UploadCheckpoint {
    /// Whether its bytes come from `url`.
    pub(super) fn is_of(&self, url: &MediaUrl) -> bool {
        self.source == source_of(url)
    }
}

impl<'a> Uploads<'a> {
    pub(super) fn new(resources: &'a Resources, log: &'a EventLog) -> Self {
        let Resources { bucket, storage, config, .. } = resources;
        Self { log, bucket, storage, clean_only: config.clean_only }
    }

    /// Begins the upload of a file, in the place of those that earlier attempts left.
    ///
    /// # Errors
    /// When the bucket refuses it, or it cannot be recorded; then it is aborted.
    pub(super) async fn start(
        self,
        task: Task<'_>,
        file: &FileName,
        content_type: &str,
    ) -> Result<MultipartUpload, AttemptError> {
        // What an earlier attempt left is of another URL, or no longer good.
        self.end_all_of_file(task).await?;
        fail_point!("worker.upload", |_| Err(AttemptError::Deferred));
        let upload = self.bucket.start_upload(&task.key(file), content_type).await?;
        let event = Event::UploadStarted {
            at: Timestamp::now(),
            job: task.job.id.clone(),
            slot: task.asset.slot.clone(),
            upload: name_of(&upload),
        };
        let recorded = self.log.record(event, Durability::Synced).await.map_err(AttemptError::from);
        let injected = || {
            fail_point!("worker.upload.done", |_| Err(AttemptError::Deferred));
            Ok(())
        };
        match recorded.and_then(|_| injected()) {
            Ok(()) => Ok(MultipartUpload::new(upload, Vec::new())),
            Err(error) => {
                self.abort_best_effort(&name_of(&upload)).await;
                Err(error)
            }
        }
    }

    /// Records how far an upload of bytes from `url` is. What cannot be recorded now is later.
    pub(super) async fn checkpoint(self, url: &MediaUrl, upload: &mut MultipartUpload) -> Result<(), AttemptError> {
        let Some(advance) = upload.checkpoint() else { return Ok(()) };
        let point = UploadCheckpoint { source: source_of(url), download: advance.point.clone() };
        // Text and numbers: nothing in it can fail to serialize.
        let Ok(text) = serde_json::to_string(&point) else { return Ok(()) };
        let event = Event::UploadAdvanced {
            at: Timestamp::now(),
            upload: name_of(&upload.upload),
            first: advance.first,
            parts: advance.parts.clone(),
            bytes: advance.point.offset(),
            point: text,
        };
        fail_point!("worker.advance", |_| Err(AttemptError::Deferred));
        let written = self.log.record(event, Durability::Buffered).await;
        if let Err(error) = &written {
            tracing::warn!(key = %upload.upload.key, %error, "how far an upload is could not be recorded");
        }
        upload.recorded(&advance, written.is_ok());
        fail_point!("worker.advance.done", |_| Err(AttemptError::Deferred));
        Ok(())
    }

    /// An attempt has failed with `error`: what it has sent is recorded for the next one, or given up.
    pub(super) async fn suspend(self, url: &MediaUrl, mut upload: MultipartUpload, error: &AttemptError) {
        if error.keeps_upload() {
            upload.wait_for_parts(error.storage_outage().is_none()).await;
            // It only fails where a test makes it.
            let _ = self.checkpoint(url, &mut upload).await;
            if upload.is_recorded() {
                return;
            }
        }
        let name = name_of(&upload.upload);
        drop(upload);
        self.abort_best_effort(&name).await;
    }

    /// The recorded uploads for a file, by name.
    pub(super) fn of_file(self, task: Task<'_>) -> Result<Vec<(String, UploadRecord)>, AttemptError> {
        let mut uploads = self.log.state().uploads_of(&task.job.id)?;
        uploads.retain(|(_, record)| record.slot == task.asset.slot);
        Ok(uploads)
    }

    /// The uploads for a job's files that are still recorded.
    pub(super) fn of_job(self, job: &Job) -> Result<Vec<Upload>, AttemptError> {
        let uploads = self.log.state().uploads_of(&job.id)?;
        Ok(uploads.iter().filter_map(|(name, _)| serde_json::from_str(name).ok()).collect())
    }

    /// An upload as it was recorded, if it can be gone on with under this configuration.
    pub(super) fn usable(self, name: &str, record: &UploadRecord) -> Option<(Upload, UploadCheckpoint)> {
        let upload: Upload = serde_json::from_str(name).ok()?;
        let point: UploadCheckpoint = serde_json::from_str(record.point.as_deref()?).ok()?;
        let sent = upload.part_size.checked_mul(record.parts.len() as u64)?;
        // Memory is set aside for parts of the configured size.
        let fits = upload.part_size == self.bucket.part_size() && point.download.offset() == sent;
        fits.then_some((upload, point))
    }

    /// Whether the file it is for is still to be had, from the URL it came from.
    pub(super) fn is_awaited(self, name: &str, record: &UploadRecord) -> Result<bool, AttemptError> {
        let Some((_, point)) = self.usable(name, record) else { return Ok(false) };
        let Some(owner) = self.log.state().job(&record.job)? else { return Ok(false) };
        let due = owner.job.state == JobState::Archiving && owner.job.due.is_some();
        let asset = owner.job.asset(&record.slot).filter(|asset| due && asset.state == AssetState::Pending);
        Ok(asset.is_some_and(|asset| {
            candidates(asset, record.job.kind(), self.clean_only).any(|candidate| point.is_of(&candidate.url))
        }))
    }

    /// Ends all uploads for a file.
    pub(super) async fn end_all_of_file(self, task: Task<'_>) -> Result<(), AttemptError> {
        for (name, _) in self.of_file(task)? {
            self.abort_best_effort(&name).await;
        }
        Ok(())
    }

    /// Ends what a job that is over leaves.
    pub(super) async fn end_all_of_job(self, job: &Job) -> Result<(), AttemptError> {
        for (name, _) in self.log.state().uploads_of(&job.id)? {
            self.end_or_leave(&name).await?;
        }
        Ok(())
    }

    /// Ends an upload that nothing but room depends on. One stays recorded, for the next start to try again, when storage works
    /// and does not abort it.
    pub(super) async fn end_or_leave(self, name: &str) -> Result<(), AttemptError> {
        if let Err(error) = self.storage.for_one_object(|| self.end(name)).await? {
            let advice = "grant s3:AbortMultipartUpload, or let the bucket expire incomplete uploads";
            tracing::warn!(upload = name, %error, advice, "storage does not abort an upload: its parts stay in the bucket");
        }
        Ok(())
    }

    /// Aborts a recorded upload and records that.
    async fn end(self, name: &str) -> Result<(), AttemptError> {
        fail_point!("worker.abort", |_| Err(AttemptError::Deferred));
        match serde_json::from_str::<Upload>(name) {
            Ok(upload) => self.bucket.abort_upload(&upload).await?,
            Err(error) => tracing::warn!(%error, "a recorded upload cannot be read, so it cannot be aborted"),
        }
        self.record_ended(name).await?;
        fail_point!("worker.abort.done", |_| Err(AttemptError::Deferred));
        Ok(())
    }

    /// The same as [`Self::end`] where something else matters more: what fails stays recorded, and is ended with its job or at
    /// the next start.
    pub(super) async fn abort_best_effort(self, name: &str) {
        if let Err(error) = self.end(name).await {
            tracing::warn!(upload = name, %error, "an upload could not be ended");
        }
    }

    /// Records that an upload has become an object. What cannot be recorded is ended with its job.
    pub(super) async fn completed(self, upload: &Upload) {
        if let Err(error) = self.record_ended(&name_of(upload)).await {
            tracing::warn!(key = %upload.key, %error, "the end of an upload could not be recorded");
        }
    }

    /// Records that an upload is no more.
    async fn record_ended(self, name: &str) -> Result<(), AttemptError> {
        let event = Event::UploadEnded { at: Timestamp::now(), upload: name.to_owned() };
        self.log.record(event, Durability::Buffered).await?;
        Ok(())
    }
}

/// How an upload is named in the journal.
fn name_of(upload: &Upload) -> String {
    // Plain text and numbers: nothing in it can fail to serialize.
    serde_json::to_string(upload).unwrap_or_default()
}

fn source_of(url: &MediaUrl) -> Digest {
    let url = url.expose();
    Digest::of(url[..url::Position::AfterPath].as_bytes())
}
