//! Takes from the bucket's manifests what the journal does not tell of.
//!
//! A manifest alone is enough to know a job again and to enter its files in the index. What it does not hold stays lost:
//! the queries of source URLs, and the ref's own record, which may have been deleted for a reason.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{TryStreamExt, future};

use super::AT_ONCE;
use super::retention::{RetentionError, STORE_PATIENCE};
use crate::backoff::with_retry;
use crate::bucket::{Bucket, BucketError, Manifest, ObjectKey};
use crate::disk::{remove_durably, write_durably};
use crate::domain::{
    Access, Asset, AssetId, AssetSource, AssetState, AssetView, Candidate, Job, JobDetails, JobState, MediaUrl, Status,
    StoredFile, StuckReason, Timestamp, Variant, Withdrawal,
};
use crate::journal::{Durability, Event, JournalError};
use crate::state::{EventLog, ParseCallback, ParsedCallback, RecordError, StateError, restore_marker};

/// Why not all manifests could be looked at. Those that were count; it may be done again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The bucket, time and again.
    #[error("the bucket could not be read: {0}")]
    Bucket(#[from] BucketError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// That the manifests are to be read, as a file beside the state: later starts find it until all of them were. Of a
/// rebuild, a second file says that it was begun.
#[derive(Clone, Debug)]
pub struct PendingRestore(PathBuf);

impl PendingRestore {
    /// For the state of `log`.
    pub fn of(log: &EventLog) -> Self {
        Self::beside(&log.state().file_beside(""))
    }

    /// For the state in the folder `state`, which need not be there: the file outlasts it.
    pub(super) fn beside(state: &Path) -> Self {
        Self(restore_marker(state))
    }

    /// Whether they are to be read. Blocks.
    pub fn is_there(&self) -> bool {
        // Reading them for nothing loses nothing.
        self.0.try_exists().unwrap_or(true)
    }

    /// Sees to it that later starts find it. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn record(&self) -> Result<(), JournalError> {
        write_durably(&self.0, b"").map_err(JournalError::io(&self.0, "written"))
    }

    /// Whether it is of a rebuild, which was then cut off: the state has nothing that only it knows. Blocks.
    pub(super) fn is_of_rebuild(&self) -> bool {
        self.rebuild_marker().try_exists().unwrap_or(false)
    }

    /// The same as [`PendingRestore::record`], for a rebuild. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn record_rebuild(&self) -> Result<(), JournalError> {
        self.record()?;
        let marker = self.rebuild_marker();
        write_durably(&marker, b"").map_err(JournalError::io(&marker, "written"))
    }

    fn rebuild_marker(&self) -> PathBuf {
        self.0.with_extension("rebuild")
    }

    /// Removes it once all that `log` has folded in is on the disk in the state's store. Blocks.
    ///
    /// # Errors
    /// When the disk refuses or takes too long; it stays then.
    pub fn clear(&self, log: &EventLog) -> Result<(), RetentionError> {
        if !log.flush(STORE_PATIENCE)? {
            return Err(RetentionError::StoreBehind);
        }
        for marker in [&self.rebuild_marker(), &self.0] {
            remove_durably(marker).map_err(JournalError::io(marker, "removed"))?;
        }
        Ok(())
    }
}

/// Makes known to `log` every job that a manifest in `bucket` tells of and the state does not have as ended. Lists
/// the whole bucket and counts in `looked_at`; reads only the manifests in folders of no such job. Returns how many said more
/// than the state.
///
/// # Errors
/// When the bucket cannot be listed or a manifest not be read: it is not missing then.
pub async fn restore(
    log: &EventLog,
    bucket: &Bucket,
    parse_callback: ParseCallback,
    looked_at: &AtomicU64,
) -> Result<u64, RestoreError> {
    let manifests = bucket.list(None).try_filter(|(key, _)| future::ready(key.is_manifest()));
    let restored = manifests.map_ok(async |(key, _)| {
        let restored = restore_one(log, bucket, parse_callback, &key).await;
        looked_at.fetch_add(1, Ordering::Relaxed);
        match restored {
            // It must not keep the others from being read.
            Err(RestoreError::Bucket(error)) if error.may_concern_one_object() || bucket.probe().await.is_ok() => {
                tracing::warn!(%key, %error, "a manifest, or a file that it names, cannot be read yet");
                Ok(Err(error))
            }
            restored => restored.map(Ok),
        }
    });
    let restored = restored.map_err(RestoreError::from).try_buffer_unordered(AT_ONCE);
    let (jobs, refused) = restored
        .try_fold((0, None), |(jobs, refused), one| {
            future::ok(match one {
                Ok(one) => (jobs + u64::from(one), refused),
                Err(error) => (jobs, refused.or(Some(error))),
            })
        })
        .await?;
    refused.map_or(Ok(jobs), |error: BucketError| Err(error.into()))
}

async fn restore_one(
    log: &EventLog,
    bucket: &Bucket,
    parse_callback: ParseCallback,
    key: &ObjectKey,
) -> Result<bool, RestoreError> {
    let Some((folder, _)) = key.as_str().rsplit_once('/') else { return Ok(false) };
    let known = log.state().job_in_folder(folder)?;
    if known.is_some_and(|known| has_told_all(&known.job)) {
        return Ok(false);
    }
    let bytes = match with_retry(BucketError::is_outage, || bucket.read_manifest(key)).await {
        Ok(bytes) => bytes,
        // It is gone since it was listed.
        Err(BucketError::NotFound(_)) => return Ok(false),
        Err(error @ BucketError::TooLarge(..)) => {
            tracing::warn!(%error, "a manifest cannot be read and was passed over");
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    let mut content = match Manifest::read_also_damaged(&bytes) {
        Ok(content) => content,
        Err(error) => {
            tracing::warn!(%key, error, "a manifest cannot be read and was passed over");
            return Ok(false);
        }
    };
    let is_damaged = content.is_damaged();
    if is_damaged {
        tracing::warn!(%key, "a manifest is damaged: of what it says, only the digests of its files can be checked");
        content.callback = None;
    }
    let mut job = job(content, folder, key, parse_callback);
    for asset in &mut job.assets {
        let Some(file) = &asset.stored else { continue };
        if !is_there(bucket, file, is_damaged).await? {
            let error = format!("the manifest names {}, which is not there as it names it", file.key);
            tracing::warn!(job = %job.id, error);
            // A retry asks the provider for a link.
            (asset.state, asset.stuck) = (AssetState::Stuck, Some(StuckReason::AttemptsExhausted));
            (asset.stored, asset.last_error) = (None, Some(error));
            if job.state == JobState::Archived {
                (job.state, job.reason, job.archived_at) = (JobState::Stuck, asset.stuck, None);
            }
        }
    }
    let known = log.state().job(&job.id)?;
    if known.is_some_and(|known| !known.job.state.is_superseded_by(job.state)) {
        return Ok(false);
    }
    let event = Event::JobFound { at: Timestamp::now(), job: Box::new(job) };
    log.record(event, Durability::Buffered).await?;
    Ok(true)
}

/// Whether a manifest can tell nothing of a job. One that failed may have been archived before what said so was lost: then its
/// record has files.
fn has_told_all(job: &Job) -> bool {
    match job.state {
        JobState::Archived => true,
        JobState::Failed => job.assets.is_empty(),
        JobState::Running | JobState::Archiving | JobState::Stuck => false,
    }
}

/// Whether an object is there that holds a file's bytes: `by_digest`, for which all of it is read, or by its size.
async fn is_there(bucket: &Bucket, file: &StoredFile, by_digest: bool) -> Result<bool, BucketError> {
    let Ok(key) = file.key.parse::<ObjectKey>() else { return Ok(false) };
    if by_digest {
        let found = with_retry(BucketError::is_outage, || bucket.digest(&key)).await?;
        return Ok(found == Some((file.sha256, file.bytes)));
    }
    let found = with_retry(BucketError::is_outage, || bucket.size(&key)).await?;
    Ok(found == Some(file.bytes))
}

/// The job as its manifest has it.
fn job(content: Manifest, folder: &str, key: &ObjectKey, parse_callback: ParseCallback) -> Job {
    let sources = match content.callback.map(|callback| parse_callback(callback.get().as_bytes())) {
        Some(ParsedCallback::Job(observation)) => observation.assets,
        Some(ParsedCallback::Unrecognised(_)) | None => Vec::new(),
    };
    let found = content.job;
    let mut job = Job::new(found.job_id, found.created_at);
    job.reply_ref = found.reply_ref;
    job.ref_id = found.ref_id;
    job.state = found.state;
    job.observed_kind = Some(found.kind);
    job.outcome = found.outcome;
    job.reason = found.reason;
    job.status = found.status.map(Status::from);
    job.status_label = found.status_label;
    job.percent = found.percent;
    job.message = found.message;
    job.error = found.error;
    job.prompt = found.prompt;
    job.details = JobDetails {
        model: found.model,
        resolution: found.resolution,
        aspect_ratio: found.aspect_ratio,
        duration: found.duration,
        batch_id: found.batch_id,
        can_appeal: found.can_appeal,
        can_retry: found.can_retry,
    };
    job.callbacks = found.callbacks;
    job.created_at_settled = true;
    job.updated_at = found.updated_at;
    job.archived_at = found.archived_at;
    job.withdrawn = found.moderated_at.map(|at| Box::new(Withdrawal::moderated_on(at)));
    job.left_out = found.left_out;
    job.folder = Some(folder.to_owned());
    job.manifest_key = Some(key.as_str().to_owned());
    job.assets = found.assets.into_iter().map(|file| asset(file, &sources)).collect();
    job
}

fn asset(found: AssetView, sources: &[AssetSource]) -> Asset {
    let url = found.source_url.as_deref().and_then(|url| MediaUrl::parse(url).ok());
    let variant = found.variant.unwrap_or(Variant::Unknown);
    // The same slot as in callbacks, so that a further one finds the file. Its extension may have changed since.
    let source = sources.iter().find(|source| source.file.stem() == found.file.stem());
    let slot = match source {
        Some(source) => source.slot.clone(),
        None if found.file.stem().chars().all(|char| char.is_ascii_alphabetic()) => AssetId::media(),
        None => AssetId::new(found.file.stem()),
    };
    let stored = match (found.sha256, found.bytes, found.key, url.clone(), found.stored_at) {
        (Some(sha256), Some(bytes), Some(key), Some(url), Some(at)) => Some(StoredFile {
            file: found.file.clone(),
            sha256,
            bytes,
            content_type: found.content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
            key,
            deduplicated: found.deduplicated,
            url,
            variant,
            at,
        }),
        _ => None,
    };
    Asset {
        slot,
        role: found.role,
        file: found.file,
        state: if stored.is_some() { AssetState::Stored } else { AssetState::Stuck },
        stuck: if stored.is_some() { None } else { Some(StuckReason::AttemptsExhausted) },
        attempts: found.attempts,
        reached: 0,
        not_before: None,
        renewals: 0,
        last_error: found.last_error,
        candidates: url.map(|url| Candidate { url, variant, access: Access::Public }).into_iter().collect(),
        stored,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pending_restore_is_there_for_later_starts_until_it_is_removed() {
        let data = tempfile::tempdir().unwrap();
        let state = data.path().join("state");
        let pending = PendingRestore::beside(&state);
        assert!(!pending.is_there());
        for _ in 0..2 {
            pending.record().unwrap();
        }
        let mode = std::fs::metadata(data.path().join("state.restore")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As a state names its own folder.
        assert!(PendingRestore::beside(&state.join("")).is_there());
        for _ in 0..2 {
            remove_durably(&pending.0).unwrap();
        }
        assert!(!pending.is_there());
    }
}
