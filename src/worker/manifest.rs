//! The manifest, which is written after all it names, and the end of a job, which follows it.

use fail::fail_point;
use serde_json::value::RawValue;

use super::Resources;
use super::attempt_error::AttemptError;
use super::callback_bodies::CallbackBodies;
use super::storage_health::StorageHealth;
use crate::bucket::{Bucket, BucketError, Manifest, ObjectFolder, ObjectKey};
use crate::domain::{Job, JobState, Timestamp};
use crate::journal::{Durability, Event};
use crate::provider;
use crate::state::{ApplyOutcome, EventLog, JobRecord};

/// Ends jobs, and records that through `log`.
pub(super) struct Ending<'a> {
    log: &'a EventLog,
    bucket: &'a Bucket,
    storage: &'a StorageHealth,
    bodies: &'a CallbackBodies,
}

impl<'a> Ending<'a> {
    pub(super) fn new(resources: &'a Resources, log: &'a EventLog) -> Self {
        let Resources { bucket, storage, bodies, .. } = resources;
        Self { log, bucket, storage, bodies }
    }

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
            let put = self.put(&key, manifest, &record.job, end).await;
            // One that is refused alone is this job's trouble, which is held back.
            if let Some(outage) = put.as_ref().err().and_then(AttemptError::storage_outage)
                && !self.storage.refuses_one_object(outage).await
            {
                self.storage.fails(outage);
            }
            put?;
            fail_point!("worker.manifest.done", |_| Err(AttemptError::Deferred));
            Some(key.as_str().to_owned())
        } else {
            None
        };
        let event = Event::Ended { at, job: record.job.id.clone(), state: end, decided_by, manifest_key };
        fail_point!("worker.end", |_| Err(AttemptError::Deferred));
        if let ApplyOutcome::Deferred = self.log.record(event, Durability::Buffered).await? {
            return Err(AttemptError::Deferred);
        }
        fail_point!("worker.end.done", |_| Err(AttemptError::Deferred));
        tracing::info!(job = %record.job.id, state = end.as_str(), "ended");
        Ok(())
    }

    /// Writes the manifest of `job`, unless one that names files which the job's record lacks would go for a job that is not
    /// archived. One that alone cannot be read holds back a job that is stuck, and gives way to the end of any other.
    async fn put(&self, key: &ObjectKey, mut manifest: Manifest, job: &Job, end: JobState) -> Result<(), AttemptError> {
        // The record of an archived job has all that a manifest can tell but the callback, and is worth no request.
        if (end != JobState::Archived || job.final_callback.is_none())
            && let Some(written) = self.written(key, job, end).await?
        {
            if end != JobState::Archived && written.names_more_than(job) {
                tracing::warn!(%key, "a manifest names files that the state does not know as stored: it is kept");
                return Ok(());
            }
            if manifest.callback.is_none() {
                if written.is_damaged() {
                    tracing::warn!(%key, "a manifest was damaged, and so may be the callback that it alone has");
                }
                manifest.callback = written.callback;
            }
        }
        self.bucket.put_manifest(key, &manifest).await?;
        Ok(())
    }

    /// The manifest that is there.
    async fn written(&self, key: &ObjectKey, job: &Job, end: JobState) -> Result<Option<Manifest>, AttemptError> {
        let read = || async {
            match self.bucket.manifest_of(key, &job.id).await {
                // One that is there could be read.
                Err(BucketError::NoListing) => Ok(None),
                written => written.map_err(AttemptError::from),
            }
        };
        match self.storage.for_one_object(read).await? {
            Ok(written) => Ok(written),
            Err(error) if end == JobState::Stuck => Err(AttemptError::StorageRefuses { error, for_good: false }),
            Err(error) => {
                tracing::warn!(%key, %error, "a manifest that cannot be read is written anew");
                Ok(None)
            }
        }
    }

    /// The final callback as it came, its secrets hidden.
    async fn final_callback(&self, position: Option<u64>) -> Result<Option<Box<RawValue>>, AttemptError> {
        let Some((body, turn)) = self.bodies.read(position).await? else { return Ok(None) };
        if turn.is_none() {
            return Ok(provider::redacted(&body));
        }
        // It takes a moment.
        let redacted = tokio::task::spawn_blocking(move || provider::redacted(&body)).await;
        redacted.map_err(|_| AttemptError::Deferred)
    }
}
