//! A data directory that is older than the bucket: a copy that was put back.
//!
//! The bucket's journal then goes on behind the end of what is here, with entries that were acknowledged. They are read
//! into the state; new entries stand behind them, since a journal's first segment after a start follows from the time. When
//! the bucket does not answer at the start, callbacks are taken all the same, and it is asked until it does. A start after
//! that asks for the same, until all of it is on the disk in the state's store: the journal keeps its baseline until then.
//! Then it notes up to where the bucket's journal goes, which no header here tells a state that is made anew later.
//!
//! Where no journal was here at all, only a rebuild reads the bucket's. Until it has, each start knows that refs may be missing.

use std::time::Duration;

use super::PendingRestore;
use super::retention::{RetentionError, STORE_PATIENCE};
use crate::journal::Standing;
use crate::state::{EventLog, RecordError};

/// Between two tries of what the disk refuses.
const RETRY: Duration = Duration::from_secs(10);

/// Compares what was here at the start with the archive, for as long as that does not answer, and sees to it that the state
/// is made of both. Where the bucket's manifests may tell of more, a [`PendingRestore`] says so. `None` when the service stops
/// before.
pub async fn compare_with_archive(log: &EventLog) -> Option<()> {
    const LONGEST: Duration = Duration::from_secs(60);
    let mut recovery = log.recovered().await?;
    // As it was when the state was brought up to date.
    let surveyed = log.journal().standing();
    let (mut standing, mut pause) = (surveyed, Duration::from_millis(500));
    while standing == Standing::Unknown {
        let journal = log.journal().clone();
        match tokio::task::spawn_blocking(move || journal.survey_archive()).await {
            Ok(Ok(found)) => standing = found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "whether this is an older copy cannot be told yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            Err(_) => return None,
        }
    }
    match standing {
        Standing::OlderCopy { archive_end } => {
            tracing::warn!(
                archive_end,
                "the data directory is older than the bucket: a copy that was put back. What the bucket's journal has beyond \
                 it is read; what was neither in the copy nor in the bucket is lost"
            );
            record_behind(log, archive_end).await?;
            // A state that an earlier run went on with may be past what the bucket has. And while that was read, entries may
            // have come in before its end, where the state takes them for known.
            let is_past = log.journal().has_inherited_baseline() && !recovery.made_anew;
            if surveyed == Standing::Unknown || is_past || log.journal().has_begun_before(archive_end) {
                recovery = log.start_over().await?;
            }
        }
        Standing::Empty => {
            // A state that outlived its journal has all of it.
            if recovery.applied > 0 && !recovery.made_anew && !log.journal().has_inherited_baseline() {
                standing = Standing::InStep;
                tracing::warn!(
                    "the journal is gone, and the state has what it told: only what is in the bucket could be rebuilt"
                );
            } else {
                tracing::warn!(
                    "the bucket has an older journal, and there was none here: after a loss, put secrets.toml back and run \
                     `replyvault rebuild`"
                );
            }
        }
        Standing::InStep | Standing::Unknown => {}
    }
    if standing != Standing::Empty {
        log.note_archive_folded_in();
    }
    let may_lack_jobs = recovery.has_gaps() || recovery.made_anew || standing.is_older_copy();
    end_comparison(log, standing, may_lack_jobs).await
}

/// Sees to it that nothing is recorded before `archive_end` any more, however long that takes: the clock may be behind, or
/// have been ahead once. `None` when the service stops before.
async fn record_behind(log: &EventLog, archive_end: u64) -> Option<()> {
    while log.journal().newest().is_none_or(|newest| newest < archive_end) {
        match log.begin_segment_at(archive_end).await {
            Ok(()) => {}
            Err(RecordError::Stopping) => return None,
            Err(error) => {
                tracing::error!(%error, "no segment can be begun behind those in the bucket yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    Some(())
}

/// Clears the journal's baseline, however long that takes, unless only a rebuild may; before that, records that manifests are
/// to be read if the state `may_lack_jobs`. `None` when the service stops before.
async fn end_comparison(log: &EventLog, standing: Standing, may_lack_jobs: bool) -> Option<()> {
    loop {
        let log = log.clone();
        let ending = tokio::task::spawn_blocking(move || -> Result<(), RetentionError> {
            if may_lack_jobs {
                // A later start could not tell any more.
                PendingRestore::of(&log).record()?;
            }
            match standing {
                Standing::OlderCopy { archive_end } => {
                    log.journal().note_unlinked(archive_end)?;
                    clear_baseline(&log)
                }
                Standing::Empty => Ok(()),
                // What is in step has read nothing that a crash could take from the store.
                Standing::InStep | Standing::Unknown => Ok(log.journal().clear_baseline()?),
            }
        });
        match ending.await {
            Ok(Ok(())) => return Some(()),
            Ok(Err(error)) => tracing::warn!(%error, "the comparison with the bucket cannot be ended yet"),
            Err(_) => return None,
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Clears the journal's baseline once all that is folded in is on the disk in the state's store. Blocks.
///
/// # Errors
/// When the disk refuses or takes too long; the baseline stays then.
pub(super) fn clear_baseline(log: &EventLog) -> Result<(), RetentionError> {
    if !log.flush(STORE_PATIENCE)? {
        return Err(RetentionError::StoreBehind);
    }
    Ok(log.journal().clear_baseline()?)
}

#[cfg(test)]
mod tests;
