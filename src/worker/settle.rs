//! What a crash left open is settled before anything new is taken up.

use super::Worker;
use super::attempt::AttemptError;
use super::store::parse;
use crate::bucket::Upload;
use crate::domain::Timestamp;
use crate::journal::{Durability, Event};

impl Worker {
    /// Settles all open claims and aborts all unfinished uploads that are recorded. May run twice.
    pub(super) async fn settle(&self) -> Result<(), AttemptError> {
        for claim in self.state().claims()? {
            self.inner.bucket.remove_staging(&parse(&claim.file.key)?).await?;
            self.settle_claim(&claim).await?;
        }
        for recorded in self.state().uploads()? {
            match serde_json::from_str::<Upload>(&recorded) {
                Ok(upload) => self.inner.bucket.abort_upload(&upload).await?,
                Err(error) => tracing::warn!(%error, "a recorded upload cannot be read, so it cannot be aborted"),
            }
            let event = Event::UploadEnded { at: Timestamp::now(), upload: recorded };
            self.inner.ledger.record(event, Durability::Written).await?;
        }
        Ok(())
    }
}
