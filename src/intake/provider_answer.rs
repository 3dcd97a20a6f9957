use bytes::Bytes;

#[cfg(doc)]
use super::Config;
use super::{Intake, IntakeError};
use crate::domain::{JobId, Observation, Origin, RefId, Target, Timestamp};
use crate::journal::{CallbackEntry, Durability, Entry, Event};
use crate::state::{ApplyOutcome, JobRecord, ParsedCallback, StateError};

/// What becomes of a job that nobody has heard of when the provider tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownJobPolicy {
    /// It is taken in.
    Adopt,
    /// What [`Config::adopt_unknown_refs`] says.
    Configured,
    /// It is passed over, unless its replyRef is registered.
    Skip,
}

/// What a replyRef in an answer may tie a job to.
#[derive(Clone, Copy)]
struct Ties {
    /// A ref that is made for it.
    adopt: bool,
    /// No ref that was registered: it was answered to somebody's own token.
    foreign: bool,
}

impl Intake {
    /// Keeps what the provider answered when it was asked about a job, unless that changes nothing: then nothing is written,
    /// and the answer is false. It is taken as a callback over the channel's URL is, but needs no confirmation and is never
    /// kept aside.
    ///
    /// # Errors
    /// When it cannot be recorded, or the state cannot be read.
    pub async fn observe(
        &self,
        body: Bytes,
        observation: Box<Observation>,
        unknown: UnknownJobPolicy,
    ) -> Result<bool, IntakeError> {
        let ties = Ties { adopt: self.adopts(unknown), foreign: false };
        let is_news = self.changes_state(&observation, ties)?;
        self.record_news(is_news, ties, body, observation).await
    }

    /// The same with what the provider answered to somebody's own token for it. Who has one may give a job any replyRef, so it
    /// ties the job to no ref that was registered.
    ///
    /// # Errors
    /// As for [`Intake::observe`].
    pub async fn observe_foreign(
        &self,
        body: Bytes,
        observation: Box<Observation>,
        unknown: UnknownJobPolicy,
    ) -> Result<bool, IntakeError> {
        let ties = Ties { adopt: self.adopts(unknown), foreign: true };
        let is_news = self.changes_state(&observation, ties)?;
        self.record_news(is_news, ties, body, observation).await
    }

    /// The same as [`Intake::observe`] with an answer that nobody asked about this job for, and that comes again and again:
    /// links that were only signed anew are no news in it. They would begin attempts anew each time.
    ///
    /// # Errors
    /// As for [`Intake::observe`].
    pub async fn observe_listed(
        &self,
        body: Bytes,
        observation: Box<Observation>,
        unknown: UnknownJobPolicy,
    ) -> Result<bool, IntakeError> {
        let ties = Ties { adopt: self.adopts(unknown), foreign: false };
        let is_news = match self.state().job(&observation.job)? {
            Some(known) => self.changes_state(&known.job.with_known_links(&observation, Timestamp::now()), ties)?,
            None => self.changes_state(&observation, ties)?,
        };
        self.record_news(is_news, ties, body, observation).await
    }

    fn adopts(&self, unknown: UnknownJobPolicy) -> bool {
        match unknown {
            UnknownJobPolicy::Adopt => true,
            UnknownJobPolicy::Configured => self.inner.config.adopt_unknown_refs,
            UnknownJobPolicy::Skip => false,
        }
    }

    async fn record_news(
        &self,
        is_news: bool,
        ties: Ties,
        body: Bytes,
        observation: Box<Observation>,
    ) -> Result<bool, IntakeError> {
        if !is_news {
            return Ok(false);
        }
        match self.record_answer(Target::Channel, ties, body, observation).await? {
            ApplyOutcome::Deferred => Err(IntakeError::Unavailable("the state is being rebuilt")),
            _ => Ok(true),
        }
    }

    /// Keeps what the provider answered to the call that a ref was made for, as [`Intake::observe`] does; the job becomes
    /// that ref's, as if a callback had come over its URL, unless another ref has claimed it. While the state is rebuilt it
    /// is kept whatever it says.
    ///
    /// # Errors
    /// When it cannot be recorded, or the state cannot be read.
    pub async fn job_created(
        &self,
        reference: RefId,
        body: Bytes,
        observation: Box<Observation>,
    ) -> Result<bool, IntakeError> {
        let sidecars = self.inner.config.sidecars;
        let changes_state = match self.state().job(&observation.job) {
            Ok(Some(JobRecord { job, .. })) => !job.claimed || job.would_change(&observation, sidecars),
            Ok(None) | Err(StateError::Rebuilding) => true,
            Err(error) => return Err(error.into()),
        };
        if changes_state {
            let ties = Ties { adopt: true, foreign: false };
            self.record_answer(Target::Ref(reference), ties, body, observation).await?;
        }
        Ok(changes_state)
    }

    async fn record_answer(
        &self,
        target: Target,
        Ties { adopt, foreign }: Ties,
        body: Bytes,
        observation: Box<Observation>,
    ) -> Result<ApplyOutcome, IntakeError> {
        let (at, sidecars, confirm) = (Timestamp::now(), self.inner.config.sidecars, false);
        let entry = CallbackEntry { at, target, adopt, sidecars, confirm, asked: true, foreign, replay_of: None, body };
        self.recorded(self.inner.log.record_callback(Entry::Callback(entry), ParsedCallback::Job(observation))).await
    }

    /// The provider does not know a job any more, and never told its end.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn removed(&self, job: JobId) -> Result<(), IntakeError> {
        let event = Event::Removed { at: Timestamp::now(), job };
        match self.recorded(self.inner.log.record(event, Durability::Synced)).await? {
            ApplyOutcome::Deferred => Err(IntakeError::Unavailable("the state is being rebuilt")),
            _ => Ok(()),
        }
    }

    fn changes_state(&self, observation: &Observation, ties: Ties) -> Result<bool, StateError> {
        let (adopt, sidecars) = (ties.adopt, self.inner.config.sidecars);
        let tie = match &observation.reply_ref {
            Some(_) if adopt && !ties.foreign => true,
            Some(named) => match self.state().reply_ref_named(named)? {
                Some(known) if known.origin == Origin::Registered => !ties.foreign,
                _ => adopt,
            },
            None => false,
        };
        Ok(match self.state().job(&observation.job)? {
            Some(record) => (tie && record.job.ref_id.is_none()) || record.job.would_change(observation, sidecars),
            None => adopt || tie,
        })
    }
}
