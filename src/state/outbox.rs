//! Reading what waits to be passed on.

use tokio::sync::broadcast;

use super::keys::{self, Table};
use super::records::OutboxRecord;
use super::{State, StateError};
use crate::domain::RefId;

impl State {
    /// Every ref that has something new to pass on from now on; `None` when any may have.
    pub fn outbox_updates(&self) -> broadcast::Receiver<Option<RefId>> {
        self.shared.outbox_updates.subscribe()
    }

    /// At most `limit` refs that have something to pass on, in the order of their ids, those behind `after`.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails; so for all that follow.
    pub fn outbox_refs(&self, limit: usize, after: Option<&RefId>) -> Result<Vec<RefId>, StateError> {
        let store = self.store()?;
        let mut refs: Vec<RefId> = Vec::new();
        while refs.len() < limit {
            let start = refs.last().or(after).map_or_else(|| Table::Outbox.prefix(), |id| keys::outbox(id, u64::MAX));
            let Some(item) = store.range(start..keys::after(Table::Outbox)).next() else { break };
            let Some(id) = keys::ref_of_outbox(&item?.0) else { break };
            refs.push(id);
        }
        Ok(refs)
    }

    /// What is to be passed on first of what came over a ref's URL, and its position in the journal.
    pub fn outbox_head(&self, id: &RefId) -> Result<Option<(u64, OutboxRecord)>, StateError> {
        let store = self.store()?;
        let Some(item) = store.range(keys::with_prefix(keys::outbox_of(id))).next() else { return Ok(None) };
        let (key, value) = item?;
        let Some(position) = keys::trailing_number(&key) else { return Ok(None) };
        Ok(Some((position, postcard::from_bytes(&value)?)))
    }

    /// Whether the callback recorded at `position` waits to be passed on.
    pub fn waits_in_outbox(&self, id: &RefId, position: u64) -> Result<bool, StateError> {
        Ok(self.store()?.get(&keys::outbox(id, position))?.is_some())
    }
}
