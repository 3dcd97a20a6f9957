//! What a crash left open is settled before anything new is taken up.

use super::Worker;
use super::attempt::AttemptError;
use crate::cluster::shard_of;
use crate::domain::JobId;

/// Jobs looked at in one go.
const PAGE: usize = 1024;

impl Worker {
    /// Settles all open claims, ends the recorded uploads that no job will go on with, and removes the other staging files
    /// of jobs that were being worked on. May run twice.
    /// Of what is in the shards `shards`, a bit for each.
    pub(super) async fn recover(&self, shards: u64) -> Result<(), AttemptError> {
        self.settle_uploads(shards).await?;
        if self.inner.bucket.has_staging() {
            self.remove_staging().await?;
        }
        for claim in self.state().claims()? {
            if self.is_in(shards, &claim.job)? {
                self.settle_claim(&claim).await?;
            }
        }
        Ok(())
    }

    /// Whether a job is in one of the shards. One that nobody knows is in the first.
    pub(super) fn is_in(&self, shards: u64, job: &JobId) -> Result<bool, AttemptError> {
        if shards == u64::MAX {
            return Ok(true);
        }
        let sequence = self.state().job(job)?.map(|record| record.sequence);
        Ok(shards & (1 << sequence.map_or(0, shard_of)) != 0)
    }

    async fn remove_staging(&self) -> Result<(), AttemptError> {
        let mut after = None;
        loop {
            let (jobs, next) = self.state().due_page(PAGE, after)?;
            for sequence in jobs {
                let Some(record) = self.state().job_at(sequence)? else { continue };
                if let Some(folder) = record.job.folder.as_deref().and_then(|folder| folder.parse().ok()) {
                    self.inner.bucket.remove_staging(&folder, &self.recorded_uploads(&record.job)?).await?;
                }
            }
            let Some(next) = next else { return Ok(()) };
            after = Some(next);
        }
    }
}
