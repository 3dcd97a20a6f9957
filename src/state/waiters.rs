//! Those who wait until a job, or the jobs of a ref, have ended. Each costs an entry here and nothing else: whoever folds a job's
//! end in wakes those who wait for it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::records::JobSummary;
use super::{State, keys};
use crate::domain::{JobId, ReplyRef};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WaitKey {
    Job(u64),
    Jobs(u64),
}

#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    by_key: HashMap<WaitKey, Shared>,
    count: usize,
    /// Nobody waits any more: the service stops.
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    notify: Arc<Notify>,
    count: usize,
}

/// One who waits, until it is dropped.
#[derive(Debug)]
pub struct Waiter {
    state: State,
    key: WaitKey,
    notify: Arc<Notify>,
}

/// How many may wait, all together: each has a connection, of which there are 50,000 at the most.
const MAX_WAITERS: usize = 30_000;

impl Waiters {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }

    /// A job has changed.
    pub(super) fn wake(&self, job: &JobSummary) {
        let waiting = self.waiting();
        if waiting.count == 0 || !job.state.is_end() {
            return;
        }
        let of_ref = job.reply_ref.as_ref().map(jobs_key);
        for key in [Some(job_key(&job.id)), of_ref].into_iter().flatten() {
            if let Some(shared) = waiting.by_key.get(&key) {
                shared.notify.notify_waiters();
            }
        }
    }

    /// Anything may have changed.
    pub(super) fn wake_all(&self) {
        self.waiting().by_key.values().for_each(|shared| shared.notify.notify_waiters());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting().closed
    }

    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.wake_all();
    }
}

fn job_key(id: &JobId) -> WaitKey {
    WaitKey::Job(keys::short_hash(id.as_str()))
}

fn jobs_key(name: &ReplyRef) -> WaitKey {
    WaitKey::Jobs(keys::short_hash(name.as_str()))
}

impl State {
    /// Waits for the end of a job; `None` while too many wait.
    pub fn wait_for_job(&self, id: &JobId) -> Option<Waiter> {
        self.wait_for(job_key(id))
    }

    /// Waits for the ends of the jobs that go by a replyRef.
    pub fn wait_for_jobs(&self, name: &ReplyRef) -> Option<Waiter> {
        self.wait_for(jobs_key(name))
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.shared.waiters.waiting().count
    }

    fn wait_for(&self, key: WaitKey) -> Option<Waiter> {
        let mut waiting = self.shared.waiters.waiting();
        if waiting.count >= MAX_WAITERS {
            return None;
        }
        waiting.count += 1;
        let shared = waiting.by_key.entry(key).or_insert_with(|| Shared { notify: Arc::default(), count: 0 });
        shared.count += 1;
        Some(Waiter { state: self.clone(), key, notify: shared.notify.clone() })
    }
}

impl Waiter {
    /// Resolves at the next end. What ended before this was polled or enabled is not told: enable it, read, then await it.
    pub fn ended(&self) -> Notified<'_> {
        self.notify.notified()
    }

    /// Whether there is nothing to wait for any more, since the service stops.
    pub fn is_closed(&self) -> bool {
        self.state.shared.waiters.is_closed()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.state.shared.waiters.waiting();
        waiting.count = waiting.count.saturating_sub(1);
        if let Some(shared) = waiting.by_key.get_mut(&self.key) {
            shared.count -= 1;
            if shared.count == 0 {
                waiting.by_key.remove(&self.key);
            }
        }
    }
}
