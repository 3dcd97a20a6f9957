//! The bytes of one download, streamed: hashed, checked and cut into parts on the way.
//!
//! Up to one part, the hash is known before anything is sent. Above, parts go out while the rest comes in, and whether
//! the upload is completed is decided when the last byte has been checked.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Resources;
use super::attempt_error::AttemptError;
use super::commit_object::{Content, ReceivedFile};
use super::multipart::MultipartUpload;
use super::part_buffer::PartBuffer;
use super::task::Task;
use super::uploads::Uploads;
use crate::domain::{FileName, StoredFile, Timestamp};
use crate::fetch::{Container, ContainerError, Download, FetchError, MediaType, SNIFF_LENGTH, sniff};

/// Takes in what is still to come of a file.
pub(super) struct Receiver<'a> {
    resources: &'a Resources,
    uploads: Uploads<'a>,
    task: Task<'a>,
    download: Download,
    /// Where parts go; `None` until the first is full.
    upload: Option<MultipartUpload>,
}

impl<'a> Receiver<'a> {
    /// Goes on with `upload`, if there is one.
    pub(super) fn new(
        resources: &'a Resources,
        uploads: Uploads<'a>,
        task: Task<'a>,
        download: Download,
        upload: Option<MultipartUpload>,
    ) -> Self {
        Self { resources, uploads, task, download, upload }
    }

    /// The upload that it went on with or began.
    pub(super) fn into_upload(self) -> Option<MultipartUpload> {
        self.upload
    }

    /// Takes in all bytes, and says what they are. `container` has seen those before.
    pub(super) async fn receive(&mut self, container: Container) -> Result<ReceivedFile<'a>, AttemptError> {
        let task = self.task;
        let (part, media_type) = self.receive_parts(container).await?;
        let (file, content_type) = task.judge(media_type, &self.download)?;
        let begun = self.upload.as_ref().map(|upload| &upload.upload);
        if let Some((begun, media_type)) = begun.zip(media_type).filter(|_| task.key.is_none()) {
            // Sound alone in a 3GP has the extension of moving pictures and another type.
            let has_other_type = begun.content_type.as_ref().is_some_and(|begun| *begun != content_type);
            let begun: Option<FileName> = begun.key.file_name().parse().ok();
            if has_other_type || begun.is_none_or(|begun| begun.extension() != file.extension()) {
                return Err(AttemptError::OtherType(media_type));
            }
        }
        let content = match &mut self.upload {
            None => Content::whole(part),
            Some(upload) => {
                let (upload, parts) = upload.finish(&self.resources.bucket, part).await?;
                Content::Upload { upload, parts }
            }
        };
        let summary = self.download.summary().ok_or(FetchError::Changed)?;
        let key = task.key(&file);
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
            url: task.candidate.url.clone(),
            variant: task.candidate.variant,
            at: Timestamp::now(),
        };
        Ok(ReceivedFile { task, key, file, content })
    }

    /// Takes in all bytes and sends all parts but the last, which is returned. Chunks end where parts do, so that the
    /// hash is at a part's end when the part is.
    async fn receive_parts(
        &mut self,
        mut container: Container,
    ) -> Result<(PartBuffer, Option<MediaType>), AttemptError> {
        let mut stop = self.resources.stop.subscribe();
        let mut part = self.begin_part();
        let mut point = None;
        loop {
            let limit = if part.is_full() { self.resources.bucket.part_size() } else { part.room() };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let Some(chunk) = self.next(limit, &mut stop).await? else { break };
            if part.is_full() {
                let upload = match &mut self.upload {
                    Some(upload) => upload,
                    none => {
                        let media_type = self.task.media_type.or(container.found());
                        let (file, content_type) = self.task.judge(media_type, &self.download)?;
                        none.insert(self.uploads.start(self.task, &file, &content_type).await?)
                    }
                };
                upload.send(&self.resources.bucket, part, point.take()).await?;
                if upload.due(*stop.borrow()).is_some_and(|due| due <= Instant::now()) {
                    self.uploads.checkpoint(&self.task.candidate.url, upload).await?;
                }
                part = self.begin_part();
            }
            container.update(&chunk);
            part.add(chunk).await;
            if part.is_full() {
                point = self.download.point(&container);
            }
        }
        match container.finish(self.download.is_proven()) {
            Ok(media_type) => Ok((part, media_type)),
            Err(ContainerError::WithoutEnd) if self.upload.is_none() && part.ends_in_a_whole_picture().await => {
                let media_type = sniff(&part.head(SNIFF_LENGTH));
                Ok((part, media_type))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next bytes, at most `limit`. While they are waited for, parts arrive and are recorded, at once from a stop on.
    async fn next(&mut self, limit: usize, stop: &mut watch::Receiver<bool>) -> Result<Option<Bytes>, AttemptError> {
        let mut next = std::pin::pin!(self.download.next_within(limit));
        let Some(upload) = &mut self.upload else { return Ok(next.await?) };
        loop {
            let stopping = *stop.borrow_and_update();
            let due = upload.due(stopping);
            tokio::select! {
                chunk = &mut next => return Ok(chunk?),
                sent = upload.wait_for_one(), if upload.is_sending() => sent?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.uploads.checkpoint(&self.task.candidate.url, upload).await?;
                }
                _ = stop.changed(), if !stopping => {}
            }
        }
    }

    /// The part to be filled next. It can hold no more than is still to come, where that is known.
    fn begin_part(&self) -> PartBuffer {
        let part_size = self.resources.bucket.part_size();
        let is_first = self.download.received() == 0;
        let left = self.download.declared_length().map(|length| length.saturating_sub(self.download.received()));
        let capacity = match left {
            // Whatever has been received and is not yet in a part is at most one chunk; it is counted generously.
            Some(left) if is_first => left.clamp(1, part_size),
            _ => part_size,
        };
        let host: Arc<str> = self.task.candidate.url.host().into();
        PartBuffer::new(capacity, self.resources.memory.begin(&host, capacity, is_first))
    }
}
