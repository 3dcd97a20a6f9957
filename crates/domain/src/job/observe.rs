//! What an observation means for a job: one total `match`, the same for callbacks, polling and replay.

use std::collections::{HashMap, HashSet};

use super::{Asset, AssetState, Change, Job, JobState, Outcome, StuckReason, Withdrawal};
use crate::{AssetSource, Candidate, FileName, Observation, Timestamp};

impl Job {
    /// The most files one job can have, whatever number of callbacks name them.
    pub const MAX_ASSETS: usize = Observation::MAX_ASSETS;
    /// The most bytes that the URLs of one job's files can have together. Of a file that gets fresh ones, older ones give
    /// way.
    pub const MAX_URL_BYTES: usize = Observation::MAX_URL_BYTES;

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
        self.details.merge(&observation.details);
        // The folder has it in its name.
        if self.observed_kind.is_none() && self.folder.is_none() {
            self.observed_kind = observation.kind;
        }
        if !self.created_at_settled
            && let Some(created_at) = observation.created_at
        {
            self.created_at = created_at;
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
                    self.extend(observation, sidecars, position, at)
                } else {
                    Change::Counted
                }
            }
        }
    }

    /// Whether [`Self::observe`] may change one of the files, or needs more of them than what the job's state follows from.
    pub fn may_change_files(&self, observation: &Observation) -> bool {
        if self.state == JobState::Archived {
            return false;
        }
        match (observation.outcome, self.outcome) {
            (None, _) => false,
            // Attempts are made at once when a job is taken back, which it is once.
            (Some(Outcome::Moderated), Some(Outcome::Completed)) => self.withdrawn.is_none(),
            (Some(Outcome::Completed), Some(Outcome::Completed)) => !observation.assets.is_empty(),
            (outcome, before) => outcome > before,
        }
    }

    /// Whether `observation` would change anything that anybody sees.
    pub fn would_change(&self, observation: &Observation, sidecars: bool) -> bool {
        let mut after = self.clone();
        after.observe(observation, sidecars, 0, self.updated_at);
        after.callbacks = self.callbacks;
        after != *self
    }

    /// `observation` with the links that are known here in the place of such as were only signed anew, unless those known have
    /// expired by `now`, or none of them has worked for so long that their file would have been due once more.
    pub fn with_known_links(&self, observation: &Observation, now: Timestamp) -> Observation {
        let mut observation = observation.clone();
        for source in &mut observation.assets {
            let Some(asset) = self.asset(&source.slot) else { continue };
            let is_exhausted = asset.stuck == Some(StuckReason::AttemptsExhausted) && !asset.role.is_sidecar();
            if is_exhausted && asset.not_before.is_none_or(|at| at <= now) {
                continue;
            }
            for candidate in &mut source.candidates {
                let is_known = |known: &&Candidate| {
                    known.url.is_of_same_file(&candidate.url) && known.url.expires_at().is_none_or(|at| at > now)
                };
                if let Some(known) = asset.candidates.iter().find(is_known) {
                    candidate.url = known.url.clone();
                }
            }
        }
        observation
    }

    /// Links that were asked for are no reason to count attempts anew, or to make them sooner: they would be asked for without
    /// end. A file that was given up stays so while others of its job are tried, since each of those has links asked for, and
    /// gets fresh ones for all; unless the job was taken back before, when it was tried once only.
    pub fn keep_attempts(&mut self, before: &Self) {
        let are_others_tried = before.state == JobState::Archiving
            && before.outcome == Some(Outcome::Completed)
            && before.withdrawn == self.withdrawn
            && before.assets.iter().any(|asset| asset.state == AssetState::Pending);
        let is_kept = |asset: &&Asset| match asset.state {
            AssetState::Pending => true,
            AssetState::Stuck => are_others_tried && asset.stuck == Some(StuckReason::AttemptsExhausted),
            AssetState::Stored => false,
        };
        let kept: HashMap<_, _> = before.assets.iter().filter(is_kept).map(|asset| (&asset.slot, asset)).collect();
        for asset in self.assets.iter_mut().filter(|asset| asset.state == AssetState::Pending) {
            if let Some(before) = kept.get(&asset.slot) {
                asset.keep_attempts(before);
            }
        }
        self.reschedule(self.updated_at);
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
            // With something new to fetch, it is not taken back any more.
            Outcome::Completed => {
                if self.merge(observation, sidecars, position) {
                    self.withdrawn = None;
                }
            }
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
        let merged = self.merge(observation, sidecars, position);
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
        self.may_be_empty |= observation.may_be_empty;
        self.final_callback = Some(position);
        self.report(observation);
    }

    fn extend(&mut self, observation: &Observation, sidecars: bool, position: u64, at: Timestamp) -> Change {
        if self.merge(observation, sidecars, position) {
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
    fn merge(&mut self, observation: &Observation, sidecars: bool, position: u64) -> bool {
        let mut changed = false;
        let mut places: HashMap<_, _> =
            self.assets.iter().enumerate().map(|(at, asset)| (asset.slot.clone(), at)).collect();
        let mut names = UsedNames::of(&self.assets);
        let mut url_bytes: usize = self.assets.iter().map(Asset::url_bytes).sum();
        for source in wanted(observation, sidecars) {
            if let Some(asset) = places.get(&source.slot).and_then(|at| self.assets.get_mut(*at)) {
                url_bytes -= asset.url_bytes();
                changed |= asset.merge(source, Self::MAX_URL_BYTES.saturating_sub(url_bytes), position);
                url_bytes += asset.url_bytes();
            } else if self.assets.len() < Self::MAX_ASSETS {
                let mut asset = Asset::new(source, Self::MAX_URL_BYTES.saturating_sub(url_bytes), position);
                if asset.candidates.is_empty() && !source.candidates.is_empty() {
                    continue;
                }
                asset.file = names.unused(&source.file);
                url_bytes += asset.url_bytes();
                places.insert(source.slot.clone(), self.assets.len());
                self.assets.push(asset);
                changed = true;
            }
        }
        self.left_out = self.left_out.max(self.lacks(observation, sidecars));
        changed
    }

    /// How many of the files and URLs that `observation` names this job should have and has no room for.
    pub fn lacks(&self, observation: &Observation, sidecars: bool) -> u32 {
        if observation.outcome != Some(Outcome::Completed)
            || self.outcome != Some(Outcome::Completed)
            || self.state == JobState::Archived
        {
            return 0;
        }
        let places: HashMap<_, _> = self.assets.iter().map(|asset| (&asset.slot, asset)).collect();
        let lacking = wanted(observation, sidecars).map(|source| match places.get(&source.slot) {
            Some(asset) => asset.lacks(source),
            None => 1,
        });
        observation.left_out.saturating_add(u32::try_from(lacking.sum::<usize>()).unwrap_or(u32::MAX))
    }
}

fn wanted(observation: &Observation, sidecars: bool) -> impl Iterator<Item = &AssetSource> {
    observation.assets.iter().filter(move |source| sidecars || !source.role.is_sidecar())
}

/// The names of a job's files, by which two of them differ even when their extensions change.
struct UsedNames {
    stems: HashSet<String>,
    /// How often one was given, and the last number that stands in front of one.
    number: usize,
}

impl UsedNames {
    fn of(assets: &[Asset]) -> Self {
        Self { stems: assets.iter().map(|asset| asset.file.stem().to_owned()).collect(), number: 0 }
    }

    fn unused(&mut self, wanted: &FileName) -> FileName {
        let mut name = wanted.clone();
        self.number = self.number.max(self.stems.len());
        while !self.stems.insert(name.stem().to_owned()) {
            self.number += 1;
            name = wanted.numbered(self.number);
        }
        name
    }
}
