//! Opening the store, and making it anew when it cannot be trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use sha2::{Digest as _, Sha256};

use super::keys::{META, Table};
use super::records::{Counters, Meta, VERSION};
use super::store::{Access, Store};
use super::txn::Txn;
use super::{State, StateError, StoreError};
use crate::disk::write_durably;
use crate::domain::{JobState, Timestamp};
use crate::journal::{Damage, DamageKind, JournalError, make_private_dir};

/// How the store was brought up to date with the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries folded in.
    pub replayed: u64,
    /// Why the store was made anew, and where the old one lies now.
    pub moved_aside: Option<(String, PathBuf)>,
    /// What of the journal could not be read.
    pub damage: Vec<Damage>,
    /// Positions of entries that were passed over, since folding them in came upon a defect.
    pub passed_over: Vec<u64>,
    /// Everything before this is folded in.
    pub applied: u64,
    /// Whether there was a journal and nothing was folded in of it before.
    pub made_anew: bool,
}

impl Recovery {
    /// Whether something that was written to the journal was not there: then the bucket may know more.
    pub fn has_gaps(&self) -> bool {
        self.damage.iter().any(|damage| matches!(damage.kind, DamageKind::Garbled | DamageKind::Missing))
    }

    /// Whether the store takes far more room than it has to: so it is when much was folded in at once.
    pub(super) fn needs_compaction(&self) -> bool {
        /// Entries. A smaller store soon grows anyway.
        const MANY: u64 = 100_000;
        fail_point!("state.compact", |_| self.made_anew);
        self.made_anew && self.replayed >= MANY
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
    /// Folding in the entry at this position came upon a defect; the store is as it was before.
    #[error("the entry at {position} cannot be folded in: {what}")]
    Defect {
        /// The entry's position.
        position: u64,
        /// What the defect said.
        what: String,
    },
    /// What it was made of lacks a part of the journal.
    #[error("a part of the journal cannot be read")]
    Gaps,
    /// It was not to go on.
    #[error("stopped before its end")]
    Stopped,
    /// The system refuses another thread.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The store cannot be moved aside.
    #[error("{path} cannot be moved aside: {source}")]
    MoveAside {
        /// The store's folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RecoveryError {
    /// Whether it is for want of room on the disk.
    pub(super) fn is_disk_full(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_disk_full(),
            Self::State(error) => error.is_disk_full(),
            Self::MoveAside { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Defect { .. } | Self::Thread(_) | Self::Gaps | Self::Stopped => false,
        }
    }
}

/// sled's own default is 1 GB.
const CACHE_BYTES: u64 = 48 << 20;
/// Enough for what is read from both ends at once.
pub(super) const LEAST_CACHE_BYTES: u64 = 16 << 20;
/// A store that can be read.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<Store>,
    /// Everything before this journal position is folded in.
    pub(super) applied: u64,
}

/// What becomes of a store that is damaged.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Why it has to be put aside, until it is.
    pub(super) damage: Option<String>,
    /// Whether one that the disk cannot read is, too.
    pub(super) takes_unreadable: bool,
    /// Why one was put aside, and where it is.
    pub(super) moved: Option<(String, PathBuf)>,
}

impl State {
    /// Takes the store away from readers, and waits for a while until none of them has it any more.
    ///
    /// # Errors
    /// [`StateError::InUse`] when somebody still holds it then.
    pub(super) fn release_store(&self) -> Result<(), StateError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        const POLL: Duration = Duration::from_millis(2);
        self.set_store(None);
        let until = Instant::now() + PATIENCE;
        while self.shared.last.lock().strong_count() > 0 {
            if Instant::now() >= until {
                return Err(StateError::InUse);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Opens the store. One that is damaged is put aside for whoever wants to look at it, and made anew with nothing in it.
    ///
    /// # Errors
    /// When the system refuses, now: it may be tried again.
    pub(super) fn open_store(&self, aside: &mut Aside) -> Result<Opened, RecoveryError> {
        self.release_store()?;
        let dir = &self.shared.dir;
        let open = || {
            verify_counts(dir)?;
            open_store(dir, CACHE_BYTES, Access::ReadWrite)
        };
        let known = aside.damage.clone().map(|damage| Err(StateError::Untrue(damage)));
        let store = match known.unwrap_or_else(open) {
            Err(error) if error.is_damage() || (aside.takes_unreadable && error.is_unreadable()) => {
                // What the disk can read next time after all stays.
                aside.damage = error.is_damage().then(|| error.to_string());
                put_aside(dir, error.to_string(), aside)?;
                // A later start takes what is begun here for whole.
                self.expect_manifests()?;
                aside.damage = None;
                open_store(dir, CACHE_BYTES, Access::ReadWrite)?
            }
            opened => opened?,
        };
        let store = Arc::new(store);
        *self.shared.last.lock() = store.downgrade();
        let applied = Txn::begin(&store)?.meta.applied;
        Ok(Opened { store, applied })
    }

    /// Has the bucket's manifests read, now or by a later start: the store may come to lack what only they tell of. Where
    /// replicas share the log, nobody reads them.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn expect_manifests(&self) -> Result<(), JournalError> {
        if self.cluster().is_some() {
            return Ok(());
        }
        let marker = restore_marker(&self.shared.dir);
        write_durably(&marker, b"").map_err(JournalError::io(&marker, "written"))
    }

    /// Gives a full disk the room of the damaged store that was put aside: what is taken in from now on is worth more.
    pub(super) fn make_room(&self) {
        match remove_aside(&self.shared.dir, None) {
            Ok(0) => {}
            Ok(_) => tracing::warn!("the disk is full: the damaged state that had been put aside is removed"),
            Err(error) => tracing::warn!(%error, "the disk is full, and the state put aside cannot be removed"),
        }
    }

    /// Takes the store from readers as it is, to bring it up to date again.
    pub(super) fn take_store(&self) -> Option<Opened> {
        let store = self.store().ok()?;
        self.set_store(None);
        let applied = Txn::begin(&store).ok()?.meta.applied;
        Some(Opened { store, applied })
    }
}

/// sled does not notice all damage: noise in its file can make it open without an error and without half the records. So
/// the records of every kind are counted and compared with the numbers that were written along with them.
pub(super) fn verify_counts(dir: &Path) -> Result<(), StateError> {
    // Whoever reads all of it once gains nothing from keeping it, and what is kept beside the cache goes with the handle.
    let store = open_store(dir, LEAST_CACHE_BYTES, Access::ReadOnly)?;
    let found = store.get(&META)?;
    let version = match &found {
        Some(bytes) => postcard::take_from_bytes::<u32>(bytes)?.0,
        None if store.range(..).next().transpose()?.is_none() => return Ok(()),
        None => {
            let untrue = "it has records and does not say which journal entries they cover";
            return Err(StateError::Untrue(untrue.to_owned()));
        }
    };
    if version != VERSION {
        let untrue = format!("it was made by another version (form {version}, expected {VERSION})");
        return Err(StateError::Untrue(untrue));
    }
    let meta: Meta = postcard::from_bytes(&found.unwrap_or_default())?;
    compare(&store, &meta.counters)
}

impl State {
    /// How far the state in `dir` is, how many records it has, and the SHA-256 of all of them in their order: the same for
    /// all that were folded from the same log up to the same position. Nobody else may use it meanwhile.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn digest(dir: &Path) -> Result<(u64, u64, String), StateError> {
        let store = open_store(dir, LEAST_CACHE_BYTES, Access::ReadOnly)?;
        let meta = store.get(&META)?.unwrap_or_default();
        let applied = postcard::from_bytes::<Meta>(&meta).map_or(0, |meta| meta.applied);
        let (mut records, mut hash) = (0, Sha256::new());
        for record in store.range(..) {
            let (key, value) = record?;
            records += 1;
            for part in [&key, &value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        Ok((applied, records, hex::encode(hash.finalize())))
    }
}

fn compare(store: &Store, counters: &Counters) -> Result<(), StateError> {
    let found = store.count()?;
    let in_state = |state| counters.jobs.get(&state).copied().unwrap_or_default();
    let jobs: u64 = counters.jobs.values().sum();
    let notifications = counters.notifications();
    for (table, expected) in [
        (Table::Jobs, jobs),
        (Table::JobIds, jobs + counters.job_aliases),
        (Table::JobFiles, counters.job_files),
        (Table::Unconfirmed, counters.unconfirmed_apart),
        (Table::JobStates, in_state(JobState::Running) + in_state(JobState::Failed) + in_state(JobState::Stuck)),
        (Table::Folders, counters.jobs_placed),
        (Table::Due, counters.queued),
        (Table::Asks, counters.unconfirmed),
        (Table::HostQueues, counters.queued),
        (Table::Lanes, counters.queued),
        (Table::ExpiringLinks, counters.dying_minutes),
        (Table::Media, counters.objects),
        (Table::MediaDigests, counters.objects),
        (Table::ObjectKeys, counters.object_keys),
        (Table::References, counters.references),
        (Table::Refs, counters.refs),
        (Table::RemovedRefs, counters.refs_removed),
        (Table::Names, counters.refs.saturating_sub(counters.refs_of_gateway) + counters.jobs_tied),
        (Table::GatewayRefs, counters.refs_of_gateway),
        (Table::Outbox, counters.outbox),
        (Table::Notifications, notifications),
        (Table::NotificationIds, notifications),
        (Table::NotificationStates, notifications),
        (Table::NotificationLanes, counters.notifications_pending),
        (Table::Quarantine, counters.quarantined),
        (Table::Kept, counters.kept),
    ] {
        let found = found.get(&(table as u8)).copied().unwrap_or_default();
        if found != expected {
            let untrue = format!("it has {found} records of the kind {table:?}, expected {expected}");
            return Err(StateError::Untrue(untrue));
        }
    }
    Ok(())
}

/// A file beside the state in the folder `dir`, which is there while the bucket's manifests are to be read.
pub fn restore_marker(dir: &Path) -> PathBuf {
    dir.with_extension("restore")
}

pub(super) fn open_store(dir: &Path, cache_bytes: u64, access: Access) -> Result<Store, StateError> {
    // Its files are as open as the system lets them be.
    make_private_dir(dir).map_err(StoreError::from)?;
    Ok(Store::open(dir, cache_bytes, access)?)
}

/// Puts a damaged store aside, in the place of any that was put aside before. One that was only begun since then is removed.
fn put_aside(dir: &Path, damage: String, aside: &mut Aside) -> Result<(), RecoveryError> {
    let place = dir.with_extension(format!("damaged-{}", Timestamp::now().millis()));
    let done = if aside.moved.is_some() { std::fs::remove_dir_all(dir) } else { std::fs::rename(dir, &place) };
    match done {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(RecoveryError::MoveAside { path: dir.to_owned(), source });
        }
        _ => {}
    }
    if aside.moved.is_none() {
        if let Err(error) = remove_aside(dir, Some(&place)) {
            tracing::warn!(%error, "what was put aside before could not be removed");
        }
        aside.moved = Some((damage, place));
    }
    Ok(())
}

/// Removes what stores were put aside, but for `kept`. Returns how many.
fn remove_aside(dir: &Path, kept: Option<&Path>) -> std::io::Result<usize> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(0) };
    let mut removed = 0;
    let prefix = format!("{}.damaged-", name.to_string_lossy());
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        let is_aside = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        if is_aside && kept != Some(&path) {
            std::fs::remove_dir_all(path)?;
            removed += 1;
        }
    }
    Ok(removed)
}
