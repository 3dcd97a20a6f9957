//! Which job a callback is about, and whose that job is.

use super::super::StateError;
use super::super::keys;
use super::super::records::RefRecord;
use super::super::stored_job::{OpenJob, Part};
use super::super::txn::Txn;
use super::{ApplyOutcome, ParsedCallback, confirm, outbox, put_job, quarantine, refs};
use crate::domain::{
    Digest, Job, JobId, JobState, Observation, Origin, Outcome, QuarantineReason, RefId, ReplyRef, Target, Timestamp,
};
use crate::journal::CallbackEntry;

pub(super) fn apply(
    txn: &mut Txn<'_>,
    position: u64,
    entry: &CallbackEntry,
    parsed: ParsedCallback,
) -> Result<ApplyOutcome, StateError> {
    let over = match &entry.target {
        Target::Ref(id) => refs::live(txn, id)?,
        Target::Channel | Target::UseApi => None,
    };
    outbox::enqueue(txn, position, entry, over.as_ref())?;
    let mut observation = match parsed {
        ParsedCallback::Job(observation) => observation,
        ParsedCallback::Unrecognised(reason) => return quarantine::keep(txn, position, entry, reason, None),
    };
    let known = open_job(txn, entry, &observation)?;
    if let Some(known) = &known
        && known.job.id != observation.job
    {
        // It is named by another of its ids.
        observation.job = known.job.id.clone();
    }
    let associate_ref =
        match associate_ref(txn, position, entry, over, &observation, known.as_ref().map(|open| &open.job))? {
            Ok(associate_ref) => associate_ref,
            Err(reason) => return quarantine::keep(txn, position, entry, reason, Some(observation.job)),
        };
    if entry.asked && known.is_none() {
        date_by_links(&mut observation);
    }
    let mut open = match known {
        Some(known) => known,
        None => OpenJob::new(unused(txn, position)?, Job::new(observation.job.clone(), entry.at)),
    };
    let before = (entry.asked && !open.is_new() && observation.outcome.is_some()).then(|| open.job.clone());
    let unconfirmed = awaits_confirmation(&open.job, entry, &observation);
    let aliases = if unconfirmed { Vec::new() } else { std::mem::take(&mut observation.aliases) };
    let (change, lacks) = if unconfirmed {
        (confirm::hold(txn, &mut open.job, position, entry, observation)?, 0)
    } else {
        let change = open.job.observe(&observation, entry.sidecars, position, entry.at);
        (change, open.job.lacks(&observation, entry.sidecars))
    };
    if let Some(before) = &before {
        open.job.keep_attempts(before);
    }
    if let Some(Association { ref_id, reply_ref, claims }) = associate_ref {
        open.job.ref_id = Some(ref_id);
        open.job.reply_ref = Some(reply_ref);
        open.job.claimed |= claims;
    }
    txn.meta.counters.callbacks += u64::from(!entry.asked);
    let over_budget = (lacks > 0).then(|| entry.replay_of.unwrap_or(position));
    if over_budget.is_some() {
        let job = Some(open.job.id.clone());
        quarantine::put(txn, quarantine::record_of(position, entry, QuarantineReason::OverBudget, job))?;
    } else if let Some(replayed) = entry.replay_of {
        quarantine::release(txn, replayed)?;
    }
    let sequence = open.sequence;
    let outcome = put_job(txn, open, Some(change), over_budget)?;
    learn_aliases(txn, sequence, aliases)?;
    Ok(outcome)
}

/// The job that a callback is about, with as much of it as the callback may change. Most callbacks change none of its files, and
/// cost the same however many it has.
fn open_job(txn: &Txn<'_>, entry: &CallbackEntry, observation: &Observation) -> Result<Option<OpenJob>, StateError> {
    let Some(open) = txn.open_job(&observation.job, Part::Header)? else { return Ok(None) };
    // After an answer that ends the job, attempts at all files are to be made as before.
    let keeps_attempts = entry.asked && observation.outcome.is_some();
    let part = if awaits_confirmation(&open.job, entry, observation) {
        Part::Finals
    } else if keeps_attempts || open.job.may_change_files(observation) {
        Part::Whole
    } else {
        Part::Header
    };
    if open.is_whole() || matches!(part, Part::Header) {
        return Ok(Some(open));
    }
    txn.open_job(&observation.job, part)
}

/// Whether nothing follows from a callback before the provider says the same. An archived job never turns back: all that can
/// follow is that it is shown as moderated.
fn awaits_confirmation(job: &Job, entry: &CallbackEntry, observation: &Observation) -> bool {
    let says_more = observation.outcome == Some(Outcome::Moderated) && job.withdrawn.is_none();
    let may_follow = job.state != JobState::Archived || says_more;
    entry.confirm && !entry.asked && observation.outcome.is_some() && may_follow
}

/// Other ids by which a job is found from now on, unless another job has them.
pub(super) fn learn_aliases(txn: &mut Txn<'_>, sequence: u64, aliases: Vec<JobId>) -> Result<(), StateError> {
    for alias in aliases {
        let key = keys::job_id(&alias);
        if !txn.contains(&key)? {
            txn.put(key, &sequence)?;
            txn.meta.counters.job_aliases += 1;
        }
    }
    Ok(())
}

/// The position, or one near it where another job has that: of two segments with one base both are read.
fn unused(txn: &Txn<'_>, mut position: u64) -> Result<u64, StateError> {
    while txn.is_replay() && txn.contains(&keys::job(position))? {
        position += 1;
    }
    Ok(position)
}

/// A job that is first heard of when it is over, in an answer that does not say when it was made, was made about when its
/// media were put where they are: else an import would date them all today.
fn date_by_links(observation: &mut Observation) {
    if observation.created_at.is_none() && observation.outcome.is_some() {
        let candidates = observation.assets.iter().flat_map(|asset| &asset.candidates);
        observation.created_at = candidates.filter_map(|candidate| candidate.url.hour()).min();
    }
}

/// The ref a job gets tied to.
struct Association {
    ref_id: RefId,
    reply_ref: ReplyRef,
    /// True when it was named over that ref's own URL.
    claims: bool,
}

/// Finds the ref (`over` is that over whose URL it came), or the reason to keep the body aside; no ref leaves the job tied as
/// it is.
fn associate_ref(
    txn: &mut Txn<'_>,
    position: u64,
    entry: &CallbackEntry,
    over: Option<RefRecord>,
    observation: &Observation,
    job: Option<&Job>,
) -> Result<Result<Option<Association>, QuarantineReason>, StateError> {
    match &entry.target {
        Target::Ref(id) => {
            let is_anothers = job.is_some_and(|job| job.claimed && job.ref_id.as_ref() != Some(id));
            let known = match over {
                // What the provider answered to the call that the ref was made for is about that ref's job.
                Some(known) if entry.asked && !is_anothers => known,
                _ if entry.asked => return Ok(Ok(None)),
                None => return Ok(Err(QuarantineReason::RefRemoved)),
                // The provider and proxies may trim it.
                Some(known) if observation.reply_ref.as_ref().is_some_and(|named| !named.is_like(&known.reply_ref)) => {
                    return Ok(Err(QuarantineReason::ReplyRefMismatch));
                }
                Some(_) if is_anothers => return Ok(Err(QuarantineReason::JobOfAnotherRef)),
                Some(known) => known,
            };
            Ok(Ok(Some(Association { ref_id: id.clone(), reply_ref: known.reply_ref, claims: true })))
        }
        Target::Channel | Target::UseApi => {
            let Some(named) = &observation.reply_ref else {
                return Ok(if entry.adopt || entry.asked { Ok(None) } else { Err(QuarantineReason::UnknownReplyRef) });
            };
            let registered = refs::named(txn, named)?;
            if entry.foreign && registered.as_ref().is_some_and(|known| known.origin == Origin::Registered) {
                return Ok(Ok(None));
            }
            if !entry.adopt && registered.as_ref().is_none_or(|known| known.origin == Origin::Adopted) {
                return Ok(if entry.asked { Ok(None) } else { Err(QuarantineReason::UnknownReplyRef) });
            }
            if job.is_some_and(|job| job.ref_id.is_some()) {
                return Ok(Ok(None));
            }
            let known = match registered {
                Some(known) => known,
                None => adopt(txn, position, named, entry.at)?,
            };
            Ok(Ok(Some(Association { ref_id: known.id, reply_ref: known.reply_ref, claims: false })))
        }
    }
}

fn adopt(txn: &mut Txn<'_>, position: u64, name: &ReplyRef, at: Timestamp) -> Result<RefRecord, StateError> {
    let record = RefRecord::new(adopted_id(position, at), name.clone(), Origin::Adopted, at);
    refs::put(txn, &record)?;
    Ok(record)
}

/// The id of the ref that a callback makes when it is the first to name a replyRef. Replay must find the same, so it
/// follows from where and when the callback was recorded.
pub fn adopted_id(position: u64, at: Timestamp) -> RefId {
    let digest = Digest::of(&[b"replyvault:adopted:".as_slice(), &position.to_be_bytes()].concat());
    let mut random = [0; 16];
    random[6..].copy_from_slice(&digest.as_bytes()[..10]);
    let ulid = ulid::Ulid::from_parts(at.millis(), u128::from_be_bytes(random));
    RefId::from_ulid(&ulid.to_string()).unwrap_or_else(|_| unreachable!("a ULID is 26 letters and digits"))
}
