//! The jobs being worked on, and for which others there is room.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio::task::{Id, JoinError, JoinSet};

use super::Config;
use super::attempt_error::AttemptError;
use super::job::JobRun;
use crate::state::{DueJob, Lease, Shown};

/// The jobs being worked on.
#[derive(Default)]
pub(super) struct Running {
    tasks: JoinSet<Result<(), AttemptError>>,
    jobs: HashMap<Id, InProgress>,
    /// How many there are of each host, owner, and both.
    shares: HashMap<Share, usize>,
}

/// A job being worked on.
struct InProgress {
    sequence: u64,
    host: String,
    owner: u64,
    lease: Lease,
}

/// A job that is no longer worked on. Its lease is given back when how it ended has been looked at, so that a job whose work
/// panicked is not taken up again before that is recorded.
pub(super) struct Ended {
    pub(super) sequence: u64,
    pub(super) lease: Lease,
    pub(super) result: Result<(), JobError>,
}

/// Why a job could not be taken further.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// Something could not be recorded.
    #[error(transparent)]
    Attempt(AttemptError),
    /// A defect, which would strike again.
    #[error("{0}")]
    Panic(String),
}

/// Who takes up a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Share {
    Host(String),
    Owner(u64),
    OwnerAtHost(u64, String),
}

impl Share {
    fn of(host: &str, owner: u64) -> Vec<Self> {
        let mut shares = vec![Self::Owner(owner)];
        if !host.is_empty() {
            shares.extend([Self::Host(host.to_owned()), Self::OwnerAtHost(owner, host.to_owned())]);
        }
        shares
    }
}

/// How many of `places` the jobs of one owner may take: a quarter is left to others, so that none of them waits for as long
/// as one of its downloads takes.
const fn of_one_owner(places: usize) -> usize {
    if places < 2 { places } else { places - places.div_ceil(4) }
}

impl Running {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Why there is no room for a job, unless there is.
    pub(super) fn no_room_for(&self, job: &DueJob, config: &Config) -> Option<Shown> {
        let Config { concurrency, per_host, .. } = *config;
        let at_host = |share: Share, places: usize| !job.host.is_empty() && self.count(&share) >= places;
        if at_host(Share::Host(job.host.clone()), per_host) {
            return Some(Shown::HostFull);
        }
        let is_owner_full = self.count(&Share::Owner(job.owner)) >= of_one_owner(concurrency)
            || at_host(Share::OwnerAtHost(job.owner, job.host.clone()), of_one_owner(per_host));
        is_owner_full.then_some(Shown::OwnerFull)
    }

    /// The owners for whose jobs there is no room at any host.
    pub(super) fn full_owners(&self, config: &Config) -> Vec<u64> {
        let places = of_one_owner(config.concurrency);
        let full = self.shares.iter().filter_map(|(share, count)| match share {
            Share::Owner(owner) if *count >= places => Some(*owner),
            _ => None,
        });
        full.collect()
    }

    /// Starts to work on a job, which is held by `lease`.
    pub(super) fn start(&mut self, job: &DueJob, lease: Lease, run: JobRun) {
        let task = self.tasks.spawn(async move { run.run().await });
        let (sequence, host, owner) = (job.sequence, job.host.clone(), job.owner);
        for share in Share::of(&host, owner) {
            *self.shares.entry(share).or_default() += 1;
        }
        self.jobs.insert(task.id(), InProgress { sequence, host, owner, lease });
    }

    /// The next that ends; `None` when there are none. May be dropped at any time.
    pub(super) async fn next_ended(&mut self) -> Option<Ended> {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await? {
                Ok((id, result)) => (id, result.map_err(JobError::Attempt)),
                Err(error) => (error.id(), Err(JobError::Panic(panic_text(error)))),
            };
            if let Some(InProgress { sequence, host, owner, lease }) = self.jobs.remove(&id) {
                self.give_back(&host, owner);
                return Some(Ended { sequence, lease, result });
            }
        }
    }

    /// Cuts off all of them.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn count(&self, share: &Share) -> usize {
        self.shares.get(share).copied().unwrap_or_default()
    }

    fn give_back(&mut self, host: &str, owner: u64) {
        for share in Share::of(host, owner) {
            if let Entry::Occupied(mut count) = self.shares.entry(share) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "cancelled".to_owned() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("internal error: {}", text.unwrap_or_else(|| "a panic".to_owned()))
}
