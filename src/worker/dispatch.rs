//! Which job is worked on when.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::Worker;
use super::attempt::AttemptError;
use super::retry;
use crate::bucket::BucketError;
use crate::domain::{AssetState, AttemptFailure, StuckReason, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{DueJob, Lease};

/// Due jobs looked at to find those whose host has room.
const LOOKED_AT: usize = 2048;

/// How long to wait for the state to come back.
const STATE_PAUSE: Duration = Duration::from_millis(500);

/// A job being worked on. Its lease is given back when how it ended has been looked at, so that a job whose work panicked
/// is not taken up again before that is recorded.
struct Taken {
    sequence: u64,
    host: String,
    _lease: Lease,
}

/// The jobs being worked on.
#[derive(Default)]
struct Running {
    tasks: JoinSet<Result<(), AttemptError>>,
    jobs: HashMap<Id, Taken>,
    per_host: HashMap<String, usize>,
    /// Jobs that could not even record a failure, and when to take them up again.
    held_back: HashMap<u64, Instant>,
}

impl Worker {
    /// Works until [`Worker::stop`] is called, and then for at most `grace` on what runs.
    pub async fn run(&self, grace: Duration) {
        let mut stop = self.inner.stop.subscribe();
        let mut running = Running::default();
        let settled = async {
            self.inner.ledger.recovered().await;
            self.settle_all().await;
        };
        tokio::select! {
            () = settled => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut outages = 0;
        loop {
            if *stop.borrow_and_update() {
                break;
            }
            let storage_down = self.storage_failure().is_some();
            let next = if storage_down { None } else { self.dispatch(&mut running) };
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
        let mut pause = Duration::from_secs(1 << outages.min(5)).min(MAX_PAUSE);
        loop {
            tokio::time::sleep(pause).await;
            match self.inner.bucket.probe().await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "storage still fails"),
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
        tracing::info!("storage answers again");
        self.storage_works();
    }

    async fn settle_all(&self) {
        while let Err(error) = self.settle().await {
            tracing::warn!(%error, "what the last run left open cannot be settled yet");
            tokio::time::sleep(retry::pause()).await;
        }
    }

    /// Starts what is due and has room. Returns when to look again, if that is known.
    fn dispatch(&self, running: &mut Running) -> Option<Instant> {
        let concurrency = self.inner.config.concurrency;
        if running.tasks.len() >= concurrency {
            return None;
        }
        let (now, instant) = (Timestamp::now(), Instant::now());
        running.held_back.retain(|_, until| *until > instant);
        let visited = self.state().visit_due(now, LOOKED_AT, |job| {
            self.begin(running, job);
            if running.tasks.len() < concurrency { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match visited.and_then(|()| self.state().next_due(now)) {
            Ok(_) if running.tasks.len() >= concurrency => None,
            Ok(next) => earliest(next.map(|at| instant + at.since(now)), &running.held_back),
            Err(error) => {
                tracing::debug!(%error, "the queue cannot be read yet");
                Some(Instant::now() + STATE_PAUSE)
            }
        }
    }

    /// Starts to work on a job, if its host has room and nobody else works on it.
    fn begin(&self, running: &mut Running, job: DueJob) {
        let has_room = running.per_host.get(&job.host).is_none_or(|jobs| *jobs < self.inner.config.per_host);
        if !has_room || running.held_back.contains_key(&job.sequence) {
            return;
        }
        let Some(lease) = self.leased(job.sequence) else { return };
        let (worker, sequence) = (self.clone(), job.sequence);
        let task = running.tasks.spawn(async move { worker.work(sequence).await });
        if !job.host.is_empty() {
            *running.per_host.entry(job.host.clone()).or_default() += 1;
        }
        running.jobs.insert(task.id(), Taken { sequence, host: job.host, _lease: lease });
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
        if let Some(jobs) = running.per_host.get_mut(&taken.host) {
            *jobs -= 1;
            if *jobs == 0 {
                running.per_host.remove(&taken.host);
            }
        }
        if let Err((error, panicked)) = result {
            tracing::error!(sequence, error, "a job could not be taken further");
            running.held_back.insert(sequence, Instant::now() + retry::pause());
            if panicked {
                self.give_up(sequence, &error).await;
            }
        }
    }

    /// A defect would strike again: the job's files are stuck, for someone to look at.
    async fn give_up(&self, sequence: u64, error: &str) {
        let Ok(Some(record)) = self.state().job_at(sequence) else { return };
        for asset in record.job.assets.iter().filter(|asset| asset.state == AssetState::Pending) {
            let now = Timestamp::now();
            let failure =
                AttemptFailure { error: error.to_owned(), counted: true, stuck: Some(StuckReason::InternalError) };
            let (job, slot) = (record.job.id.clone(), asset.slot.clone());
            let event = Event::AttemptFailed { at: now, job, slot, failure, due: now };
            if let Err(error) = self.inner.ledger.record(event, Durability::Written).await {
                tracing::error!(sequence, %error, "a defect could not be recorded");
            }
        }
    }
}

fn earliest(known: Option<Instant>, held_back: &HashMap<u64, Instant>) -> Option<Instant> {
    held_back.values().copied().chain(known).min()
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "cancelled".to_owned() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("internal error: {}", text.unwrap_or_else(|| "a panic".to_owned()))
}
