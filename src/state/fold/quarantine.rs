//! Bodies that no job is made of: put into quarantine, and taken out of it.

use super::super::StateError;
use super::super::keys;
use super::super::records::QuarantineRecord;
use super::super::txn::Txn;
use super::ApplyOutcome;
use super::carry_forward;
use crate::domain::{JobId, QuarantineReason};
use crate::journal::CallbackEntry;

pub(super) fn keep(
    txn: &mut Txn<'_>,
    position: u64,
    entry: &CallbackEntry,
    reason: QuarantineReason,
    job_id: Option<JobId>,
) -> Result<ApplyOutcome, StateError> {
    let record = record_of(position, entry, reason, job_id);
    let position = record.position;
    if !is_of_twin(txn, &record, entry)? {
        put(txn, record)?;
    }
    Ok(ApplyOutcome::Quarantined { position, reason })
}

/// Whether another body stands at the position already: of two segments with one base and other bytes both are read, and the
/// body that is read for a position is that of the first.
fn is_of_twin(txn: &Txn<'_>, record: &QuarantineRecord, entry: &CallbackEntry) -> Result<bool, StateError> {
    if !txn.is_replay() || entry.replay_of.is_some() {
        return Ok(false);
    }
    let known = txn.get::<QuarantineRecord>(&keys::quarantine(record.position))?;
    Ok(known.is_some_and(|known| (known.at, known.bytes) != (record.at, record.bytes)))
}

pub(super) fn record_of(
    position: u64,
    entry: &CallbackEntry,
    reason: QuarantineReason,
    job_id: Option<JobId>,
) -> QuarantineRecord {
    // A body looked at again that stays in quarantine stays what and where it was.
    let position = entry.replay_of.unwrap_or(position);
    QuarantineRecord {
        position,
        at: entry.at,
        target: entry.target.clone(),
        reason,
        job_id,
        bytes: entry.body.len() as u64,
    }
}

pub(super) fn put(txn: &mut Txn<'_>, mut record: QuarantineRecord) -> Result<(), StateError> {
    let key = keys::quarantine(record.position);
    match txn.get::<QuarantineRecord>(&key)? {
        Some(known) => {
            record.at = known.at;
            let counters = &mut txn.meta.counters;
            counters.quarantined_bytes = counters.quarantined_bytes.saturating_sub(known.bytes) + record.bytes;
        }
        None => {
            txn.meta.counters.quarantined += 1;
            txn.meta.counters.quarantined_bytes += record.bytes;
        }
    }
    txn.put(key, &record)
}

pub(super) fn remove(txn: &mut Txn<'_>, positions: &[u64]) -> Result<ApplyOutcome, StateError> {
    let mut removed = 0;
    for position in positions {
        removed += u64::from(release(txn, *position)?);
    }
    Ok(ApplyOutcome::Removed(removed))
}

/// Takes a body out of quarantine; returns whether it was there.
pub(super) fn release(txn: &mut Txn<'_>, position: u64) -> Result<bool, StateError> {
    let key = keys::quarantine(position);
    let Some(record) = txn.get::<QuarantineRecord>(&key)? else { return Ok(false) };
    txn.remove(key);
    carry_forward::forget(txn, position)?;
    let counters = &mut txn.meta.counters;
    counters.quarantined = counters.quarantined.saturating_sub(1);
    counters.quarantined_bytes = counters.quarantined_bytes.saturating_sub(record.bytes);
    Ok(true)
}
