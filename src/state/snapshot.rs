//! A state in the place of another: one that takes less room, or that another replica has made.
//!
//! For the latter, a second state is folded from the same journal beside the one in use. Nobody reads it, so its files can be
//! copied, and another replica begins with them instead of folding all of the log.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fold::ParseCallback;
use super::open::{Aside, LEAST_CACHE_BYTES, Opened, open_store, verify_counts};
use super::records::VERSION;
use super::replay::replay;
use super::store::{Access, Store};
use super::txn::Txn;
use super::{RecoveryError, State, StateError, StoreError};
use crate::disk::{RESERVE, bytes_in, free_bytes};
use crate::journal::{Journal, make_private_dir};

/// How long the store may take to have all of it on the disk, and then to be let go of.
const STORE_PATIENCE: Duration = Duration::from_secs(120);

impl State {
    /// The form of the records. A state of any other form is made anew when it is opened.
    pub const FORM: u32 = VERSION;

    /// Folds what `journal` has into the state in `dir`, from where that is, and closes it. One that cannot be used is made
    /// anew. `go_on` is asked after every thousand entries at most. Returns the position that all before is folded in of.
    /// Blocks.
    ///
    /// # Errors
    /// [`RecoveryError::Gaps`] when a part of the journal cannot be read: then the state is of no use. [`RecoveryError::Stopped`]
    /// when `go_on` says no; the next call continues.
    pub fn fold_aside(
        dir: &Path,
        journal: &Journal,
        parse_callback: ParseCallback,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<u64, RecoveryError> {
        let (mut store, mut made_anew) = match open_sound(dir) {
            Err(error) if error.is_damage() => (make_anew(dir, &error)?, true),
            opened => (opened?, false),
        };
        let mut passed_over = BTreeSet::new();
        let recovery = loop {
            match replay(&store, journal, parse_callback, &passed_over, made_anew, go_on) {
                Err(RecoveryError::Defect { position, .. }) if passed_over.insert(position) => {}
                Err(RecoveryError::State(error)) if error.is_damage() && !made_anew => {
                    close(Arc::new(store), dir)?;
                    (store, made_anew) = (make_anew(dir, &error)?, true);
                }
                replayed => break replayed?,
            }
        };
        if recovery.has_gaps() {
            return Err(RecoveryError::Gaps);
        }
        if !store.flush(STORE_PATIENCE).map_err(StateError::from)? {
            return Err(StateError::from(StoreError::Stalled).into());
        }
        close(Arc::new(store), dir)?;
        if recovery.replayed > 0 {
            compact(dir, go_on)?;
        }
        Ok(recovery.applied)
    }
}

impl State {
    /// Rewrites a state in as little room as it takes, unless `go_on` says no meanwhile. Nobody else has it.
    pub(super) fn compact(
        &self,
        opened: Opened,
        aside: &mut Aside,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Opened, RecoveryError> {
        if !opened.store.flush(STORE_PATIENCE).map_err(StateError::from)? {
            return Err(StateError::from(StoreError::Stalled).into());
        }
        close(opened.store, &self.shared.dir)?;
        compact(&self.shared.dir, go_on)?;
        self.open_store(aside)
    }

    /// Puts a state that another replica has made in the place of `opened` where that is far behind it. Whatever prevents it:
    /// then the log is folded.
    pub(super) fn begin_with_snapshot(
        &self,
        opened: Opened,
        journal: &Journal,
        aside: &mut Aside,
    ) -> Result<Opened, RecoveryError> {
        let draft = Draft::beside(&self.shared.dir);
        let began = Instant::now();
        let position = match journal.fetch_state(opened.applied, &draft.path) {
            Ok(Some(position)) => position,
            Ok(None) => return Ok(opened),
            Err(error) => {
                tracing::warn!(%error, "this replica cannot begin with a snapshot: it folds the log");
                return Ok(opened);
            }
        };
        close(opened.store, &self.shared.dir)?;
        draft.replace(&self.shared.dir)?;
        tracing::info!(position, took = ?began.elapsed(), "this replica begins with a snapshot");
        self.open_store(aside)
    }
}

/// Rewrites the closed state in `dir` in as little room as it takes. Where that fails, or `go_on` says no, it stays as it is.
fn compact(dir: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<(), RecoveryError> {
    let draft = Draft::beside(dir);
    let mut copy = || -> Result<bool, StoreError> {
        let has_room = free_bytes(dir)? >= bytes_in(dir)?.saturating_add(RESERVE);
        make_private_dir(&draft.path)?;
        Ok(has_room && Store::compact(dir, &draft.path, go_on)?)
    };
    match copy() {
        Ok(true) => draft.replace(dir),
        Ok(false) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, path = %dir.display(), "the state takes more room than it has to: it cannot be rewritten");
            Ok(())
        }
    }
}

/// A folder for a state that is to take the place of another.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Beside the state in `dir`, without what an earlier one left there.
    fn beside(dir: &Path) -> Self {
        let draft = Self { path: dir.with_extension("new") };
        draft.remove();
        draft
    }

    /// Puts it in the place of the closed state in `dir`. After a kill in between there is none, and it is made anew.
    fn replace(self, dir: &Path) -> Result<(), RecoveryError> {
        let failed = |source| RecoveryError::MoveAside { path: dir.to_owned(), source };
        std::fs::remove_dir_all(dir).map_err(failed)?;
        std::fs::rename(&self.path, dir).map_err(failed)
    }

    fn remove(&self) {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "what was copied of a state cannot be removed");
            }
            _ => {}
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the closed state in `dir`, of which nothing can be made, and begins with nothing.
fn make_anew(dir: &Path, error: &StateError) -> Result<Store, RecoveryError> {
    tracing::warn!(%error, "the state that snapshots are made of is made anew");
    let failed = |source| RecoveryError::MoveAside { path: dir.to_owned(), source };
    std::fs::remove_dir_all(dir).map_err(failed)?;
    Ok(open_sound(dir)?)
}

fn open_sound(dir: &Path) -> Result<Store, StateError> {
    verify_counts(dir)?;
    let store = open_store(dir, LEAST_CACHE_BYTES, Access::ReadWrite)?;
    Txn::begin(&store)?;
    Ok(store)
}

/// Returns when nobody reads the store any more, and its files are closed.
fn close(store: Arc<Store>, dir: &Path) -> Result<(), StateError> {
    const POLL: Duration = Duration::from_millis(2);
    let held = store.downgrade();
    drop(store);
    let until = Instant::now() + STORE_PATIENCE;
    while held.strong_count() > 0 {
        if Instant::now() >= until {
            return Err(StateError::InUse);
        }
        std::thread::sleep(POLL);
    }
    Ok(Store::wait_until_closed(dir)?)
}
