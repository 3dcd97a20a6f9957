//! What an observation means for a job: one total `match`, the same for callbacks, polling and replay.

use super::{Asset, AssetState, Change, Job, JobState, Outcome, Withdrawal};
use crate::domain::{AssetSource, FileName, Observation, Timestamp};

impl Job {
    /// The most files one job may have; a single callback of the largest size allowed names fewer.
    pub const MAX_ASSETS: usize = 4096;

    /// Takes `observation` into account, which must be about this job.
    ///
    /// `position` is the journal position of its record; `sidecars` says whether posters and the like are wanted.
    /// Whatever the order and however often each is repeated, the same observations end in the same state, outcome,
    /// percent and set of files, as long as nothing has been archived or found missing in between.
    pub fn observe(&mut self, observation: &Observation, sidecars: bool, position: u64, at: Timestamp) -> Change {
        debug_assert_eq!(self.id, observation.job);
        self.callbacks = self.callbacks.saturating_add(1);
        self.updated_at = at;
        self.percent = self.percent.max(observation.percent);
        if self.prompt.is_none() {
            self.prompt.clone_from(&observation.prompt);
        }
        if !self.created_at_settled
            && let Some(made_at) = observation.made_at
        {
            self.created_at = made_at;
            self.created_at_settled = true;
        }
        match (self.state, self.outcome, observation.outcome) {
            (JobState::Running, _, None) => {
                self.report(observation);
                Change::Progressed
            }
            (_, Some(Outcome::Completed), Some(Outcome::Moderated)) => {
                self.withdraw(Withdrawal::moderated(observation, position, at), at)
            }
            (JobState::Archived, _, _) | (_, _, None) => Change::Counted,
            (JobState::Running, _, Some(outcome)) => self.conclude(outcome, observation, sidecars, position, at),
            (JobState::Archiving | JobState::Failed | JobState::Stuck, before, Some(outcome)) => {
                if Some(outcome) > before {
                    self.conclude(outcome, observation, sidecars, position, at)
                } else if Some(outcome) == before && outcome == Outcome::Completed {
                    self.extend(observation, sidecars, at)
                } else {
                    Change::Counted
                }
            }
        }
    }

    /// Whether `observation` would change anything that anybody sees.
    pub fn learns_from(&self, observation: &Observation, sidecars: bool) -> bool {
        let mut after = self.clone();
        after.observe(observation, sidecars, 0, self.updated_at);
        after.callbacks = self.callbacks;
        after != *self
    }

    /// Links that were asked for are no reason to begin counting attempts anew: they would be asked for without end.
    pub fn keep_attempts(&mut self, before: &Self) {
        for asset in self.assets.iter_mut().filter(|asset| asset.state == AssetState::Pending) {
            if let Some(before) = before.asset(&asset.slot).filter(|before| before.state == AssetState::Pending) {
                (asset.attempts, asset.reached) = (before.attempts, before.reached);
            }
        }
    }

    fn conclude(
        &mut self,
        outcome: Outcome,
        observation: &Observation,
        sidecars: bool,
        position: u64,
        at: Timestamp,
    ) -> Change {
        if outcome == Outcome::Completed && self.outcome == Some(Outcome::Moderated) {
            return self.appeal(observation, sidecars, position, at);
        }
        self.decide(outcome, observation, position);
        match outcome {
            Outcome::Completed => drop(self.merge(observation, sidecars)),
            Outcome::Moderated => {
                self.withdrawn = Some(Box::new(Withdrawal::moderated(observation, position, at)));
            }
            Outcome::Failed | Outcome::Removed => {}
        }
        self.settle(at);
        Change::Ended
    }

    /// A moderated job is called completed: an appeal has succeeded, if there is anything to fetch. A repeat of what was
    /// said before, which may only be late, makes the known links be tried once more.
    fn appeal(&mut self, observation: &Observation, sidecars: bool, position: u64, at: Timestamp) -> Change {
        let merged = self.merge(observation, sidecars);
        if !merged {
            self.assets.iter_mut().for_each(Asset::retry);
        }
        let before = self.outcome.replace(Outcome::Completed);
        if self.end_state() == Some(JobState::Stuck) && !self.has_stored() {
            self.outcome = before;
            return if merged { Change::Extended } else { Change::Counted };
        }
        self.decide(Outcome::Completed, observation, position);
        if merged {
            self.withdrawn = None;
        }
        self.settle(at);
        Change::Ended
    }

    fn decide(&mut self, outcome: Outcome, observation: &Observation, position: u64) {
        self.outcome = Some(outcome);
        self.final_callback = Some(position);
        self.report(observation);
    }

    fn extend(&mut self, observation: &Observation, sidecars: bool, at: Timestamp) -> Change {
        if self.merge(observation, sidecars) {
            if self.assets.iter().any(|asset| asset.state == AssetState::Pending) {
                self.withdrawn = None;
            }
            self.settle(at);
            Change::Extended
        } else {
            if self.state == JobState::Stuck {
                self.reason = self.stuck_reason();
            }
            Change::Counted
        }
    }

    /// Makes the job due, unless nothing of it can be had: then there is nothing for the worker to do.
    pub(super) fn settle(&mut self, at: Timestamp) {
        self.give_way();
        let hopeless = self.end_state() == Some(JobState::Stuck) && !self.has_stored();
        if hopeless {
            self.state = JobState::Stuck;
            self.reason = self.stuck_reason();
            self.due = None;
        } else {
            self.state = JobState::Archiving;
            self.reason = None;
            self.due = Some(at);
        }
    }

    fn report(&mut self, observation: &Observation) {
        self.status.clone_from(&observation.status);
        self.status_label.clone_from(&observation.status_label);
        self.message.clone_from(&observation.message);
        self.error.clone_from(&observation.error);
    }

    /// True when there is something new to fetch or to say.
    fn merge(&mut self, observation: &Observation, sidecars: bool) -> bool {
        let mut changed = false;
        for source in observation.assets.iter().filter(|source| sidecars || !source.role.is_sidecar()) {
            if let Some(asset) = self.assets.iter_mut().find(|asset| asset.slot == source.slot) {
                changed |= asset.merge(source);
            } else if self.assets.len() < Self::MAX_ASSETS {
                let asset = Asset::new(&AssetSource { file: self.unused_name(&source.file), ..source.clone() });
                self.assets.push(asset);
                changed = true;
            }
        }
        changed
    }

    fn unused_name(&self, wanted: &FileName) -> FileName {
        let taken = |name: &FileName| self.assets.iter().any(|asset| asset.file.stem() == name.stem());
        let mut name = wanted.clone();
        let mut number = self.assets.len();
        while taken(&name) {
            number += 1;
            name = wanted.numbered(number);
        }
        name
    }
}
