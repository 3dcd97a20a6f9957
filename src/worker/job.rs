//! One job, as far as it can be taken now.

use fail::fail_point;

use super::Worker;
use super::attempt::{self, AttemptError};
use super::task::Task;
use crate::bucket::{BucketError, ObjectFolder};
use crate::domain::{Asset, AssetState, Job, JobState, StoredFile, StuckReason, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{ApplyOutcome, JobRecord};

/// Attempts at a poster, a thumbnail or subtitles that are not there.
const MAX_SIDECAR_ATTEMPTS: u16 = 3;

impl Worker {
    /// Takes a job as far as it can be taken now. Failed attempts at its files are recorded; an error is what kept
    /// that from being recorded, or the job from being ended.
    pub(super) async fn work(&self, sequence: u64) -> Result<(), AttemptError> {
        let Some(record) = self.state().job_at(sequence)? else { return Ok(()) };
        if record.job.state != JobState::Archiving {
            return Ok(());
        }
        let (record, folder) = self.place(record).await?;
        let now = Timestamp::now();
        let is_due = |asset: &&Asset| {
            asset.state == AssetState::Pending && asset.not_before.is_none_or(|at| at.has_come(now, Job::LONGEST_DELAY))
        };
        for asset in record.job.assets.iter().filter(is_due) {
            self.archive(&record, asset, &folder).await?;
        }
        let Some(record) = self.state().job_at(sequence)? else { return Ok(()) };
        match record.job.end_state() {
            Some(end) if record.job.state == JobState::Archiving => {
                let ended = self.end_uploads(&record.job).await;
                if let Some(outage) = ended.as_ref().err().and_then(AttemptError::storage_outage) {
                    self.storage_fails(outage);
                }
                ended?;
                self.end(&record, end, &folder).await
            }
            _ => Ok(()),
        }
    }

    /// The job's folder, given to it now if it has none.
    async fn place(&self, record: JobRecord) -> Result<(JobRecord, ObjectFolder), AttemptError> {
        let placed = if record.job.folder.is_some() {
            record
        } else {
            let job = &record.job;
            let folder = |apart| {
                self.inner.config.key.folder((&job.id, job.kind()), job.created_at, job.reply_ref.as_ref(), apart)
            };
            let event = Event::Placed {
                at: Timestamp::now(),
                job: job.id.clone(),
                folder: folder(false).as_str().to_owned(),
                fallback: folder(true).as_str().to_owned(),
            };
            fail_point!("worker.place", |_| Err(AttemptError::Deferred));
            let ApplyOutcome::Job { .. } = self.log.record(event, Durability::Buffered).await? else {
                return Err(AttemptError::Deferred);
            };
            fail_point!("worker.place.done", |_| Err(AttemptError::Deferred));
            self.state().job_at(record.sequence)?.ok_or(AttemptError::Deferred)?
        };
        let folder = placed.job.folder.as_deref().unwrap_or_default().parse()?;
        Ok((placed, folder))
    }

    async fn archive(&self, record: &JobRecord, asset: &Asset, folder: &ObjectFolder) -> Result<(), AttemptError> {
        let _fetching = self.state().fetching(record.sequence, &asset.slot);
        let max_attempts = self.inner.config.max_attempts;
        let taken_back = record.job.withdrawn.is_some();
        let next = asset.attempts.saturating_add(1);
        // Of a job that the provider took back all that is left is one try at every URL.
        let attempt = if taken_back { next.max(max_attempts) } else { next };
        let error = match self.try_candidates(record, asset, folder, attempt).await {
            Ok(file) => {
                self.storage_works();
                tracing::info!(
                    job = %record.job.id, key = file.key, bytes = file.bytes, deduplicated = file.deduplicated, "stored"
                );
                return Ok(());
            }
            Err(error) => self.about_one_object(error).await,
        };
        if let Some(outage) = error.storage_outage() {
            self.storage_fails(outage);
        }
        if matches!(error, AttemptError::Journal(_) | AttemptError::State(_) | AttemptError::Deferred) {
            return Err(error);
        }
        if let Some(refresh) = self.inner.refresh.as_ref().filter(|_| error.is_dead_link())
            && refresh(record.job.id.clone()).await
        {
            tracing::info!(job = %record.job.id, file = %asset.file, "the provider named a fresh link");
        }
        let progressed = self.resumable_bytes(record.sequence, &asset.slot)? > asset.reached;
        let (now, dies) = (Timestamp::now(), asset.link_expires_at());
        // A job does not wait for hours for a poster that its server says is not there.
        let enough = if asset.role.is_sidecar() && error.says_no_file() { MAX_SIDECAR_ATTEMPTS } else { u16::MAX };
        let (mut failure, mut due) = error.failure(next, max_attempts.min(enough), progressed, now, dies);
        // Meanwhile the provider may have taken it back, or named it anew.
        let is_taken_back = self.is_taken_back(record.sequence)?;
        if taken_back && is_taken_back && error.says_no_file() {
            failure.stuck = failure.stuck.or(Some(StuckReason::AttemptsExhausted));
        } else if !taken_back && is_taken_back {
            due = now;
        }
        tracing::warn!(
            job = %record.job.id, file = %asset.file, attempt, progressed, error = failure.error,
            stuck = failure.stuck.map(|reason| reason.as_str()), "an attempt failed"
        );
        let (job, slot) = (record.job.id.clone(), asset.slot.clone());
        let event = Event::AttemptFailed { at: Timestamp::now(), job, slot, failure, due };
        self.log.record(event, Durability::Buffered).await?;
        Ok(())
    }

    /// What an error of storage is really about: one object that it refuses, when it takes others.
    async fn about_one_object(&self, error: AttemptError) -> AttemptError {
        match error {
            AttemptError::Bucket(error)
                if error.may_concern_one_object() && self.inner.bucket.probe_write().await.is_ok() =>
            {
                let for_good = matches!(error, BucketError::Refused(_));
                AttemptError::StorageRefuses { error, for_good }
            }
            error => error,
        }
    }

    fn is_taken_back(&self, sequence: u64) -> Result<bool, AttemptError> {
        Ok(self.state().job_without_files(sequence)?.is_some_and(|job| job.withdrawn.is_some()))
    }

    async fn try_candidates(
        &self,
        record: &JobRecord,
        asset: &Asset,
        folder: &ObjectFolder,
        attempt: u16,
    ) -> Result<StoredFile, AttemptError> {
        let task = Task {
            job: &record.job.id,
            kind: record.job.kind(),
            final_callback: record.job.final_callback,
            asset,
            folder,
            key: None,
            media_type: None,
        };
        let mut last = AttemptError::NoCleanUrl;
        for candidate in attempt::wanted(asset, record.job.kind(), self.inner.config.clean_only) {
            let result = match self.transfer(task, candidate).await {
                Err(AttemptError::ObjectMissing(key)) => {
                    let key = super::commit_object::parse(&key)?;
                    self.transfer(Task { key: Some(&key), ..task }, candidate).await
                }
                result => result,
            };
            match result {
                Err(error)
                    if error.falls_back(attempt, self.inner.config.max_attempts)
                        && self.resumable_bytes(record.sequence, &asset.slot)? == asset.reached =>
                {
                    last = error;
                }
                result => return result,
            }
        }
        Err(last)
    }
}
