//! Uploads that outlive an attempt: recorded while they grow, gone on with by the next attempt, in this process or
//! another, or aborted. None stays in the bucket without a job that is due.

use fail::fail_point;
use serde::{Deserialize, Serialize};

use super::Worker;
use super::attempt::{self, AttemptError};
use super::multipart::MultipartUpload;
use super::task::Task;
use crate::bucket::Upload;
use crate::domain::{AssetId, AssetState, Candidate, Digest, Job, JobState, MediaUrl, Timestamp};
use crate::fetch::{Container, Download, FetchError, ResumePoint};
use crate::journal::{Durability, Event};
use crate::state::UploadRecord;

/// What an upload can be gone on with from, as it is recorded.
#[derive(Debug, Serialize, Deserialize)]
struct UploadCheckpoint {
    /// The URL its bytes come from without its query, by SHA-256: links are signed anew, and the ETag tells files apart.
    source: Digest,
    download: ResumePoint,
}

/// A download that goes on, and the upload it fills.
pub(super) struct Resumed {
    pub(super) download: Download,
    pub(super) container: Container,
    pub(super) upload_in_progress: MultipartUpload,
}

/// Uploads looked at in one go.
const PAGE: usize = 64;

impl Worker {
    /// Goes on with what an earlier attempt at the same URL left, if there is such a thing and it is still good.
    pub(super) async fn try_resume(
        &self,
        task: Task<'_>,
        candidate: &Candidate,
    ) -> Result<Option<Resumed>, AttemptError> {
        for (name, record) in self.state().uploads_of(task.job)? {
            if record.slot != task.asset.slot {
                continue;
            }
            let usable = self.usable(&name, &record).filter(|(upload, _)| task.accepts(&upload.key));
            let Some((upload, point)) = usable else {
                self.abort_best_effort(&name).await;
                continue;
            };
            if point.source != source_of(&candidate.url) {
                // It is ended when this candidate gets an upload of its own, or is stored.
                continue;
            }
            fail_point!("worker.resume", |_| Err(AttemptError::Deferred));
            let Some((fetcher, url)) = self.locate(candidate).await? else { continue };
            match fetcher.resume(&url, &point.download).await {
                Ok((download, container)) => {
                    let from = point.download.offset();
                    tracing::info!(job = %task.job, key = %upload.key, from, "a download goes on");
                    fail_point!("worker.resume.done", |_| Err(AttemptError::Deferred));
                    let upload_in_progress = MultipartUpload::new(upload, record.parts);
                    return Ok(Some(Resumed { download, container, upload_in_progress }));
                }
                Err(FetchError::Changed) => self.abort_best_effort(&name).await,
                Err(error) => {
                    let error = AttemptError::from(error);
                    if !error.keeps_upload() {
                        self.abort_best_effort(&name).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Records how far an upload is. What cannot be recorded now is later.
    pub(super) async fn checkpoint(
        &self,
        candidate: &Candidate,
        upload_in_progress: &mut MultipartUpload,
    ) -> Result<(), AttemptError> {
        let Some(advance) = upload_in_progress.checkpoint() else { return Ok(()) };
        let point = UploadCheckpoint { source: source_of(&candidate.url), download: advance.point.clone() };
        // Text and numbers: nothing in it can fail to serialize.
        let Ok(text) = serde_json::to_string(&point) else { return Ok(()) };
        let event = Event::UploadAdvanced {
            at: Timestamp::now(),
            upload: recorded(&upload_in_progress.upload),
            first: advance.first,
            parts: advance.parts.clone(),
            bytes: advance.point.offset(),
            point: text,
        };
        fail_point!("worker.advance", |_| Err(AttemptError::Deferred));
        let written = self.log.record(event, Durability::Buffered).await;
        if let Err(error) = &written {
            tracing::warn!(key = %upload_in_progress.upload.key, %error, "how far an upload is could not be recorded");
        }
        upload_in_progress.recorded(&advance, written.is_ok());
        fail_point!("worker.advance.done", |_| Err(AttemptError::Deferred));
        Ok(())
    }

    /// An attempt has failed: what it has sent is recorded for the next one, or given up.
    pub(super) async fn suspend(
        &self,
        candidate: &Candidate,
        mut upload_in_progress: MultipartUpload,
        error: &AttemptError,
    ) {
        if error.keeps_upload() {
            upload_in_progress.wait_for_parts(error.storage_outage().is_none()).await;
            // It only fails where a test makes it.
            let _ = self.checkpoint(candidate, &mut upload_in_progress).await;
            if upload_in_progress.is_recorded() {
                return;
            }
        }
        let name = recorded(&upload_in_progress.upload);
        drop(upload_in_progress);
        self.abort_best_effort(&name).await;
    }

    /// Ends all uploads for a file.
    pub(super) async fn end_uploads_of_file(&self, task: Task<'_>) -> Result<(), AttemptError> {
        for (name, record) in self.state().uploads_of(task.job)? {
            if record.slot == task.asset.slot {
                self.abort_best_effort(&name).await;
            }
        }
        Ok(())
    }

    /// Ends what a job that is over leaves.
    pub(super) async fn end_uploads(&self, job: &Job) -> Result<(), AttemptError> {
        for (name, _) in self.state().uploads_of(&job.id)? {
            self.end_upload(&name).await?;
        }
        Ok(())
    }

    /// Ends all recorded uploads that no job of the shards will go on with.
    pub(super) async fn settle_uploads(&self, shards: u64) -> Result<(), AttemptError> {
        let mut after = None;
        loop {
            let page = self.state().uploads(after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, record) in page {
                if self.is_in(shards, &record.job)? && !self.is_awaited(&name, &record)? {
                    self.end_upload(&name).await?;
                }
            }
        }
    }

    /// Aborts a recorded upload and records that.
    async fn end_upload(&self, name: &str) -> Result<(), AttemptError> {
        fail_point!("worker.abort", |_| Err(AttemptError::Deferred));
        match serde_json::from_str::<Upload>(name) {
            Ok(upload) => self.inner.bucket.abort_upload(&upload).await?,
            Err(error) => tracing::warn!(%error, "a recorded upload cannot be read, so it cannot be aborted"),
        }
        self.record_upload_ended(name).await?;
        fail_point!("worker.abort.done", |_| Err(AttemptError::Deferred));
        Ok(())
    }

    /// Records that an upload is no more.
    pub(super) async fn record_upload_ended(&self, name: &str) -> Result<(), AttemptError> {
        let event = Event::UploadEnded { at: Timestamp::now(), upload: name.to_owned() };
        self.log.record(event, Durability::Buffered).await?;
        Ok(())
    }

    /// The same as [`Self::end_upload`] where something else matters more: what fails stays recorded, and is ended with its
    /// job or at the next start.
    pub(super) async fn abort_best_effort(&self, name: &str) {
        if let Err(error) = self.end_upload(name).await {
            tracing::warn!(upload = name, %error, "an upload could not be ended");
        }
    }

    /// Whether the file it is for is still to be had, from the URL it came from.
    fn is_awaited(&self, name: &str, record: &UploadRecord) -> Result<bool, AttemptError> {
        let Some((_, point)) = self.usable(name, record) else { return Ok(false) };
        let Some(owner) = self.state().job(&record.job)? else { return Ok(false) };
        let due = owner.job.state == JobState::Archiving && owner.job.due.is_some();
        let asset = owner.job.asset(&record.slot).filter(|asset| due && asset.state == AssetState::Pending);
        let from = |candidate: &Candidate| source_of(&candidate.url) == point.source;
        Ok(asset.is_some_and(|asset| attempt::wanted(asset, record.job.kind(), self.inner.config.clean_only).any(from)))
    }

    /// An upload as it was recorded, if it can be gone on with under this configuration.
    fn usable(&self, name: &str, record: &UploadRecord) -> Option<(Upload, UploadCheckpoint)> {
        let upload: Upload = serde_json::from_str(name).ok()?;
        let point: UploadCheckpoint = serde_json::from_str(record.point.as_deref()?).ok()?;
        let sent = upload.part_size.checked_mul(record.parts.len() as u64)?;
        // Memory is set aside for parts of the configured size.
        let fits = upload.part_size == self.inner.bucket.part_size() && point.download.offset() == sent;
        fits.then_some((upload, point))
    }

    /// The uploads for a job's files that are still recorded.
    pub(super) fn recorded_uploads(&self, job: &Job) -> Result<Vec<Upload>, AttemptError> {
        let uploads = self.state().uploads_of(&job.id)?;
        Ok(uploads.iter().filter_map(|(name, _)| serde_json::from_str(name).ok()).collect())
    }

    /// How far a file has come, in bytes that can be gone on from.
    pub(super) fn resumable_bytes(&self, sequence: u64, slot: &AssetId) -> Result<u64, AttemptError> {
        Ok(self.state().file_of(sequence, slot)?.map(|asset| asset.reached).unwrap_or_default())
    }
}

/// How an upload is named in the journal.
pub(super) fn recorded(upload: &Upload) -> String {
    // Plain text and numbers: nothing in it can fail to serialize.
    serde_json::to_string(upload).unwrap_or_default()
}

fn source_of(url: &MediaUrl) -> Digest {
    let url = url.expose();
    Digest::of(url[..url::Position::AfterPath].as_bytes())
}
