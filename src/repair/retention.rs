//! Old segments of the journal move into the bucket.
//!
//! Oldest first, one at a time: the segment is stored and read back; what of it is still open is written again into the
//! newest; then it is removed. Each step may run twice, and a crash between any two loses nothing.
//!
//! A segment goes once it was not written to for as long as segments are kept. Nothing holds it longer: what is open is
//! written again as it is by then, which is refs that are answered to, callbacks to be passed on, jobs that have not ended,
//! claims and uploads. A job that changes meanwhile is written once more. Other bodies, such as those in quarantine, are read
//! where the segment then is.

mod scan;
mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fail::fail_point;
use parking_lot::Mutex;

use self::scan::OpenEntries;
use crate::domain::Digest;
use crate::journal::{ArchiveError, Journal, JournalError, StoredAs};
use crate::state::{EventLog, ParseCallback, RecordError, StateError};

/// Moves old segments, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Retention {
    log: EventLog,
    parse_callback: ParseCallback,
    keep: Duration,
    begun: Instant,
    /// Segments that are archived, of which nothing here is needed any more, and that could not be removed.
    unremoved: Arc<Mutex<BTreeSet<u64>>>,
    /// Of what stood beyond the end of segments, by their bases, how many entries are recorded again, and their digest.
    recorded_again: Arc<Mutex<BTreeMap<u64, (usize, Digest)>>>,
}

/// Between two passes.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How long the state's store may take to have all that is folded in.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(60);

/// Why a segment stays although it might go. The next pass tries again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What is still needed could not be written again.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The state's store does not have yet all that the segment told.
    #[error("the state's store is behind")]
    StoreBehind,
    /// It was cut off.
    #[error("cut off")]
    Cancelled,
}

/// Removes segments of the copy here that left the shared log, once the state's store has all that they told.
///
/// # Errors
/// When the log cannot be reached or the disk refuses; the next call tries again.
pub async fn trim_copy(log: &EventLog) -> Result<(), RetentionError> {
    let oldest = log.oldest_shared().await?;
    let gone: Vec<u64> = log.journal().sealed().into_iter().filter(|base| *base < oldest).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let log = log.clone();
    let removing = tokio::task::spawn_blocking(move || {
        if !log.flush(STORE_PATIENCE)? {
            return Err(RetentionError::StoreBehind);
        }
        gone.into_iter().try_for_each(|base| log.journal().remove(base)).map_err(RetentionError::from)
    });
    removing.await.unwrap_or(Err(RetentionError::Cancelled))
}

impl Retention {
    /// Moves segments of `log`'s journal into its archive that nothing was written to for `keep`.
    pub fn new(log: EventLog, parse_callback: ParseCallback, keep: Duration) -> Self {
        let (unremoved, recorded_again) = (Arc::default(), Arc::default());
        Self { log, parse_callback, keep, begun: Instant::now(), unremoved, recorded_again }
    }

    /// Does passes, each an eighth of the time that segments are kept after the last, though at least every hour and at
    /// most every second. Never ends; dropping it is fine at any time.
    pub async fn run(self) {
        const SHORTEST: Duration = Duration::from_secs(1);
        if self.log.recovered().await.is_none() {
            return;
        }
        let (mut is_renewed, mut last_renewal, mut last_pass) = (false, None, None);
        loop {
            if !is_renewed {
                let error = self.renew_archive().await.err();
                is_renewed = error.is_none();
                warn_once("archived segments of the journal cannot all be encrypted yet", error, &mut last_renewal);
            }
            let error = self.pass().await.err();
            warn_once("old segments of the journal cannot be moved into the bucket yet", error, &mut last_pass);
            tokio::time::sleep((self.keep / 8).clamp(SHORTEST, LONGEST_PAUSE)).await;
        }
    }

    /// Moves every segment that may go. Returns how many did.
    ///
    /// # Errors
    /// When one that may go cannot. Those after it stay, too, unless it is archived and cannot be removed.
    pub async fn pass(&self) -> Result<usize, RetentionError> {
        let (mut moved, mut unremoved) = (0, None);
        self.record_strays().await?;
        self.seal_quiet_segment().await?;
        for base in self.journal().sealed() {
            let is_archived = self.unremoved.lock().contains(&base);
            if is_archived {
                match self.remove(base).await {
                    Ok(()) => moved += 1,
                    Err(error) => unremoved = unremoved.or(Some(error)),
                }
                continue;
            }
            if self.blocking(move |this| this.is_damaged(base)).await? {
                // What cannot be read may be needed: somebody, or a later version, may yet make sense of it.
                continue;
            }
            let Some(open) = self.blocking(move |this| this.open_in(base)).await? else { break };
            self.archive(base, open).await?;
            match self.remove(base).await {
                Ok(()) => moved += 1,
                Err(error) => unremoved = unremoved.or(Some(error)),
            }
        }
        unremoved.map_or(Ok(moved), Err)
    }

    /// Puts a segment into the archive, and writes again what of it is open.
    async fn archive(&self, base: u64, open: OpenEntries) -> Result<(), RetentionError> {
        fail_point!("retention.store", |_| Err(RetentionError::Cancelled));
        let stored = self.blocking(move |this| Ok(this.journal().archive_segment(base)?)).await?;
        fail_point!("retention.store.done", |_| Err(RetentionError::Cancelled));
        let written_again = self.write_again(open).await?;
        // A start after a crash goes on from what the store has.
        if !self.blocking(|this| Ok(this.log.flush(STORE_PATIENCE)?)).await? {
            return Err(RetentionError::StoreBehind);
        }
        match stored {
            StoredAs::New(name) => {
                tracing::info!(segment = name, written_again, "a segment of the journal is in the bucket now");
            }
            StoredAs::PartOf(name) => {
                tracing::warn!(base, segment = name, "the bucket has a longer form of a segment, which stays");
            }
            StoredAs::Conflicting(name) => tracing::error!(
                base,
                segment = name,
                "the bucket has another segment with the same base and other bytes: both are kept, and both are read"
            ),
        }
        Ok(())
    }

    /// Removes a segment that is archived and of which nothing is open. It is only tried again where that fails.
    async fn remove(&self, base: u64) -> Result<(), RetentionError> {
        self.unremoved.lock().insert(base);
        fail_point!("retention.remove", |_| Err(RetentionError::Cancelled));
        // Others keep their copies until it has left the log.
        let after = self.journal().segments_here().into_iter().find(|other| *other > base);
        if let Some(after) = after {
            self.log.remove_before(after).await?;
        }
        self.blocking(move |this| Ok(this.journal().remove(base)?)).await?;
        fail_point!("retention.remove.done", |_| Err(RetentionError::Cancelled));
        self.unremoved.lock().remove(&base);
        Ok(())
    }

    /// A segment that nothing is written to any more need not wait until it is full.
    async fn seal_quiet_segment(&self) -> Result<(), RetentionError> {
        let may_seal = self.blocking(|this| {
            let newest = this.journal().newest().filter(|base| this.is_idle(*base));
            newest.map_or(Ok(false), |base| this.has_new_entries(base))
        });
        if may_seal.await? {
            self.log.begin_segment().await?;
        }
        Ok(())
    }

    /// Encrypts what an earlier version put into the archive in clear.
    async fn renew_archive(&self) -> Result<(), RetentionError> {
        let damaged = self.blocking(|this| Ok(this.journal().renew_archive()?)).await?;
        if damaged > 0 {
            tracing::warn!(damaged, "archived segments that are damaged stay as they are: `verify` names them");
        }
        Ok(())
    }

    fn journal(&self) -> &Journal {
        self.log.journal()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, RetentionError> + Send + 'static,
    ) -> Result<T, RetentionError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.unwrap_or(Err(RetentionError::Cancelled))
    }
}

/// Warns of an error that is not the last one.
fn warn_once(what: &str, error: Option<RetentionError>, last: &mut Option<String>) {
    let error = error.map(|error| error.to_string());
    if let Some(error) = &error
        && last.as_ref() != Some(error)
    {
        tracing::warn!(error, "{what}");
    }
    *last = error;
}
