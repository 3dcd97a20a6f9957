//! Refs, jobs, the due queue, the content-hash index and quarantine: a view, folded from the journal.
//!
//! Everything is in one sled tree under key prefixes. Each batch carries the end of the journal stretch it covers, so
//! replay applies nothing twice, and the tree may be deleted at any time. What is recorded *is* the queue: a job that
//! has work to do carries its due time, written in the same batch as the callback that made it due.
//!
//! [`EventLog`] is the one way in: it journals an entry, folds it in, and answers with what that changed. [`State`] is
//! the way to read.

mod changes;
mod event_log;
mod fold;
mod job_index;
mod jobs;
mod keys;
mod labels;
mod lease;
mod notifications;
mod open;
mod outbox;
mod query;
mod queue;
mod records;
mod replay;
mod snapshot;
mod stopwatch;
mod store;
mod stored_job;
mod txn;
mod waiters;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, broadcast};

pub use event_log::{EventLog, RecordError};
pub use fold::{ApplyOutcome, ClaimOutcome, ParseCallback, ParsedCallback, adopted_id};
pub use jobs::{JobBatch, JobFilter};
pub use labels::Labels;
pub use lease::{Fetching, Lease};
pub use open::{Recovery, RecoveryError, restore_marker};
pub use query::Page;
pub use queue::{DueCursor, DueJob, Shown};
pub use records::{
    ChangeNotice, Claim, Counters, JobChanged, JobRecord, JobSummary, MediaRecord, NotificationLane,
    NotificationsChanged, OutboxRecord, QuarantineRecord, RefRecord, Reference, StreamTokenRecord, UploadRecord,
};
pub use waiters::Waiter;

use self::changes::Changes;
use self::lease::Leases;
use self::queue::Owners;
use self::stopwatch::Stopwatch;
use self::store::Store;
pub use self::store::StoreError;
use self::waiters::Waiters;
use crate::cluster::Cluster;
use crate::domain::RefId;

/// Why the state could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed. It is opened anew, or rebuilt from the journal; until then there is nothing to read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What reads the state came upon a defect, or upon damage that it does not expect.
    #[error("reading the state panicked")]
    Panicked,
    /// The records are not those that were written.
    #[error("{0}")]
    Untrue(String),
    /// What folds entries in came upon a defect of its own; the store is as it was.
    #[error("an entry of the journal could not be folded in: {0}")]
    Defect(String),
    /// The old handle is still held, by a reader or by the thread that writes.
    #[error("the state store is still in use")]
    InUse,
    /// A record does not have the form it was written in.
    #[error("a record of the state store is damaged: {0}")]
    Damaged(#[from] postcard::Error),
    /// It is in order, and was not made of all there is.
    #[error("the state lacks what the archive has")]
    Incomplete,
    /// The copy of the shared log begins behind what is folded in: the archive has what is between.
    #[error("the state is behind the copy of the shared log")]
    Behind,
    /// It is being opened or rebuilt.
    #[error("the state is being rebuilt from the journal")]
    Rebuilding,
}

impl StateError {
    /// True when opening the store anew would not help: it has to be made anew. What the system refuses is no damage: no
    /// room, no more files, a read that failed, a lock.
    fn is_damage(&self) -> bool {
        match self {
            Self::Incomplete | Self::Damaged(_) | Self::Panicked | Self::Untrue(_) => true,
            Self::Store(error) => matches!(error, StoreError::Damaged(_)),
            Self::Defect(_) | Self::InUse | Self::Behind | Self::Rebuilding => false,
        }
    }

    /// Whether the disk cannot read it, for now or for good.
    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Store(StoreError::Unreadable(_)))
    }

    /// Whether a record has the bytes that were written, and these say nothing.
    fn is_unreadable_record(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Untrue(_))
    }

    /// Whether it is for want of room on the disk.
    fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store(StoreError::DiskFull(_)))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// The way to read the state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    /// `None` while the store is opened or rebuilt.
    store: RwLock<Option<Arc<Store>>>,
    /// The last that was opened, which somebody may still hold.
    last: Mutex<Weak<store::Shared>>,
    /// True while it cannot be opened or brought up to date.
    is_failing: AtomicBool,
    /// Whether any ref may have labels. Most have none, and then nothing need be read to know a job's.
    has_labels: AtomicBool,
    /// The journal position it was brought up to at first, before anything changed that was told of.
    recovered_at: OnceLock<u64>,
    /// Told whenever the store was brought up to date.
    reopened: Notify,
    /// Runs while a batch is being folded in, whatever that waits for: a read of sled, or room in the memtable.
    folding: Stopwatch,
    /// Told whenever a job becomes due or its due time changes.
    due_changed: Notify,
    /// Whose jobs of the queue stand at which hosts, while that is asked for.
    owners: Mutex<Option<Owners>>,
    /// Told whenever there is something to ask the provider, or the time to ask changes.
    confirmations_changed: Notify,
    leases: Leases,
    /// The other replicas, where there may be any.
    cluster: Option<Cluster>,
    /// Which jobs change, for whoever listens.
    changes: Changes,
    /// Refs that have something new to pass on; `None` when any may have.
    outbox_updates: broadcast::Sender<Option<RefId>>,
    /// Where there is something new to send; `None` when it may be anywhere.
    notifications: broadcast::Sender<Option<NotificationsChanged>>,
    waiters: Waiters,
}

/// A batch that takes longer to be folded in hangs.
const MAX_FOLD_TIME: Duration = Duration::from_secs(5);
/// How many refs with news the relay may lag behind before it looks at all of them.
const MAX_OUTBOX_UPDATES: usize = 1024;
/// The same of events: who misses some looks for all there are.
const NOTIFICATIONS: usize = 8192;

impl State {
    fn new(dir: &Path, cluster: Option<Cluster>) -> Self {
        Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                store: RwLock::new(None),
                last: Mutex::default(),
                is_failing: AtomicBool::new(false),
                has_labels: AtomicBool::new(true),
                recovered_at: OnceLock::new(),
                reopened: Notify::new(),
                folding: Stopwatch::default(),
                due_changed: Notify::new(),
                owners: Mutex::new(None),
                confirmations_changed: Notify::new(),
                leases: Leases::default(),
                cluster,
                changes: Changes::new(),
                outbox_updates: broadcast::Sender::new(MAX_OUTBOX_UPDATES),
                notifications: broadcast::Sender::new(NOTIFICATIONS),
                waiters: Waiters::default(),
            }),
        }
    }

    /// Why it cannot do its work, if it cannot.
    pub fn problem(&self) -> Option<&'static str> {
        let Ok(store) = self.store() else {
            let is_failing = self.shared.is_failing.load(Ordering::Relaxed);
            return Some(if is_failing { "it cannot be opened" } else { "being rebuilt from the journal" });
        };
        let hangs = self.shared.folding.elapsed() > MAX_FOLD_TIME || store.failure() == Some(StoreError::Stalled);
        hangs.then_some("the disk takes too long")
    }

    /// The journal position that the state was brought up to before its first change of this run; `None` until then.
    pub fn recovered_at(&self) -> Option<u64> {
        self.shared.recovered_at.get().copied()
    }

    /// A file that stays with the store: it goes when the store is made anew, put aside or replaced by a copy.
    pub fn file_beside(&self, name: &str) -> PathBuf {
        self.shared.dir.join(name)
    }

    /// Resolves when the store was brought up to date with the journal since the last call.
    pub async fn reopened(&self) {
        self.shared.reopened.notified().await;
    }

    /// Resolves when a job became due, or the time of one changed, since the last call.
    pub async fn due_changed(&self) {
        self.shared.due_changed.notified().await;
    }

    /// Resolves when there is something to ask the provider, or the time to ask changed, since the last call.
    pub async fn confirmations_changed(&self) {
        self.shared.confirmations_changed.notified().await;
    }

    /// What the store failed with, if it failed. One that only takes long may yet get on.
    fn failure(&self) -> Option<StateError> {
        let failure = self.store().ok()?.failure()?;
        (failure != StoreError::Stalled).then(|| failure.into())
    }

    fn store(&self) -> Result<Arc<Store>, StateError> {
        self.shared.store.read().clone().ok_or(StateError::Rebuilding)
    }

    fn set_store(&self, store: Option<Arc<Store>>) {
        if let Some(store) = &store {
            *self.shared.last.lock() = store.downgrade();
            self.shared.is_failing.store(false, Ordering::Relaxed);
            self.shared.has_labels.store(labels::may_be_in(store), Ordering::SeqCst);
        }
        let is_open = store.is_some();
        let old = std::mem::replace(&mut *self.shared.store.write(), store);
        // The last handle waits for the disk when it goes: not under the lock of readers.
        drop(old);
        // Who brings a store up to date notes no lanes.
        self.forget_lanes();
        if is_open {
            self.shared.reopened.notify_one();
        }
        self.shared.due_changed.notify_one();
        self.shared.confirmations_changed.notify_one();
        let _ = self.shared.outbox_updates.send(None);
        let _ = self.shared.notifications.send(None);
        self.shared.waiters.wake_all();
    }
}

#[cfg(test)]
mod tests;
