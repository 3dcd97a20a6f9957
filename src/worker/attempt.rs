//! One attempt at a file: its URLs one after the other, and what follows when none can be had.

use super::Resources;
use super::attempt_error::AttemptError;
use super::commit_object::ObjectCommit;
use super::task::Task;
use super::transfer::Transfer;
use crate::bucket::{BucketError, ObjectFolder};
use crate::domain::{Asset, AssetState, Candidate, Kind, StoredFile, StuckReason, Timestamp, Variant};
use crate::journal::{Durability, Event};
use crate::state::{ApplyOutcome, Claim, EventLog, JobRecord};

/// Attempts at a poster, a thumbnail or subtitles that are not there.
const MAX_SIDECAR_ATTEMPTS: u16 = 3;

/// An attempt at one file of a job.
pub(super) struct Attempt<'a> {
    resources: &'a Resources,
    log: &'a EventLog,
    record: &'a JobRecord,
    asset: &'a Asset,
    /// The job's folder.
    folder: &'a ObjectFolder,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        resources: &'a Resources,
        log: &'a EventLog,
        record: &'a JobRecord,
        asset: &'a Asset,
        folder: &'a ObjectFolder,
    ) -> Self {
        Self { resources, log, record, asset, folder }
    }

    /// Makes the attempt: the file is stored, or why it is not is recorded.
    ///
    /// # Errors
    /// When that could not be recorded.
    pub(super) async fn run(&self) -> Result<(), AttemptError> {
        let Self { record, asset, .. } = self;
        let _fetching = self.log.state().fetching(record.sequence, &asset.slot);
        let error = match self.try_candidates().await {
            Ok(file) => {
                self.resources.storage.works();
                tracing::info!(
                    job = %record.job.id, key = file.key, bytes = file.bytes, deduplicated = file.deduplicated, "stored"
                );
                return Ok(());
            }
            Err(error) => self.about_one_object(error).await,
        };
        if let Some(outage) = error.storage_outage() {
            self.resources.storage.fails(outage);
        }
        if matches!(error, AttemptError::Journal(_) | AttemptError::State(_) | AttemptError::Deferred) {
            return Err(error);
        }
        if let Some(refresh) = self.resources.refresh.as_ref().filter(|_| error.is_dead_link())
            && refresh(record.job.id.clone()).await
        {
            tracing::info!(job = %record.job.id, file = %asset.file, "the provider named a fresh link");
        }
        self.record_failure(&error).await
    }

    /// Tries the URLs one after the other, as far as this attempt goes.
    async fn try_candidates(&self) -> Result<StoredFile, AttemptError> {
        let Self { resources, log, record, asset, folder } = *self;
        let config = &resources.config;
        let mut last = AttemptError::NoCleanUrl;
        for candidate in candidates(asset, record.job.kind(), config.clean_only) {
            let task = Task { job: &record.job, asset, folder, candidate, key: None, media_type: None };
            let result = match Transfer::new(resources, log, task).run().await {
                Err(AttemptError::ObjectMissing(key)) => {
                    let key = key.parse()?;
                    Transfer::new(resources, log, Task { key: Some(&key), ..task }).run().await
                }
                result => result,
            };
            match result {
                Err(error)
                    if error.falls_back(self.effective_number(), config.max_attempts)
                        && self.asset_by_now()?.reached == asset.reached =>
                {
                    last = error;
                }
                result => return result,
            }
        }
        Err(last)
    }

    /// What an error of storage is really about: one object that it refuses, when it takes others.
    async fn about_one_object(&self, error: AttemptError) -> AttemptError {
        match error {
            AttemptError::Bucket(error) if self.resources.storage.refuses_one_object(&error).await => {
                let for_good = matches!(error, BucketError::Refused(_));
                AttemptError::StorageRefuses { error, for_good }
            }
            error => error,
        }
    }

    async fn record_failure(&self, error: &AttemptError) -> Result<(), AttemptError> {
        let Self { record, asset, .. } = self;
        let by_now = self.asset_by_now()?;
        let progressed = by_now.reached > asset.reached;
        let (now, dies) = (Timestamp::now(), by_now.link_expires_at());
        // A job does not wait for hours for a poster that its server says is not there.
        let enough = if asset.role.is_sidecar() && error.says_no_file() { MAX_SIDECAR_ATTEMPTS } else { u16::MAX };
        let max_attempts = self.resources.config.max_attempts.min(enough);
        let (mut failure, mut due) = error.failure(self.number(), max_attempts, progressed, now, dies);
        // Meanwhile the provider may have taken it back, or named it anew.
        let is_taken_back = self.is_taken_back_by_now()?;
        if self.was_taken_back() && is_taken_back && error.says_no_file() {
            failure.stuck = failure.stuck.or(Some(StuckReason::AttemptsExhausted));
        } else if !self.was_taken_back() && is_taken_back {
            due = now;
        }
        if let Some(reason) = failure.stuck
            && self.is_in_bucket(reason).await?
        {
            tracing::info!(job = %record.job.id, file = %asset.file, "a write that was not answered had been done");
            return Ok(());
        }
        tracing::warn!(
            job = %record.job.id, file = %asset.file, attempt = self.effective_number(), progressed, error = failure.error,
            stuck = failure.stuck.map(|reason| reason.as_str()), "an attempt failed"
        );
        let (job, slot) = (record.job.id.clone(), asset.slot.clone());
        let renewals = Some(asset.renewals);
        let event = Event::AttemptFailed { at: Timestamp::now(), job, slot, failure, renewals, due };
        match self.log.record(event, Durability::Buffered).await? {
            // What is known of the job here may be from before: the next attempt must not be made at once.
            ApplyOutcome::Deferred => Err(AttemptError::Deferred),
            _ => Ok(()),
        }
    }

    /// Which attempt at the file this is, from 1.
    fn number(&self) -> u16 {
        self.asset.attempts.saturating_add(1)
    }

    /// The same as far as URLs are chosen by it. Of a job that the provider took back all that is left is one try at every
    /// URL, so it counts as the last.
    fn effective_number(&self) -> u16 {
        let number = self.number();
        if self.was_taken_back() { number.max(self.resources.config.max_attempts) } else { number }
    }

    /// Whether the provider had taken the job back when the attempt began.
    fn was_taken_back(&self) -> bool {
        self.record.job.withdrawn.is_some()
    }

    fn is_taken_back_by_now(&self) -> Result<bool, AttemptError> {
        let job = self.log.state().job_without_files(self.record.sequence)?;
        Ok(job.is_some_and(|job| job.withdrawn.is_some()))
    }

    /// The file as it is by now: it may have come further, and have got other links.
    fn asset_by_now(&self) -> Result<Asset, AttemptError> {
        let asset = self.log.state().file_of(self.record.sequence, &self.asset.slot)?;
        Ok(asset.unwrap_or_else(|| self.asset.clone()))
    }

    /// Whether an earlier attempt's write was done and only not answered: then the file is stored, whatever its source says
    /// by now.
    async fn is_in_bucket(&self, given_up: StuckReason) -> Result<bool, AttemptError> {
        let found = self.find_claimed(given_up == StuckReason::RefusedByStorage).await;
        if let Some(outage) = found.as_ref().err().and_then(AttemptError::storage_outage) {
            self.resources.storage.fails(outage);
        }
        found?;
        Ok(self.asset_by_now()?.state == AssetState::Stored)
    }

    /// Where storage has refused the file, its object is not expected to appear later: a claim without an object is released.
    async fn find_claimed(&self, is_refused: bool) -> Result<(), AttemptError> {
        let objects = ObjectCommit::new(self.resources, self.log);
        let is_own = |claim: &Claim| claim.job == self.record.job.id && claim.slot == self.asset.slot;
        for Claim { job, slot, file } in self.log.state().claims()?.into_iter().filter(is_own) {
            if is_refused {
                objects.settle_own(&file.sha256, &job, &slot).await?;
            } else {
                objects.find_own(&file.sha256, &job, &slot).await?;
            }
        }
        Ok(())
    }
}

/// The URLs of a file that may be tried, best first. With `clean_only` those of files that the provider marks must be known
/// to be clean.
pub(super) fn candidates(asset: &Asset, kind: Kind, clean_only: bool) -> impl Iterator<Item = &Candidate> {
    let must_be_clean = clean_only && asset.is_of_a_marked_kind(kind);
    let wanted = move |candidate: &&Candidate| !must_be_clean || candidate.variant == Variant::Clean;
    asset.candidates.iter().filter(wanted)
}
