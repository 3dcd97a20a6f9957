//! What a crash left open is settled before anything new is taken up.

use super::Worker;
use super::attempt::AttemptError;
use crate::bucket::Upload;
use crate::domain::Timestamp;
use crate::journal::{Durability, Event};

impl Worker {
    /// Settles all open claims, aborts all unfinished uploads that are recorded, and removes the staging files of jobs
    /// that were being worked on. May run twice.
    pub(super) async fn settle(&self) -> Result<(), AttemptError> {
        for recorded in self.state().uploads()? {
            match serde_json::from_str::<Upload>(&recorded) {
                Ok(upload) => self.inner.bucket.abort_upload(&upload).await?,
                Err(error) => tracing::warn!(%error, "a recorded upload cannot be read, so it cannot be aborted"),
            }
            let event = Event::UploadEnded { at: Timestamp::now(), upload: recorded };
            self.inner.ledger.record(event, Durability::Written).await?;
        }
        for due in self.state().due(usize::MAX)? {
            let Some(record) = self.state().job_at(due.sequence)? else { continue };
            if let Some(folder) = record.job.folder.as_deref().and_then(|folder| folder.parse().ok()) {
                self.inner.bucket.remove_staging(&folder).await?;
            }
        }
        for claim in self.state().claims()? {
            self.settle_claim(&claim).await?;
        }
        Ok(())
    }
}
