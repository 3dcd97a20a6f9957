//! A completed job that the provider takes back: it calls the job moderated, or no longer knows it.

use serde::{Deserialize, Serialize};

use super::{AssetState, Change, Job, JobState, Outcome};
use crate::{Observation, Status, Timestamp};

/// That the provider took a completed job back, and what it said. In journals, as [`Job`] is: what is added needs
/// `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// `moderated` or `removed`.
    pub outcome: Outcome,
    /// When that was recorded.
    pub at: Timestamp,
    /// Journal position of its record.
    pub position: u64,
    /// The provider's `status`, `statusLabel`, `message` and `error`; none for a job that it no longer knows.
    pub status: Option<Status>,
    /// See [`Self::status`].
    pub status_label: Option<String>,
    /// See [`Self::status`].
    pub message: Option<String>,
    /// See [`Self::status`].
    pub error: Option<String>,
}

impl Withdrawal {
    pub(super) fn moderated(observation: &Observation, position: u64, at: Timestamp) -> Self {
        Self {
            outcome: Outcome::Moderated,
            at,
            position,
            status: observation.status.clone(),
            status_label: observation.status_label.clone(),
            message: observation.message.clone(),
            error: observation.error.clone(),
        }
    }

    /// As a manifest has it.
    pub fn moderated_on(at: Timestamp) -> Self {
        Self { outcome: Outcome::Moderated, ..Self::removed(0, at) }
    }

    fn removed(position: u64, at: Timestamp) -> Self {
        let (status, status_label, message, error) = (None, None, None, None);
        Self { outcome: Outcome::Removed, at, position, status, status_label, message, error }
    }
}

impl Job {
    /// When the provider called the job moderated, if it still does.
    pub fn moderated_at(&self) -> Option<Timestamp> {
        self.withdrawn
            .as_ref()
            .filter(|withdrawn| withdrawn.outcome == Outcome::Moderated)
            .map(|withdrawn| withdrawn.at)
    }

    /// The provider no longer knows it. An archived job, and one with an end other than completed, stays what it is.
    pub fn remove(&mut self, position: u64, at: Timestamp) {
        match (self.state, self.outcome) {
            (JobState::Running, _) => {
                self.outcome = Some(Outcome::Removed);
                self.final_callback = Some(position);
                self.updated_at = at;
                self.settle(at);
            }
            (JobState::Archiving | JobState::Stuck, Some(Outcome::Completed)) => {
                self.withdraw(Withdrawal::removed(position, at), at);
            }
            _ => {}
        }
    }

    /// A completed job is taken back. Stored files are kept. Of the others one more attempt is made at once, since the
    /// links may still work; when none does, [`Self::give_way`] ends the job.
    pub(super) fn withdraw(&mut self, withdrawal: Withdrawal, at: Timestamp) -> Change {
        if self.withdrawn.is_some() {
            return Change::Counted;
        }
        self.withdrawn = Some(Box::new(withdrawal));
        self.updated_at = at;
        match self.state {
            JobState::Stuck => {
                if !self.give_way() {
                    return Change::Counted;
                }
                (self.state, self.reason, self.due) = (JobState::Archiving, None, Some(at));
                Change::Ended
            }
            JobState::Archiving if self.outcome == Some(Outcome::Completed) => {
                for asset in self.assets.iter_mut().filter(|asset| asset.state == AssetState::Pending) {
                    asset.not_before = None;
                }
                self.give_way();
                self.due = Some(at);
                Change::Counted
            }
            _ => Change::Counted,
        }
    }

    /// Makes a completed job that was taken back, and of which nothing is stored or still to be had, end as the provider
    /// says. True when it does.
    pub(super) fn give_way(&mut self) -> bool {
        let Some(withdrawn) = &self.withdrawn else { return false };
        let is_completed = self.outcome == Some(Outcome::Completed);
        if !is_completed || self.end_state() != Some(JobState::Stuck) || self.has_stored() {
            return false;
        }
        self.outcome = Some(withdrawn.outcome);
        self.final_callback = Some(withdrawn.position);
        if withdrawn.outcome == Outcome::Moderated {
            self.status.clone_from(&withdrawn.status);
            self.status_label.clone_from(&withdrawn.status_label);
            self.message.clone_from(&withdrawn.message);
            self.error.clone_from(&withdrawn.error);
        }
        true
    }

    /// Whether a file of it is in the bucket.
    pub(super) fn has_stored(&self) -> bool {
        self.assets.iter().any(|asset| asset.state == AssetState::Stored)
    }
}
