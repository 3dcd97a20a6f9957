//! The manifest, which is written after all it names, and the end of a job, which follows it.

use bytes::Bytes;
use fail::fail_point;
use serde_json::value::RawValue;
use tokio::sync::SemaphorePermit;

use super::Worker;
use super::attempt::AttemptError;
use crate::bucket::{Manifest, ObjectFolder};
use crate::domain::{JobState, Timestamp};
use crate::journal::{Durability, Event, JournalError};
use crate::provider;
use crate::state::JobRecord;

impl Worker {
    /// Writes the manifest and records that the job ended in `end`.
    pub(super) async fn end(
        &self,
        record: &JobRecord,
        end: JobState,
        folder: &ObjectFolder,
    ) -> Result<(), AttemptError> {
        let at = Timestamp::now();
        let decided_by = record.job.final_callback;
        let something_stored = record.job.assets.iter().any(|asset| asset.stored.is_some());
        let manifest_key = if end != JobState::Stuck || something_stored {
            let key = folder.manifest();
            let mut ended = record.job.clone();
            ended.end(end, decided_by, Some(key.as_str().to_owned()), at);
            let callback = self.final_callback(decided_by).await?;
            let manifest = Manifest::new(&ended, callback, at);
            fail_point!("worker.manifest", |_| Err(AttemptError::Deferred));
            let put = self.inner.bucket.put_manifest(&key, &manifest).await;
            // One that is refused alone is this job's trouble, which is held back.
            if let Err(error) = &put
                && error.is_outage()
                && !(error.may_concern_one_object() && self.inner.bucket.probe_write().await.is_ok())
            {
                self.storage_fails(error);
            }
            put?;
            fail_point!("worker.manifest.done", |_| Err(AttemptError::Deferred));
            Some(key.as_str().to_owned())
        } else {
            None
        };
        let event = Event::Ended { at, job: record.job.id.clone(), state: end, decided_by, manifest_key };
        fail_point!("worker.end", |_| Err(AttemptError::Deferred));
        self.log.record(event, Durability::Buffered).await?;
        fail_point!("worker.end.done", |_| Err(AttemptError::Deferred));
        tracing::info!(job = %record.job.id, state = end.as_str(), "ended");
        Ok(())
    }

    /// The final callback as it came, its secrets hidden.
    async fn final_callback(&self, position: Option<u64>) -> Result<Option<Box<RawValue>>, AttemptError> {
        let Some((body, turn)) = self.callback_body(position).await? else { return Ok(None) };
        if turn.is_none() {
            return Ok(provider::redacted(&body));
        }
        // It takes a moment.
        let redacted = tokio::task::spawn_blocking(move || provider::redacted(&body)).await;
        redacted.map_err(|_| AttemptError::Deferred)
    }

    /// The body of a callback as it came, and the turn of one that may be large; `None` when it is damaged.
    pub(super) async fn callback_body(
        &self,
        position: Option<u64>,
    ) -> Result<Option<(Bytes, Option<SemaphorePermit<'_>>)>, AttemptError> {
        /// Of these every job that is worked on may have one in memory.
        const SMALL_RECORD: usize = 1 << 20;
        let Some(position) = position else { return Ok(None) };
        let at = self.state().callback_at(position)?;
        let journal = self.log.journal().clone();
        let turn = if journal.record_size(at).is_some_and(|bytes| bytes <= SMALL_RECORD) {
            None
        } else {
            Some(self.inner.large_body.acquire().await.map_err(|_| AttemptError::Deferred)?)
        };
        match tokio::task::spawn_blocking(move || journal.read(at)).await {
            Ok(Ok(entry)) => Ok(entry.into_callback().map(|callback| (callback.body, turn))),
            Ok(Err(error @ JournalError::NotFound(_))) => {
                tracing::error!(position, %error, "a final callback is damaged and cannot be in its manifest");
                Ok(None)
            }
            Ok(Err(error)) => {
                tracing::warn!(position, %error, "a final callback cannot be read for its manifest yet");
                Err(AttemptError::Deferred)
            }
            Err(_) => Err(AttemptError::Deferred),
        }
    }
}
