//! Folders, claims and the content-hash index.

use super::super::StateError;
use super::super::keys;
use super::super::records::Claim;
use super::super::stored_job::Part;
use super::super::txn::Txn;
use super::{ApplyOutcome, ClaimOutcome, put_job, unchanged};
use crate::domain::{AssetId, AssetState, Digest, JobId, StoredFile};

pub(super) fn assign_folder(
    txn: &mut Txn<'_>,
    id: &JobId,
    folder: &str,
    fallback: &str,
) -> Result<ApplyOutcome, StateError> {
    let Some(mut open) = txn.open_job(id, Part::Header)? else { return Ok(ApplyOutcome::Unknown) };
    if open.job.folder.is_none() {
        let mut taken = folder.to_owned();
        if txn.contains(&keys::folder(&taken))? {
            taken = fallback.to_owned();
        }
        if txn.contains(&keys::folder(&taken))? {
            // Eight hex digits of a digest can be the same for two jobs; sequences cannot.
            taken = format!("{fallback}-{:x}", open.sequence);
        }
        txn.put(keys::folder(&taken), &open.sequence)?;
        txn.meta.counters.jobs_placed += 1;
        open.job.place(taken);
        return put_job(txn, open, None, None);
    }
    Ok(unchanged(&open))
}

pub(super) fn claim(txn: &mut Txn<'_>, claim: Claim) -> Result<ApplyOutcome, StateError> {
    if let Some(stored) = txn.media(&claim.file.sha256)? {
        return Ok(outcome(ClaimOutcome::AlreadyStored(stored)));
    }
    let open = txn.open_job(&claim.job, Part::File(&claim.slot))?;
    if let Some(stored) = open.and_then(|open| open.job.asset(&claim.slot)?.stored.clone()) {
        return Ok(outcome(ClaimOutcome::FileStored(Box::new(stored))));
    }
    if let Some(held) = txn.get::<Claim>(&keys::claim(&claim.file.sha256))?
        && (&held.job, &held.slot, &held.file.key) != (&claim.job, &claim.slot, &claim.file.key)
    {
        return Ok(outcome(ClaimOutcome::HeldBy(held)));
    }
    if let Some(owner) = take_key(txn, &claim.file.key, &claim.file.sha256)? {
        return Ok(outcome(ClaimOutcome::KeyTaken(owner)));
    }
    txn.put(keys::claim(&claim.file.sha256), &claim)?;
    Ok(outcome(ClaimOutcome::Granted))
}

/// Gives a key of the bucket to a digest. It keeps it for good, also when its claim is released: a write that was given up
/// may still arrive, and must not find another object there. Returns the digest that has the key already, if it is another.
pub(super) fn take_key(txn: &mut Txn<'_>, key: &str, digest: &Digest) -> Result<Option<Digest>, StateError> {
    let record = keys::object_key(key);
    if let Some(owner) = txn.get::<Digest>(&record)? {
        return Ok((owner != *digest).then_some(owner));
    }
    txn.put(record, digest)?;
    txn.meta.counters.object_keys += 1;
    Ok(None)
}

/// Gives a key to a digest whoever has it, and takes the object that was there out of the index. Older versions granted
/// claims on a key that belonged to other bytes: there the object has what was stored last.
fn seize_key(txn: &mut Txn<'_>, key: &str, digest: &Digest) -> Result<(), StateError> {
    let Some(owner) = take_key(txn, key, digest)? else { return Ok(()) };
    txn.put(keys::object_key(key), digest)?;
    if let Some(lost) = txn.media(&owner)?.filter(|media| media.key == key) {
        txn.remove(keys::media_digest(&owner));
        txn.remove(keys::media(lost.position));
        let counters = &mut txn.meta.counters;
        counters.objects = counters.objects.saturating_sub(1);
        counters.bytes_stored = counters.bytes_stored.saturating_sub(lost.bytes);
    }
    Ok(())
}

fn outcome(outcome: ClaimOutcome) -> ApplyOutcome {
    ApplyOutcome::Claim(Box::new(outcome))
}

pub(super) fn stored(
    txn: &mut Txn<'_>,
    position: u64,
    id: &JobId,
    slot: &AssetId,
    file: &StoredFile,
) -> Result<ApplyOutcome, StateError> {
    seize_key(txn, &file.key, &file.sha256)?;
    let media = super::carry_forward::add_media(txn, position, file)?;
    txn.remove(keys::claim(&file.sha256));
    let Some(mut open) = txn.open_job(id, Part::File(slot))? else { return Ok(ApplyOutcome::Unknown) };
    let is_new = open.job.asset(slot).is_some_and(|asset| asset.state != AssetState::Stored);
    if is_new && let Some(media) = media {
        txn.mark(keys::reference(media, open.sequence, slot));
        txn.meta.counters.references += 1;
        if file.deduplicated {
            txn.meta.counters.bytes_deduplicated += file.bytes;
        }
        open.job.file_stored(slot, file.clone(), file.at);
        return put_job(txn, open, None, None);
    }
    Ok(unchanged(&open))
}
