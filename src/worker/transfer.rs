//! One file from its URL into the bucket, streamed: hashed, checked and cut into parts on the way.
//!
//! Up to one part, the hash is known before anything is sent. Above, parts go out while the rest comes in, and whether
//! the upload is completed is decided when the last byte has been checked.

use bytes::Bytes;
use fail::fail_point;
use tokio::task::JoinSet;

use super::Worker;
use super::attempt::AttemptError;
use super::parts::Part;
use super::store::{Arrived, Content};
use crate::bucket::{BucketError, ObjectFolder, ObjectKey, PartId, Upload};
use crate::domain::{Asset, Candidate, FileName, JobId, Kind, Role, StoredFile, Timestamp};
use crate::fetch::{Container, Download, FetchError, MediaKind, MediaType, SNIFF_LENGTH, sniff};
use crate::journal::{Durability, Event};

/// What a transfer is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) job: &'a JobId,
    pub(super) asset: &'a Asset,
    pub(super) folder: &'a ObjectFolder,
    /// Set when the bytes must go to an object that has gone missing.
    pub(super) key: Option<&'a ObjectKey>,
}

/// A multipart upload under way.
#[derive(Debug)]
struct Sending {
    upload: Upload,
    tasks: JoinSet<Result<(usize, PartId), BucketError>>,
    parts: Vec<(usize, PartId)>,
    started: usize,
}

/// Parts of one file on their way at once, besides the one being filled.
const PARTS_IN_FLIGHT: usize = 2;

impl Worker {
    /// Fetches `candidate` and stores it. What is returned is in the bucket, and recorded.
    pub(super) async fn transfer(&self, task: Task<'_>, candidate: &Candidate) -> Result<StoredFile, AttemptError> {
        fail_point!("worker.fetch", |_| Err(AttemptError::Deferred));
        let mut download = self.inner.fetcher.open(&candidate.url).await?;
        let mut sending = None;
        let received = self.receive(task, &mut download, &mut sending).await;
        let content = match received {
            Ok((part, media_type)) => match &mut sending {
                None => Ok((Content::whole(part), media_type)),
                Some(sending) => sending
                    .finish(self, part)
                    .await
                    .map(|(upload, parts)| (Content::Upload { upload, parts }, media_type)),
            },
            Err(error) => Err(error),
        };
        let whole = content.and_then(|whole| Ok((whole, download.summary().ok_or(FetchError::Changed)?)));
        let stored = match whole {
            Ok(((content, media_type), summary)) => {
                let (file, content_type) = name(task.asset, media_type, download.content_type());
                let key = task.key.cloned().unwrap_or_else(|| task.folder.file(&file));
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
                self.store(Arrived { job: task.job, slot: &task.asset.slot, key, file, content }).await
            }
            Err(error) => Err(error),
        };
        if let Some(sending) = sending {
            // Completed or not worth completing: either way nothing of it must stay behind.
            self.end_upload(sending).await;
        }
        stored
    }

    /// Takes in all bytes and sends all parts but the last, which is returned.
    async fn receive(
        &self,
        task: Task<'_>,
        download: &mut Download,
        sending: &mut Option<Sending>,
    ) -> Result<(Part, Option<MediaType>), AttemptError> {
        let mut container = Container::new();
        let mut part = self.begin_part(self.part_capacity(download)).await?;
        while let Some(chunk) = download.next().await? {
            container.update(&chunk);
            let mut chunk: Bytes = chunk;
            while !chunk.is_empty() {
                if part.is_full() {
                    let sending = match sending {
                        Some(sending) => sending,
                        None => sending.insert(self.start_upload(task, download, &part).await?),
                    };
                    sending.send(self, part).await?;
                    part = self.begin_part(self.part_capacity(download)).await?;
                }
                part.fill(&mut chunk);
            }
        }
        let media_type = container.finish()?;
        expect_media(task, media_type)?;
        Ok((part, media_type))
    }

    /// What the part to be filled next can hold: no more than is still to come, where that is known.
    fn part_capacity(&self, download: &Download) -> u64 {
        let part_size = self.inner.bucket.part_size();
        let left = download.declared_length().map(|length| length.saturating_sub(download.received()));
        match left {
            // Whatever has been received and is not yet in a part is at most one chunk; it is counted generously.
            Some(left) if download.received() == 0 => left.clamp(1, part_size),
            _ => part_size,
        }
    }

    async fn start_upload(&self, task: Task<'_>, download: &Download, first: &Part) -> Result<Sending, AttemptError> {
        let media_type = sniff(&first.head(SNIFF_LENGTH));
        expect_media(task, media_type)?;
        let (file, content_type) = name(task.asset, media_type, download.content_type());
        let key = task.key.cloned().unwrap_or_else(|| task.folder.file(&file));
        fail_point!("worker.upload", |_| Err(AttemptError::Deferred));
        let upload = self.inner.bucket.start_upload(&key, &content_type).await?;
        let event = Event::UploadStarted {
            at: Timestamp::now(),
            job: task.job.clone(),
            slot: task.asset.slot.clone(),
            upload: recorded(&upload),
        };
        let recorded = self.inner.ledger.record(event, Durability::Synced).await.map_err(AttemptError::from);
        let sending = Sending { upload, tasks: JoinSet::new(), parts: Vec::new(), started: 0 };
        let injected = || {
            fail_point!("worker.upload.done", |_| Err(AttemptError::Deferred));
            Ok(())
        };
        match recorded.and_then(|_| injected()) {
            Ok(()) => Ok(sending),
            Err(error) => {
                self.end_upload(sending).await;
                Err(error)
            }
        }
    }

    async fn end_upload(&self, sending: Sending) {
        let Sending { upload, tasks, .. } = sending;
        drop(tasks);
        if let Err(error) = self.inner.bucket.abort_upload(&upload).await {
            // It stays recorded, and is swept at the next start.
            tracing::warn!(key = %upload.key, %error, "an unfinished upload could not be aborted");
            return;
        }
        let event = Event::UploadEnded { at: Timestamp::now(), upload: recorded(&upload) };
        if let Err(error) = self.inner.ledger.record(event, Durability::Written).await {
            tracing::warn!(key = %upload.key, %error, "the end of an upload could not be recorded");
        }
    }
}

/// How an upload is named in the journal.
pub(super) fn recorded(upload: &Upload) -> String {
    // Plain text and numbers: nothing in it can fail to serialize.
    serde_json::to_string(upload).unwrap_or_default()
}

impl Sending {
    async fn send(&mut self, worker: &Worker, part: Part) -> Result<(), AttemptError> {
        while self.tasks.len() >= PARTS_IN_FLIGHT {
            self.wait_for_one().await?;
        }
        let (bucket, upload, index) = (worker.inner.bucket.clone(), self.upload.clone(), self.started);
        self.started += 1;
        self.tasks.spawn(async move {
            let (chunks, _permit) = part.into_chunks();
            fail_point!("worker.part", |_| Err(BucketError::Unavailable("injected".to_owned())));
            let sent = bucket.put_part(&upload, index, chunks).await?;
            fail_point!("worker.part.done", |_| Err(BucketError::Unavailable("injected".to_owned())));
            Ok((index, sent))
        });
        Ok(())
    }

    /// Sends the last part and waits for all.
    async fn finish(&mut self, worker: &Worker, last: Part) -> Result<(Upload, Vec<PartId>), AttemptError> {
        if !last.is_empty() {
            self.send(worker, last).await?;
        }
        while !self.tasks.is_empty() {
            self.wait_for_one().await?;
        }
        self.parts.sort_by_key(|(index, _)| *index);
        Ok((self.upload.clone(), self.parts.drain(..).map(|(_, part)| part).collect()))
    }

    async fn wait_for_one(&mut self) -> Result<(), AttemptError> {
        match self.tasks.join_next().await {
            Some(Ok(sent)) => self.parts.push(sent?),
            Some(Err(error)) => return Err(BucketError::Unavailable(error.to_string()).into()),
            None => {}
        }
        Ok(())
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
        matches!(declared.type_(), mime::VIDEO | mime::AUDIO | mime::IMAGE) && declared.subtype() != mime::SVG
    });
    let content_type =
        harmless.map_or("application/octet-stream".to_owned(), |declared| declared.essence_str().to_owned());
    (asset.file.clone(), content_type)
}

/// Two spellings of one extension.
fn same_type(given: &str, real: &str) -> bool {
    given == real || matches!((given, real), ("jpeg", "jpg") | ("htm", "html"))
}
