//! The due queue: which jobs have work to do, and in which order.
//!
//! A job is due at once, or waits for another attempt at one of its files. Those of the first kind stand in a second
//! index in the order of their deadlines, so that picking the most urgent looks at no others, however many there are.
//! Those that wait stand in the order of their times, and the few whose time has come are sorted when looked at.

use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::{self, Table};
use super::txn::Txn;
use super::{State, StateError};
use crate::domain::{Job, Timestamp};

/// A job that has work to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueJob {
    /// From when on.
    pub at: Timestamp,
    /// The job.
    pub sequence: u64,
    /// The host its next file comes from; empty when nothing is left to fetch.
    pub host: String,
    /// From when on its links no longer work; `None` when that is not known.
    pub link_dies_at: Option<Timestamp>,
}

/// How long links that do not say it are taken to live: what is said of the provider's. Only the order depends on it.
const ASSUMED_LIFE: Duration = Duration::from_secs(9 * 3600);

/// The most jobs looked at whose next attempt has become due: they are sorted in memory.
const RETRIES_LOOKED_AT: usize = 512;

/// A job's record in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Queued {
    at: Timestamp,
    at_once: bool,
    link_dies_at: Option<Timestamp>,
    host: String,
}

impl Queued {
    fn of(job: &Job) -> Option<Self> {
        let at = job.due?;
        Some(Self {
            at,
            at_once: at <= job.updated_at,
            link_dies_at: job.link_dies_at(),
            host: job.next_host().unwrap_or_default().to_owned(),
        })
    }

    /// Read from the record under `key`, with the job the key names.
    fn read(key: &[u8], value: &[u8]) -> Result<DueJob, StateError> {
        let Self { at, link_dies_at, host, .. } = postcard::from_bytes(value)?;
        let sequence = keys::trailing_number(key).unwrap_or_default();
        Ok(DueJob { at, sequence, host, link_dies_at })
    }
}

fn deadline(at: Timestamp, link_dies_at: Option<Timestamp>) -> Timestamp {
    link_dies_at.unwrap_or_else(|| at.after(ASSUMED_LIFE))
}

impl DueJob {
    /// The most urgent is the least: first the link that dies next; those that seem dead already come after all others.
    fn urgency(&self, now: Timestamp) -> (bool, Timestamp) {
        let deadline = deadline(self.at, self.link_dies_at);
        (deadline < now, deadline)
    }
}

impl Txn<'_> {
    /// Moves a job to where it now belongs in the queue.
    pub(super) fn put_queued(&mut self, before: Option<&Job>, job: &Job, sequence: u64) -> Result<(), StateError> {
        let (was, is) = (before.and_then(Queued::of), Queued::of(job));
        if was == is {
            return Ok(());
        }
        if let Some(was) = &was {
            self.remove(keys::due(was.at_once, was.at, sequence));
            self.meta.counters.queued = self.meta.counters.queued.saturating_sub(1);
            if was.at_once {
                self.remove(keys::ready(deadline(was.at, was.link_dies_at), sequence));
                self.meta.counters.ready = self.meta.counters.ready.saturating_sub(1);
            }
        }
        if let Some(is) = &is {
            self.put(keys::due(is.at_once, is.at, sequence), is)?;
            self.meta.counters.queued += 1;
            if is.at_once {
                self.put(keys::ready(deadline(is.at, is.link_dies_at), sequence), is)?;
                self.meta.counters.ready += 1;
            }
            self.due_changed = true;
        }
        self.count_dying(was.and_then(|was| was.link_dies_at), is.and_then(|is| is.link_dies_at))
    }

    fn count_dying(&mut self, was: Option<Timestamp>, is: Option<Timestamp>) -> Result<(), StateError> {
        let (was, is) = (was.map(keys::dying_links), is.map(keys::dying_links));
        if was == is {
            return Ok(());
        }
        if let Some(key) = was {
            match self.get::<u64>(&key)? {
                Some(count) if count > 1 => self.put(key, &(count - 1))?,
                Some(_) => {
                    self.remove(key);
                    self.meta.counters.dying_minutes = self.meta.counters.dying_minutes.saturating_sub(1);
                }
                None => {}
            }
        }
        if let Some(key) = is {
            let count = self.get::<u64>(&key)?.unwrap_or_default();
            self.put(key, &(count + 1))?;
            self.meta.counters.dying_minutes += u64::from(count == 0);
        }
        Ok(())
    }
}

impl State {
    /// At most `limit` jobs of the queue: those that were due at once, then those that wait, each the longest due first.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails; so for all that follow.
    pub fn due(&self, limit: usize) -> Result<Vec<DueJob>, StateError> {
        let store = self.store()?;
        let mut due = Vec::new();
        for item in store.with_prefix(Table::Due.prefix()).take(limit) {
            let (key, value) = item?;
            due.push(Queued::read(&key, &value)?);
        }
        Ok(due)
    }

    /// Shows the jobs that are due now, the most urgent first, until `visit` has enough or has seen `limit` of them.
    pub fn visit_due(
        &self,
        now: Timestamp,
        limit: usize,
        mut visit: impl FnMut(DueJob) -> ControlFlow<()>,
    ) -> Result<(), StateError> {
        let store = self.store()?;
        let read = |item: Result<(sled::IVec, sled::IVec), StateError>| {
            let (key, value) = item?;
            Queued::read(&key, &value)
        };
        let come_due = store.range(keys::due(false, Timestamp::default(), 0)..keys::due(false, now, u64::MAX));
        let mut retries = come_due.take(RETRIES_LOOKED_AT).map(read).collect::<Result<Vec<_>, _>>()?;
        // The most urgent last, where it is taken from.
        retries.sort_by_key(|job| Reverse(job.urgency(now)));
        let alive = store.range(keys::ready(now, 0)..keys::after(Table::Ready));
        let dead = store.range(Table::Ready.prefix()..keys::ready(now, 0));
        let mut ready = alive.chain(dead).map(read).peekable();
        for _ in 0..limit {
            let retry_first = match (retries.last(), ready.peek()) {
                (Some(retry), Some(Ok(next))) => retry.urgency(now) <= next.urgency(now),
                (retry, None) => retry.is_some(),
                (_, Some(_)) => false,
            };
            let next = if retry_first { retries.pop().map(Ok) } else { ready.next() };
            let Some(job) = next else { break };
            if visit(job?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// When the next job that waits becomes due, after `now`.
    pub fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StateError> {
        let store = self.store()?;
        let later = store.range(keys::due(false, now, u64::MAX)..keys::after(Table::Due)).next();
        Ok(later.transpose()?.and_then(|(key, _)| keys::due_at(&key)))
    }

    /// How many jobs of the queue are due by `at`.
    pub fn due_by(&self, at: Timestamp) -> Result<u64, StateError> {
        let store = self.store()?;
        let waiting = store.range(keys::due(false, Timestamp::default(), 0)..=keys::due(false, at, u64::MAX));
        Ok(self.counters()?.ready + waiting.count() as u64)
    }

    /// The earliest time at which a job of the queue is, or was, due.
    pub fn oldest_due(&self) -> Result<Option<Timestamp>, StateError> {
        let store = self.store()?;
        let mut oldest: Option<Timestamp> = None;
        for at_once in [true, false] {
            let first = store.range(keys::due(at_once, Timestamp::default(), 0)..).next().transpose()?;
            let first = first.and_then(|(key, _)| keys::due_at(&key));
            oldest = oldest.into_iter().chain(first).min();
        }
        Ok(oldest)
    }

    /// How many jobs of the queue have a link that dies between `from` and `to`, by whole minutes.
    pub fn dying(&self, from: Timestamp, to: Timestamp) -> Result<u64, StateError> {
        let store = self.store()?;
        let mut sum = 0;
        for count in store.range(keys::dying_links(from)..=keys::dying_links(to)) {
            sum += postcard::from_bytes::<u64>(&count?.1)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests;
