//! What is written again before the segment that has it goes, and what only the bucket knew.
//!
//! A state that was folded from everything has it all already, and may know more by now: then only the new place of a
//! callback's bytes is noted. Something is taken over where a stretch of the journal was missing.

use super::super::StateError;
use super::super::keys;
use super::super::records::{Claim, MediaRecord, QuarantineRecord, UploadRecord};
use super::super::stored_job::{OpenJob, Part};
use super::super::txn::Txn;
use super::{ApplyOutcome, put_job, put_job_quietly, storage};
use crate::domain::{Job, JobState, StoredFile};
use crate::journal::KeptCallback;

pub(super) fn callback(txn: &mut Txn<'_>, position: u64, entry: &KeptCallback) -> Result<ApplyOutcome, StateError> {
    if !txn.contains(&keys::kept(entry.position))? {
        txn.meta.counters.kept += 1;
    }
    txn.put(keys::kept(entry.position), &position)?;
    let key = keys::quarantine(entry.position);
    if let Some(quarantined) = &entry.quarantined
        && entry.position < txn.meta.begins
        && !txn.contains(&key)?
    {
        let record = QuarantineRecord {
            position: entry.position,
            at: entry.callback.at,
            target: entry.callback.target.clone(),
            reason: quarantined.reason,
            job_id: quarantined.job.clone(),
            bytes: entry.callback.body.len() as u64,
        };
        txn.meta.counters.quarantined += 1;
        txn.meta.counters.quarantined_bytes += record.bytes;
        txn.put(key, &record)?;
    }
    Ok(ApplyOutcome::Done)
}

/// Nobody will ask for the callback that was first recorded at `position` again.
pub(super) fn forget(txn: &mut Txn<'_>, position: u64) -> Result<(), StateError> {
    // Mostly nothing is, and then nothing needs to be looked up.
    if txn.meta.counters.kept > 0 && txn.contains(&keys::kept(position))? {
        txn.remove(keys::kept(position));
        txn.meta.counters.kept = txn.meta.counters.kept.saturating_sub(1);
    }
    Ok(())
}

pub(super) fn job(txn: &mut Txn<'_>, position: u64, sequence: u64, job: &Job) -> Result<ApplyOutcome, StateError> {
    let known = txn.open_job(&job.id, Part::Whole)?;
    // What was counted more often has seen more: it came while this was written, and is written again behind it.
    // An archived job never turns back: its end came while this was written.
    let knows_more = |known: &Job| known.callbacks > job.callbacks || known.state == JobState::Archived;
    let knows_more = known.as_ref().is_some_and(|known| knows_more(&known.job));
    if knows_more || (known.is_some() && sequence >= txn.meta.begins) {
        return Ok(ApplyOutcome::Done);
    }
    let open = import_job(txn, position, sequence, known, job)?;
    put_job_quietly(txn, open, None, None)
}

pub(super) fn claim(txn: &mut Txn<'_>, position: u64, claim: Claim) -> Result<ApplyOutcome, StateError> {
    if position < txn.meta.begins { storage::claim(txn, claim) } else { Ok(ApplyOutcome::Done) }
}

pub(super) fn upload(
    txn: &mut Txn<'_>,
    position: u64,
    name: &str,
    record: UploadRecord,
) -> Result<ApplyOutcome, StateError> {
    if position < txn.meta.begins && !txn.contains(&keys::upload(name))? {
        txn.mark(keys::upload_of_job(&record.job, name));
        txn.put(keys::upload(name), &record)?;
    }
    Ok(ApplyOutcome::Done)
}

pub(super) fn from_manifest(txn: &mut Txn<'_>, position: u64, job: &Job) -> Result<ApplyOutcome, StateError> {
    let known = txn.open_job(&job.id, Part::Whole)?;
    if known.as_ref().is_some_and(|known| !known.job.state.is_superseded_by(job.state)) {
        return Ok(ApplyOutcome::Done);
    }
    let is_known = known.is_some();
    let open = import_job(txn, position, position, known, job)?;
    // A kill may come between a manifest and the record of the end that it tells of: then this is where that becomes known, and
    // is told. Of a job that was lost as a whole nobody knows whom to tell what.
    if is_known { put_job(txn, open, None, None) } else { put_job_quietly(txn, open, None, None) }
}

/// Puts `job` in the place of what is known of it, with all that follows from its files.
fn import_job(
    txn: &mut Txn<'_>,
    position: u64,
    sequence: u64,
    known: Option<OpenJob>,
    job: &Job,
) -> Result<OpenJob, StateError> {
    let mut job = job.clone();
    let mut is_placed = false;
    if let Some(known) = &known {
        job.callbacks = job.callbacks.max(known.job.callbacks);
        // Manifests do not have them. They tell events apart.
        job.events = job.events.max(known.job.events);
        job.expiry_told = job.expiry_told.max(known.job.expiry_told);
        is_placed = known.job.folder.is_some();
        job.folder = known.job.folder.clone().or(job.folder);
    }
    let mut open = known.unwrap_or_else(|| OpenJob::new(sequence, job.clone()));
    let sequence = open.sequence;
    if !is_placed && let Some(folder) = &job.folder {
        let key = keys::folder(folder);
        if txn.contains(&key)? {
            // Another job's by now: it gets one of its own when it is worked on.
            job.folder = None;
        } else {
            txn.put(key, &sequence)?;
            txn.meta.counters.jobs_placed += 1;
        }
    }
    for (place, asset) in (position..).zip(&job.assets) {
        let Some(file) = &asset.stored else { continue };
        let Some(media) = add_media(txn, place, file)? else { continue };
        let reference = keys::reference(media, sequence, &asset.slot);
        if !txn.contains(&reference)? {
            txn.mark(reference);
            txn.meta.counters.references += 1;
            txn.meta.counters.bytes_deduplicated += if file.deduplicated { file.bytes } else { 0 };
        }
    }
    open.job = job;
    Ok(open)
}

/// Enters an object in the index, unless its bytes are there. `place` orders it among all others: a journal position that
/// no other object has. Returns the place of the object with these bytes; `None` when its key belongs to others.
pub(super) fn add_media(txn: &mut Txn<'_>, place: u64, file: &StoredFile) -> Result<Option<u64>, StateError> {
    let digest = keys::media_digest(&file.sha256);
    if let Some(known) = txn.get(&digest)? {
        return Ok(Some(known));
    }
    if super::storage::take_key(txn, &file.key, &file.sha256)?.is_some() {
        return Ok(None);
    }
    let media = MediaRecord {
        bytes: file.bytes,
        content_type: file.content_type.clone(),
        key: file.key.clone(),
        first_stored_at: file.at,
        position: place,
    };
    txn.put(keys::media(place), &(file.sha256, media))?;
    txn.put(digest, &place)?;
    txn.meta.counters.objects += 1;
    txn.meta.counters.bytes_stored += file.bytes;
    Ok(Some(place))
}
