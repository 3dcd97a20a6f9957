//! One file from one URL into the bucket: gone on with where an earlier attempt left it, or begun anew.

use fail::fail_point;

use super::Resources;
use super::attempt_error::AttemptError;
use super::commit_object::ObjectCommit;
use super::multipart::MultipartUpload;
use super::receive::Receiver;
use super::task::Task;
use super::uploads::Uploads;
use crate::domain::StoredFile;
use crate::fetch::{Container, Download, FetchError};
use crate::state::EventLog;

/// The transfer of one file from one URL.
pub(super) struct Transfer<'a> {
    resources: &'a Resources,
    uploads: Uploads<'a>,
    objects: ObjectCommit<'a>,
    task: Task<'a>,
}

/// A download that goes on, and the upload it fills.
struct Resumed {
    download: Download,
    container: Container,
    upload: MultipartUpload,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(resources: &'a Resources, log: &'a EventLog, task: Task<'a>) -> Self {
        let (uploads, objects) = (Uploads::new(resources, log), ObjectCommit::new(resources, log));
        Self { resources, uploads, objects, task }
    }

    /// Fetches the file and stores it. What is returned is in the bucket, and recorded.
    pub(super) async fn run(&self) -> Result<StoredFile, AttemptError> {
        let task = self.task;
        fail_point!("worker.fetch", |_| Err(AttemptError::Deferred));
        if let Some(Resumed { download, container, upload }) = self.try_resume().await? {
            match self.download_and_store(task, download, container, Some(upload)).await {
                Err(error) if error.starts_over() => {
                    tracing::info!(job = %task.job.id, file = %task.asset.file, %error, "a download begins anew");
                }
                result => return result,
            }
        }
        match self.begin(task).await {
            Err(AttemptError::OtherType(media_type)) if task.media_type.is_none() => {
                tracing::info!(job = %task.job.id, file = %task.asset.file, ?media_type, "a download begins anew by its type");
                self.begin(Task { media_type: Some(media_type), ..task }).await
            }
            result => result,
        }
    }

    /// Goes on with what an earlier attempt at the same URL left, if there is such a thing and it is still good.
    async fn try_resume(&self) -> Result<Option<Resumed>, AttemptError> {
        let Task { job, candidate, .. } = self.task;
        for (name, record) in self.uploads.of_file(self.task)? {
            let usable = self.uploads.usable(&name, &record).filter(|(upload, _)| self.task.accepts(&upload.key));
            let Some((upload, point)) = usable else {
                self.uploads.abort_best_effort(&name).await;
                continue;
            };
            if !point.is_of(&candidate.url) {
                // It is ended when this candidate gets an upload of its own, or is stored.
                continue;
            }
            fail_point!("worker.resume", |_| Err(AttemptError::Deferred));
            match self.resources.source.resume(job, candidate, &point.download).await {
                Ok(None) => {}
                Ok(Some((download, container))) => {
                    let from = point.download.offset();
                    tracing::info!(job = %job.id, key = %upload.key, from, "a download goes on");
                    fail_point!("worker.resume.done", |_| Err(AttemptError::Deferred));
                    let upload = MultipartUpload::new(upload, record.parts);
                    return Ok(Some(Resumed { download, container, upload }));
                }
                Err(AttemptError::Fetch(FetchError::Changed)) => self.uploads.abort_best_effort(&name).await,
                Err(error) => {
                    if !error.keeps_upload() {
                        self.uploads.abort_best_effort(&name).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Fetches the file from its first byte on.
    async fn begin(&self, task: Task<'_>) -> Result<StoredFile, AttemptError> {
        let download = self.resources.source.open(task).await?;
        self.download_and_store(task, download, Container::new(), None).await
    }

    /// Takes in what is still to come and stores the whole. What fails leaves its upload to the next attempt where it can.
    async fn download_and_store(
        &self,
        task: Task<'_>,
        download: Download,
        container: Container,
        upload: Option<MultipartUpload>,
    ) -> Result<StoredFile, AttemptError> {
        let mut receiver = Receiver::new(self.resources, self.uploads, task, download, upload);
        let stored = match receiver.receive(container).await {
            Ok(received) => self.objects.store(received).await,
            Err(error) => Err(error),
        };
        let upload = receiver.into_upload();
        match stored {
            Ok((file, made_visible)) => {
                if let Some(upload) = upload.filter(|_| made_visible) {
                    self.uploads.completed(&upload.upload).await;
                }
                // Of a file that is stored nothing else is needed.
                self.uploads.end_all_of_file(task).await?;
                Ok(file)
            }
            Err(error) => {
                if let Some(upload) = upload {
                    self.uploads.suspend(&task.candidate.url, upload, &error).await;
                }
                Err(error)
            }
        }
    }
}
