//! Callbacks as they came, read again out of the journal.

use std::sync::Arc;

use bytes::Bytes;
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
}

impl CallbackBodies {
    pub(super) fn new(log: EventLog) -> Self {
        Self { log, large: Arc::new(Semaphore::new(1)) }
    }

    /// The body of the callback at `position` as it came, and the turn of one that may be large; `None` when it is damaged, or
    /// there is no position.
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
            Ok(Err(error)) => {
                tracing::warn!(position, %error, "a final callback cannot be read for its manifest yet");
                Err(AttemptError::Deferred)
            }
            Err(_) => Err(AttemptError::Deferred),
        }
    }
}
