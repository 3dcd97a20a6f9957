//! What keeps floods of authentic callbacks from filling the disk: repeats are not written again, and one job's
//! progress is taken only so often over one URL, so that nobody uses up what another's URL may bring. All of it is in memory,
//! bounded, and may be forgotten at any time.
//!
//! Every callback passes here before it is written, so both memories are plain maps that forget what came first.

mod fifo_map;

use std::hash::{BuildHasher, RandomState};

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};

use self::fifo_map::FifoMap;
use crate::domain::{Digest, JobId, QuarantineReason, Target};

/// How many progress callbacks of one job are taken over one URL in a minute, and how many repeats are counted as they come.
pub(super) const PER_MINUTE: u32 = 60;

#[derive(Debug)]
pub(super) struct RateLimit {
    recent: Mutex<FifoMap<Digest, SeenAs>>,
    minutes: Mutex<FifoMap<u64, Window>>,
    /// Jobs and URLs are counted by a keyed hash: no id is copied, and nobody can find two that count as one.
    hasher: RandomState,
}

/// What a body that was seen before turned out to be.
#[derive(Clone, Debug)]
pub(super) enum SeenAs {
    /// About this job.
    Job(JobId),
    /// A final one about this job, recorded at this position, that waited for the provider to confirm it.
    Held(JobId, u64),
    /// In quarantine, whatever else changes.
    Unrecognised(u64, QuarantineReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LimitKind {
    Progress,
    Repeats,
}

/// How much came in the minute from the first on.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    count: u32,
}

impl RateLimit {
    const RECENT: usize = 20_000;
    const WINDOWS: usize = 50_000;
    const MINUTE: Duration = Duration::from_secs(60);

    pub(super) fn new() -> Self {
        Self {
            recent: Mutex::new(FifoMap::new(Self::RECENT)),
            minutes: Mutex::new(FifoMap::new(Self::WINDOWS)),
            hasher: RandomState::new(),
        }
    }

    /// What tells a body over one URL from all others.
    pub(super) fn fingerprint(target: &Target, body: &[u8]) -> Digest {
        let hasher = Sha256::new().chain_update(target.as_str()).chain_update(b"\n").chain_update(body);
        Digest::from_bytes(hasher.finalize().into())
    }

    pub(super) fn known(&self, fingerprint: &Digest) -> Option<SeenAs> {
        lock(&self.recent).get_mut(fingerprint).cloned()
    }

    pub(super) fn remember(&self, fingerprint: Digest, known: SeenAs) {
        lock(&self.recent).insert(fingerprint, known);
    }

    pub(super) fn admit_progress(&self, target: &Target, job: &JobId) -> bool {
        self.admit(target, job, LimitKind::Progress, Instant::now())
    }

    pub(super) fn admit_repeat(&self, target: &Target, job: &JobId) -> bool {
        self.admit(target, job, LimitKind::Repeats, Instant::now())
    }

    fn admit(&self, target: &Target, job: &JobId, counted: LimitKind, now: Instant) -> bool {
        let key = self.hasher.hash_one((target, job, counted));
        let mut minutes = lock(&self.minutes);
        match minutes.get_mut(&key) {
            Some(minute) if now.saturating_duration_since(minute.began) < Self::MINUTE => {
                minute.count = minute.count.saturating_add(1);
                minute.count <= PER_MINUTE
            }
            Some(minute) => {
                *minute = Window { began: now, count: 1 };
                true
            }
            None => {
                minutes.insert(key, Window { began: now, count: 1 });
                true
            }
        }
    }
}

/// Whatever a panic left half done can be lived with: it may all be forgotten.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u32) -> JobId {
        format!("user:1-minimax:2-video:{number}").parse().unwrap()
    }

    #[test]
    fn so_many_a_minute_are_admitted_and_the_next_minute_begins_anew() {
        let rate_limit = RateLimit::new();
        let began = Instant::now();
        let admit = |target: &Target, number: u32, counted: LimitKind, at: Duration| {
            rate_limit.admit(target, &job(number), counted, began + at)
        };
        let admitted = |at, counted| (0..100).filter(|_| admit(&Target::Channel, 1, counted, at)).count();
        assert_eq!(admitted(Duration::ZERO, LimitKind::Progress), 60);
        // Repeats, other jobs and other URLs are counted for themselves.
        assert_eq!(admitted(Duration::from_secs(59), LimitKind::Repeats), 60);
        assert!(admit(&Target::Channel, 2, LimitKind::Progress, Duration::ZERO));
        assert!(admit(&Target::UseApi, 1, LimitKind::Progress, Duration::ZERO));
        assert_eq!(admitted(Duration::from_millis(59_999), LimitKind::Progress), 0);
        assert_eq!(admitted(Duration::from_secs(60), LimitKind::Progress), 60);
        assert_eq!(admitted(Duration::from_secs(60), LimitKind::Repeats), 0);
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let rate_limit = RateLimit::new();
        let fingerprint = |number: u32| RateLimit::fingerprint(&Target::Channel, &number.to_le_bytes());
        for number in 0..RateLimit::WINDOWS as u32 + 10 {
            assert!(rate_limit.admit(&Target::Channel, &job(number), LimitKind::Progress, Instant::now()));
            rate_limit.remember(fingerprint(number), SeenAs::Job(job(number)));
        }
        assert_eq!(
            (lock(&rate_limit.minutes).len(), lock(&rate_limit.recent).len()),
            (RateLimit::WINDOWS, RateLimit::RECENT)
        );
        let fifo_map = RateLimit::WINDOWS as u32 + 9;
        assert!(matches!(rate_limit.known(&fingerprint(fifo_map)), Some(SeenAs::Job(known)) if known == job(fifo_map)));
        assert!(rate_limit.known(&fingerprint(0)).is_none());
    }
}
