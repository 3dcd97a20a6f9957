//! Makes the state anew. It is a view: the journal has all that it is made of.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::journal::{Journal, JournalError};
use crate::state::{Counters, Interpret, Ledger, Recovery, RecoveryError, StateError};

/// A state that was made anew.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// How many entries it was made of, and what of the journal could not be read.
    pub recovery: Recovery,
    /// What it holds.
    pub counters: Counters,
}

/// Why the state was not made anew. Unless it says so, the old one is still there.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is nothing to make it of.
    #[error("{0}: expected a journal to make the state of, found none")]
    NoJournal(PathBuf),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The old state cannot be removed.
    #[error("{path} cannot be removed: {source}")]
    Remove {
        /// The state's folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The new one cannot be made; the old one is gone. It may be tried again.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The new one cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// It was stopped before its end; the next start goes on.
    #[error("stopped before the state was complete")]
    Stopped,
}

/// Makes the state below `dir` anew from the journal there. Nobody else may use either meanwhile.
///
/// # Errors
/// When the journal cannot be read, or the state not be removed or written.
pub async fn rebuild(dir: &Path, interpret: Interpret) -> Result<Rebuilt, RebuildError> {
    let (journal, state) = (dir.join("journal"), dir.join("state"));
    // Looked at before anything is removed: without its journal a state is all there is.
    if !journal.is_dir() || Journal::open(&journal)?.disk_bytes() == 0 {
        return Err(RebuildError::NoJournal(journal));
    }
    match tokio::fs::remove_dir_all(&state).await {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(RebuildError::Remove { path: state, source });
        }
        _ => {}
    }
    let dir = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Ledger::open(&dir, interpret)).await;
    let ledger = opened.map_err(|_| RebuildError::Stopped)??;
    let recovery = ledger.recovered().await;
    let counters = ledger.state().counters();
    let closing = ledger.clone();
    let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    Ok(Rebuilt { recovery: recovery.ok_or(RebuildError::Stopped)?, counters: counters? })
}
