//! Who works on what now. In memory alone: after a crash nobody does.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Shared, State};
use crate::domain::AssetId;

/// Jobs that are worked on, and files that are fetched.
#[derive(Debug, Default)]
pub(super) struct Leases {
    jobs: Mutex<HashSet<u64>>,
    files: Mutex<HashSet<(u64, AssetId)>>,
}

fn lock<T: Eq + Hash>(held: &Mutex<HashSet<T>>) -> MutexGuard<'_, HashSet<T>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to work on a job, for as long as it is held.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    sequence: u64,
}

/// Marks a file as being fetched, for as long as it is held.
#[derive(Debug)]
pub struct Fetching {
    shared: Arc<Shared>,
    file: (u64, AssetId),
}

impl State {
    /// The right to work on a job, unless somebody has it.
    pub fn lease(&self, sequence: u64) -> Option<Lease> {
        let is_new = lock(&self.shared.leases.jobs).insert(sequence);
        is_new.then(|| Lease { shared: self.shared.clone(), sequence })
    }

    /// True while somebody has the right to work on a job.
    pub fn is_leased(&self, sequence: u64) -> bool {
        lock(&self.shared.leases.jobs).contains(&sequence)
    }

    /// Marks a file as being fetched.
    pub fn fetching(&self, sequence: u64, slot: &AssetId) -> Fetching {
        let file = (sequence, slot.clone());
        lock(&self.shared.leases.files).insert(file.clone());
        Fetching { shared: self.shared.clone(), file }
    }

    /// True while a file is being fetched.
    pub fn is_fetching(&self, sequence: u64, slot: &AssetId) -> bool {
        let fetching = lock(&self.shared.leases.files);
        !fetching.is_empty() && fetching.contains(&(sequence, slot.clone()))
    }

    /// How many files are being fetched.
    pub fn fetching_count(&self) -> usize {
        lock(&self.shared.leases.files).len()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.shared.leases.jobs).remove(&self.sequence);
        // What became due while it was held has been passed over.
        self.shared.due_changed.notify_one();
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        lock(&self.shared.leases.files).remove(&self.file);
    }
}
