//! One job, as far as it can be taken now.

use std::sync::Arc;

use fail::fail_point;

use super::Resources;
use super::attempt::Attempt;
use super::attempt_error::AttemptError;
use super::manifest::Ending;
use super::uploads::Uploads;
use crate::bucket::ObjectFolder;
use crate::domain::{Asset, AssetState, AttemptFailure, Job, JobState, StuckReason, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{ApplyOutcome, EventLog, JobRecord};

/// The work on one job, for as long as it is leased.
pub(super) struct JobRun {
    resources: Arc<Resources>,
    /// Carries the fence of the lease.
    log: EventLog,
    sequence: u64,
}

impl JobRun {
    pub(super) fn new(resources: Arc<Resources>, log: EventLog, sequence: u64) -> Self {
        Self { resources, log, sequence }
    }

    /// Takes the job as far as it can be taken now at the host that its next file comes from: it has a place there, and at no
    /// other. Failed attempts at its files are recorded.
    ///
    /// # Errors
    /// What kept that from being recorded, or the job from being ended.
    pub(super) async fn run(&self) -> Result<(), AttemptError> {
        let Some(record) = self.archiving()? else { return Ok(()) };
        let (record, folder) = self.place(record).await?;
        let (now, host) = (Timestamp::now(), record.job.next_host());
        let is_due = |asset: &&Asset| {
            asset.state == AssetState::Pending
                && asset.host() == host
                && asset.not_before.is_none_or(|at| at.has_come(now, Job::LONGEST_DELAY))
        };
        let mut was_due = false;
        for asset in record.job.assets.iter().filter(is_due) {
            was_due = true;
            Attempt::new(&self.resources, &self.log, &record, asset, &folder).run().await?;
        }
        let Some(record) = self.archiving()? else { return Ok(()) };
        match record.job.end_state() {
            Some(end) => self.end(&record, end, &folder).await,
            None if was_due => Ok(()),
            // The clock was set back since it became due: it must not be taken up without end until then.
            None => Err(AttemptError::Deferred),
        }
    }

    /// A defect would strike again: the job's files are stuck with `error`, for someone to look at.
    pub(super) async fn give_up(&self, error: &str) {
        let sequence = self.sequence;
        let Ok(Some(record)) = self.log.state().job_at(sequence) else { return };
        for asset in record.job.assets.iter().filter(|asset| asset.state == AssetState::Pending) {
            let now = Timestamp::now();
            let failure = AttemptFailure::new(error.to_owned(), true, Some(StuckReason::InternalError));
            let (job, slot) = (record.job.id.clone(), asset.slot.clone());
            let event = Event::AttemptFailed { at: now, job, slot, failure, renewals: None, due: now };
            if let Err(error) = self.log.record(event, Durability::Buffered).await {
                tracing::error!(sequence, %error, "a defect could not be recorded");
            }
        }
    }

    /// The job as it is now, if there is anything to do for it.
    fn archiving(&self) -> Result<Option<JobRecord>, AttemptError> {
        Ok(self.log.state().job_at(self.sequence)?.filter(|record| record.job.state == JobState::Archiving))
    }

    /// The job's folder, given to it now if it has none.
    async fn place(&self, record: JobRecord) -> Result<(JobRecord, ObjectFolder), AttemptError> {
        let placed = if record.job.folder.is_some() {
            record
        } else {
            let job = &record.job;
            let template = &self.resources.config.key;
            let folder = |apart| template.folder((&job.id, job.kind()), job.created_at, job.reply_ref.as_ref(), apart);
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
            self.log.state().job_at(record.sequence)?.ok_or(AttemptError::Deferred)?
        };
        let folder = placed.job.folder.as_deref().unwrap_or_default().parse()?;
        Ok((placed, folder))
    }

    /// Ends the job in `end`: nothing is left in the bucket that no record names.
    async fn end(&self, record: &JobRecord, end: JobState, folder: &ObjectFolder) -> Result<(), AttemptError> {
        let aborted = Uploads::new(&self.resources, &self.log).end_all_of_job(&record.job).await;
        if let Some(outage) = aborted.as_ref().err().and_then(AttemptError::storage_outage) {
            self.resources.storage.fails(outage);
        }
        aborted?;
        Ending::new(&self.resources, &self.log).end(record, end, folder).await?;
        let is_as_before = |by_now: &JobRecord| {
            by_now.job.final_callback == record.job.final_callback && by_now.job.end_state() == Some(end)
        };
        // One that this did not end must not be taken up again at once: it would be for ever.
        if self.archiving()?.as_ref().is_some_and(is_as_before) { Err(AttemptError::Deferred) } else { Ok(()) }
    }
}
