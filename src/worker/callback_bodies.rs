//! Callbacks as they came, read again out of the journal.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::attempt_error::AttemptError;
use crate::journal::JournalError;
use crate::state::EventLog;

/// Reads the bodies of callbacks, large ones one at a time. Cheap to clone; clones share the turn.
#[derive(Clone)]
pub(super) struct CallbackBodies {
    log: EventLog,
    /// Who holds it may have a large body in memory.
    large: Arc<Semaphore>,
    /// How often the disk could not read one, by position.
    failed_reads: Arc<Mutex<HashMap<u64, u32>>>,
}

/// How often the disk may fail to read a callback before its job goes on without it.
const READ_ATTEMPTS: u32 = 4;
/// Of so many it is counted. With more, all begin anew.
const MAX_COUNTED: usize = 1024;

impl CallbackBodies {
    pub(super) fn new(log: EventLog) -> Self {
        Self { log, large: Arc::new(Semaphore::new(1)), failed_reads: Arc::default() }
    }

    /// The body of the callback at `position` as it came, and the turn of one that may be large; `None` when it is damaged, the
    /// disk could not read it several times, or there is no position.
    ///
    /// # Errors
    /// When it cannot be read yet.
    pub(super) async fn read(
        &self,
        position: Option<u64>,
    ) -> Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>, AttemptError> {
        /// Bytes. Of these every job that is worked on may have one in memory.
        const SMALL_RECORD: usize = 1 << 20;
        let Some(position) = position else { return Ok(None) };
        let at = self.log.state().callback_at(position)?;
        let journal = self.log.journal().clone();
        let turn = if journal.record_size(at).is_some_and(|bytes| bytes <= SMALL_RECORD) {
            None
        } else {
            Some(self.large.clone().acquire_owned().await.map_err(|_| AttemptError::Deferred)?)
        };
        match tokio::task::spawn_blocking(move || journal.read(at)).await {
            Ok(Ok(entry)) => Ok(entry.into_callback().map(|callback| (callback.body, turn))),
            Ok(Err(error @ JournalError::NotFound(_))) => {
                tracing::error!(position, %error, "a final callback is damaged and cannot be in its manifest");
                Ok(None)
            }
            Ok(Err(error)) if error.is_read_error() && self.has_failed_often(position) => {
                tracing::error!(position, %error, "the disk cannot read a final callback, which cannot be in its manifest");
                Ok(None)
            }
            Ok(Err(error)) => {
                tracing::warn!(position, %error, "a final callback cannot be read for its manifest yet");
                Err(AttemptError::Deferred)
            }
            Err(_) => Err(AttemptError::Deferred),
        }
    }

    /// Counts another time that the disk could not read a callback.
    fn has_failed_often(&self, position: u64) -> bool {
        let mut failed_reads = self.failed_reads.lock();
        if failed_reads.len() >= MAX_COUNTED {
            failed_reads.clear();
        }
        let failed = failed_reads.entry(position).or_default();
        *failed = failed.saturating_add(1);
        *failed >= READ_ATTEMPTS
    }
}
