//! What a crash left open is settled before anything new is taken up.

use super::Worker;
use super::attempt::AttemptError;

/// Jobs looked at in one go.
const PAGE: usize = 1024;

impl Worker {
    /// Settles all open claims, ends the recorded uploads that no job will go on with, and removes the other staging files
    /// of jobs that were being worked on. May run twice.
    pub(super) async fn recover(&self) -> Result<(), AttemptError> {
        self.settle_uploads().await?;
        if self.inner.bucket.has_staging() {
            self.remove_staging().await?;
        }
        for claim in self.state().claims()? {
            self.settle_claim(&claim).await?;
        }
        Ok(())
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
