//! What keeps floods of authentic callbacks from filling the disk: repeats are not written again, and one job's
//! progress is taken only so often. All of it is in memory, bounded, and may be forgotten at any time.
//!
//! Every callback passes here before it is written, so both memories are plain maps that forget what came first.

mod newest;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use self::newest::Newest;
use crate::domain::{Digest, JobId, Reason, Target};

/// How many progress callbacks of one job are taken in a minute, and how many repeats are counted.
pub(super) const PER_MINUTE: u32 = 60;

#[derive(Debug)]
pub(super) struct Flood {
    recent: Mutex<Newest<Digest, Known>>,
    minutes: Mutex<Newest<u64, Minute>>,
    /// Jobs are counted by a keyed hash: no id is copied, and nobody can find two that count as one.
    jobs: RandomState,
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

/// How much came in the minute from the first on.
#[derive(Clone, Copy, Debug)]
struct Minute {
    began: Instant,
    count: u32,
}

impl Flood {
    const RECENT: usize = 20_000;
    const JOBS: usize = 50_000;
    const MINUTE: Duration = Duration::from_secs(60);

    pub(super) fn new() -> Self {
        Self {
            recent: Mutex::new(Newest::new(Self::RECENT)),
            minutes: Mutex::new(Newest::new(Self::JOBS)),
            jobs: RandomState::new(),
        }
    }

    /// What tells a body over one URL from all others.
    pub(super) fn fingerprint(target: &Target, body: &[u8]) -> Digest {
        let hasher = Sha256::new().chain_update(target.as_str()).chain_update(b"\n").chain_update(body);
        Digest::from_bytes(hasher.finalize().into())
    }

    pub(super) fn known(&self, fingerprint: &Digest) -> Option<Known> {
        lock(&self.recent).get_mut(fingerprint).cloned()
    }

    pub(super) fn remember(&self, fingerprint: Digest, known: Known) {
        lock(&self.recent).insert(fingerprint, known);
    }

    pub(super) fn admit_progress(&self, job: &JobId) -> bool {
        self.admit(job, Counted::Progress, Instant::now())
    }

    pub(super) fn admit_repeat(&self, job: &JobId) -> bool {
        self.admit(job, Counted::Repeats, Instant::now())
    }

    fn admit(&self, job: &JobId, counted: Counted, now: Instant) -> bool {
        let key = self.jobs.hash_one((job, counted));
        let mut minutes = lock(&self.minutes);
        match minutes.get_mut(&key) {
            Some(minute) if now.saturating_duration_since(minute.began) < Self::MINUTE => {
                minute.count = minute.count.saturating_add(1);
                minute.count <= PER_MINUTE
            }
            Some(minute) => {
                *minute = Minute { began: now, count: 1 };
                true
            }
            None => {
                minutes.insert(key, Minute { began: now, count: 1 });
                true
            }
        }
    }
}

/// Whatever a panic left half done can be lived with: it may all be forgotten.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u32) -> JobId {
        format!("user:1-minimax:2-video:{number}").parse().unwrap()
    }

    #[test]
    fn so_many_a_minute_are_admitted_and_the_next_minute_begins_anew() {
        let flood = Flood::new();
        let began = Instant::now();
        let admitted = |at: Duration, counted| (0..100).filter(|_| flood.admit(&job(1), counted, began + at)).count();
        assert_eq!(admitted(Duration::ZERO, Counted::Progress), 60);
        // Repeats and other jobs are counted for themselves.
        assert_eq!(admitted(Duration::from_secs(59), Counted::Repeats), 60);
        assert!(flood.admit(&job(2), Counted::Progress, began));
        assert_eq!(admitted(Duration::from_millis(59_999), Counted::Progress), 0);
        assert_eq!(admitted(Duration::from_secs(60), Counted::Progress), 60);
        assert_eq!(admitted(Duration::from_secs(60), Counted::Repeats), 0);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let flood = Flood::new();
        let fingerprint = |number: u32| Flood::fingerprint(&Target::Channel, &number.to_le_bytes());
        for number in 0..Flood::JOBS as u32 + 10 {
            assert!(flood.admit(&job(number), Counted::Progress, Instant::now()));
            flood.remember(fingerprint(number), Known::Job(job(number)));
        }
        assert_eq!((lock(&flood.minutes).len(), lock(&flood.recent).len()), (Flood::JOBS, Flood::RECENT));
        let newest = Flood::JOBS as u32 + 9;
        assert!(matches!(flood.known(&fingerprint(newest)), Some(Known::Job(known)) if known == job(newest)));
        assert!(flood.known(&fingerprint(0)).is_none());
    }
}
