use std::collections::{BTreeSet, HashMap};

use crate::domain::Timestamp;

/// Running jobs by when they are asked about next.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_time: BTreeSet<(Timestamp, u64)>,
    times: HashMap<u64, Timestamp>,
}

impl Queue {
    /// More running jobs than any account makes in a month. Of more those asked about last are left out until the next scan.
    pub(super) const MOST: usize = 100_000;

    /// Asks about a job at `at`, or no more.
    pub(super) fn put(&mut self, sequence: u64, at: Option<Timestamp>) {
        if let Some(before) = self.times.remove(&sequence) {
            self.by_time.remove(&(before, sequence));
        }
        let Some(at) = at else { return };
        self.times.insert(sequence, at);
        self.by_time.insert((at, sequence));
        if self.times.len() > Self::MOST
            && let Some((_, last)) = self.by_time.pop_last()
        {
            self.times.remove(&last);
        }
    }

    /// Whether a job is in it.
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.times.contains_key(&sequence)
    }

    /// A job whose time has come.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<u64> {
        let (at, sequence) = *self.by_time.first()?;
        (at <= now).then(|| self.put(sequence, None)).map(|()| sequence)
    }

    /// When the next job's time comes, or came.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }
}
