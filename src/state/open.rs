//! Opening the store, and making it anew when it cannot be trusted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::fold;
use super::keys::{META, Table};
use super::ledger::Interpret;
use super::records::{Counters, Meta, VERSION};
use super::store::{Blocks, Store};
use super::txn::Txn;
use super::{State, StateError};
use crate::domain::{JobState, Timestamp};
use crate::journal::{Damage, DamageKind, Entry, Journal, JournalError};

/// How the store was brought up to date with the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries folded in.
    pub replayed: u64,
    /// Why the store was made anew, and where the old one lies now.
    pub moved_aside: Option<(String, PathBuf)>,
    /// What of the journal could not be read.
    pub damage: Vec<Damage>,
    /// Everything before this is folded in.
    pub applied: u64,
    /// Whether there was a journal and nothing was folded in of it before.
    pub made_anew: bool,
}

impl Recovery {
    /// Whether something that was written to the journal was not there: then the bucket may know more.
    pub fn has_gaps(&self) -> bool {
        self.damage.iter().any(|damage| damage.kind != DamageKind::TornTail)
    }
}

/// Why the store cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read; its entries are still there.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store fails even when made anew.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store cannot be moved aside.
    #[error("{path} cannot be moved aside: {source}")]
    MoveAside {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// sled's own default is 1 GB.
const CACHE_BYTES: u64 = 48 << 20;
/// Enough for what is read from both ends at once.
const LEAST_CACHE_BYTES: u64 = 16 << 20;
/// How many entries are folded in between two commits of a replay.
const REPLAY_BATCH: usize = 1000;

/// A store that can be read, and why it is a new one, if it is.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    pub(super) moved_aside: Option<(String, PathBuf)>,
    /// Everything before this journal position is folded in.
    pub(super) applied: u64,
}

impl State {
    /// Takes the store away from readers and puts it aside, for whoever wants to look at it. `None` when it cannot be
    /// moved; then it is opened again.
    pub(super) fn move_aside(&self, reason: &str) -> Option<(String, PathBuf)> {
        self.set_store(None);
        match move_aside(&self.shared.dir) {
            Ok(aside) => Some((reason.to_owned(), aside)),
            Err(error) => {
                tracing::error!(%error, "the damaged state stays where it is");
                None
            }
        }
    }

    /// Opens the store. One that fails is moved aside and made anew, with nothing in it.
    pub(super) fn open_store(&self) -> Result<Opened, RecoveryError> {
        self.set_store(None);
        let dir = &self.shared.dir;
        // sled answers some damage with a panic instead of an error.
        let opened = catch_unwind(AssertUnwindSafe(|| prove(dir).and_then(|()| open(dir, CACHE_BYTES))));
        let (blocks, moved_aside) = match opened.unwrap_or_else(|_| Err("it panicked".to_owned())) {
            Ok(blocks) => (blocks, None),
            Err(reason) => {
                let aside = move_aside(dir)?;
                (open_sled(dir, CACHE_BYTES).map_err(StateError::Store)?, Some((reason, aside)))
            }
        };
        let store = Arc::new(Store::new(blocks)?);
        let applied = Txn::begin(&store)?.meta.applied;
        Ok(Opened { store, moved_aside, applied })
    }
}

/// sled does not notice all damage: noise in its file can make it open without an error and without half the records. So
/// the records of every kind are counted and compared with the numbers that were written along with them.
fn prove(dir: &Path) -> Result<(), String> {
    // Whoever reads all of it once gains nothing from keeping it, and what is kept beside the cache goes with the handle.
    let store = open(dir, LEAST_CACHE_BYTES)?;
    let found = store.get(&META).map_err(|error| error.to_string())?;
    let version = match &found {
        Some(bytes) => postcard::take_from_bytes::<u32>(bytes).map_err(|error| error.to_string())?.0,
        None if store.is_empty() => return Ok(()),
        None => return Err("it has records and does not say which journal entries they cover".to_owned()),
    };
    if version != VERSION {
        return Err(format!("it was made by another version (form {version}, expected {VERSION})"));
    }
    let meta: Meta = postcard::from_bytes(&found.unwrap_or_default()).map_err(|error| error.to_string())?;
    compare(&store, &meta.counters)
}

fn compare(store: &Blocks, counters: &Counters) -> Result<(), String> {
    let found = store.count().map_err(|error| error.to_string())?;
    let in_state = |state| counters.jobs.get(&state).copied().unwrap_or_default();
    let jobs: u64 = counters.jobs.values().sum();
    for (table, expected) in [
        (Table::Jobs, jobs),
        (Table::JobIds, jobs),
        (Table::JobStates, in_state(JobState::Running) + in_state(JobState::Failed) + in_state(JobState::Stuck)),
        (Table::Folders, counters.jobs_placed),
        (Table::Due, counters.queued),
        (Table::Asks, counters.unconfirmed),
        (Table::Ready, counters.ready),
        (Table::DyingLinks, counters.dying_minutes),
        (Table::Media, counters.objects),
        (Table::MediaDigests, counters.objects),
        (Table::ObjectKeys, counters.object_keys),
        (Table::References, counters.references),
        (Table::Refs, counters.refs + counters.refs_removed),
        (Table::Names, counters.refs.saturating_sub(counters.refs_of_gateway) + counters.jobs_tied),
        (Table::GatewayRefs, counters.refs_of_gateway),
        (Table::Outbox, counters.outbox),
        (Table::Quarantine, counters.quarantined),
        (Table::Kept, counters.kept),
    ] {
        let found = found.get(&(table as u8)).copied().unwrap_or_default();
        if found != expected {
            return Err(format!("it has {found} records of the kind {table:?}, expected {expected}"));
        }
    }
    Ok(())
}

fn open(dir: &Path, cache_bytes: u64) -> Result<Blocks, String> {
    open_sled(dir, cache_bytes).map_err(|error| error.to_string())
}

pub(super) fn open_sled(dir: &Path, cache_bytes: u64) -> Result<Blocks, sled::Error> {
    /// The journal makes the state durable; sled may take its time.
    const FLUSH_EVERY_MS: u64 = 2000;
    /// A handle that was closed keeps its lock until the last reader and sled's own threads have let go of it.
    const WAITS: u32 = 100;
    const WAIT: Duration = Duration::from_millis(50);
    let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
    for _ in 0..WAITS {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(WAIT);
            }
            opened => return opened.map(Blocks::new),
        }
    }
    config.open().map(Blocks::new)
}

fn move_aside(dir: &Path) -> Result<PathBuf, RecoveryError> {
    let aside = dir.with_extension(format!("damaged-{}", Timestamp::now().millis()));
    match std::fs::rename(dir, &aside) {
        Ok(()) => Ok(aside),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(aside),
        Err(source) => Err(RecoveryError::MoveAside { path: dir.to_owned(), source }),
    }
}

/// Folds in what the journal has beyond the store.
pub(super) fn replay(store: &Store, journal: &Journal, interpret: Interpret) -> Result<Recovery, RecoveryError> {
    store.set_in_bulk(true);
    let recovery = fold_in(store, journal, interpret);
    store.set_in_bulk(false);
    recovery
}

fn fold_in(store: &Store, journal: &Journal, interpret: Interpret) -> Result<Recovery, RecoveryError> {
    let mut recovery = Recovery::default();
    let mut txn = Txn::begin(store)?;
    let from = txn.meta.applied;
    let mut entries = journal.replay(from)?;
    let mut pending = 0;
    while let Some(item) = entries.next() {
        let (position, entry) = item?;
        if let Some(gap) = entries.damage().iter().rfind(|damage| damage.kind == DamageKind::Missing) {
            txn.meta.begins = txn.meta.begins.max(gap.to);
        }
        let meaning = match &entry {
            Entry::Callback(callback) => Some(interpret(&callback.body)),
            Entry::Event(_) | Entry::Kept(_) => None,
        };
        fold::apply(&mut txn, position, &entry, meaning)?;
        recovery.replayed += 1;
        pending += 1;
        if pending == REPLAY_BATCH {
            txn.commit(entries.end())?;
            txn = Txn::begin(store)?;
            pending = 0;
        }
    }
    recovery.made_anew = from == 0 && recovery.replayed > 0;
    recovery.applied = from.max(entries.end());
    recovery.damage = entries.damage().to_vec();
    txn.commit(recovery.applied)?;
    Ok(recovery)
}
