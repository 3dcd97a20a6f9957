//! What a crash left open is settled before anything new is taken up.

use super::attempt_error::AttemptError;
use super::commit_object::ObjectCommit;
use super::storage_health::StorageHealth;
use super::uploads::Uploads;
use super::{Resources, retry, shards};
use crate::bucket::{Bucket, ObjectFolder, Upload};
use crate::cluster::shard_of;
use crate::state::{EventLog, State};

/// Of which shards what was left open is settled, a bit for each, and in which epoch. All are, where there are no other
/// replicas.
#[derive(Default)]
pub(super) struct SettledShards {
    epoch: u64,
    shards: u64,
}

impl SettledShards {
    /// Settles what the last run left open, where there are no other replicas. Tries until it is done.
    pub(super) async fn settle_all(&mut self, resources: &Resources, log: &EventLog) {
        while let Err(error) = Recovery::new(resources, log, shards::ALL).run().await {
            tracing::warn!(%error, "what the last run left open cannot be settled yet");
            tokio::time::sleep(retry::pause()).await;
        }
        self.shards = shards::ALL;
    }

    /// Settles what was left open in shards that are this replica's by now. Returns whether that is done.
    pub(super) async fn settle_held(&mut self, resources: &Resources, log: &EventLog) -> bool {
        let Some(cluster) = log.cluster() else { return true };
        let (epoch, held) = cluster.shares().held();
        let settled = if self.epoch == epoch { self.shards & held } else { 0 };
        *self = Self { epoch, shards: settled };
        if held & !settled == 0 {
            return true;
        }
        match Recovery::new(resources, &log.fenced(Some(epoch)), held & !settled).run().await {
            Ok(()) => {
                self.shards = held;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what another replica left open cannot be settled yet");
                false
            }
        }
    }

    /// Whether a job's shard is settled.
    pub(super) fn contain(&self, sequence: u64) -> bool {
        self.shards & (1 << shard_of(sequence)) != 0
    }
}

/// Settles what is open in some shards.
struct Recovery<'a> {
    state: &'a State,
    bucket: &'a Bucket,
    storage: &'a StorageHealth,
    uploads: Uploads<'a>,
    objects: ObjectCommit<'a>,
    /// A bit for each.
    shards: u64,
}

impl<'a> Recovery<'a> {
    /// Uploads looked at in one go.
    const UPLOADS_PAGE: usize = 64;
    /// Jobs looked at in one go.
    const JOBS_PAGE: usize = 1024;

    fn new(resources: &'a Resources, log: &'a EventLog, shards: u64) -> Self {
        let (uploads, objects) = (Uploads::new(resources, log), ObjectCommit::new(resources, log));
        let Resources { bucket, storage, .. } = resources;
        Self { state: log.state(), bucket, storage, uploads, objects, shards }
    }

    /// Settles the open claims, ends the recorded uploads that no job will go on with, and removes the other staging files
    /// of jobs that were being worked on. May run twice. What storage fails with for one object alone keeps nothing else from
    /// being settled.
    async fn run(&self) -> Result<(), AttemptError> {
        self.settle_uploads().await?;
        if self.bucket.has_staging() {
            self.remove_staging().await?;
        }
        for claim in self.state.claims()? {
            if shards::include(self.shards, self.state, &claim.job)? {
                self.objects.settle_left(&claim).await?;
            }
        }
        Ok(())
    }

    async fn settle_uploads(&self) -> Result<(), AttemptError> {
        let mut after = None;
        loop {
            let page = self.state.uploads(after.as_deref(), Self::UPLOADS_PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, record) in page {
                let is_ours = shards::include(self.shards, self.state, &record.job)?;
                if is_ours && !self.uploads.is_awaited(&name, &record)? {
                    self.uploads.end_or_leave(&name).await?;
                }
            }
        }
    }

    async fn remove_staging(&self) -> Result<(), AttemptError> {
        let mut after = None;
        loop {
            let (jobs, next) = self.state.due_page(Self::JOBS_PAGE, after)?;
            for sequence in jobs {
                let Some(record) = self.state.job_at(sequence)? else { continue };
                if let Some(folder) = record.job.folder.as_deref().and_then(|folder| folder.parse().ok()) {
                    self.remove_staging_in(&folder, &self.uploads.of_job(&record.job)?).await?;
                }
            }
            let Some(next) = next else { return Ok(()) };
            after = Some(next);
        }
    }

    /// Nothing but room depends on it.
    async fn remove_staging_in(&self, folder: &ObjectFolder, keep: &[Upload]) -> Result<(), AttemptError> {
        let remove = || async { self.bucket.remove_staging(folder, keep).await.map_err(AttemptError::from) };
        if let Err(error) = self.storage.for_one_object(remove).await? {
            tracing::warn!(%folder, %error, "what a crash left in a job's folder cannot be removed");
        }
        Ok(())
    }
}
