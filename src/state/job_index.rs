//! Every index and counter that follows from a job.

use super::StateError;
use super::keys;
use super::records::MediaRecord;
use super::stored_job::Indexed;
use super::txn::Txn;
use crate::domain::Digest;

impl Txn<'_> {
    /// What is known of the bytes with a digest.
    pub(super) fn media(&self, sha256: &Digest) -> Result<Option<MediaRecord>, StateError> {
        let Some(position) = self.get(&keys::media_digest(sha256))? else { return Ok(None) };
        Ok(self.get::<(Digest, MediaRecord)>(&keys::media(position))?.map(|(_, media)| media))
    }

    /// Writes what the indexes say of a job, where they said `before` (`None`: nothing).
    pub(super) fn put_indexes(
        &mut self,
        before: Option<Indexed>,
        now: Indexed,
        sequence: u64,
    ) -> Result<(), StateError> {
        let before = before.as_ref();
        if before.map(|before| before.state) != Some(now.state) {
            let counts = &mut self.meta.counters.jobs;
            if let Some(before) = before {
                let count = counts.entry(before.state).or_default();
                *count = count.saturating_sub(1);
            }
            *counts.entry(now.state).or_default() += 1;
            if let Some(prefix) = before.and_then(|before| keys::jobs_in_state(before.state)) {
                self.remove(keys::with_job(prefix, sequence));
            }
            if let Some(prefix) = keys::jobs_in_state(now.state) {
                self.mark(keys::with_job(prefix, sequence));
            }
        }
        self.put_queued(before.and_then(|before| before.queued.as_ref()), now.queued.as_ref(), sequence)?;
        let ask_before = before.and_then(|before| before.confirm_at);
        if ask_before != now.confirm_at {
            if let Some(at) = ask_before {
                self.remove(keys::ask(at, sequence));
                self.meta.counters.unconfirmed = self.meta.counters.unconfirmed.saturating_sub(1);
            }
            if let Some(at) = now.confirm_at {
                self.mark(keys::ask(at, sequence));
                self.meta.counters.unconfirmed += 1;
                self.confirmations_changed = true;
            }
        }
        let name_before = before.and_then(|before| before.reply_ref.as_ref());
        if name_before != now.reply_ref.as_ref() {
            if let Some(name) = name_before {
                self.remove(keys::with_job(keys::jobs_of_ref(name), sequence));
                self.meta.counters.jobs_tied = self.meta.counters.jobs_tied.saturating_sub(1);
            }
            if let Some(name) = &now.reply_ref {
                self.mark(keys::with_job(keys::jobs_of_ref(name), sequence));
                self.meta.counters.jobs_tied += 1;
            }
        }
        Ok(())
    }
}
