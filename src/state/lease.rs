//! Who works on what now. In memory alone: after a crash nobody does.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::{Shared, State};
use crate::cluster::{Cluster, Share, shard_of};
use crate::domain::AssetId;
use parking_lot::{Mutex, MutexGuard};

/// Jobs that are worked on, and files that are fetched.
#[derive(Debug, Default)]
pub(super) struct Leases {
    jobs: Mutex<HashSet<u64>>,
    files: Mutex<HashSet<(u64, AssetId)>>,
}

fn lock<T: Eq + Hash>(held: &Mutex<HashSet<T>>) -> MutexGuard<'_, HashSet<T>> {
    held.lock()
}

/// The right to work on a job, for as long as it is held.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    sequence: u64,
    /// Where there are other replicas.
    share: Option<Share>,
}

impl Lease {
    /// What is recorded in this right carries this, where there are other replicas: see [`super::EventLog::fenced`].
    pub fn fence(&self) -> Option<u64> {
        self.share.as_ref().map(Share::fence)
    }
}

/// Marks a file as being fetched, for as long as it is held.
#[derive(Debug)]
pub struct Fetching {
    shared: Arc<Shared>,
    file: (u64, AssetId),
}

impl State {
    /// The right to work on a job, unless somebody has it, or it is another replica's to work on.
    pub fn lease(&self, sequence: u64) -> Option<Lease> {
        let share = self.share(sequence)?;
        let is_new = lock(&self.shared.leases.jobs).insert(sequence);
        is_new.then(|| Lease { shared: self.shared.clone(), sequence, share })
    }

    /// The right to do something about what has this number, as far as other replicas are concerned: `Some(None)` where there
    /// are none.
    pub fn share(&self, key: u64) -> Option<Option<Share>> {
        match &self.shared.cluster {
            None => Some(None),
            Some(cluster) => cluster.shares().enter(shard_of(key)).map(Some),
        }
    }

    /// The other replicas, where there may be any.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.shared.cluster.as_ref()
    }

    /// Everything before `position` is folded in.
    pub(super) fn set_applied(&self, position: u64) {
        if let Some(cluster) = &self.shared.cluster {
            cluster.set_applied(position);
        }
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

    /// True while any file of a job is being fetched.
    pub fn is_fetching_any(&self, sequence: u64) -> bool {
        lock(&self.shared.leases.files).iter().any(|(of, _)| *of == sequence)
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
