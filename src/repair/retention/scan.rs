//! Whether a segment may go, and what of it is still needed here.

use std::collections::HashSet;
use std::time::Duration;

use super::{Retention, RetentionError};
use crate::domain::{JobId, JobState, RefId, Target, Timestamp};
use crate::journal::{CallbackEntry, Entry, Event, KeptCallback, Quarantined};
use crate::state::{JobRecord, Meaning, State, adopted_id};

/// What is known of a segment while it is read.
struct Scan<'a> {
    retention: &'a Retention,
    state: &'a State,
    jobs: HashSet<JobId>,
    refs: HashSet<RefId>,
    needed: Vec<Entry>,
}

impl Retention {
    /// What has to be written again before a segment goes; `None` while it may not.
    pub(super) fn needed_of(&self, base: u64) -> Result<Option<Vec<Entry>>, RetentionError> {
        if !self.is_quiet(base) {
            return Ok(None);
        }
        let mut scan = Scan {
            retention: self,
            state: self.ledger.state(),
            jobs: HashSet::new(),
            refs: HashSet::new(),
            needed: Vec::new(),
        };
        let mut only_repetitions = true;
        for item in self.journal().read_segment(base) {
            let (position, entry) = item?;
            only_repetitions &= is_repetition(&entry);
            let may_go = match entry {
                Entry::Callback(callback) => scan.callback(position, callback)?,
                Entry::Kept(kept) => scan.kept(position, kept)?,
                Entry::Event(event) => scan.event(event)?,
            };
            if !may_go {
                return Ok(None);
            }
        }
        if only_repetitions && !self.has_news_after(base)? {
            // Moving it on would free no room, for ever.
            return Ok(None);
        }
        for id in std::mem::take(&mut scan.jobs) {
            if !scan.job(&id)? {
                return Ok(None);
            }
        }
        Ok(Some(scan.needed))
    }

    /// Whether a segment has anything but repetitions.
    pub(super) fn has_news(&self, base: u64) -> Result<bool, RetentionError> {
        for entry in self.journal().read_segment(base) {
            if !is_repetition(&entry?.1) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn has_news_after(&self, base: u64) -> Result<bool, RetentionError> {
        let (sealed, newest) = (self.journal().sealed(), self.journal().newest());
        for later in sealed.into_iter().chain(newest).filter(|later| *later > base) {
            if self.has_news(later)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing was written to a segment for `keep`; false when that cannot be found out.
    pub(super) fn is_quiet(&self, base: u64) -> bool {
        self.journal().written_at(base).is_ok_and(|written| is_past(written, self.keep))
    }
}

/// Each says whether the segment may still go.
impl Scan<'_> {
    fn callback(&mut self, position: u64, callback: CallbackEntry) -> Result<bool, RetentionError> {
        if callback.target == Target::Channel {
            self.reply_ref(&adopted_id(position, callback.at))?;
        }
        self.body(position, callback)?;
        Ok(true)
    }

    fn kept(&mut self, position: u64, kept: KeptCallback) -> Result<bool, RetentionError> {
        // Of several places the last one counts.
        if self.state.callback_at(kept.position)? == position {
            self.body(kept.position, kept.callback)?;
        }
        Ok(true)
    }

    /// A body is needed while it is in quarantine or waits to be passed on, and while it decides a job that has not ended.
    fn body(&mut self, position: u64, callback: CallbackEntry) -> Result<(), RetentionError> {
        let quarantined = self.state.quarantined(position)?;
        let decides = match (self.retention.interpret)(&callback.body) {
            Meaning::Job(observation) => {
                let record = self.state.job(&observation.job)?;
                self.jobs.insert(observation.job);
                record.is_some_and(|record| {
                    let held = record.job.unconfirmed.iter().any(|callback| callback.quarantine_as == position);
                    held || (record.job.final_callback == Some(position) && !has_ended(&record))
                })
            }
            Meaning::Unclear(_) => false,
        };
        let over = match &callback.target {
            Target::Ref(id) if self.state.waits_in_outbox(id, position)? => Some(id.clone()),
            _ => None,
        };
        if let Some(id) = &over {
            let (at, id, bytes) = (callback.at, id.clone(), callback.body.len() as u64);
            self.needed.push(Entry::Event(Event::PassOnKept { at, id, position, bytes }));
        }
        if quarantined.is_some() || decides || over.is_some() {
            let quarantined = quarantined.map(|record| Quarantined { reason: record.reason, job: record.job_id });
            self.needed.push(Entry::Kept(KeptCallback { position, quarantined, callback }));
        }
        Ok(())
    }

    fn event(&mut self, event: Event) -> Result<bool, RetentionError> {
        match event {
            Event::RefAdded { id, .. } | Event::GatewayRefAdded { id, .. } | Event::RefKept { id, .. } => {
                self.reply_ref(&id)?;
            }
            Event::UploadStarted { job, upload, .. } => {
                let open = self.state.uploads_of(&job)?;
                return Ok(open.iter().all(|(name, _)| *name != upload));
            }
            Event::Claimed { job, file, .. } => {
                let open = self.state.claim(&file.sha256)?;
                return Ok(open.is_none_or(|claim| claim.job != job));
            }
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
            Event::JobKept { job, .. } | Event::JobFound { job, .. } => {
                self.jobs.insert(job.id);
            }
            Event::RefRemoved { .. }
            | Event::PassedOn { .. }
            | Event::PassOnGivenUp { .. }
            | Event::PassOnKept { .. }
            | Event::UploadAdvanced { .. }
            | Event::UploadEnded { .. }
            | Event::Released { .. } => {}
        }
        Ok(true)
    }

    fn reply_ref(&mut self, id: &RefId) -> Result<(), RetentionError> {
        if let Some(record) = self.state.reply_ref(id)?
            && self.refs.insert(record.id.clone())
        {
            self.needed.push(Entry::Event(Event::RefKept {
                id: record.id,
                reply_ref: record.reply_ref,
                origin: record.origin,
                notify_url: record.notify_url,
                labels: record.labels,
                made: record.made,
                pass_on_to: record.pass_on_to,
                created_at: record.created_at,
            }));
        }
        Ok(())
    }

    fn job(&mut self, id: &JobId) -> Result<bool, RetentionError> {
        let Some(record) = self.state.job(id)? else { return Ok(true) };
        if record.job.state == JobState::Archiving || !is_past(record.job.updated_at, self.retention.keep) {
            return Ok(false);
        }
        if !has_ended(&record) {
            let JobRecord { sequence, job } = record;
            self.needed.push(Entry::Event(Event::JobKept { sequence, job: Box::new(job) }));
        }
        Ok(true)
    }
}

/// Whether an entry only says again what was said before.
fn is_repetition(entry: &Entry) -> bool {
    matches!(
        entry,
        Entry::Kept(_) | Entry::Event(Event::RefKept { .. } | Event::JobKept { .. } | Event::PassOnKept { .. })
    )
}

/// A stuck job may be tried again, and needs its final callback for that.
fn has_ended(record: &JobRecord) -> bool {
    matches!(record.job.state, JobState::Archived | JobState::Failed)
}

fn is_past(at: Timestamp, time: Duration) -> bool {
    let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    at.millis().saturating_add(time) <= Timestamp::now().millis()
}
