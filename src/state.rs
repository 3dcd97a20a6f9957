//! Refs, jobs, the due queue, the content-hash index and quarantine: a view, folded from the journal.
//!
//! Everything is in one sled tree under key prefixes. Each batch carries the end of the journal stretch it covers, so
//! replay applies nothing twice, and the tree may be deleted at any time. What is recorded *is* the queue: a job that
//! has work to do carries its due time, written in the same batch as the callback that made it due.
//!
//! [`Ledger`] is the one way in: it journals an entry, folds it in, and answers with what that changed. [`State`] is
//! the way to read.

mod fold;
mod index;
mod keys;
mod ledger;
mod open;
mod outbox;
mod query;
mod queue;
mod records;
mod store;
mod txn;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{Notify, broadcast};

pub use fold::{Applied, ClaimOutcome, Meaning, adopted_id};
pub use ledger::{Interpret, Ledger, RecordError};
pub use open::{Recovery, RecoveryError};
pub use query::{JobFilter, Page};
pub use queue::DueJob;
pub use records::{
    Claim, Counters, JobRecord, MediaRecord, OutboxRecord, QuarantineRecord, RefRecord, Reference, UploadRecord,
};

use self::store::Store;
use crate::domain::{RefId, Slot};

/// Why the state could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StateError {
    /// The store failed. It is opened anew, or rebuilt from the journal; until then there is nothing to read.
    #[error("the state store failed: {0}")]
    Store(#[from] sled::Error),
    /// It came upon a defect, or upon damage that it does not expect.
    #[error("the state store panicked")]
    Panicked,
    /// What was read is not what was written.
    #[error("a block of the state store is damaged")]
    DamagedBlock,
    /// A record does not have the form it was written in.
    #[error("a record of the state store is damaged: {0}")]
    Damaged(#[from] postcard::Error),
    /// It is in order, and was not made of all there is.
    #[error("the state lacks what the archive has")]
    Incomplete,
    /// It is being opened or rebuilt.
    #[error("the state is being rebuilt from the journal")]
    Rebuilding,
}

impl StateError {
    /// True when opening the store anew would not help.
    fn is_damage(&self) -> bool {
        match self {
            Self::Incomplete
            | Self::Damaged(_)
            | Self::DamagedBlock
            | Self::Panicked
            | Self::Store(sled::Error::Corruption { .. }) => true,
            Self::Store(_) | Self::Rebuilding => false,
        }
    }
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
    /// Told whenever a job becomes due or its due time changes.
    due_changed: Notify,
    /// Told whenever there is something to ask the provider, or the time to ask changes.
    asks_changed: Notify,
    /// Jobs somebody works on now. In memory only: after a crash nobody does.
    leased: Mutex<HashSet<u64>>,
    /// Files being fetched now.
    fetching: Mutex<HashSet<(u64, Slot)>>,
    /// Jobs as they change, for whoever listens.
    changes: broadcast::Sender<Option<Arc<JobRecord>>>,
    /// Refs that have something new to pass on; `None` when any may have.
    to_pass_on: broadcast::Sender<Option<RefId>>,
}

/// The right to work on a job, for as long as it is held.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    sequence: u64,
}

/// Marks a file as being fetched, for as long as it is held.
#[derive(Debug)]
pub struct Fetching {
    shared: Arc<Shared>,
    file: (u64, Slot),
}

/// How many changes a slow listener may lag behind before it misses some.
const CHANGES: usize = 1024;

impl State {
    fn new(dir: &Path) -> Self {
        Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                store: RwLock::new(None),
                due_changed: Notify::new(),
                asks_changed: Notify::new(),
                leased: Mutex::default(),
                fetching: Mutex::default(),
                changes: broadcast::Sender::new(CHANGES),
                to_pass_on: broadcast::Sender::new(CHANGES),
            }),
        }
    }

    /// True when it can be read.
    pub fn is_ready(&self) -> bool {
        self.store().is_ok()
    }

    /// Resolves when a job became due, or the time of one changed, since the last call.
    pub async fn due_changed(&self) {
        self.shared.due_changed.notified().await;
    }

    /// Resolves when there is something to ask the provider, or the time to ask changed, since the last call.
    pub async fn asks_changed(&self) {
        self.shared.asks_changed.notified().await;
    }

    /// Every job that changes from now on, as it then is; `None` when there will be no more.
    pub fn changes(&self) -> broadcast::Receiver<Option<Arc<JobRecord>>> {
        self.shared.changes.subscribe()
    }

    /// Tells those who listen to changes that there will be no more.
    pub fn end_changes(&self) {
        // It fails when nobody listens.
        let _ = self.shared.changes.send(None);
    }

    /// The right to work on a job, unless somebody has it.
    pub fn lease(&self, sequence: u64) -> Option<Lease> {
        let mut leased = self.shared.leased.lock().unwrap_or_else(PoisonError::into_inner);
        leased.insert(sequence).then(|| Lease { shared: self.shared.clone(), sequence })
    }

    /// True while somebody has the right to work on a job.
    pub fn is_leased(&self, sequence: u64) -> bool {
        self.shared.leased.lock().unwrap_or_else(PoisonError::into_inner).contains(&sequence)
    }

    /// Marks a file as being fetched.
    pub fn fetching(&self, sequence: u64, slot: &Slot) -> Fetching {
        let file = (sequence, slot.clone());
        self.shared.fetching.lock().unwrap_or_else(PoisonError::into_inner).insert(file.clone());
        Fetching { shared: self.shared.clone(), file }
    }

    /// True while a file is being fetched.
    pub fn is_fetching(&self, sequence: u64, slot: &Slot) -> bool {
        let fetching = self.shared.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        !fetching.is_empty() && fetching.contains(&(sequence, slot.clone()))
    }

    /// How many files are being fetched.
    pub fn fetching_count(&self) -> usize {
        self.shared.fetching.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What the store failed with, if it failed.
    fn failure(&self) -> Option<StateError> {
        self.store().ok().and_then(|store| store.failure())
    }

    fn store(&self) -> Result<Arc<Store>, StateError> {
        self.shared.store.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StateError::Rebuilding)
    }

    fn set_store(&self, store: Option<Arc<Store>>) {
        *self.shared.store.write().unwrap_or_else(PoisonError::into_inner) = store;
        self.shared.due_changed.notify_one();
        self.shared.asks_changed.notify_one();
        let _ = self.shared.to_pass_on.send(None);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.leased.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.sequence);
        // What became due while it was held has been passed over.
        self.shared.due_changed.notify_one();
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.shared.fetching.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.file);
    }
}

#[cfg(test)]
mod tests;
