//! Whether storage as a whole works. While it fails, nothing new is taken up.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::sleep;

use super::attempt_error::AttemptError;
use crate::backoff::{doubling, with_retry};
use crate::bucket::{Bucket, BucketError};
use crate::state::State;

/// What is known of storage as a whole.
pub(super) struct StorageHealth {
    bucket: Bucket,
    /// Says whether the bucket must hold anything.
    state: State,
    /// What it fails with, while it fails.
    failure: Mutex<Option<String>>,
}

impl StorageHealth {
    pub(super) fn new(bucket: Bucket, state: State) -> Self {
        Self { bucket, state, failure: Mutex::default() }
    }

    /// What it fails with, if it fails.
    pub(super) fn failure(&self) -> Option<String> {
        self.locked().clone()
    }

    /// Takes note of an outage.
    pub(super) fn fails(&self, error: &BucketError) {
        let mut failure = self.locked();
        if failure.is_none() {
            tracing::error!(%error, "storage fails: nothing new is taken up until it is back");
        }
        *failure = Some(error.to_string());
    }

    /// Takes note that it works.
    pub(super) fn works(&self) {
        *self.locked() = None;
    }

    /// Whether an error is about one object alone: storage takes others. Writes one to find out, if need be.
    pub(super) async fn refuses_one_object(&self, error: &BucketError) -> bool {
        error.may_concern_one_object() && self.bucket.probe_write().await.is_ok()
    }

    /// Does what concerns one object, and again where that may help. The inner error is that object's alone: storage worked
    /// otherwise before the last try, and nobody else may have to wait.
    pub(super) async fn for_one_object<T, F>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<Result<T, BucketError>, AttemptError>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        match with_retry(may_pass, &work).await {
            Err(AttemptError::Bucket(error)) if !concerns_all(&error) && self.works_otherwise().await => {}
            done => return done.map(Ok),
        }
        // The outage may have ended after that.
        match work().await {
            Err(AttemptError::Bucket(error)) if !concerns_all(&error) => Ok(Err(error)),
            done => done.map(Ok),
        }
    }

    /// Whether storage answers and takes objects.
    async fn works_otherwise(&self) -> bool {
        let answers = matches!(self.bucket.probe().await, Ok(()) | Err(BucketError::NoListing));
        answers && self.bucket.probe_write().await.is_ok()
    }

    /// Sees to it that the bucket is the one that was used before. An outage is found out by whoever needs it.
    pub(super) async fn identify(&self) {
        if let Err(error @ BucketError::Foreign(_)) = self.identified().await {
            self.fails(&error);
        }
    }

    /// Resolves when it works again, after `outages` others since it last worked.
    pub(super) async fn recovered(&self, outages: u32) {
        /// Between two probes at the most.
        const MAX_PAUSE: Duration = Duration::from_secs(30);
        let mut pause = doubling(outages, MAX_PAUSE);
        loop {
            sleep(pause).await;
            let identified = self.identified().await;
            match identified.and(self.bucket.probe().await) {
                Ok(()) => break,
                Err(error @ BucketError::NoListing) => {
                    tracing::warn!(%error, "storage answers, and lacks a permission");
                    break;
                }
                Err(error) => tracing::warn!(%error, "storage still fails"),
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
        tracing::info!("storage answers again");
        self.works();
    }

    async fn identified(&self) -> Result<(), BucketError> {
        let holds_objects = self.state.counters().map_or(true, |counters| counters.objects > 0);
        self.bucket.identify(holds_objects).await
    }

    fn locked(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock()
    }
}

/// Whether storage is another one than was used before, or has no room.
fn concerns_all(error: &BucketError) -> bool {
    matches!(error, BucketError::Foreign(_) | BucketError::Full(_))
}

/// What is refused would be refused again.
fn may_pass(error: &AttemptError) -> bool {
    matches!(error, AttemptError::Bucket(BucketError::Unavailable(_)))
}
