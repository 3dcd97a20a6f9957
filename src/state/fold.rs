//! What each journal entry means for the state. The same function serves new entries and replay.

mod callback;
mod carry_forward;
mod confirm;
mod notify;
mod outbox;
mod quarantine;
mod refs;
mod storage;
mod tokens;
mod upload;

pub use callback::adopted_id;

use super::StateError;
use super::keys;
use super::records::Claim;
use super::records::{JobSummary, MediaRecord, RefRecord, StreamTokenRecord, UploadRecord};
use super::stored_job::{OpenJob, Part};
use super::txn::Txn;
use crate::domain::{Change, Digest, Job, JobId, JobState, Observation, Origin, QuarantineReason, StoredFile};
use crate::journal::{Entry, Event};

/// What a callback's body says, as the provider's module reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum ParsedCallback {
    /// It is about a job.
    Job(Box<Observation>),
    /// It is JSON that says nothing to act on.
    Unrecognised(QuarantineReason),
}

impl ParsedCallback {
    /// About how many bytes it takes up beside its body, and costs as much as to fold in.
    pub fn bytes(&self) -> usize {
        /// Of a file, its URLs and its record.
        const FILE: usize = 512;
        match self {
            Self::Job(observation) => observation.assets.len() * FILE,
            Self::Unrecognised(_) => 0,
        }
    }
}

/// Reads a callback's body.
pub type ParseCallback = fn(&[u8]) -> ParsedCallback;

/// What an entry changed.
#[derive(Clone, Debug, PartialEq)]
pub enum ApplyOutcome {
    /// A job as it now is. `change` is set for observations.
    Job {
        /// The job.
        job: Box<JobSummary>,
        /// What the observation did to it.
        change: Option<Change>,
        /// Where in quarantine the callback is because the job has no room for all that it names.
        over_budget: Option<u64>,
    },
    /// A body was kept aside.
    Quarantined {
        /// Its id.
        position: u64,
        /// Why.
        reason: QuarantineReason,
    },
    /// A ref as it now is.
    Ref {
        /// The ref.
        record: Box<RefRecord>,
        /// False when it was there already.
        created: bool,
    },
    /// The replyRef is registered with other content.
    RefConflict,
    /// So many bodies left quarantine.
    Removed(u64),
    /// What became of a claim.
    Claim(Box<ClaimOutcome>),
    /// Nothing anybody waits for.
    Done,
    /// The job or ref it names is not known.
    Unknown,
    /// It is in the journal; the state is being rebuilt and will have it.
    Deferred,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimOutcome {
    /// The object may be made visible.
    Granted,
    /// The index names an object with these bytes.
    AlreadyStored(MediaRecord),
    /// The file is stored, perhaps with other bytes.
    FileStored(Box<StoredFile>),
    /// The key belongs to other bytes, those with this digest.
    KeyTaken(Digest),
    /// Another file's claim is open.
    HeldBy(Claim),
}

/// Folds one entry in. `parsed` is that of a callback's body.
pub(super) fn apply(
    txn: &mut Txn<'_>,
    position: u64,
    entry: &Entry,
    parsed: Option<ParsedCallback>,
) -> Result<ApplyOutcome, StateError> {
    txn.position = position;
    let event = match entry {
        Entry::Callback(entry) => {
            let parsed = parsed.unwrap_or(ParsedCallback::Unrecognised(QuarantineReason::UnknownShape));
            return callback::apply(txn, position, entry, parsed);
        }
        Entry::Kept(entry) => return carry_forward::callback(txn, position, entry),
        Entry::Event(event) => event,
    };
    match event {
        Event::Repeated { job, times, .. } => {
            txn.meta.counters.callbacks += u64::from(*times);
            change_job(txn, job, Part::Header, |job| job.callbacks = job.callbacks.saturating_add(*times))
        }
        Event::RefAdded { at, id, reply_ref, notify_url, labels } => {
            let (notify_url, labels) = (notify_url.clone(), labels.clone());
            let plain = RefRecord::new(id.clone(), reply_ref.clone(), Origin::Registered, *at);
            refs::register(txn, RefRecord { notify_url, labels, ..plain })
        }
        Event::GatewayRefAdded { at, id, reply_ref, made, forward_url } => {
            let plain = RefRecord::new(id.clone(), reply_ref.clone(), Origin::Gateway, *at);
            refs::make(txn, RefRecord { made: *made, forward_url: forward_url.clone(), ..plain })
        }
        Event::RefRemoved { at, id } => refs::remove(txn, id, *at),
        Event::QuarantineRemoved { positions, .. } => quarantine::remove(txn, positions),
        Event::StreamTokenGiven { at, digest, ours, account } => {
            let record = StreamTokenRecord { at: *at, ours: *ours, account: account.clone() };
            tokens::issued(txn, digest, &record)
        }
        Event::Placed { job, folder, fallback, .. } => storage::assign_folder(txn, job, folder, fallback),
        Event::UploadStarted { job, slot, upload, .. } => upload::started(txn, job, slot, upload),
        Event::UploadAdvanced { upload, first, parts, bytes, point, .. } => {
            upload::advanced(txn, upload, *first, parts, *bytes, point)
        }
        Event::UploadEnded { upload, .. } => upload::ended(txn, upload),
        Event::Claimed { job, slot, file, .. } => {
            storage::claim(txn, Claim { job: job.clone(), slot: slot.clone(), file: file.clone() })
        }
        Event::Released { sha256, .. } => {
            txn.remove(keys::claim(sha256));
            Ok(ApplyOutcome::Done)
        }
        Event::Stored { job, slot, file } => storage::stored(txn, position, job, slot, file),
        Event::AttemptFailed { at, job, slot, failure, renewals, due } => {
            let Some(mut open) = txn.open_job(job, Part::File(slot))? else { return Ok(ApplyOutcome::Unknown) };
            open.job.attempt_failed(slot, failure, *renewals, *due, *at);
            notify::expiring(txn, &mut open, Some(slot), *at)?;
            put_job(txn, open, None, None)
        }
        Event::Ended { at, job, state, decided_by, manifest_key } => {
            if let (JobState::Archived, Some(position)) = (state, decided_by) {
                carry_forward::forget(txn, *position)?;
            }
            change_job(txn, job, Part::Header, |job| job.end(*state, *decided_by, manifest_key.clone(), *at))
        }
        Event::RefKept { id, reply_ref, origin, notify_url, labels, made, forward_url, created_at } => {
            let (notify_url, labels, forward_url) = (notify_url.clone(), labels.clone(), forward_url.clone());
            let plain = RefRecord::new(id.clone(), reply_ref.clone(), *origin, *created_at);
            refs::kept(txn, RefRecord { notify_url, labels, made: *made, forward_url, ..plain })
        }
        Event::PassedOn { id, position, .. } => outbox::dequeue(txn, id, *position, true),
        Event::PassOnGivenUp { id, position, .. } => outbox::dequeue(txn, id, *position, false),
        Event::PassOnKept { at, id, position, bytes } => outbox::kept(txn, id, *position, *at, *bytes),
        Event::ClaimKept { position, job, slot, file } => {
            carry_forward::claim(txn, *position, Claim { job: job.clone(), slot: slot.clone(), file: file.clone() })
        }
        Event::UploadKept { position, job, slot, upload, parts, point } => {
            let (parts, point) = (parts.clone(), point.clone());
            carry_forward::upload(
                txn,
                *position,
                upload,
                UploadRecord { job: job.clone(), slot: slot.clone(), parts, point },
            )
        }
        Event::JobKept { sequence, job } => carry_forward::job(txn, position, *sequence, job),
        Event::JobFound { job, .. } => carry_forward::from_manifest(txn, position, job),
        Event::Confirmed { at, job, position, aliases } => confirm::confirmed(txn, job, *position, aliases, *at),
        Event::Refuted { at, job, position, .. } => confirm::refuted(txn, job, *position, *at),
        Event::Unanswered { job, due, .. } => change_job(txn, job, Part::Header, |job| job.ask_again(*due)),
        Event::Removed { at, job } => change_job(txn, job, Part::Whole, |job| job.remove(position, *at)),
        Event::Retried { at, job } => change_job(txn, job, Part::Whole, |job| job.retry(*at)),
        Event::NotifyRoutes { routes } => notify::set_routes(txn, routes),
        Event::LinksExpiring { at, job } => {
            let Some(mut open) = txn.open_job(job, Part::Header)? else { return Ok(ApplyOutcome::Unknown) };
            notify::expiring(txn, &mut open, None, *at)?;
            put_job(txn, open, None, None)
        }
        Event::NotificationDelivered { at, id } => notify::delivered(txn, id, *at),
        Event::NotificationFailed { at, id, error, due } => notify::failed(txn, id, error, *at, *due),
        Event::NotificationDead { at, id, why } => notify::dead(txn, id, why, *at),
        Event::NotificationRetried { id, .. } => notify::retried(txn, id),
        Event::NotificationKept { number, notification } => notify::kept(txn, *number, notification),
        // Says something of the journal it stands in, and nothing of jobs.
        Event::Doubtful { .. } | Event::Settled { .. } => Ok(ApplyOutcome::Done),
    }
}

/// What to do about an entry whose folding came upon a defect: a callback's body is kept aside, for when that is mended.
pub(super) fn pass_over(txn: &mut Txn<'_>, position: u64, entry: &Entry) -> Result<(), StateError> {
    match entry {
        Entry::Callback(entry) => {
            quarantine::keep(txn, position, entry, QuarantineReason::InternalError, None).map(drop)
        }
        Entry::Kept(_) | Entry::Event(_) => Ok(()),
    }
}

fn change_job(
    txn: &mut Txn<'_>,
    id: &JobId,
    part: Part<'_>,
    change: impl FnOnce(&mut Job),
) -> Result<ApplyOutcome, StateError> {
    let Some(mut open) = txn.open_job(id, part)? else { return Ok(ApplyOutcome::Unknown) };
    change(&mut open.job);
    put_job(txn, open, None, None)
}

/// Writes a job, and what is to be told of its change; says what it is now.
fn put_job(
    txn: &mut Txn<'_>,
    mut open: OpenJob,
    change: Option<Change>,
    over_budget: Option<u64>,
) -> Result<ApplyOutcome, StateError> {
    notify::changed(txn, &mut open, change)?;
    put_job_quietly(txn, open, change, over_budget)
}

/// The same when nobody is to be told of it.
fn put_job_quietly(
    txn: &mut Txn<'_>,
    open: OpenJob,
    change: Option<Change>,
    over_budget: Option<u64>,
) -> Result<ApplyOutcome, StateError> {
    let job = Box::new(open.summary());
    txn.put_job(open)?;
    Ok(ApplyOutcome::Job { job, change, over_budget })
}

/// What a job that did not change is.
fn unchanged(open: &OpenJob) -> ApplyOutcome {
    ApplyOutcome::Job { job: Box::new(open.summary()), change: None, over_budget: None }
}
