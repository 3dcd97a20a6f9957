//! What keeps floods of authentic callbacks from filling the disk: repeats are not written again, and one job's
//! progress is taken only so often. All of it is in memory, bounded, and may be forgotten at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use crate::domain::{Digest, JobId, Reason, Target};

/// How many progress callbacks of one job are taken in a minute, and how many repeats are counted.
pub(super) const PER_MINUTE: u32 = 60;

#[derive(Debug)]
pub(super) struct Flood {
    recent: Cache<Digest, Known>,
    minutes: Cache<(JobId, Counted), Arc<AtomicU32>>,
}

/// What a body that was seen before turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// About this job.
    Job(JobId),
    /// A final one about this job, recorded at this position, that waited for the provider to confirm it.
    Held(JobId, u64),
    /// In quarantine, whatever else changes.
    Unclear(u64, Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counted {
    Progress,
    Repeats,
}

impl Flood {
    const RECENT: u64 = 20_000;
    const JOBS: u64 = 50_000;

    pub(super) fn new() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            recent: Cache::new(Self::RECENT),
            minutes: Cache::builder().max_capacity(Self::JOBS).time_to_live(minute).build(),
        }
    }

    /// What tells a body over one URL from all others.
    pub(super) fn fingerprint(target: &Target, body: &[u8]) -> Digest {
        let hasher = Sha256::new().chain_update(target.as_str()).chain_update(b"\n").chain_update(body);
        Digest::from_bytes(hasher.finalize().into())
    }

    pub(super) fn known(&self, fingerprint: &Digest) -> Option<Known> {
        self.recent.get(fingerprint)
    }

    pub(super) fn remember(&self, fingerprint: Digest, known: Known) {
        self.recent.insert(fingerprint, known);
    }

    pub(super) fn admit_progress(&self, job: &JobId) -> bool {
        self.admit(job, Counted::Progress)
    }

    pub(super) fn admit_repeat(&self, job: &JobId) -> bool {
        self.admit(job, Counted::Repeats)
    }

    fn admit(&self, job: &JobId, counted: Counted) -> bool {
        let count = self.minutes.get_with((job.clone(), counted), Arc::default);
        count.fetch_add(1, Ordering::Relaxed) < PER_MINUTE
    }
}
