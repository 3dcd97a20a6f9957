//! Multipart uploads: begun, advanced, over.

use super::super::StateError;
use super::super::keys;
use super::super::records::UploadRecord;
use super::super::stored_job::Part;
use super::super::txn::Txn;
use super::ApplyOutcome;
use crate::domain::{AssetId, JobId};

pub(super) fn started(
    txn: &mut Txn<'_>,
    job: &JobId,
    slot: &AssetId,
    upload: &str,
) -> Result<ApplyOutcome, StateError> {
    let record = UploadRecord { job: job.clone(), slot: slot.clone(), parts: Vec::new(), point: None };
    txn.put(keys::upload(upload), &record)?;
    txn.mark(keys::upload_of_job(job, upload));
    Ok(ApplyOutcome::Done)
}

/// What does not follow on from what is known, since the record before it is lost, changes nothing: the point before the
/// gap is still good.
pub(super) fn advanced(
    txn: &mut Txn<'_>,
    upload: &str,
    first: usize,
    parts: &[String],
    bytes: u64,
    point: &str,
) -> Result<ApplyOutcome, StateError> {
    let Some(mut record) = txn.get::<UploadRecord>(&keys::upload(upload))? else { return Ok(ApplyOutcome::Unknown) };
    if first != record.parts.len() {
        return Ok(ApplyOutcome::Done);
    }
    record.parts.extend_from_slice(parts);
    record.point = Some(point.to_owned());
    txn.put(keys::upload(upload), &record)?;
    if let Some(mut owner) = txn.open_job(&record.job, Part::File(&record.slot))? {
        let before = owner.job.asset(&record.slot).cloned();
        owner.job.advanced(&record.slot, bytes);
        if owner.job.asset(&record.slot) != before.as_ref() {
            txn.put_job(owner)?;
        }
    }
    Ok(ApplyOutcome::Done)
}

pub(super) fn ended(txn: &mut Txn<'_>, upload: &str) -> Result<ApplyOutcome, StateError> {
    if let Some(record) = txn.get::<UploadRecord>(&keys::upload(upload))? {
        txn.remove(keys::upload_of_job(&record.job, upload));
        txn.remove(keys::upload(upload));
    }
    Ok(ApplyOutcome::Done)
}
