//! The store itself: commits go into the memtable, a thread flushes it to the blocks, readers look in both.
//!
//! Everything that changes is behind one lock, and nobody holds it while sled is called.

use std::collections::VecDeque;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use fail::fail_point;
use sled::IVec;

use super::blocks::Blocks;
use super::flush_control::{FlushControl, Limits, Step};
use super::memtable::{Commit, MemTable, MergedCommits};
use super::sync::{self, Condvar, Deadline, Instant, Mutex, MutexGuard};
use super::{StoreError, Write};

/// Records in the order of their keys. Dropped, it ends its thread; what is not flushed by then is gone.
#[derive(Debug)]
pub(in crate::state) struct Store {
    pub(super) shared: Arc<Shared>,
}

/// What the store's handle and its writer thread both hold.
#[derive(Debug)]
pub(in crate::state) struct Shared {
    pub(super) blocks: Blocks,
    inner: Mutex<Inner>,
    /// Told when there is something to write, or a reason to hurry.
    work: Condvar,
    /// Told when something was written, or never will be.
    progress: Condvar,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) memtable: MemTable,
    pub(super) control: FlushControl,
}

/// How long who commits waits for room before giving up: the disk hangs then, and callbacks wait.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same when nobody waits for an answer.
const COMMIT_TIMEOUT_IN_BULK: Duration = Duration::from_secs(15);

impl Store {
    /// Keeps records in `blocks`, which nobody else writes to. Without [`Store::start_writer`] nothing is written there.
    pub(super) fn new(blocks: Blocks, limits: Limits) -> Self {
        let inner = Inner { memtable: MemTable::default(), control: FlushControl::new(limits) };
        let shared = Shared { blocks, inner: Mutex::new(inner), work: Condvar::new(), progress: Condvar::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the thread that flushes. It ends by itself when the store is dropped.
    pub(super) fn start_writer(&self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        Ok(sync::spawn("state-writer", move || shared.run_writer())?)
    }

    /// The value under a key.
    ///
    /// # Errors
    /// When sled fails; so for all that read.
    pub(in crate::state) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        // The memtable first: what it has is taken away from there only after sled has it.
        let latest = self.shared.lock().memtable.get(key);
        match latest {
            Some(value) => Ok(value),
            None => self.shared.blocks.get(key).map_err(|error| self.shared.note_damage(error)),
        }
    }

    /// Makes `writes` visible, all at once, and later durable, all at once. Waits while the memtable is full, for some seconds.
    ///
    /// # Errors
    /// When the writer has failed: the store has to be opened anew. [`StoreError::Stalled`] when there is no room in time; then,
    /// too, nothing of `writes` is visible.
    pub(in crate::state) fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let commit = Commit::new(writes);
        let inner = self.shared.lock();
        let timeout = if inner.control.bulk { COMMIT_TIMEOUT_IN_BULK } else { COMMIT_TIMEOUT };
        let has_room = |inner: &Inner| inner.control.has_room(inner.memtable.bytes(), commit.bytes());
        let (mut inner, has_room) = self.shared.wait_until(inner, timeout, has_room)?;
        if !has_room {
            return Err(StoreError::Stalled);
        }
        // Still under the lock that there was room under.
        inner.memtable.push(commit);
        inner.control.last_commit = Instant::now();
        if std::mem::take(&mut inner.control.is_idle) {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits until all that is committed by now is on the disk, at most for `timeout`. Returns whether it is.
    ///
    /// # Errors
    /// When the writer has failed.
    pub(in crate::state) fn flush(&self, timeout: Duration) -> Result<bool, StoreError> {
        let mut inner = self.shared.lock();
        let commits = Some(inner.memtable.committed());
        inner.control.sync_wanted = inner.control.sync_wanted.max(commits);
        Ok(self.shared.wait_until(inner, timeout, |inner| inner.control.durable >= commits)?.1)
    }

    /// Says that from now on, or no longer, much is committed and nobody reads.
    pub(in crate::state) fn set_bulk(&self, bulk: bool) {
        self.shared.blocks.filter_misses(bulk);
        self.shared.lock().control.bulk = bulk;
        self.shared.work.notify_one();
    }

    /// What the writer failed with, or damage that a reader met, if there is any; [`StoreError::Stalled`] while sled takes too long.
    pub(in crate::state) fn failure(&self) -> Option<StoreError> {
        self.shared.lock().control.failure()
    }

    /// Counts as long as somebody holds the store: a reader, or its writer thread.
    pub(in crate::state) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.lock().control.closing = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        sync::lock(&self.inner)
    }

    /// A part of what the memtable has in a range.
    pub(super) fn window(&self, range: (Bound<&[u8]>, Bound<&[u8]>), back: bool, limit: usize) -> VecDeque<Write> {
        self.lock().memtable.window(range, back, limit)
    }

    /// Takes note of damage that a reader came upon: the store has to be made anew, whoever meets it first. Returns the error.
    pub(super) fn note_damage(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Damaged(_)) {
            self.lock().control.failure.get_or_insert_with(|| error.clone());
            self.progress.notify_all();
        }
        error
    }

    /// Makes the writer hurry until `enough` is true or `timeout` has passed. Returns whether it is, and the lock under which.
    fn wait_until<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        timeout: Duration,
        enough: impl Fn(&Inner) -> bool,
    ) -> Result<(MutexGuard<'a, Inner>, bool), StoreError> {
        let deadline = Deadline::after(timeout);
        let mut is_in_time = true;
        inner.control.flush_waiters += 1;
        while is_in_time && inner.control.failure.is_none() && !enough(&inner) {
            self.work.notify_one();
            (inner, is_in_time) = sync::wait_until(&self.progress, inner, &deadline);
        }
        inner.control.flush_waiters -= 1;
        if let Some(failure) = &inner.control.failure {
            return Err(failure.clone());
        }
        let enough = enough(&inner);
        Ok((inner, enough))
    }

    fn run_writer(&self) {
        loop {
            let inner = self.wait_for_work();
            let step = inner.control.next_step(inner.memtable.flushed(), inner.memtable.bytes());
            if step == Step::Close {
                return;
            }
            let began = Instant::now();
            if self.take_step(inner, step).is_err() {
                return;
            }
            let inner = self.lock();
            if let Some(rest) = inner.control.throttle(began.elapsed(), inner.memtable.bytes()) {
                sync::pause(&self.work, inner, rest);
            }
        }
    }

    fn wait_for_work(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        while inner.control.next_step(inner.memtable.flushed(), inner.memtable.bytes()) == Step::Idle {
            inner.control.is_idle = true;
            inner = sync::wait(&self.work, inner);
            inner.control.is_idle = false;
            if let Some(delay) = inner.control.coalesce_delay(inner.memtable.bytes()) {
                sync::pause(&self.work, inner, delay);
                inner = self.lock();
            }
        }
        inner
    }

    /// Does what `step` says. Only the writer does.
    pub(super) fn take_step(&self, mut inner: MutexGuard<'_, Inner>, step: Step) -> Result<(), StoreError> {
        let commits = match step {
            Step::Flush { writes } => inner.memtable.oldest(writes),
            Step::Sync { .. } | Step::Idle | Step::Close => Vec::new(),
        };
        inner.control.writing_since = Some(Instant::now());
        drop(inner);
        // sled answers some damage with a panic instead of an error.
        let done = catch_unwind(AssertUnwindSafe(|| match step {
            Step::Flush { .. } => self.write(&commits),
            Step::Sync { .. } => self.blocks.sync(),
            Step::Idle | Step::Close => Ok(()),
        }));
        let done = done.unwrap_or_else(|panic| Err(StoreError::from_panic(&*panic)));
        let mut inner = self.lock();
        inner.control.writing_since = None;
        let mut retired = Vec::new();
        match (&done, step) {
            (Ok(()), Step::Sync { commits }) => inner.control.durable = Some(commits),
            (Ok(()), _) => retired = inner.memtable.retire(commits.len()),
            (Err(error), _) => inner.control.failure = Some(error.clone()),
        }
        drop(inner);
        self.progress.notify_all();
        drop(retired);
        done
    }

    fn write(&self, commits: &[Commit]) -> Result<(), StoreError> {
        fail_point!("state.write", |_| Err(sled::Error::Io(std::io::Error::from_raw_os_error(28)).into()));
        self.blocks.write(MergedCommits::new(commits).writes)
    }
}
