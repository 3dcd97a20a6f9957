//! Final callbacks that count only once the provider has said the same.

use super::super::StateError;
use super::super::records::QuarantineRecord;
use super::super::txn::Txn;
use super::{Applied, callback};
use crate::domain::{Change, Job, JobId, Observation, Reason, Timestamp, UnconfirmedFinal};
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
        keep_aside(txn, &job.id, displaced, Reason::NotConfirmed)?;
    }
    Ok(Change::Held)
}

pub(super) fn confirmed(txn: &mut Txn<'_>, id: &JobId, position: u64, at: Timestamp) -> Result<Applied, StateError> {
    let Some(mut record) = txn.job(id)? else { return Ok(Applied::Unknown) };
    let before = record.job.clone();
    let Some((change, callback)) = record.job.confirm(position, at) else {
        return Ok(Applied::Job { record: Box::new(record), change: None, over_budget: None });
    };
    txn.put_job(Some(&before), &record)?;
    let mut over_budget = None;
    if record.job.lacks(&callback.observation, callback.sidecars) > 0 {
        over_budget = Some(callback.quarantine_as);
        keep_aside(txn, id, callback, Reason::OverBudget)?;
    }
    Ok(Applied::Job { record: Box::new(record), change: Some(change), over_budget })
}

pub(super) fn refuted(txn: &mut Txn<'_>, id: &JobId, position: u64, at: Timestamp) -> Result<Applied, StateError> {
    let Some(mut record) = txn.job(id)? else { return Ok(Applied::Unknown) };
    let before = record.job.clone();
    if let Some(callback) = record.job.refute(position, at) {
        keep_aside(txn, id, callback, Reason::NotConfirmed)?;
        txn.put_job(Some(&before), &record)?;
    }
    Ok(Applied::Job { record: Box::new(record), change: None, over_budget: None })
}

fn keep_aside(txn: &mut Txn<'_>, job: &JobId, callback: UnconfirmedFinal, reason: Reason) -> Result<(), StateError> {
    let UnconfirmedFinal { quarantine_as: position, at, target, bytes, .. } = callback;
    let job_id = Some(job.clone());
    callback::keep_aside(txn, QuarantineRecord { position, at, target, reason, job_id, bytes })
}
