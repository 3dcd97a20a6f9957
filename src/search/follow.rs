//! Keeps the index as the state is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::codes::codes_of;
use super::rows::{Place, Rows};
use super::{Entry, Search};
use crate::domain::{Job, JobState, RefId};
use crate::state::{JobChanged, State, StateError};

/// Reads what changed, and puts it into the rows.
#[derive(Debug)]
pub(super) struct Follower {
    state: State,
    changes: Receiver<Option<JobChanged>>,
    /// Jobs that have changed and are not read yet.
    changed: HashSet<u64>,
    /// The newest job that was told of.
    latest: Option<u64>,
    /// Set when changes were missed.
    missed: bool,
    ended: bool,
    /// The labels of refs that were lately asked for: neighbours belong to the same few.
    labels: HashMap<RefId, BTreeMap<String, String>>,
    /// The newest of the jobs that are known to have a row, as all before it.
    newest: Option<u64>,
}

/// How many jobs are read at a time.
const PAGE: usize = 256;
/// For how long changes may wait before they are taken in although nobody asks.
const PAUSE: Duration = Duration::from_millis(20);
/// So many jobs may wait at the most: whoever asks next waits for about half a second.
const MAX_BEHIND: usize = 100_000;
/// How long to wait for the state when it cannot be read.
const RETRY: Duration = Duration::from_millis(100);

impl Follower {
    pub(super) fn new(state: State) -> Self {
        let changes = state.changes();
        let (changed, labels) = (HashSet::new(), HashMap::new());
        Self { state, changes, changed, latest: None, missed: false, ended: false, labels, newest: None }
    }

    /// Takes in every change that was told of by now. What cannot be read stays for the next time. Returns whether the rows are
    /// as the state is.
    pub(super) fn catch_up(&mut self, rows: &RwLock<Rows>) -> bool {
        self.hear();
        if self.missed {
            self.changed.extend(rows.read().unwrap_or_else(PoisonError::into_inner).unsettled());
            self.missed = self.read_new(rows).is_err();
        }
        let changed: Vec<u64> = self.changed.iter().copied().collect();
        for sequence in changed {
            match self.state.job_without_files(sequence) {
                Ok(Some(job)) => self.put(rows, sequence, &job),
                Ok(None) => {}
                Err(_) => return false,
            }
            self.changed.remove(&sequence);
        }
        if !self.missed {
            self.newest = self.newest.max(self.latest);
        }
        // Of what happens while there is no state to read nothing is told.
        !self.missed && self.state.counters().is_ok()
    }

    /// Notes which jobs changed.
    fn hear(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(Some(JobChanged { sequence, .. })) => {
                    self.changed.insert(sequence);
                    self.latest = self.latest.max(Some(sequence));
                }
                Ok(None) | Err(TryRecvError::Closed) => {
                    self.ended = true;
                    break;
                }
                Err(TryRecvError::Lagged(_)) => self.missed = true,
                Err(TryRecvError::Empty) => break,
            }
        }
    }

    /// Reads the jobs that are newer than all that are known to have a row.
    fn read_new(&mut self, rows: &RwLock<Rows>) -> Result<(), StateError> {
        let (mut before, mut newest) = (None, self.newest);
        loop {
            let page = self.state.job_headers(PAGE, before)?;
            before = page.last().map(|(sequence, _)| *sequence);
            newest = newest.max(page.first().map(|(sequence, _)| *sequence));
            let is_new = |sequence: u64| self.newest.is_none_or(|newest| newest < sequence);
            let new = page.iter().take_while(|(sequence, _)| is_new(*sequence)).count();
            for (sequence, job) in &page[..new] {
                self.put(rows, *sequence, job);
            }
            if new < PAGE {
                self.newest = newest;
                return Ok(());
            }
        }
    }

    fn put(&mut self, rows: &RwLock<Rows>, sequence: u64, job: &Job) {
        let labels = self.labels_of(job);
        let mut rows = rows.write().unwrap_or_else(PoisonError::into_inner);
        let entry = Entry {
            place: Place { made: job.created_at, sequence },
            state: job.state,
            kind: job.kind() as u8,
            provider: rows.provider(&job.id.provider()),
            codes: codes_of(job, &labels),
        };
        rows.put(&entry);
    }

    /// A ref's labels are given to it once.
    fn labels_of(&mut self, job: &Job) -> BTreeMap<String, String> {
        const MAX_REFS: usize = 1024;
        let Some(id) = &job.ref_id else { return BTreeMap::new() };
        if let Some(labels) = self.labels.get(id) {
            return labels.clone();
        }
        let Ok(Some(record)) = self.state.ref_including_deleted(id) else { return BTreeMap::new() };
        if self.labels.len() == MAX_REFS {
            self.labels.clear();
        }
        self.labels.insert(id.clone(), record.labels.clone());
        record.labels
    }

    /// Whether the rows are as many as the state has jobs, in each state.
    fn is_true(&self, rows: &RwLock<Rows>) -> Result<bool, StateError> {
        let counted = self.state.counters()?.jobs;
        let rows = rows.read().unwrap_or_else(PoisonError::into_inner);
        let same = |state: &JobState| counted.get(state).copied().unwrap_or_default() == rows.in_state(*state);
        Ok(JobState::ALL.iter().all(same))
    }
}

impl Search {
    /// Indexes all jobs, then follows the changes that `wake` tells of, until there will be no more.
    pub(super) fn follow(&self, mut wake: Receiver<Option<JobChanged>>) {
        while !self.index_all() {
            if self.lock().ended {
                return;
            }
            std::thread::sleep(RETRY);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        // Without a clock of its own it only wakes for changes.
        let Ok(runtime) = runtime else { return };
        let (mut untrue, mut quiet_since) = (0, 0);
        loop {
            let patience = if quiet_since > 0 { PAUSE } else { Duration::from_secs(1) };
            let woken = runtime.block_on(async { tokio::time::timeout(patience, wake.recv()).await });
            if let Ok(Ok(None) | Err(RecvError::Closed)) = woken {
                break;
            }
            if woken.is_ok() {
                std::thread::sleep(PAUSE);
            }
            let mut follower = self.lock();
            follower.hear();
            // While callbacks come thick, processors are left to those who wait for an answer.
            let is_quiet = woken.is_err() || std::mem::replace(&mut quiet_since, follower.changed.len()) == quiet_since;
            if is_quiet || follower.changed.len() > MAX_BEHIND {
                follower.catch_up(&self.inner.rows);
                quiet_since = 0;
            }
            if woken.is_ok() || !follower.changed.is_empty() {
                continue;
            }
            // When nothing happens, what it has can be compared with what it should have. The state may have been opened anew,
            // which tells of no changes.
            match follower.is_true(&self.inner.rows) {
                Ok(true) => untrue = 0,
                Ok(false) => untrue += 1,
                Err(_) => {}
            }
            match untrue {
                1 => follower.missed = true,
                4 => {
                    drop(follower);
                    untrue = 0;
                    self.inner.complete.store(false, Ordering::Release);
                    while !self.index_all() {
                        std::thread::sleep(RETRY);
                    }
                }
                _ => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Follower> {
        self.inner.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts every job into the rows, newest first. False when the state cannot be read to its end.
    fn index_all(&self) -> bool {
        self.inner.rows.write().unwrap_or_else(PoisonError::into_inner).clear();
        let mut before = None;
        self.lock().newest = None;
        loop {
            let mut follower = self.lock();
            let Ok(page) = follower.state.job_headers(PAGE, before) else { return false };
            for (sequence, job) in &page {
                follower.newest = follower.newest.max(Some(*sequence));
                follower.put(&self.inner.rows, *sequence, job);
            }
            follower.catch_up(&self.inner.rows);
            if page.len() < PAGE {
                self.inner.complete.store(true, Ordering::Release);
                return true;
            }
            before = page.last().map(|(sequence, _)| *sequence);
        }
    }
}
