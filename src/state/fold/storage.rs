//! Folders, claims and the content-hash index.

use super::super::StateError;
use super::super::keys;
use super::super::records::Claim;
use super::super::txn::Txn;
use super::{Applied, ClaimOutcome};
use crate::domain::{AssetState, JobId, Slot, StoredFile};

pub(super) fn place(txn: &mut Txn<'_>, id: &JobId, folder: &str, fallback: &str) -> Result<Applied, StateError> {
    let Some(mut record) = txn.job(id)? else { return Ok(Applied::Unknown) };
    if record.job.folder.is_none() {
        let mut taken = folder.to_owned();
        if txn.contains(&keys::folder(&taken))? {
            taken = fallback.to_owned();
        }
        if txn.contains(&keys::folder(&taken))? {
            // Eight hex digits of a digest can be the same for two jobs; sequences cannot.
            taken = format!("{fallback}-{:x}", record.sequence);
        }
        txn.put(keys::folder(&taken), &record.sequence)?;
        txn.meta.counters.jobs_placed += 1;
        let before = record.job.clone();
        record.job.place(taken);
        txn.put_job(Some(&before), &record)?;
    }
    Ok(Applied::Job { record: Box::new(record), change: None })
}

pub(super) fn claim(txn: &mut Txn<'_>, claim: Claim) -> Result<Applied, StateError> {
    if let Some(stored) = txn.media(&claim.file.sha256)? {
        return Ok(outcome(ClaimOutcome::AlreadyStored(stored)));
    }
    if let Some(held) = txn.get::<Claim>(&keys::claim(&claim.file.sha256))?
        && (&held.job, &held.slot, &held.file.key) != (&claim.job, &claim.slot, &claim.file.key)
    {
        return Ok(outcome(ClaimOutcome::HeldBy(held)));
    }
    txn.put(keys::claim(&claim.file.sha256), &claim)?;
    Ok(outcome(ClaimOutcome::Granted))
}

fn outcome(outcome: ClaimOutcome) -> Applied {
    Applied::Claim(Box::new(outcome))
}

pub(super) fn stored(
    txn: &mut Txn<'_>,
    position: u64,
    id: &JobId,
    slot: &Slot,
    file: &StoredFile,
) -> Result<Applied, StateError> {
    let media = super::kept::add_media(txn, position, file)?;
    txn.remove(keys::claim(&file.sha256));
    let Some(mut record) = txn.job(id)? else { return Ok(Applied::Unknown) };
    let before = record.job.clone();
    let is_new = record.job.asset(slot).is_some_and(|asset| asset.state != AssetState::Stored);
    if is_new {
        txn.mark(keys::reference(media, record.sequence, slot));
        txn.meta.counters.references += 1;
        if file.deduplicated {
            txn.meta.counters.bytes_deduplicated += file.bytes;
        }
        record.job.file_stored(slot, file.clone(), file.at);
        txn.put_job(Some(&before), &record)?;
    }
    Ok(Applied::Job { record: Box::new(record), change: None })
}
