//! For how long the provider has been asked about each job.

use std::collections::HashMap;

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// Since when the provider has been asked about a job in this run and does not know of its end, by sequence.
#[derive(Debug, Default)]
pub(super) struct OpenSince(Mutex<HashMap<u64, Instant>>);

impl OpenSince {
    /// More are not remembered, and wait for longer.
    const MAX_JOBS: usize = 100_000;

    /// For how long a job has been asked about, from now on if it has not been before.
    pub(super) fn elapsed(&self, sequence: u64) -> Duration {
        let mut since = self.locked();
        if since.len() >= Self::MAX_JOBS {
            since.clear();
        }
        since.entry(sequence).or_insert_with(Instant::now).elapsed()
    }

    /// Nothing of a job is open any more.
    pub(super) fn remove(&self, sequence: u64) {
        self.locked().remove(&sequence);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.0.lock()
    }
}
