//! Final callbacks that count only once the provider has said the same.

use super::super::StateError;
use super::super::records::QuarantineRecord;
use super::super::stored_job::Part;
use super::super::txn::Txn;
use super::{ApplyOutcome, callback, put_job, quarantine, unchanged};
use crate::domain::{Change, Job, JobId, Observation, QuarantineReason, Timestamp, UnconfirmedFinal};
use crate::journal::CallbackEntry;

/// Nothing follows from it yet but that it was counted and that the provider is to be asked.
pub(super) fn hold(
    txn: &mut Txn<'_>,
    job: &mut Job,
    position: u64,
    entry: &CallbackEntry,
    observation: Box<Observation>,
) -> Result<Change, StateError> {
    let displaced = job.hold(UnconfirmedFinal {
        position,
        quarantine_as: entry.replay_of.unwrap_or(position),
        at: entry.at,
        target: entry.target.clone(),
        sidecars: entry.sidecars,
        bytes: entry.body.len() as u64,
        observation,
    });
    for displaced in displaced {
        quarantine_record(txn, &job.id, displaced, QuarantineReason::NotConfirmed)?;
    }
    Ok(Change::Held)
}

pub(super) fn confirmed(
    txn: &mut Txn<'_>,
    id: &JobId,
    position: u64,
    aliases: &[JobId],
    at: Timestamp,
) -> Result<ApplyOutcome, StateError> {
    let Some(mut open) = txn.open_job(id, Part::Whole)? else { return Ok(ApplyOutcome::Unknown) };
    let Some((change, mut held)) = open.job.confirm(position, at) else { return Ok(unchanged(&open)) };
    let (sequence, mut named) = (open.sequence, std::mem::take(&mut held.observation.aliases));
    // Whoever forges a callback may name somebody else's job.
    named.retain(|alias| aliases.contains(alias));
    let lacks = open.job.lacks(&held.observation, held.sidecars) > 0;
    let over_budget = lacks.then_some(held.quarantine_as);
    if lacks {
        quarantine_record(txn, id, held, QuarantineReason::OverBudget)?;
    }
    let outcome = put_job(txn, open, Some(change), over_budget)?;
    callback::learn_aliases(txn, sequence, named)?;
    Ok(outcome)
}

pub(super) fn refuted(txn: &mut Txn<'_>, id: &JobId, position: u64, at: Timestamp) -> Result<ApplyOutcome, StateError> {
    let Some(mut open) = txn.open_job(id, Part::Finals)? else { return Ok(ApplyOutcome::Unknown) };
    let Some(callback) = open.job.refute(position, at) else { return Ok(unchanged(&open)) };
    quarantine_record(txn, id, callback, QuarantineReason::NotConfirmed)?;
    put_job(txn, open, None, None)
}

fn quarantine_record(
    txn: &mut Txn<'_>,
    job: &JobId,
    callback: UnconfirmedFinal,
    reason: QuarantineReason,
) -> Result<(), StateError> {
    let UnconfirmedFinal { quarantine_as: position, at, target, bytes, .. } = callback;
    let job_id = Some(job.clone());
    quarantine::put(txn, QuarantineRecord { position, at, target, reason, job_id, bytes })
}
