//! One file from its URL into the bucket, streamed: hashed, checked and cut into parts on the way.
//!
//! Up to one part, the hash is known before anything is sent. Above, parts go out while the rest comes in, and whether
//! the upload is completed is decided when the last byte has been checked.

use std::sync::Arc;

use bytes::Bytes;
use fail::fail_point;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Worker;
use super::attempt::AttemptError;
use super::commit_object::{Content, ReceivedFile};
use super::multipart::MultipartUpload;
use super::part_buffer::PartBuffer;
use super::resume::{Resumed, recorded};
use super::task::Task;
use crate::domain::{Candidate, StoredFile, Timestamp};
use crate::fetch::{Container, ContainerError, Download, FetchError, MediaType, SNIFF_LENGTH, sniff};
use crate::journal::{Durability, Event};

impl Worker {
    /// Fetches `candidate` and stores it. What is returned is in the bucket, and recorded.
    pub(super) async fn transfer(&self, task: Task<'_>, candidate: &Candidate) -> Result<StoredFile, AttemptError> {
        fail_point!("worker.fetch", |_| Err(AttemptError::Deferred));
        if let Some(Resumed { download, container, upload_in_progress }) = self.try_resume(task, candidate).await? {
            match self.download_and_store(task, candidate, download, container, Some(upload_in_progress)).await {
                Err(error) if error.starts_over() => {
                    tracing::info!(job = %task.job, file = %task.asset.file, %error, "a download begins anew");
                }
                result => return result,
            }
        }
        let download = self.open(task, candidate).await?;
        match self.download_and_store(task, candidate, download, Container::new(), None).await {
            Err(AttemptError::OtherType(media_type)) if task.media_type.is_none() => {
                tracing::info!(job = %task.job, file = %task.asset.file, ?media_type, "a download begins anew by its type");
                let download = self.open(task, candidate).await?;
                let task = Task { media_type: Some(media_type), ..task };
                self.download_and_store(task, candidate, download, Container::new(), None).await
            }
            result => result,
        }
    }

    /// Takes in what is still to come and stores the whole. What fails leaves its upload to the next attempt where it can.
    async fn download_and_store(
        &self,
        task: Task<'_>,
        candidate: &Candidate,
        mut download: Download,
        container: Container,
        mut upload_in_progress: Option<MultipartUpload>,
    ) -> Result<StoredFile, AttemptError> {
        match (
            self.receive_and_store(task, candidate, &mut download, container, &mut upload_in_progress).await,
            upload_in_progress,
        ) {
            (Ok((file, made_visible)), upload_in_progress) => {
                if let Some(upload_in_progress) = upload_in_progress.filter(|_| made_visible)
                    && let Err(error) = self.record_upload_ended(&recorded(&upload_in_progress.upload)).await
                {
                    tracing::warn!(key = file.key, %error, "the end of an upload could not be recorded");
                }
                // Of a file that is stored nothing else is needed.
                self.end_uploads_of_file(task).await?;
                Ok(file)
            }
            (Err(error), upload_in_progress) => {
                if let Some(upload_in_progress) = upload_in_progress {
                    self.suspend(candidate, upload_in_progress, &error).await;
                }
                Err(error)
            }
        }
    }

    async fn receive_and_store(
        &self,
        task: Task<'_>,
        candidate: &Candidate,
        download: &mut Download,
        container: Container,
        upload_in_progress: &mut Option<MultipartUpload>,
    ) -> Result<(StoredFile, bool), AttemptError> {
        let (part, media_type) = self.receive(task, candidate, download, container, upload_in_progress).await?;
        let (file, content_type) = task.judge(media_type, download)?;
        let begun = upload_in_progress.as_ref().map(|upload_in_progress| &upload_in_progress.upload);
        if let Some((begun, media_type)) = begun.zip(media_type).filter(|_| task.key.is_none()) {
            // Sound alone in a 3GP has the extension of moving pictures and another type.
            let has_other_type = begun.content_type.as_ref().is_some_and(|begun| *begun != content_type);
            if has_other_type || !begun.key.file_name().ends_with(&format!(".{}", file.extension())) {
                return Err(AttemptError::OtherType(media_type));
            }
        }
        let content = match upload_in_progress {
            None => Content::whole(part),
            Some(upload_in_progress) => {
                let (upload, parts) = upload_in_progress.finish(self, part).await?;
                Content::Upload { upload, parts }
            }
        };
        let summary = download.summary().ok_or(FetchError::Changed)?;
        let key = task.key.cloned().unwrap_or_else(|| task.folder.file(&file));
        // A key in the job's own folder names the file.
        let named = key.is_below(task.folder).then(|| key.file_name().parse().ok()).flatten();
        let file = named.unwrap_or(file);
        let file = StoredFile {
            file,
            sha256: summary.digest,
            bytes: summary.bytes,
            content_type,
            key: key.as_str().to_owned(),
            deduplicated: false,
            url: candidate.url.clone(),
            variant: candidate.variant,
            at: Timestamp::now(),
        };
        self.store(ReceivedFile { job: task.job, slot: &task.asset.slot, folder: task.folder, key, file, content })
            .await
    }

    /// Takes in all bytes and sends all parts but the last, which is returned. Chunks end where parts do, so that the
    /// hash is at a part's end when the part is.
    async fn receive(
        &self,
        task: Task<'_>,
        candidate: &Candidate,
        download: &mut Download,
        mut container: Container,
        upload_in_progress: &mut Option<MultipartUpload>,
    ) -> Result<(PartBuffer, Option<MediaType>), AttemptError> {
        let mut stop = self.inner.stop.subscribe();
        let host: Arc<str> = candidate.url.host().into();
        let mut part = self.begin_part(&host, download);
        let mut point = None;
        loop {
            let limit = if part.is_full() { self.inner.bucket.part_size() } else { part.room() };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let Some(chunk) = self.next(candidate, download, limit, upload_in_progress, &mut stop).await? else {
                break;
            };
            if part.is_full() {
                let upload_in_progress = match upload_in_progress {
                    Some(upload_in_progress) => upload_in_progress,
                    None => upload_in_progress.insert(self.start_upload(task, download, container.found()).await?),
                };
                upload_in_progress.send(self, part, point.take()).await?;
                if upload_in_progress.due(*stop.borrow()).is_some_and(|due| due <= Instant::now()) {
                    self.checkpoint(candidate, upload_in_progress).await?;
                }
                part = self.begin_part(&host, download);
            }
            container.update(&chunk);
            part.add(chunk).await;
            if part.is_full() {
                point = download.point(&container);
            }
        }
        match container.finish(download.is_proven()) {
            Ok(media_type) => Ok((part, media_type)),
            Err(ContainerError::WithoutEnd) if upload_in_progress.is_none() && part.ends_in_a_whole_picture().await => {
                let media_type = sniff(&part.head(SNIFF_LENGTH));
                Ok((part, media_type))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next bytes. While they are waited for, parts arrive and are recorded, at once from a stop on.
    async fn next(
        &self,
        candidate: &Candidate,
        download: &mut Download,
        limit: usize,
        upload_in_progress: &mut Option<MultipartUpload>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Bytes>, AttemptError> {
        let mut next = std::pin::pin!(download.next_within(limit));
        let Some(upload_in_progress) = upload_in_progress else { return Ok(next.await?) };
        loop {
            let stopping = *stop.borrow_and_update();
            let due = upload_in_progress.due(stopping);
            tokio::select! {
                chunk = &mut next => return Ok(chunk?),
                Some(ended) = upload_in_progress.tasks.join_next(), if !upload_in_progress.tasks.is_empty() => upload_in_progress.ended(ended)?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.checkpoint(candidate, upload_in_progress).await?;
                }
                _ = stop.changed(), if !stopping => {}
            }
        }
    }

    /// The part to be filled next. It can hold no more than is still to come, where that is known.
    fn begin_part(&self, host: &Arc<str>, download: &Download) -> PartBuffer {
        let part_size = self.inner.bucket.part_size();
        let is_first = download.received() == 0;
        let left = download.declared_length().map(|length| length.saturating_sub(download.received()));
        let capacity = match left {
            // Whatever has been received and is not yet in a part is at most one chunk; it is counted generously.
            Some(left) if is_first => left.clamp(1, part_size),
            _ => part_size,
        };
        PartBuffer::new(capacity, self.inner.memory.begin(host, capacity, is_first))
    }

    async fn start_upload(
        &self,
        task: Task<'_>,
        download: &Download,
        found: Option<MediaType>,
    ) -> Result<MultipartUpload, AttemptError> {
        let media_type = task.media_type.or(found);
        let (file, content_type) = task.judge(media_type, download)?;
        let key = task.key.cloned().unwrap_or_else(|| task.folder.file(&file));
        // What an earlier attempt left is of another URL, or no longer good.
        self.end_uploads_of_file(task).await?;
        fail_point!("worker.upload", |_| Err(AttemptError::Deferred));
        let upload = self.inner.bucket.start_upload(&key, &content_type).await?;
        let event = Event::UploadStarted {
            at: Timestamp::now(),
            job: task.job.clone(),
            slot: task.asset.slot.clone(),
            upload: recorded(&upload),
        };
        let recorded_it = self.log.record(event, Durability::Synced).await.map_err(AttemptError::from);
        let injected = || {
            fail_point!("worker.upload.done", |_| Err(AttemptError::Deferred));
            Ok(())
        };
        match recorded_it.and_then(|_| injected()) {
            Ok(()) => Ok(MultipartUpload::new(upload, Vec::new())),
            Err(error) => {
                self.abort_best_effort(&recorded(&upload)).await;
                Err(error)
            }
        }
    }
}
