use bytes::Bytes;

use super::{Config, Intake, Refused};
use crate::domain::{JobId, Observation, Origin, Target, Timestamp};
use crate::journal::{CallbackEntry, Durability, Entry, Event};
use crate::state::{Applied, Meaning, StateError};

impl Intake {
    /// Keeps what the provider answered when it was asked about a job, unless that changes nothing: then nothing is written,
    /// and the answer is false. It is taken as a callback over the channel's URL is, but needs no confirmation and is never
    /// kept aside.
    ///
    /// # Errors
    /// When it cannot be recorded, or the state cannot be read.
    pub async fn observe(&self, body: Bytes, observation: Box<Observation>) -> Result<bool, Refused> {
        if !self.is_news(&observation)? {
            return Ok(false);
        }
        let Config { adopt_unknown_refs: adopt, sidecars, .. } = self.inner.config;
        let (at, target) = (Timestamp::now(), Target::Channel);
        let entry = CallbackEntry { at, target, adopt, sidecars, confirm: false, asked: true, replay_of: None, body };
        match self.inner.ledger.record_callback(Entry::Callback(entry), Meaning::Job(observation)).await? {
            Applied::Deferred => Err(Refused::Unavailable("the state is being rebuilt")),
            _ => Ok(true),
        }
    }

    /// The provider does not know a job any more, and never told its end.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn removed(&self, job: JobId) -> Result<(), Refused> {
        let event = Event::Removed { at: Timestamp::now(), job };
        match self.inner.ledger.record(event, Durability::Synced).await? {
            Applied::Deferred => Err(Refused::Unavailable("the state is being rebuilt")),
            _ => Ok(()),
        }
    }

    fn is_news(&self, observation: &Observation) -> Result<bool, StateError> {
        let Config { adopt_unknown_refs: adopt, sidecars, .. } = self.inner.config;
        let tie = match &observation.reply_ref {
            Some(_) if adopt => true,
            Some(named) => self.state().reply_ref_named(named)?.is_some_and(|known| known.origin == Origin::Registered),
            None => false,
        };
        Ok(match self.state().job(&observation.job)? {
            Some(record) => (tie && record.job.ref_id.is_none()) || record.job.learns_from(observation, sidecars),
            None => adopt || tie,
        })
    }
}
