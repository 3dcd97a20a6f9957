//! What waits to be passed on: callbacks over the URL of a ref whose caller has a receiver of its own.

use super::super::StateError;
use super::super::keys;
use super::super::records::{OutboxRecord, RefRecord};
use super::super::txn::Txn;
use super::ApplyOutcome;
use crate::domain::{RefId, Timestamp};
use crate::journal::CallbackEntry;

/// Whatever is made of a callback here, its receiver would have got it too. What was looked at again was passed on when
/// it came; what the provider was asked for is no callback.
pub(super) fn enqueue(
    txn: &mut Txn<'_>,
    position: u64,
    entry: &CallbackEntry,
    over: Option<&RefRecord>,
) -> Result<(), StateError> {
    let Some(RefRecord { id, forward_url: Some(_), .. }) = over else { return Ok(()) };
    if entry.asked || entry.replay_of.is_some() {
        return Ok(());
    }
    put(txn, id, position, &OutboxRecord { at: entry.at, bytes: entry.body.len() as u64 })
}

/// Said again: taken over where what was said first may be missing.
pub(super) fn kept(
    txn: &mut Txn<'_>,
    id: &RefId,
    position: u64,
    at: Timestamp,
    bytes: u64,
) -> Result<ApplyOutcome, StateError> {
    if position < txn.meta.begins && !txn.contains(&keys::outbox(id, position))? {
        put(txn, id, position, &OutboxRecord { at, bytes })?;
    }
    Ok(ApplyOutcome::Done)
}

pub(super) fn dequeue(txn: &mut Txn<'_>, id: &RefId, position: u64, taken: bool) -> Result<ApplyOutcome, StateError> {
    let key = keys::outbox(id, position);
    if !txn.contains(&key)? {
        return Ok(ApplyOutcome::Unknown);
    }
    txn.remove(key);
    let counters = &mut txn.meta.counters;
    counters.outbox = counters.outbox.saturating_sub(1);
    *(if taken { &mut counters.passed_on } else { &mut counters.not_passed_on }) += 1;
    Ok(ApplyOutcome::Done)
}

fn put(txn: &mut Txn<'_>, id: &RefId, position: u64, record: &OutboxRecord) -> Result<(), StateError> {
    txn.put(keys::outbox(id, position), record)?;
    txn.meta.counters.outbox += 1;
    txn.outbox_updates.push(id.clone());
    Ok(())
}
