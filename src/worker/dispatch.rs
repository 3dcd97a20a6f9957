//! Which job is worked on when.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::AttemptError;
use super::retry;
use super::{Config, Worker};
use crate::backoff::doubling;
use crate::bucket::BucketError;
use crate::cluster::shard_of;
use crate::domain::{AssetState, AttemptFailure, StuckReason, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{DueCursor, DueJob, Lease, Shown};

/// How long to wait for the state to come back.
const STATE_PAUSE: Duration = Duration::from_millis(500);

/// A job that cannot be taken further is tried again at least so often.
const MAX_HELD_BACK: Duration = Duration::from_secs(600);

/// Between two looks for a job with room, when one did not come to all hosts and owners.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A job being worked on. Its lease is given back when how it ended has been looked at, so that a job whose work panicked
/// is not taken up again before that is recorded.
struct InProgress {
    sequence: u64,
    host: String,
    owner: u64,
    lease: Lease,
}

/// The jobs being worked on.
#[derive(Default)]
struct Running {
    tasks: JoinSet<Result<(), AttemptError>>,
    jobs: HashMap<Id, InProgress>,
    /// How many there are of each host, owner, and both.
    shares: HashMap<Share, usize>,
    /// Where the last look at the queue ended.
    cursor: DueCursor,
    /// Jobs that could not even record a failure, and when to take them up again.
    backing_off: HashMap<u64, Instant>,
    /// How often in a row that was so.
    held_back_times: HashMap<u64, u16>,
    /// Of which shards what was left open is settled, a bit for each, and in which epoch.
    settled: (u64, u64),
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
    fn count(&self, share: &Share) -> usize {
        self.shares.get(share).copied().unwrap_or_default()
    }

    fn take(&mut self, host: &str, owner: u64) {
        for share in Share::of(host, owner) {
            *self.shares.entry(share).or_default() += 1;
        }
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

impl Worker {
    /// Works until [`Worker::stop`] is called, and then for at most `grace` on what runs.
    pub async fn run(&self, grace: Duration) {
        let mut stop = self.inner.stop.subscribe();
        let mut running = Running::default();
        let settled = async {
            self.log.recovered().await;
            self.identify_storage().await;
            if self.log.cluster().is_none() {
                self.settle_all().await;
            }
        };
        tokio::select! {
            () = settled => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut outages = 0;
        let mut shares = self.log.cluster().map(|cluster| cluster.shares().changes());
        loop {
            if *stop.borrow_and_update() {
                break;
            }
            let storage_down = self.storage_failure().is_some();
            let is_settled = storage_down || self.settle_shares(&mut running).await;
            let next = if storage_down { None } else { self.dispatch(&mut running) };
            let next = if is_settled { next } else { Some(Instant::now() + retry::pause()) };
            let has_room = running.tasks.len() < self.inner.config.concurrency && !storage_down;
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = running.tasks.join_next_with_id(), if !running.tasks.is_empty() => {
                    self.ended(&mut running, ended).await;
                    if self.storage_failure().is_none() {
                        outages = 0;
                    }
                }
                () = self.state().due_changed(), if has_room => {}
                () = changed(&mut shares) => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if has_room && next.is_some() => {}
                () = self.storage_back(outages), if storage_down => outages += 1,
            }
        }
        let left = running.tasks.len();
        if left > 0 {
            tracing::info!(jobs = left, "waiting for transfers to finish");
            let finish = async {
                while let Some(ended) = running.tasks.join_next_with_id().await {
                    self.ended(&mut running, ended).await;
                }
            };
            if timeout(grace, finish).await.is_err() {
                tracing::info!(jobs = running.tasks.len(), "left to be taken up again");
                running.tasks.shutdown().await;
            }
        }
    }

    /// What storage as a whole fails with, if it fails.
    pub fn storage_failure(&self) -> Option<String> {
        self.inner.storage_down.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn storage_fails(&self, error: &BucketError) {
        let mut down = self.inner.storage_down.lock().unwrap_or_else(PoisonError::into_inner);
        if down.is_none() {
            tracing::error!(%error, "storage fails: nothing new is taken up until it is back");
        }
        *down = Some(error.to_string());
    }

    pub(super) fn storage_works(&self) {
        *self.inner.storage_down.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn storage_back(&self, outages: u32) {
        /// Between two probes at the most.
        const MAX_PAUSE: Duration = Duration::from_secs(30);
        let mut pause = doubling(outages, MAX_PAUSE);
        loop {
            tokio::time::sleep(pause).await;
            let identified = self.identified().await;
            match identified.and(self.inner.bucket.probe().await) {
                Ok(()) => break,
                Err(error @ BucketError::NoListing) => {
                    tracing::warn!(%error, "storage answers, and lacks a permission");
                    break;
                }
                Err(error) => tracing::warn!(%error, "storage still fails"),
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
        tracing::info!("storage answers again");
        self.storage_works();
    }

    /// Sees to it that the bucket is the one that was used before. An outage is found out by whoever needs it.
    async fn identify_storage(&self) {
        if let Err(error @ BucketError::Foreign(_)) = self.identified().await {
            self.storage_fails(&error);
        }
    }

    async fn identified(&self) -> Result<(), BucketError> {
        let holds_objects = self.state().counters().map_or(true, |counters| counters.objects > 0);
        self.inner.bucket.identify(holds_objects).await
    }

    async fn settle_all(&self) {
        while let Err(error) = self.recover(u64::MAX).await {
            tracing::warn!(%error, "what the last run left open cannot be settled yet");
            tokio::time::sleep(retry::pause()).await;
        }
    }

    /// Settles what was left open in shards that are this replica's by now. Returns whether that is done.
    async fn settle_shares(&self, running: &mut Running) -> bool {
        let Some(cluster) = self.log.cluster() else {
            running.settled = (0, u64::MAX);
            return true;
        };
        let (epoch, held) = cluster.shares().held();
        let known = if running.settled.0 == epoch { running.settled.1 & held } else { 0 };
        running.settled = (epoch, known);
        if held & !known == 0 {
            return true;
        }
        match self.fenced(Some(epoch)).recover(held & !known).await {
            Ok(()) => {
                running.settled.1 = held;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what another replica left open cannot be settled yet");
                false
            }
        }
    }

    /// Starts what is due and has room. Returns when to look again, if that is known.
    fn dispatch(&self, running: &mut Running) -> Option<Instant> {
        let concurrency = self.inner.config.concurrency;
        if running.tasks.len() >= concurrency {
            return None;
        }
        let (now, instant) = (Timestamp::now(), Instant::now());
        running.backing_off.retain(|_, until| *until > instant);
        let mut cursor = std::mem::take(&mut running.cursor);
        let visited = self.state().visit_due(now, &mut cursor, |job| self.begin(running, job));
        running.cursor = cursor;
        if running.tasks.len() >= concurrency {
            return None;
        }
        match visited.and_then(|more| Ok((more, self.state().next_due(now)?))) {
            Ok((true, _)) => Some(instant + LOOK_PAUSE),
            Ok((false, next)) => earliest(next.map(|at| instant + at.since(now)), &running.backing_off),
            Err(error) => {
                tracing::debug!(%error, "the queue cannot be read yet");
                Some(instant + STATE_PAUSE)
            }
        }
    }

    /// Starts to work on a job, if there is room for it and nobody else works on it.
    fn begin(&self, running: &mut Running, job: &DueJob) -> Shown {
        let Config { concurrency, per_host, .. } = self.inner.config;
        let at_host = |share: Share, places: usize| !job.host.is_empty() && running.count(&share) >= places;
        if at_host(Share::Host(job.host.clone()), per_host) {
            return Shown::HostFull;
        }
        if running.count(&Share::Owner(job.owner)) >= of_one_owner(concurrency)
            || at_host(Share::OwnerAtHost(job.owner, job.host.clone()), of_one_owner(per_host))
        {
            return Shown::OwnerFull;
        }
        if running.backing_off.contains_key(&job.sequence) {
            return Shown::Passed;
        }
        if running.settled.1 & (1 << shard_of(job.sequence)) == 0 {
            return Shown::Passed;
        }
        let Some(lease) = self.leased(job.sequence) else { return Shown::Passed };
        let (worker, sequence) = (self.fenced(lease.fence()), job.sequence);
        let task = running.tasks.spawn(async move { worker.work(sequence).await });
        running.take(&job.host, job.owner);
        let (host, owner) = (job.host.clone(), job.owner);
        running.jobs.insert(task.id(), InProgress { sequence, host, owner, lease });
        if running.tasks.len() < concurrency { Shown::Taken } else { Shown::Enough }
    }

    fn leased(&self, sequence: u64) -> Option<Lease> {
        // A lease that is given back wakes the dispatcher, so none is taken just to look.
        if self.state().is_leased(sequence) { None } else { self.state().lease(sequence) }
    }

    async fn ended(&self, running: &mut Running, ended: Result<(Id, Result<(), AttemptError>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result.map_err(|error| (error.to_string(), false))),
            Err(error) => (error.id(), Err((panic_text(error), true))),
        };
        let Some(taken) = running.jobs.remove(&id) else { return };
        let sequence = taken.sequence;
        running.give_back(&taken.host, taken.owner);
        if let Err((error, panicked)) = result {
            tracing::error!(sequence, error, "a job could not be taken further");
            /// Of more it is not known.
            const MAX_BACKING_OFF: usize = 10_000;
            if running.held_back_times.len() >= MAX_BACKING_OFF {
                running.held_back_times.clear();
            }
            let times = running.held_back_times.entry(sequence).or_default();
            *times = times.saturating_add(1);
            let pause = retry::pause().max(retry::delay(*times).min(MAX_HELD_BACK));
            running.backing_off.insert(sequence, Instant::now() + pause);
            if panicked {
                self.fenced(taken.lease.fence()).give_up(sequence, &error).await;
            }
        } else {
            running.held_back_times.remove(&sequence);
        }
    }

    /// A defect would strike again: the job's files are stuck, for someone to look at.
    async fn give_up(&self, sequence: u64, error: &str) {
        let Ok(Some(record)) = self.state().job_at(sequence) else { return };
        for asset in record.job.assets.iter().filter(|asset| asset.state == AssetState::Pending) {
            let now = Timestamp::now();
            let failure = AttemptFailure::new(error.to_owned(), true, Some(StuckReason::InternalError));
            let (job, slot) = (record.job.id.clone(), asset.slot.clone());
            let event = Event::AttemptFailed { at: now, job, slot, failure, due: now };
            if let Err(error) = self.log.record(event, Durability::Buffered).await {
                tracing::error!(sequence, %error, "a defect could not be recorded");
            }
        }
    }
}

/// Resolves when other shards are this replica's; never where there are no others.
pub(super) async fn changed(shares: &mut Option<watch::Receiver<u64>>) {
    let changed = match shares {
        Some(shares) => shares.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

fn earliest(known: Option<Instant>, backing_off: &HashMap<u64, Instant>) -> Option<Instant> {
    backing_off.values().copied().chain(known).min()
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "cancelled".to_owned() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("internal error: {}", text.unwrap_or_else(|| "a panic".to_owned()))
}
