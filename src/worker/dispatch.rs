//! Which job is worked on when.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::attempt_error::AttemptError;
use super::backing_off::BackingOff;
use super::job::JobRun;
use super::recovery::SettledShards;
use super::running::{Ended, JobError, Running};
use super::{Resources, retry, shards};
use crate::domain::Timestamp;
use crate::state::{DueCursor, DueJob, EventLog, Lease, Shown};

/// How long to wait for the state to come back.
const STATE_PAUSE: Duration = Duration::from_millis(500);

/// Between two looks for a job with room, when one did not come to all hosts and owners.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Takes up jobs that are due, as there is room.
pub(super) struct Dispatcher {
    resources: Arc<Resources>,
    log: EventLog,
    running: Running,
    /// Where the last look at the queue ended.
    cursor: DueCursor,
    backing_off: BackingOff,
    settled: SettledShards,
}

impl Dispatcher {
    pub(super) fn new(resources: Arc<Resources>, log: EventLog) -> Self {
        let (running, cursor) = (Running::default(), DueCursor::default());
        let (backing_off, settled) = (BackingOff::default(), SettledShards::default());
        Self { resources, log, running, cursor, backing_off, settled }
    }

    /// Works until a stop is asked for, and then for at most `grace` on what runs.
    pub(super) async fn run(mut self, grace: Duration) {
        let mut stop = self.resources.stop.subscribe();
        tokio::select! {
            () = self.prepare() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut outages = 0;
        let mut shares = self.log.cluster().map(|cluster| cluster.shares().changes());
        while !*stop.borrow_and_update() {
            let storage_down = self.resources.storage.failure().is_some();
            let is_settled = storage_down || self.settled.settle_held(&self.resources, &self.log).await;
            let next = if storage_down { None } else { self.dispatch() };
            let next = if is_settled { next } else { Some(Instant::now() + retry::pause()) };
            let has_room = self.running.len() < self.resources.config.concurrency && !storage_down;
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = self.running.next_ended() => {
                    self.ended(ended).await;
                    if self.resources.storage.failure().is_none() {
                        outages = 0;
                    }
                }
                () = self.log.state().due_changed(), if has_room => {}
                () = shards::changed(&mut shares) => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if has_room && next.is_some() => {}
                () = self.resources.storage.recovered(outages), if storage_down => outages += 1,
            }
        }
        self.finish(grace).await;
    }

    /// Waits for the state, and settles what the last run left open.
    async fn prepare(&mut self) {
        self.log.recovered().await;
        self.resources.storage.identify().await;
        if self.log.cluster().is_none() {
            self.settled.settle_all(&self.resources, &self.log).await;
        }
    }

    /// Starts what is due and has room. Returns when to look again, if that is known.
    fn dispatch(&mut self) -> Option<Instant> {
        let concurrency = self.resources.config.concurrency;
        if self.running.len() >= concurrency {
            return None;
        }
        let (now, instant) = (Timestamp::now(), Instant::now());
        self.backing_off.expire(instant);
        let state = self.log.state().clone();
        let mut cursor = std::mem::take(&mut self.cursor);
        cursor.leave_out(self.running.full_owners(&self.resources.config));
        let visited = state.visit_due(now, &mut cursor, |job| self.begin(job));
        self.cursor = cursor;
        if self.running.len() >= concurrency {
            return None;
        }
        match visited.and_then(|more| Ok((more, state.next_due(now)?))) {
            Ok((true, _)) => Some(instant + LOOK_PAUSE),
            Ok((false, next)) => {
                let next = next.map(|at| instant + at.since(now));
                next.into_iter().chain(self.backing_off.next()).min()
            }
            Err(error) => {
                tracing::debug!(%error, "the queue cannot be read yet");
                Some(instant + STATE_PAUSE)
            }
        }
    }

    /// Starts to work on a job, if there is room for it and nobody else works on it.
    fn begin(&mut self, job: &DueJob) -> Shown {
        let config = &self.resources.config;
        if let Some(full) = self.running.no_room_for(job, config) {
            return full;
        }
        if self.backing_off.contains(job.sequence) || !self.settled.contain(job.sequence) {
            return Shown::Passed;
        }
        let Some(lease) = self.lease(job.sequence) else { return Shown::Passed };
        let run = self.job(job.sequence, &lease);
        self.running.start(job, lease, run);
        if self.running.len() < self.resources.config.concurrency { Shown::Taken } else { Shown::Enough }
    }

    fn lease(&self, sequence: u64) -> Option<Lease> {
        let state = self.log.state();
        // A lease that is given back wakes the dispatcher, so none is taken just to look.
        if state.is_leased(sequence) { None } else { state.lease(sequence) }
    }

    fn job(&self, sequence: u64, lease: &Lease) -> JobRun {
        JobRun::new(self.resources.clone(), self.log.fenced(lease.fence()), sequence)
    }

    async fn ended(&mut self, ended: Ended) {
        let Ended { sequence, lease, result } = ended;
        let Err(error) = result else { return self.backing_off.reset(sequence) };
        match &error {
            // It is no fault of anything here that it has to be looked at again.
            JobError::Attempt(AttemptError::Deferred) => tracing::debug!(sequence, "a job is taken up again later"),
            error => tracing::error!(sequence, %error, "a job could not be taken further"),
        }
        self.backing_off.add(sequence);
        if let JobError::Panic(text) = error {
            self.job(sequence, &lease).give_up(&text).await;
        }
    }

    /// Waits for what runs, for at most `grace`.
    async fn finish(mut self, grace: Duration) {
        let left = self.running.len();
        if left == 0 {
            return;
        }
        tracing::info!(jobs = left, "waiting for transfers to finish");
        let finish = async {
            while let Some(ended) = self.running.next_ended().await {
                self.ended(ended).await;
            }
        };
        if timeout(grace, finish).await.is_err() {
            tracing::info!(jobs = self.running.len(), "left to be taken up again");
            self.running.shutdown().await;
        }
    }
}
