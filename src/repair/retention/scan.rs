//! What of a segment is still open, so that it has to be written again before the segment goes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{LONGEST_PAUSE, Retention, RetentionError};
use crate::domain::{Digest, Job, JobId, JobState, NotificationId, NotificationState, RefId, Target, Timestamp};
use crate::journal::{CallbackEntry, DamageKind, Entry, Event, KeptCallback, Quarantined};
use crate::state::{JobRecord, ParsedCallback, State, StateError, UploadRecord, adopted_id};

/// What a segment names that may still be open. It has no more in it than the segment has.
#[derive(Default)]
pub(super) struct OpenEntries {
    refs: BTreeSet<RefId>,
    jobs: BTreeSet<JobId>,
    /// Claims, with their positions.
    claims: Vec<ClaimAt>,
    /// Uploads, with the positions of their starts.
    uploads: Vec<UploadAt>,
    /// Callbacks that wait to be passed on.
    outbox: Vec<Entry>,
    /// Events that are on their way or dead, with their numbers.
    notifications: Vec<(u64, NotificationId)>,
    /// Whether it says which endpoints are told of what.
    has_routes: bool,
}

/// How many records are held in memory to be written again.
const PAGE: usize = 64;
/// How often jobs that change while they are written again are written once more.
const ROUNDS: usize = 8;
/// How far the clock that a file system goes by may be ahead.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

impl Retention {
    /// What of a segment may be open; `None` while it may not go.
    pub(super) fn open_in(&self, base: u64) -> Result<Option<OpenEntries>, RetentionError> {
        if !self.is_idle(base) {
            return Ok(None);
        }
        let (state, mut open) = (self.log.state(), OpenEntries::default());
        let mut only_repetitions = true;
        for item in self.journal().read_segment(base) {
            let (position, entry) = item?;
            only_repetitions &= is_carried_forward(&entry);
            match entry {
                Entry::Callback(callback) => {
                    if callback.target.is_channel() {
                        open.refs.insert(adopted_id(position, callback.at));
                    }
                    open.notifications.extend(unsent(state, position)?);
                    self.body(state, &mut open, position, callback)?;
                }
                // Of several places the last one counts.
                Entry::Kept(kept) if state.callback_at(kept.position)? == position => {
                    self.body(state, &mut open, kept.position, kept.callback)?;
                }
                Entry::Kept(_) => {}
                Entry::Event(event) => {
                    let number = if let Event::NotificationKept { number, .. } = event { number } else { position };
                    open.notifications.extend(unsent(state, number)?);
                    open.event(position, event);
                }
            }
        }
        if only_repetitions && !self.has_new_entries_after(base)? {
            // Moving it on would free no room, for ever.
            return Ok(None);
        }
        Ok(Some(open))
    }

    /// A body is written again while it waits to be passed on. Whoever else wants one reads it where it is.
    fn body(
        &self,
        state: &State,
        open: &mut OpenEntries,
        position: u64,
        callback: CallbackEntry,
    ) -> Result<(), RetentionError> {
        if let ParsedCallback::Job(observation) = (self.parse_callback)(&callback.body) {
            open.jobs.insert(observation.job);
        }
        let Target::Ref(id) = &callback.target else { return Ok(()) };
        if state.waits_in_outbox(id, position)? {
            let (at, id, bytes) = (callback.at, id.clone(), callback.body.len() as u64);
            open.outbox.push(Entry::Event(Event::PassOnKept { at, id, position, bytes }));
            let quarantined = state.quarantined(position)?;
            let quarantined = quarantined.map(|record| Quarantined { reason: record.reason, job: record.job_id });
            open.outbox.push(Entry::Kept(KeptCallback { position, quarantined, callback }));
        }
        Ok(())
    }

    /// Writes again what is still open, as it is by now. Returns how many entries that took.
    pub(super) async fn write_again(&self, open: OpenEntries) -> Result<usize, RetentionError> {
        let OpenEntries { refs, jobs, claims, uploads, outbox, notifications, has_routes } = open;
        let mut written = outbox.len();
        self.log.record_again(outbox).await?;
        written += self.write_pages(has_routes.then_some(()).into_iter().collect(), routes_again).await?;
        written += self.write_pages(notifications, notification_again).await?;
        written += self.write_pages(refs.into_iter().collect(), ref_again).await?;
        written += self.write_jobs(jobs.into_iter().collect()).await?;
        written += self.write_pages(claims, claim_again).await?;
        written += self.write_pages(uploads, upload_again).await?;
        Ok(written)
    }

    async fn write_pages<T: Clone + Send + 'static>(
        &self,
        items: Vec<T>,
        again: fn(&State, T) -> Result<Option<Event>, StateError>,
    ) -> Result<usize, RetentionError> {
        let mut written = 0;
        for page in items.chunks(PAGE) {
            let page = page.to_vec();
            let events = self.blocking(move |this| {
                let events = page.into_iter().map(|item| again(this.log.state(), item));
                Ok(events.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?)
            });
            let events = events.await?;
            written += events.len();
            self.log.record_again(events.into_iter().map(Entry::Event).collect()).await?;
        }
        Ok(written)
    }

    /// Jobs that have not ended. What happens to one between its being read and its being written would be lost with the
    /// segments before it, so it is looked at again.
    async fn write_jobs(&self, jobs: Vec<JobId>) -> Result<usize, RetentionError> {
        let mut written = 0;
        for page in jobs.chunks(PAGE) {
            let (page, mut known) = (page.to_vec(), HashMap::new());
            for _ in 0..ROUNDS {
                let (ids, before) = (page.clone(), std::mem::take(&mut known));
                let (changed, after) = self.blocking(move |this| changed(this.log.state(), ids, before)).await?;
                known = after;
                if changed.is_empty() {
                    break;
                }
                written += changed.len();
                self.log.record_again(changed.into_iter().map(Entry::Event).collect()).await?;
            }
        }
        Ok(written)
    }

    /// Whether a segment that might go has a stretch that cannot be read.
    pub(super) fn is_damaged(&self, base: u64) -> Result<bool, RetentionError> {
        if !self.is_idle(base) {
            return Ok(false);
        }
        let mut replay = self.journal().read_segment(base);
        for entry in replay.by_ref() {
            match entry {
                // The journal says so; the next pass looks again.
                Err(error) if error.is_read_error() => return Ok(true),
                entry => drop(entry?),
            }
        }
        Ok(replay.damage().iter().any(|damage| damage.kind == DamageKind::Garbled))
    }

    /// Whether a segment has anything but repetitions.
    pub(super) fn has_new_entries(&self, base: u64) -> Result<bool, RetentionError> {
        for entry in self.journal().read_segment(base) {
            match entry {
                // Nobody knows what it has.
                Err(error) if error.is_read_error() => return Ok(true),
                entry => {
                    if !is_carried_forward(&entry?.1) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn has_new_entries_after(&self, base: u64) -> Result<bool, RetentionError> {
        let (sealed, newest) = (self.journal().sealed(), self.journal().newest());
        for later in sealed.into_iter().chain(newest).filter(|later| *later > base) {
            if self.has_new_entries(later)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing was written to a segment for `keep`; false when that cannot be found out. One that was written to while
    /// the clock was ahead counts as written to now: else it would hold up those behind it until the clock gets there.
    pub(super) fn is_idle(&self, base: u64) -> bool {
        let Ok(mut written_at) = self.journal().written_at(base) else { return false };
        let now = Timestamp::now();
        if written_at > now.after(CLOCK_TOLERANCE) {
            // After a boot it may be the present clock that is wrong.
            if self.begun.elapsed() < (self.keep / 8).min(LONGEST_PAUSE) {
                return false;
            }
            if let Err(error) = self.journal().reset_written_at(base) {
                tracing::warn!(%error, "a segment was written to while the clock was ahead");
                return false;
            }
            tracing::warn!(base, %written_at, "a segment was written to while the clock was ahead: it counts as written to now");
            written_at = now;
        }
        is_past(written_at, self.keep)
    }
}

impl OpenEntries {
    fn event(&mut self, position: u64, event: Event) {
        match event {
            Event::RefAdded { id, .. } | Event::GatewayRefAdded { id, .. } | Event::RefKept { id, .. } => {
                self.refs.insert(id);
            }
            Event::UploadStarted { job, upload, .. } => self.uploads.push((position, job, upload)),
            Event::UploadKept { position, job, upload, .. } => self.uploads.push((position, job, upload)),
            Event::Claimed { job, file, .. } => {
                self.claims.push((position, job.clone(), file.sha256));
                self.jobs.insert(job);
            }
            Event::ClaimKept { position, job, file, .. } => self.claims.push((position, job, file.sha256)),
            Event::Repeated { job, .. }
            | Event::Placed { job, .. }
            | Event::Stored { job, .. }
            | Event::AttemptFailed { job, .. }
            | Event::Ended { job, .. }
            | Event::Confirmed { job, .. }
            | Event::Refuted { job, .. }
            | Event::Unanswered { job, .. }
            | Event::Removed { job, .. }
            | Event::Retried { job, .. } => {
                self.jobs.insert(job);
            }
            Event::LinksExpiring { job, .. } => {
                self.jobs.insert(job);
            }
            Event::NotifyRoutes { .. } => self.has_routes = true,
            Event::JobKept { job, .. } | Event::JobFound { job, .. } => {
                self.jobs.insert(job.id);
            }
            Event::RefRemoved { .. }
            | Event::QuarantineRemoved { .. }
            | Event::StreamTokenGiven { .. }
            | Event::PassedOn { .. }
            | Event::PassOnGivenUp { .. }
            | Event::PassOnKept { .. }
            | Event::UploadAdvanced { .. }
            | Event::UploadEnded { .. }
            | Event::NotificationDelivered { .. }
            | Event::NotificationFailed { .. }
            | Event::NotificationDead { .. }
            | Event::NotificationRetried { .. }
            | Event::NotificationKept { .. }
            | Event::Doubtful { .. }
            | Event::Settled { .. }
            | Event::Released { .. } => {}
        }
    }
}

fn ref_again(state: &State, id: RefId) -> Result<Option<Event>, StateError> {
    Ok(state.reply_ref(&id)?.map(|record| Event::RefKept {
        id: record.id,
        reply_ref: record.reply_ref,
        origin: record.origin,
        notify_url: record.notify_url,
        labels: record.labels,
        made: record.made,
        forward_url: record.forward_url,
        created_at: record.created_at,
    }))
}

fn unsent(state: &State, position: u64) -> Result<Vec<(u64, NotificationId)>, StateError> {
    let unsent = state.unsent_notifications_of(position)?.into_iter();
    Ok(unsent.map(|(number, notification)| (number, notification.id)).collect())
}

/// As it is by now.
fn notification_again(state: &State, (number, id): (u64, NotificationId)) -> Result<Option<Event>, StateError> {
    let unsent = state.notification(&id)?.filter(|found| found.state != NotificationState::Delivered);
    Ok(unsent.map(|notification| Event::NotificationKept { number, notification: Box::new(notification) }))
}

fn routes_again(state: &State, (): ()) -> Result<Option<Event>, StateError> {
    let routes = state.notify_routes()?;
    Ok((!routes.is_empty()).then_some(Event::NotifyRoutes { routes }))
}

type ClaimAt = (u64, JobId, Digest);

fn claim_again(state: &State, (position, job, sha256): ClaimAt) -> Result<Option<Event>, StateError> {
    let claim = state.claim(&sha256)?.filter(|claim| claim.job == job);
    Ok(claim.map(|claim| Event::ClaimKept { position, job, slot: claim.slot, file: claim.file }))
}

type UploadAt = (u64, JobId, String);

fn upload_again(state: &State, (position, job, upload): UploadAt) -> Result<Option<Event>, StateError> {
    let record = state.uploads_of(&job)?.into_iter().find(|(name, _)| *name == upload);
    Ok(record.map(|(_, UploadRecord { slot, parts, point, .. })| Event::UploadKept {
        position,
        job,
        slot,
        upload,
        parts,
        point,
    }))
}

/// Those of the jobs that have not ended and are not as they were, and all of them as they are.
fn changed(
    state: &State,
    ids: Vec<JobId>,
    mut known: HashMap<JobId, Job>,
) -> Result<(Vec<Event>, HashMap<JobId, Job>), RetentionError> {
    let mut events = Vec::new();
    for id in ids {
        let Some(JobRecord { sequence, job }) = state.job(&id)? else { continue };
        // A stuck one may be tried again.
        let has_ended = matches!(job.state, JobState::Archived | JobState::Failed);
        if !has_ended && known.get(&id) != Some(&job) {
            known.insert(id, job.clone());
            events.push(Event::JobKept { sequence, job: Box::new(job) });
        }
    }
    Ok((events, known))
}

/// Whether an entry only says again what was said before.
fn is_carried_forward(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::Kept(_)
            | Entry::Event(
                Event::RefKept { .. }
                    | Event::JobKept { .. }
                    | Event::PassOnKept { .. }
                    | Event::NotifyRoutes { .. }
                    | Event::NotificationKept { .. }
                    | Event::ClaimKept { .. }
                    | Event::UploadKept { .. }
            )
    )
}

fn is_past(at: Timestamp, time: Duration) -> bool {
    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    at.millis().saturating_add(time) <= Timestamp::now().millis()
}
