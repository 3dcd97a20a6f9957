//! Making bytes an object, once: claim, object, record.

use std::time::Duration;

use bytes::Bytes;
use fail::fail_point;
use tokio::time::{Instant, sleep};

use super::attempt_error::AttemptError;
use super::digest_locks::DigestLocks;
use super::memory::Claim as MemoryClaim;
use super::part_buffer::PartBuffer;
use super::storage_health::StorageHealth;
use super::task::Task;
use super::{Resources, shards};
use crate::bucket::{Bucket, BucketError, ObjectKey, PartId, Upload};
use crate::domain::{AssetId, AssetState, Digest, JobId, StoredFile, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{ApplyOutcome, Claim, ClaimOutcome, EventLog, MediaRecord};

/// A file that has come in whole and been checked.
#[derive(Debug)]
pub(super) struct ReceivedFile<'a> {
    pub(super) task: Task<'a>,
    /// Where it goes unless its bytes are somewhere already.
    pub(super) key: ObjectKey,
    pub(super) file: StoredFile,
    pub(super) content: Content,
}

/// Its bytes.
#[derive(Debug)]
pub(super) enum Content {
    /// In memory.
    Whole { chunks: Vec<Bytes>, _memory: MemoryClaim },
    /// Sent, and not yet visible.
    Upload { upload: Upload, parts: Vec<PartId> },
}

impl Content {
    pub(super) fn whole(part: PartBuffer) -> Self {
        let (chunks, memory) = part.into_chunks();
        Self::Whole { chunks, _memory: memory }
    }

    /// Whether it can become the object under `key`.
    fn fits(&self, key: &str) -> bool {
        match self {
            Self::Whole { .. } => true,
            Self::Upload { upload, .. } => upload.key.as_str() == key,
        }
    }
}

/// Makes objects of bytes, and records that through `log`.
pub(super) struct ObjectCommit<'a> {
    log: &'a EventLog,
    bucket: &'a Bucket,
    storage: &'a StorageHealth,
    digests: &'a DigestLocks,
}

impl<'a> ObjectCommit<'a> {
    pub(super) fn new(resources: &'a Resources, log: &'a EventLog) -> Self {
        let Resources { bucket, storage, digests, .. } = resources;
        Self { log, bucket, storage, digests }
    }

    /// Makes the bytes an object, or finds the one they are already, and records the file as stored. Says whether it was
    /// these bytes that became the object.
    pub(super) async fn store(&self, received: ReceivedFile<'_>) -> Result<(StoredFile, bool), AttemptError> {
        let ReceivedFile { task, mut key, mut file, content } = received;
        let mut alone = self.digests.lock(file.sha256).await;
        let mut is_patient = true;
        let made_visible = loop {
            if let Some(media) = self.log.state().media(&file.sha256)? {
                break self.reuse(&media, &key, &mut file, content).await?;
            }
            match self.claim(&task, &file).await? {
                ClaimOutcome::Granted => {
                    self.make_visible(content, &key, &file).await?;
                    break true;
                }
                ClaimOutcome::AlreadyStored(_) => {}
                ClaimOutcome::FileStored(stored) => return Ok((*stored, false)),
                ClaimOutcome::HeldBy(claim) if is_patient && self.is_awaited(&claim, &task, &content)? => {
                    drop(alone);
                    is_patient = self.wait_for_another(&claim, &task, &content).await?;
                    alone = self.digests.lock(file.sha256).await;
                }
                ClaimOutcome::HeldBy(claim) => {
                    if self.is_visible(&claim).await? == Some(true) {
                        self.record_found(&claim).await?;
                    } else if !self.store_as_claimed(&claim, &content).await? {
                        // Where its object can be neither read nor written, these bytes get a key of their own. That does no
                        // harm if it is there: its key stays with its digest.
                        self.release(&claim).await?;
                    } else if self.is_given_up(&claim)? {
                        // Its job may have ended, with a manifest that does not name it.
                        file.key.clone_from(&claim.file.key);
                        file.content_type.clone_from(&claim.file.content_type);
                        break true;
                    } else {
                        self.record_found(&claim).await?;
                    }
                }
                ClaimOutcome::KeyTaken(owner) => {
                    // One lock at a time: another file may hold that of the owner and wait for this. What was claimed may
                    // still arrive, so its claim stays.
                    drop(alone);
                    if !self.find_own(&owner, &task.job.id, &task.asset.slot).await? {
                        key = move_apart(&task, &key, &mut file, &content)?;
                    }
                    alone = self.digests.lock(file.sha256).await;
                }
            }
        };
        self.record_stored(&task, &file).await?;
        drop(alone);
        Ok((file, made_visible))
    }

    /// Has the file be the object that the index names, which is stored again if it is gone. Returns whether it was.
    async fn reuse(
        &self,
        media: &MediaRecord,
        key: &ObjectKey,
        file: &mut StoredFile,
        content: Content,
    ) -> Result<bool, AttemptError> {
        let there: ObjectKey = parse(&media.key)?;
        file.deduplicated = there != *key;
        file.key.clone_from(&media.key);
        // One object has one type, whatever the server of this file says.
        file.content_type.clone_from(&media.content_type);
        if self.is_there(media, &there).await? {
            return Ok(false);
        }
        tracing::warn!(key = %there, sha256 = %file.sha256, "an object of the index is missing and stored again");
        self.make_visible(content, &there, file).await?;
        file.deduplicated = false;
        Ok(true)
    }

    async fn claim(&self, task: &Task<'_>, file: &StoredFile) -> Result<ClaimOutcome, AttemptError> {
        let (job, slot) = (task.job.id.clone(), task.asset.slot.clone());
        let event = Event::Claimed { at: Timestamp::now(), job, slot, file: file.clone() };
        fail_point!("worker.claim", |_| Err(AttemptError::Deferred));
        let recorded = self.log.record(event, Durability::Synced).await?;
        fail_point!("worker.claim.done", |_| Err(AttemptError::Deferred));
        match recorded {
            ApplyOutcome::Claim(outcome) => Ok(*outcome),
            _ => Err(AttemptError::Deferred),
        }
    }

    async fn record_stored(&self, task: &Task<'_>, file: &StoredFile) -> Result<(), AttemptError> {
        let event = Event::Stored { job: task.job.id.clone(), slot: task.asset.slot.clone(), file: file.clone() };
        fail_point!("worker.stored", |_| Err(AttemptError::Deferred));
        if let ApplyOutcome::Deferred = self.log.record(event, Durability::Buffered).await? {
            return Err(AttemptError::Deferred);
        }
        fail_point!("worker.stored.done", |_| Err(AttemptError::Deferred));
        Ok(())
    }

    /// Whether the object of a claim is to be expected from its own file's attempt: where another replica works on that, and
    /// where these bytes are in an upload, which cannot change its key. What was given up is not awaited.
    fn is_awaited(&self, claim: &Claim, task: &Task<'_>, content: &Content) -> Result<bool, AttemptError> {
        // A job's files are worked on one after the other.
        if claim.job == task.job.id || self.is_given_up(claim)? {
            return Ok(false);
        }
        let Some(cluster) = self.log.cluster() else { return Ok(!content.fits(&claim.file.key)) };
        let held = cluster.shares().held().1;
        Ok(!content.fits(&claim.file.key) || !shards::include(held, self.log.state(), &claim.job)?)
    }

    /// Whether no attempt at a claim's file is to come.
    fn is_given_up(&self, claim: &Claim) -> Result<bool, AttemptError> {
        let record = self.log.state().job(&claim.job)?;
        let asset = record.as_ref().and_then(|record| record.job.asset(&claim.slot));
        Ok(asset.is_none_or(|asset| asset.state != AssetState::Pending))
    }

    /// Waits until the attempt that has a claim has stored the object or given it up, or nothing is awaited of it any more.
    /// Returns whether one of these came within the time that is waited: the next attempt may be hours away.
    async fn wait_for_another(&self, claim: &Claim, task: &Task<'_>, content: &Content) -> Result<bool, AttemptError> {
        const LOOK: Duration = Duration::from_millis(200);
        let until = Instant::now() + patience();
        while Instant::now() < until {
            if self.log.state().claim(&claim.file.sha256)?.is_none() || !self.is_awaited(claim, task, content)? {
                return Ok(true);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Stores the bytes under the key of a claim that another file's attempt left: its write may still arrive, and then
    /// brings the same bytes there. Returns whether that was done: storage may refuse that key.
    async fn store_as_claimed(&self, claim: &Claim, content: &Content) -> Result<bool, AttemptError> {
        let Content::Whole { chunks, .. } = content else { return Ok(false) };
        let (key, media_type) = (parse(&claim.file.key)?, &claim.file.content_type);
        let put = || async { self.bucket.put(&key, chunks.clone(), media_type).await.map_err(AttemptError::from) };
        let stored = self.storage.for_one_object(put).await?;
        if let Err(error) = &stored {
            tracing::warn!(%key, %error, "an object cannot be stored as it was claimed");
        }
        Ok(stored.is_ok())
    }

    /// Finds out what became of a claim that the last run left: its object is there and gets recorded. If not, the write may
    /// still be done. So the claim stays while its file is to be fetched; it is released otherwise.
    pub(super) async fn settle_left(&self, claim: &Claim) -> Result<(), AttemptError> {
        match self.is_visible(claim).await? {
            Some(true) => self.record_found(claim).await,
            Some(false) if self.is_given_up(claim)? => self.release(claim).await,
            Some(false) | None => Ok(()),
        }
    }

    /// Looks for the object of the claim on `sha256` that an earlier attempt at the same file left, and records it if it is
    /// there. Returns whether it is. If not, the write may still be done: the claim stays for the next start.
    pub(super) async fn find_own(&self, sha256: &Digest, job: &JobId, slot: &AssetId) -> Result<bool, AttemptError> {
        let _alone = self.digests.lock(*sha256).await;
        let Some(claim) = self.own_claim(sha256, job, slot)? else { return Ok(false) };
        if self.is_visible(&claim).await? != Some(true) {
            return Ok(false);
        }
        self.record_found(&claim).await?;
        Ok(true)
    }

    /// The same where storage refuses the object for good: a claim whose object is not there is released.
    pub(super) async fn settle_own(&self, sha256: &Digest, job: &JobId, slot: &AssetId) -> Result<(), AttemptError> {
        let _alone = self.digests.lock(*sha256).await;
        let Some(claim) = self.own_claim(sha256, job, slot)? else { return Ok(()) };
        match self.is_visible(&claim).await? {
            Some(true) => self.record_found(&claim).await,
            Some(false) => self.release(&claim).await,
            None => Ok(()),
        }
    }

    fn own_claim(&self, sha256: &Digest, job: &JobId, slot: &AssetId) -> Result<Option<Claim>, AttemptError> {
        let claim = self.log.state().claim(sha256)?;
        Ok(claim.filter(|claim| claim.job == *job && claim.slot == *slot))
    }

    /// Whether the object of a claim is there, whole; `None` when storage works and that object alone cannot be read.
    async fn is_visible(&self, claim: &Claim) -> Result<Option<bool>, AttemptError> {
        let key = parse(&claim.file.key)?;
        let digest = || async { self.bucket.digest(&key).await.map_err(AttemptError::from) };
        match self.storage.for_one_object(digest).await? {
            Ok(found) => Ok(Some(found == Some((claim.file.sha256, claim.file.bytes)))),
            Err(error) => {
                tracing::warn!(%key, %error, "an object that may be there cannot be read");
                Ok(None)
            }
        }
    }

    async fn record_found(&self, claim: &Claim) -> Result<(), AttemptError> {
        let Claim { job, slot, file } = claim.clone();
        let event = Event::Stored { job, slot, file };
        match self.log.record(event, Durability::Buffered).await? {
            ApplyOutcome::Deferred => Err(AttemptError::Deferred),
            _ => Ok(()),
        }
    }

    async fn release(&self, claim: &Claim) -> Result<(), AttemptError> {
        let event = Event::Released { at: Timestamp::now(), sha256: claim.file.sha256 };
        self.log.record(event, Durability::Buffered).await?;
        Ok(())
    }

    async fn is_there(&self, media: &MediaRecord, key: &ObjectKey) -> Result<bool, AttemptError> {
        match self.bucket.size(key).await {
            Err(BucketError::NoListing) => Ok(false),
            size => Ok(size? == Some(media.bytes)),
        }
    }

    async fn make_visible(&self, content: Content, key: &ObjectKey, file: &StoredFile) -> Result<(), AttemptError> {
        fail_point!("worker.put", |_| Err(AttemptError::Deferred));
        match content {
            Content::Whole { chunks, _memory } => {
                self.bucket.put(key, chunks, &file.content_type).await?;
            }
            Content::Upload { upload, parts } if upload.key == *key => {
                self.bucket.complete_upload(&upload, parts, &file.sha256).await?;
            }
            // An upload cannot change its key.
            Content::Upload { .. } => return Err(AttemptError::ObjectMissing(key.as_str().to_owned())),
        }
        fail_point!("worker.put.done", |_| Err(AttemptError::Deferred));
        Ok(())
    }
}

/// Gives a file another name and key, since its own belongs to other bytes.
fn move_apart(
    task: &Task<'_>,
    key: &ObjectKey,
    file: &mut StoredFile,
    content: &Content,
) -> Result<ObjectKey, AttemptError> {
    let name = file.file.apart(&file.sha256);
    let apart = task.folder.file(&name);
    if *key == apart {
        return Err(AttemptError::KeyTaken(key.as_str().to_owned()));
    }
    if let Content::Upload { .. } = content {
        return Err(AttemptError::ObjectMissing(apart.as_str().to_owned()));
    }
    tracing::warn!(%key, stored_as = %apart, "the key belongs to other bytes");
    apart.as_str().clone_into(&mut file.key);
    file.file = name;
    Ok(apart)
}

/// Keys in records were valid when they were written.
fn parse(key: &str) -> Result<ObjectKey, AttemptError> {
    Ok(key.parse()?)
}

/// How long another file's attempt is waited for that has a claim.
fn patience() -> Duration {
    fail_point!("worker.wait_for_another", |_| Duration::from_millis(500));
    Duration::from_secs(60)
}
