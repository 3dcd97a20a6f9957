//! Jobs that could not be taken further, and for how long each is left alone.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::retry;

/// Jobs that could not even record a failure, by sequence.
#[derive(Default)]
pub(super) struct BackingOff {
    /// When to take them up again.
    until: HashMap<u64, Instant>,
    /// How often in a row that was so.
    times: HashMap<u64, u16>,
}

impl BackingOff {
    /// A job that cannot be taken further is tried again at least so often.
    const MAX_PAUSE: Duration = Duration::from_secs(600);
    /// Of more it is not known how often.
    const MAX_JOBS: usize = 10_000;

    /// Leaves a job alone, for longer each time in a row.
    pub(super) fn add(&mut self, sequence: u64) {
        if self.times.len() >= Self::MAX_JOBS {
            self.times.clear();
        }
        let times = self.times.entry(sequence).or_default();
        *times = times.saturating_add(1);
        let pause = retry::pause().max(retry::delay(*times).min(Self::MAX_PAUSE));
        self.until.insert(sequence, Instant::now() + pause);
    }

    /// A job has been taken further: the next pause is the first again.
    pub(super) fn reset(&mut self, sequence: u64) {
        self.times.remove(&sequence);
    }

    /// Lets go of those whose pause is over at `now`.
    pub(super) fn expire(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.until.contains_key(&sequence)
    }

    /// When the first pause ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.until.values().copied().min()
    }
}
