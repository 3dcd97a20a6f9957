//! The due queue: which jobs have work to do, and in which order.
//!
//! A job is due at once, or waits for another attempt at one of its files. All stand in one index in the order of their
//! times, and in one for each host that a next file comes from, in which those that are due at once go by their deadlines.
//! A third has each host's jobs by owner, for when those of one owner stand before all others. So picking the most urgent
//! job that there is room for looks at few others, however many there are; nor does it matter how many hosts are an owner's.

mod owners;
mod walk;

pub(super) use owners::{Lane, Owners};
pub use walk::{DueCursor, Shown};

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
    /// Stands for the ref it is tied to, or for all jobs that are tied to none.
    pub owner: u64,
    /// From when on its links no longer work; `None` when that is not known.
    pub link_expires_at: Option<Timestamp>,
}

/// How long links that do not say it are taken to live: what is said of the provider's. Only the order depends on it.
const ASSUMED_LIFE: Duration = Duration::from_secs(9 * 3600);

/// A job's record in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Queued {
    at: Timestamp,
    at_once: bool,
    link_expires_at: Option<Timestamp>,
    host: String,
    owner: u64,
}

impl Queued {
    /// A job whose next file comes from `host`, and whose links die from `link_expires_at` on.
    pub(super) fn of(job: &Job, host: Option<&str>, link_expires_at: Option<Timestamp>) -> Option<Self> {
        let at = job.due?;
        let host = host.unwrap_or_default().to_owned();
        let owner = job.ref_id.as_ref().map_or(0, |id| keys::short_hash(id.as_str()));
        Some(Self { at, at_once: at <= job.updated_at, link_expires_at, host, owner })
    }

    /// Read from the record under `key`, with the job the key names.
    fn read(key: &[u8], value: &[u8]) -> Result<DueJob, StateError> {
        let queued: Self = postcard::from_bytes(value)?;
        Ok(queued.into_due(keys::trailing_number(key).unwrap_or_default()))
    }

    fn into_due(self, sequence: u64) -> DueJob {
        let Self { at, link_expires_at, host, owner, .. } = self;
        DueJob { at, sequence, host, owner, link_expires_at }
    }

    /// Where it stands in all three indices.
    fn keys(&self, sequence: u64) -> [Vec<u8>; 3] {
        let Self { at, at_once, owner, .. } = *self;
        let (host, time) =
            (keys::short_hash(&self.host), if at_once { deadline(at, self.link_expires_at) } else { at });
        [
            keys::due(at_once, at, sequence),
            keys::in_host_queue(host, at_once, time, sequence),
            keys::in_lane(host, owner, at_once, time, sequence),
        ]
    }
}

fn deadline(at: Timestamp, link_expires_at: Option<Timestamp>) -> Timestamp {
    link_expires_at.unwrap_or_else(|| at.after(ASSUMED_LIFE))
}

impl Txn<'_> {
    /// Moves a job to where it now belongs in the queue.
    pub(super) fn put_queued(
        &mut self,
        was: Option<&Queued>,
        is: Option<&Queued>,
        sequence: u64,
    ) -> Result<(), StateError> {
        if was == is {
            return Ok(());
        }
        let counters = &mut self.meta.counters;
        if let Some(was) = was {
            counters.queued = counters.queued.saturating_sub(1);
            counters.ready = counters.ready.saturating_sub(was.at_once.into());
        }
        if let Some(is) = is {
            counters.queued += 1;
            counters.ready += u64::from(is.at_once);
        }
        was.iter().flat_map(|was| was.keys(sequence)).for_each(|key| self.remove(key));
        if let Some(is) = is {
            let [by_time, by_host, in_lane] = is.keys(sequence);
            self.mark(by_time);
            self.put(by_host, is)?;
            self.lanes.extend(keys::lane_in(&in_lane));
            self.put(in_lane, is)?;
            self.due_changed = true;
        }
        self.count_expiring(was.and_then(|was| was.link_expires_at), is.and_then(|is| is.link_expires_at))
    }

    fn count_expiring(&mut self, was: Option<Timestamp>, is: Option<Timestamp>) -> Result<(), StateError> {
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
    /// Looked at one by one whenever they are counted.
    pub const MAX_COUNTED_RETRIES: usize = 4096;

    /// When the next job that waits becomes due, after `now`.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails; so for all that follow.
    pub fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StateError> {
        let store = self.store()?;
        let longest = keys::due(false, now.after(Job::LONGEST_DELAY), u64::MAX);
        let later = store.range(keys::due(false, now, u64::MAX)..=longest).next();
        Ok(later.transpose()?.and_then(|(key, _)| keys::due_at(&key)))
    }

    /// How many jobs of the queue are due by `at`. Of those that wait for another attempt no more are counted than
    /// [`State::MAX_COUNTED_RETRIES`].
    pub fn due_by(&self, at: Timestamp) -> Result<u64, StateError> {
        let store = self.store()?;
        let come = store.range(keys::due(false, Timestamp::default(), 0)..=keys::due(false, at, u64::MAX));
        let ahead = store.range(keys::due(false, at.after(Job::LONGEST_DELAY), u64::MAX)..keys::after(Table::Due));
        Ok(self.counters()?.ready + come.chain(ahead).take(Self::MAX_COUNTED_RETRIES).count() as u64)
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
    pub fn expiring(&self, from: Timestamp, to: Timestamp) -> Result<u64, StateError> {
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
