//! What follows from the provider's answer about one job.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;

use super::Inner;
use super::compare::{self, Verdict};
use crate::domain::{Job, JobId, Timestamp};
use crate::journal::{Durability, Event};
use crate::provider::ProviderError;
use crate::state::{ApplyOutcome, EventLog, JobRecord, RecordError, StateError};

/// A question about all final callbacks of one job that wait to be confirmed.
pub(super) struct Question {
    inner: Arc<Inner>,
    /// Carries the fence of the job's share.
    log: EventLog,
    sequence: u64,
}

/// Why a question led to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Provider(ProviderError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    State(#[from] StateError),
    /// It is in the journal, and will be known when the state is.
    #[error("the state is being rebuilt")]
    Deferred,
}

pub(super) type AskResult = Result<(), AskError>;

impl Question {
    /// Between two questions about one job that the provider does not know the end of.
    const PAUSES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);
    /// The same when the answer cannot be read.
    const LONG_PAUSES: RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(3600);
    /// The same when there is none.
    const UNANSWERED_PAUSES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(600);

    pub(super) fn new(inner: Arc<Inner>, log: EventLog, sequence: u64) -> Self {
        Self { inner, log, sequence }
    }

    /// Asks about all that waits of one job.
    pub(super) async fn ask(&self) -> AskResult {
        let Some(JobRecord { job, .. }) = self.log.state().job_at(self.sequence)? else { return Ok(()) };
        let Some(client) = &self.inner.client else { return self.accept_unconfirmed(&job).await };
        let answer = match client.job(&job.id).await {
            Ok(answer) => Ok(answer.observation),
            Err(error @ (ProviderError::Gone | ProviderError::Rejected(_))) => Err(error.to_string()),
            Err(ProviderError::OnHold) => {
                let rest = client.circuit_breaker().hold_remaining(&crate::provider::account_of(&job.id));
                return self.ask_later(&job, rest.unwrap_or(*Self::LONG_PAUSES.end())).await;
            }
            Err(error @ ProviderError::Unreadable(_)) => {
                tracing::warn!(job = %job.id, %error, "a final callback cannot be confirmed yet");
                return self.ask_later(&job, pause(&job, &Self::LONG_PAUSES)).await;
            }
            Err(error @ (ProviderError::Failed(_) | ProviderError::NoAnswer(_) | ProviderError::Forbidden)) => {
                tracing::warn!(job = %job.id, %error, "a final callback cannot be confirmed yet");
                return self.ask_later(&job, pause(&job, &Self::UNANSWERED_PAUSES)).await;
            }
            Err(error) => return Err(AskError::Provider(error)),
        };
        let open_for = self.inner.open_since.elapsed(self.sequence);
        let mut is_open = false;
        for callback in &job.unconfirmed {
            let verdict = match &answer {
                Ok(answer) => compare::compare(callback, answer),
                Err(error) => Verdict::NotYet(error.clone()),
            };
            match verdict {
                Verdict::Same => {
                    let aliases = answer.as_ref().map(|answer| answer.aliases.clone()).unwrap_or_default();
                    self.confirm(&job.id, callback.position, aliases).await?;
                }
                Verdict::NotYet(_) if !self.is_over(callback.at, open_for) => is_open = true,
                Verdict::NotYet(difference) | Verdict::Different(difference) => {
                    self.refute(&job.id, callback.position, difference).await?;
                }
            }
        }
        if is_open {
            return self.ask_later(&job, pause(&job, &Self::PAUSES).min(self.inner.patience)).await;
        }
        self.inner.open_since.remove(self.sequence);
        Ok(())
    }

    /// Asks again only when the longest pause is over.
    pub(super) async fn put_off(&self) -> AskResult {
        match self.log.state().job_at(self.sequence)? {
            Some(record) => self.ask_later(&record.job, *Self::LONG_PAUSES.end()).await,
            None => Ok(()),
        }
    }

    /// Whether the provider has had the time to know of a callback that came at `at`. The clock, which may be wrong, must
    /// say so, and so must the time that has passed in this run.
    fn is_over(&self, at: Timestamp, open_for: Duration) -> bool {
        let (now, patience) = (Timestamp::now(), self.inner.patience);
        (at > now || now.since(at) >= patience) && open_for >= patience
    }

    async fn accept_unconfirmed(&self, job: &Job) -> AskResult {
        for callback in &job.unconfirmed {
            tracing::warn!(job = %job.id, "a final callback is believed unasked: provider.confirm was switched off");
            self.confirm(&job.id, callback.position, callback.observation.aliases.clone()).await?;
        }
        Ok(())
    }

    async fn confirm(&self, job: &JobId, position: u64, aliases: Vec<JobId>) -> AskResult {
        fail_point!("worker.confirm", |_| Err(AskError::Deferred));
        let event = Event::Confirmed { at: Timestamp::now(), job: job.clone(), position, aliases };
        self.record(event).await?;
        fail_point!("worker.confirm.done", |_| Err(AskError::Deferred));
        Ok(())
    }

    async fn refute(&self, job: &JobId, position: u64, difference: String) -> AskResult {
        tracing::warn!(%job, difference, "a final callback is not confirmed and goes to quarantine");
        fail_point!("worker.refute", |_| Err(AskError::Deferred));
        let event = Event::Refuted { at: Timestamp::now(), job: job.clone(), position, difference };
        self.record(event).await?;
        fail_point!("worker.refute.done", |_| Err(AskError::Deferred));
        Ok(())
    }

    async fn ask_later(&self, job: &Job, pause: Duration) -> AskResult {
        let at = Timestamp::now();
        let event = Event::Unanswered { at, job: job.id.clone(), due: at.after(pause) };
        self.record(event).await
    }

    async fn record(&self, event: Event) -> AskResult {
        match self.log.record(event, Durability::Buffered).await? {
            ApplyOutcome::Deferred => Err(AskError::Deferred),
            _ => Ok(()),
        }
    }
}

/// As long as the last callback has waited, so that questions become rare.
fn pause(job: &Job, bounds: &RangeInclusive<Duration>) -> Duration {
    let waited = job.unconfirmed.last().map(|callback| Timestamp::now().since(callback.at)).unwrap_or_default();
    waited.clamp(*bounds.start(), *bounds.end())
}
