//! Writing a job together with every index and counter that follows from it.

use super::StateError;
use super::keys;
use super::records::{JobRecord, MediaRecord};
use super::txn::Txn;
use crate::domain::{Digest, Job, JobId};

impl Txn<'_> {
    pub(super) fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StateError> {
        let Some(sequence) = self.get(&keys::job_id(id))? else { return Ok(None) };
        Ok(self.get(&keys::job(sequence))?.map(|job| JobRecord { sequence, job }))
    }

    /// What is known of the bytes with a digest.
    pub(super) fn media(&self, sha256: &Digest) -> Result<Option<MediaRecord>, StateError> {
        let Some(position) = self.get(&keys::media_digest(sha256))? else { return Ok(None) };
        Ok(self.get::<(Digest, MediaRecord)>(&keys::media(position))?.map(|(_, media)| media))
    }

    /// Writes a job that was `before` (`None`: not known) and is now `record`.
    pub(super) fn put_job(&mut self, before: Option<&Job>, record: &JobRecord) -> Result<(), StateError> {
        let JobRecord { sequence, job } = record;
        let sequence = *sequence;
        self.put(keys::job(sequence), job)?;
        if before.is_none() {
            self.put(keys::job_id(&job.id), &sequence)?;
        }
        if before.map(|job| job.state) != Some(job.state) {
            let counts = &mut self.meta.counters.jobs;
            if let Some(before) = before {
                let count = counts.entry(before.state).or_default();
                *count = count.saturating_sub(1);
            }
            *counts.entry(job.state).or_default() += 1;
            if let Some(prefix) = before.and_then(|job| keys::jobs_in_state(job.state)) {
                self.remove(keys::with_job(prefix, sequence));
            }
            if let Some(prefix) = keys::jobs_in_state(job.state) {
                self.mark(keys::with_job(prefix, sequence));
            }
        }
        self.put_queued(before, job, sequence)?;
        let ask_before = before.and_then(|job| job.ask_at);
        if ask_before != job.ask_at {
            if let Some(at) = ask_before {
                self.remove(keys::ask(at, sequence));
                self.meta.counters.unconfirmed = self.meta.counters.unconfirmed.saturating_sub(1);
            }
            if let Some(at) = job.ask_at {
                self.mark(keys::ask(at, sequence));
                self.meta.counters.unconfirmed += 1;
                self.asks_changed = true;
            }
        }
        let name_before = before.and_then(|job| job.reply_ref.as_ref());
        if name_before != job.reply_ref.as_ref() {
            if let Some(name) = name_before {
                self.remove(keys::with_job(keys::jobs_of_ref(name), sequence));
                self.meta.counters.jobs_tied = self.meta.counters.jobs_tied.saturating_sub(1);
            }
            if let Some(name) = &job.reply_ref {
                self.mark(keys::with_job(keys::jobs_of_ref(name), sequence));
                self.meta.counters.jobs_tied += 1;
            }
        }
        Ok(())
    }
}
