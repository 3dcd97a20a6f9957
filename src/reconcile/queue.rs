use std::collections::{BTreeSet, HashMap};

use crate::domain::Timestamp;

/// Running jobs by when they are asked about next.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_time: BTreeSet<(Timestamp, u64)>,
    times: HashMap<u64, Timestamp>,
    /// Jobs that were asked about for the last time, and when that was.
    finished: HashMap<u64, Timestamp>,
}

impl Queue {
    /// More running jobs than any account makes in a month. Of more those asked about last are left out until the next scan.
    pub(super) const MAX_JOBS: usize = 100_000;

    /// Asks about a job at `at`, or no more.
    pub(super) fn put(&mut self, sequence: u64, at: Option<Timestamp>) {
        if let Some(before) = self.times.remove(&sequence) {
            self.by_time.remove(&(before, sequence));
        }
        let Some(at) = at else { return };
        self.times.insert(sequence, at);
        self.by_time.insert((at, sequence));
        if self.times.len() > Self::MAX_JOBS
            && let Some((_, last)) = self.by_time.pop_last()
        {
            self.times.remove(&last);
        }
    }

    /// A job was asked about; it is asked about again at `next`, or never.
    pub(super) fn asked(&mut self, sequence: u64, next: Option<Timestamp>, now: Timestamp) {
        if next.is_none() && self.finished.len() < Self::MAX_JOBS {
            self.finished.insert(sequence, now);
        }
        self.put(sequence, next);
    }

    /// Whether a time to ask about a job is past and was the last.
    pub(super) fn is_finished(&self, sequence: u64, at: Timestamp) -> bool {
        self.finished.get(&sequence).is_some_and(|finished| at <= *finished)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_asked_about_for_the_last_time_is_not_queued_again_for_a_time_that_is_past() {
        let at = |seconds: u64| Timestamp::from_millis_clamped(seconds * 1000);
        let mut queue = Queue::default();
        queue.put(7, Some(at(10)));
        assert_eq!((queue.take(at(9)), queue.take(at(10)), queue.take(at(10))), (None, Some(7), None));
        queue.asked(7, None, at(11));
        assert!(queue.is_finished(7, at(10)) && !queue.is_finished(7, at(12)) && !queue.is_finished(8, at(10)));
    }
}
