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
use super::parts::Part;
use super::resume::{TakenUp, recorded};
use super::sending::Sending;
use super::store::{Arrived, Content};
use crate::bucket::{ObjectFolder, ObjectKey};
use crate::domain::{Asset, Candidate, FileName, JobId, Kind, Role, StoredFile, Timestamp};
use crate::fetch::{Container, Download, FetchError, MediaKind, MediaType, SNIFF_LENGTH, sniff};
use crate::journal::{Durability, Event};

/// What a transfer is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) job: &'a JobId,
    pub(super) asset: &'a Asset,
    pub(super) folder: &'a ObjectFolder,
    /// Set when the bytes must go there: to an object that has gone missing, or since their usual key is taken.
    pub(super) key: Option<&'a ObjectKey>,
}

impl Task<'_> {
    /// Whether an upload to `key` can become what this is for.
    pub(super) fn accepts(&self, key: &ObjectKey) -> bool {
        match self.key {
            Some(wanted) => key == wanted,
            None => key.as_str().strip_prefix(self.folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
        }
    }
}

impl Worker {
    /// Fetches `candidate` and stores it. What is returned is in the bucket, and recorded.
    pub(super) async fn transfer(&self, task: Task<'_>, candidate: &Candidate) -> Result<StoredFile, AttemptError> {
        fail_point!("worker.fetch", |_| Err(AttemptError::Deferred));
        if let Some(TakenUp { download, container, sending }) = self.take_up(task, candidate).await? {
            match self.take_in(task, candidate, download, container, Some(sending)).await {
                Err(error) if error.starts_over() => {
                    tracing::info!(job = %task.job, file = %task.asset.file, %error, "a download begins anew");
                }
                result => return result,
            }
        }
        let download = self.inner.fetcher.open(&candidate.url).await?;
        self.take_in(task, candidate, download, Container::new(), None).await
    }

    /// Takes in what is still to come and stores the whole. What fails leaves its upload to the next attempt where it can.
    async fn take_in(
        &self,
        task: Task<'_>,
        candidate: &Candidate,
        mut download: Download,
        container: Container,
        mut sending: Option<Sending>,
    ) -> Result<StoredFile, AttemptError> {
        match (self.receive_and_store(task, candidate, &mut download, container, &mut sending).await, sending) {
            (Ok((file, made_visible)), sending) => {
                if let Some(sending) = sending.filter(|_| made_visible)
                    && let Err(error) = self.forget_upload(&recorded(&sending.upload)).await
                {
                    tracing::warn!(key = file.key, %error, "the end of an upload could not be recorded");
                }
                // Of a file that is stored nothing else is needed.
                self.end_uploads_of_file(task).await?;
                Ok(file)
            }
            (Err(error), sending) => {
                if let Some(sending) = sending {
                    self.leave(candidate, sending, &error).await;
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
        sending: &mut Option<Sending>,
    ) -> Result<(StoredFile, bool), AttemptError> {
        let (part, media_type) = self.receive(task, candidate, download, container, sending).await?;
        let content = match sending {
            None => Content::whole(part),
            Some(sending) => {
                let (upload, parts) = sending.finish(self, part).await?;
                Content::Upload { upload, parts }
            }
        };
        let summary = download.summary().ok_or(FetchError::Changed)?;
        let (file, content_type) = name(task.asset, media_type, download.content_type());
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
        self.store(Arrived { job: task.job, slot: &task.asset.slot, folder: task.folder, key, file, content }).await
    }

    /// Takes in all bytes and sends all parts but the last, which is returned. Chunks end where parts do, so that the
    /// hash is at a part's end when the part is.
    async fn receive(
        &self,
        task: Task<'_>,
        candidate: &Candidate,
        download: &mut Download,
        mut container: Container,
        sending: &mut Option<Sending>,
    ) -> Result<(Part, Option<MediaType>), AttemptError> {
        let mut stop = self.inner.stop.subscribe();
        let host: Arc<str> = candidate.url.host().into();
        let mut part = self.begin_part(&host, download);
        let mut point = None;
        loop {
            let limit = if part.is_full() { self.inner.bucket.part_size() } else { part.room() };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let Some(chunk) = self.next(candidate, download, limit, sending, &mut stop).await? else { break };
            if part.is_full() {
                let sending = match sending {
                    Some(sending) => sending,
                    None => sending.insert(self.start_upload(task, download, &part).await?),
                };
                sending.send(self, part, point.take()).await?;
                if sending.due(*stop.borrow()).is_some_and(|due| due <= Instant::now()) {
                    self.advance(candidate, sending).await?;
                }
                part = self.begin_part(&host, download);
            }
            container.update(&chunk);
            part.add(chunk).await;
            if part.is_full() {
                point = download.point(&container);
            }
        }
        let media_type = container.finish()?;
        expect_media(task, media_type)?;
        Ok((part, media_type))
    }

    /// The next bytes. While they are waited for, parts arrive and are recorded, at once from a stop on.
    async fn next(
        &self,
        candidate: &Candidate,
        download: &mut Download,
        limit: usize,
        sending: &mut Option<Sending>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Option<Bytes>, AttemptError> {
        let mut next = std::pin::pin!(download.next_within(limit));
        let Some(sending) = sending else { return Ok(next.await?) };
        loop {
            let stopping = *stop.borrow_and_update();
            let due = sending.due(stopping);
            tokio::select! {
                chunk = &mut next => return Ok(chunk?),
                Some(ended) = sending.tasks.join_next(), if !sending.tasks.is_empty() => sending.ended(ended)?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.advance(candidate, sending).await?;
                }
                _ = stop.changed(), if !stopping => {}
            }
        }
    }

    /// The part to be filled next. It can hold no more than is still to come, where that is known.
    fn begin_part(&self, host: &Arc<str>, download: &Download) -> Part {
        let part_size = self.inner.bucket.part_size();
        let is_first = download.received() == 0;
        let left = download.declared_length().map(|length| length.saturating_sub(download.received()));
        let capacity = match left {
            // Whatever has been received and is not yet in a part is at most one chunk; it is counted generously.
            Some(left) if is_first => left.clamp(1, part_size),
            _ => part_size,
        };
        Part::new(capacity, self.inner.memory.begin(host, capacity, is_first))
    }

    async fn start_upload(&self, task: Task<'_>, download: &Download, first: &Part) -> Result<Sending, AttemptError> {
        let media_type = sniff(&first.head(SNIFF_LENGTH));
        expect_media(task, media_type)?;
        let (file, content_type) = name(task.asset, media_type, download.content_type());
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
        let recorded_it = self.inner.ledger.record(event, Durability::Synced).await.map_err(AttemptError::from);
        let injected = || {
            fail_point!("worker.upload.done", |_| Err(AttemptError::Deferred));
            Ok(())
        };
        match recorded_it.and_then(|_| injected()) {
            Ok(()) => Ok(Sending::new(upload, Vec::new())),
            Err(error) => {
                self.end_quietly(&recorded(&upload)).await;
                Err(error)
            }
        }
    }
}

/// A CDN may answer 200 with an error page. Agents may be asked for documents.
fn expect_media(task: Task<'_>, media_type: Option<MediaType>) -> Result<(), AttemptError> {
    let Some(media_type) = media_type.filter(|media_type| media_type.kind == MediaKind::Document) else {
        return Ok(());
    };
    let asked_for = task.job.kind() == Kind::Agent && is_document(task.asset.file.extension());
    if asked_for || task.asset.role == Role::Subtitle { Ok(()) } else { Err(AttemptError::NotMedia(media_type.mime)) }
}

fn is_document(extension: &str) -> bool {
    matches!(extension, "html" | "htm" | "json" | "xml" | "svg" | "txt" | "md" | "csv")
}

/// No registered type has a longer name.
const MAX_TYPE_BYTES: usize = 255;

/// The name and type to store under: those of the bytes where they are known, else what the provider and the server
/// say, as far as it is harmless.
fn name(asset: &Asset, media_type: Option<MediaType>, declared: Option<&str>) -> (FileName, String) {
    if let Some(media_type) = media_type {
        let same = same_type(asset.file.extension(), media_type.extension);
        let file = if same { asset.file.clone() } else { asset.file.with_extension(media_type.extension) };
        return (file, media_type.mime.to_owned());
    }
    let declared = declared.and_then(|declared| declared.parse::<mime::Mime>().ok());
    let harmless = declared.filter(|declared| {
        declared.essence_str().len() <= MAX_TYPE_BYTES
            && matches!(declared.type_(), mime::VIDEO | mime::AUDIO | mime::IMAGE)
            && declared.subtype() != mime::SVG
    });
    let content_type =
        harmless.map_or("application/octet-stream".to_owned(), |declared| declared.essence_str().to_owned());
    (asset.file.clone(), content_type)
}

/// Two spellings of one extension.
fn same_type(given: &str, real: &str) -> bool {
    given == real || matches!((given, real), ("jpeg", "jpg") | ("htm", "html"))
}
