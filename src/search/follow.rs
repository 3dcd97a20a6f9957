//! Keeps the index as the state is.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fail::fail_point;
use parking_lot::RwLock;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::codes::codes_of;
use super::rows::{Place, Rows};
use super::{Entry, Inner, Search};
use crate::domain::{Job, JobState, ReplyRef};
use crate::state::{ChangeNotice, State, StateError};

/// Why the index cannot be brought up to date now.
#[derive(Debug, thiserror::Error)]
enum IndexError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the words of jobs cannot be written beside the state: {0}")]
    Words(#[from] std::io::Error),
}

/// Reads what changed, and puts it into the rows.
#[derive(Debug)]
pub(super) struct Follower {
    state: State,
    /// The number of the last change that was heard of.
    heard: u64,
    /// Jobs that have changed and are not read yet.
    changed: BTreeSet<u64>,
    /// The number of the last ref labelled late that was heard of.
    heard_labelled: u64,
    /// Refs whose jobs have other labels now and are not among those that have changed yet.
    labelled: Vec<ReplyRef>,
    /// Set when such refs were missed: only reading all jobs anew finds theirs.
    stale: bool,
    /// Set when changes were missed.
    missed: bool,
    /// The newest of the jobs that have a row or are among those that have changed, as all before it.
    newest: Option<u64>,
}

/// How many jobs are read at a time.
const PAGE: usize = 256;
/// How many are read before others get a turn while all are indexed: a fraction of a millisecond's work.
const TURN: usize = 64;
/// For how long changes may wait before they are taken in although nobody asks.
const PAUSE: Duration = Duration::from_millis(20);
/// Changes within a pause that are taken in at once; of more, callbacks come thick.
const FEW: usize = 64;
/// For how long they are taken to come thick then: the state takes them in by batches, with pauses between.
const THICK: Duration = Duration::from_millis(200);
/// So many jobs may wait at the most: whoever asks next waits for some tenths of a second.
const MAX_BEHIND: usize = 100_000;
/// For how long changes are taken in at a time where nobody asks: then whoever waits for the index has it.
const STINT: Duration = Duration::from_millis(200);
/// How often to look whether the state can be read for the first time.
const POLL: Duration = Duration::from_millis(10);
/// How long to wait for the state when it cannot be read.
const RETRY: Duration = Duration::from_millis(100);
/// How long at most, when it cannot be read again and again, or words not be written.
const MAX_RETRY: Duration = Duration::from_secs(10);

impl Follower {
    pub(super) fn new(state: State) -> Self {
        let (heard, changed) = (state.last_change(), BTreeSet::new());
        let (heard_labelled, labelled, stale) = (state.last_labelled(), Vec::new(), false);
        Self { state, heard, changed, heard_labelled, labelled, stale, missed: false, newest: None }
    }

    /// The journal position that the state is at.
    pub(super) fn position(&self) -> Result<u64, StateError> {
        self.state.applied()
    }

    /// Takes in the changes that were told of by now, newest jobs first: some of them, then more until that time. What is left
    /// and what cannot be read stays for the next time. Returns whether the rows are as the state is.
    pub(super) fn catch_up(&mut self, rows: &RwLock<Rows>, until: Instant) -> bool {
        self.hear();
        while let Some(name) = self.labelled.last() {
            let Ok(jobs) = self.state.jobs_of_ref(name) else { return false };
            self.changed.extend(jobs);
            self.labelled.pop();
        }
        if self.missed && self.resync(rows).is_err() {
            return false;
        }
        let mut changed = std::mem::take(&mut self.changed);
        while let Some(&last) = changed.last() {
            let near = changed.split_off(&last.saturating_sub(PAGE as u64 - 1));
            if self.put_all(rows, &near).is_err() {
                self.changed.extend(near);
                self.changed.append(&mut changed);
                return false;
            }
            // More is not kept than what changes in some seconds.
            self.hear();
            if Instant::now() >= until {
                break;
            }
        }
        let are_all_in = changed.is_empty();
        self.changed.append(&mut changed);
        // Of what happens while there is no state to read nothing is told.
        are_all_in && !self.missed && !self.stale && self.state.counters().is_ok()
    }

    /// Notes which jobs changed, and of which refs all did. Returns how many changes of single jobs there were.
    fn hear(&mut self) -> usize {
        match self.state.labelled_since(self.heard_labelled) {
            Some(names) => {
                self.heard_labelled += names.len() as u64;
                self.labelled.extend(names);
            }
            None => (self.heard_labelled, self.stale) = (self.state.last_labelled(), true),
        }
        let Some(sequences) = self.state.changed_since(self.heard) else {
            self.heard = self.state.last_change();
            self.missed = true;
            return usize::MAX;
        };
        self.heard += sequences.len() as u64;
        if !self.missed {
            self.newest = self.newest.max(sequences.iter().copied().max());
        }
        self.changed.extend(&sequences);
        sequences.len()
    }

    /// Reads jobs whose numbers lie within a page.
    fn put_all(&self, rows: &RwLock<Rows>, near: &BTreeSet<u64>) -> Result<(), IndexError> {
        /// Records are packed: so many neighbours cost about as much as one that is looked up.
        const NEIGHBOURS: usize = 16;
        let Some(last) = near.last() else { return Ok(()) };
        let jobs = if near.len() >= PAGE / NEIGHBOURS {
            let mut page = self.state.job_headers(PAGE, last.checked_add(1))?;
            page.retain(|(sequence, _)| near.contains(sequence));
            page
        } else {
            let read = |&sequence| Ok(self.state.job_without_files(sequence)?.map(|job| (sequence, job)));
            near.iter().filter_map(|sequence| read(sequence).transpose()).collect::<Result<_, StateError>>()?
        };
        self.put(rows, &jobs)
    }

    /// Counts jobs that may have changed unnoticed among those that have: all that may still move, and those that are new.
    fn resync(&mut self, rows: &RwLock<Rows>) -> Result<(), StateError> {
        self.changed.extend(rows.read().unsettled());
        let (mut before, mut newest) = (None, self.newest);
        loop {
            let page = self.state.job_headers(PAGE, before)?;
            before = page.last().map(|(sequence, _)| *sequence);
            newest = newest.max(page.first().map(|(sequence, _)| *sequence));
            let is_new = |sequence: &u64| self.newest.is_none_or(|newest| newest < *sequence);
            let new: Vec<u64> = page.iter().map(|(sequence, _)| *sequence).take_while(is_new).collect();
            self.changed.extend(&new);
            if new.len() < PAGE {
                (self.newest, self.missed) = (newest, false);
                return Ok(());
            }
        }
    }

    fn put(&self, rows: &RwLock<Rows>, jobs: &[(u64, Job)]) -> Result<(), IndexError> {
        let labels = self.state.labels_of_all(jobs.iter().map(|(_, job)| job))?;
        for (sequence, job) in jobs {
            let codes = codes_of(job, &labels.of(job));
            let mut rows = rows.write();
            let provider = rows.provider(&job.id.provider());
            let place = Place { made: job.created_at, sequence: *sequence };
            rows.put(&Entry { place, state: job.state, kind: job.kind() as u8, provider, codes })?;
        }
        Ok(())
    }

    /// Whether the rows are as many as the state has jobs, in each state.
    fn is_true(&self, rows: &RwLock<Rows>) -> Result<bool, StateError> {
        let counted = self.state.counters()?.jobs;
        let rows = rows.read();
        let same = |state: &JobState| counted.get(state).copied().unwrap_or_default() == rows.in_state(*state);
        Ok(JobState::ALL.iter().all(same))
    }
}

impl Search {
    /// Indexes all jobs on a thread that others soon go before: at a start everybody waits for the processors. Returns whether
    /// all are indexed.
    fn index_all_behind_others(&self) -> bool {
        std::thread::scope(|scope| {
            let index = || self.index_all();
            let indexing = std::thread::Builder::new().name("job indexer".to_owned()).spawn_scoped(scope, index);
            indexing.is_ok_and(|indexing| indexing.join().unwrap_or(false))
        })
    }

    /// Indexes all jobs anew, as often as it takes. False when there will be no more changes before that.
    fn index_until_complete(&self) -> bool {
        let mut pause = RETRY;
        while !self.index_all_behind_others() {
            if self.lock().state.changes_have_ended() {
                return false;
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(MAX_RETRY);
        }
        true
    }

    /// Indexes all jobs, then follows the changes that `wake` tells of, until there will be no more.
    pub(super) fn follow(&self, mut wake: Receiver<ChangeNotice>) {
        while self.lock().state.recovered_at().is_none() {
            if self.lock().state.changes_have_ended() {
                return;
            }
            std::thread::sleep(POLL);
        }
        if !self.take_up_saved() && !self.index_until_complete() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        // Without a clock of its own it only wakes for changes.
        let Ok(runtime) = runtime else { return };
        let (mut untrue, mut thick_until) = (0, Instant::now());
        loop {
            if !self.inner.complete.load(Ordering::Acquire) {
                untrue = 0;
                if !self.index_until_complete() {
                    break;
                }
            }
            let patience = if self.lock().changed.is_empty() { Duration::from_secs(1) } else { PAUSE };
            let woken = runtime.block_on(async { tokio::time::timeout(patience, wake.recv()).await });
            if let Ok(Ok(ChangeNotice::End) | Err(RecvError::Closed)) = woken {
                break;
            }
            if woken.is_ok() {
                std::thread::sleep(PAUSE);
            }
            let mut follower = self.lock();
            // While callbacks come thick, processors are left to those who wait for an answer.
            if follower.hear() > FEW {
                thick_until = Instant::now() + THICK;
            }
            if Instant::now() >= thick_until || follower.changed.len() > MAX_BEHIND {
                follower.catch_up(&self.inner.rows, Instant::now() + STINT);
            }
            if follower.stale {
                self.inner.complete.store(false, Ordering::Release);
            }
            if woken.is_ok() || !follower.changed.is_empty() {
                continue;
            }
            // When nothing happens, what it has can be compared with what it should have.
            match follower.is_true(&self.inner.rows) {
                Ok(true) => untrue = 0,
                Ok(false) => untrue += 1,
                Err(_) => {}
            }
            match untrue {
                1 => follower.missed = true,
                4 => self.inner.complete.store(false, Ordering::Release),
                _ => {}
            }
        }
    }

    /// Takes up what a clean stop saved, if it is of the state as it was before its first change in this run. Removes it: the next
    /// start may find the state elsewhere. Returns whether all jobs are indexed.
    fn take_up_saved(&self) -> bool {
        let Inner { rows, complete, saved, .. } = &*self.inner;
        let mut follower = self.lock();
        let Some(position) = follower.state.recovered_at() else { return false };
        let loaded = rows.read().load(saved, position);
        if let Err(error) = std::fs::remove_file(saved)
            && error.kind() != ErrorKind::NotFound
        {
            // A later start may not come upon it either.
            tracing::warn!(%error, path = %saved.display(), "the saved search index cannot be removed");
            return false;
        }
        match loaded {
            Ok(Some(loaded)) => {
                // Everything that was told of in this run may have changed them.
                (follower.heard, follower.heard_labelled, follower.newest) = (0, 0, loaded.newest());
                *rows.write() = loaded;
                complete.store(true, Ordering::Release);
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "there is no saved search index to be read");
                false
            }
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Follower> {
        self.inner.follower.lock()
    }

    /// Puts every job into the rows, newest first. False when the state cannot be read to its end, or words not be written.
    fn index_all(&self) -> bool {
        fail_point!("search.index", |_| false);
        /// Jobs that are indexed in some hundredths of a second. Of so few, nobody has to wait for the words.
        const FEW_JOBS: usize = 4096;
        /// About a seventieth of what others get.
        const NICENESS: i32 = 19;
        self.inner.rows.write().clear();
        let (mut before, mut indexed) = (None, 0);
        let mut follower = self.lock();
        (follower.newest, follower.stale) = (None, false);
        drop(follower);
        loop {
            if indexed == FEW_JOBS {
                // Linux sets it for the calling thread alone. Without it, indexing merely gets in the way.
                let _ = rustix::process::setpriority_process(None, NICENESS);
            }
            indexed += TURN;
            let mut follower = self.lock();
            let Ok(page) = follower.state.job_headers(TURN, before) else { return false };
            if let Err(error) = follower.put(&self.inner.rows, &page) {
                tracing::warn!(%error, "jobs cannot be indexed yet");
                return false;
            }
            follower.newest = follower.newest.max(page.first().map(|(sequence, _)| *sequence));
            follower.catch_up(&self.inner.rows, Instant::now() + STINT);
            drop(follower);
            // Niceness alone does not do it: Linux lets even this thread finish its time slice before one that wakes up.
            std::thread::yield_now();
            if page.len() < TURN {
                self.inner.complete.store(true, Ordering::Release);
                return true;
            }
            before = page.last().map(|(sequence, _)| *sequence);
        }
    }
}
