use super::Reconciler;
use super::queue::Queue;
use super::schedule;
use crate::domain::{Job, JobId, JobState, Kind, Timestamp};
use crate::intake::{Refused, Unknown};
use crate::provider::ProviderError;
use crate::state::{JobFilter, JobRecord, StateError};

/// Why an answer led to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Reconciler {
    /// Finds every running job that is not known to be waiting.
    pub(super) fn scan(&self, queue: &mut Queue) -> Result<(), StateError> {
        const PAGE: usize = 256;
        let filter = JobFilter { state: Some(JobState::Running), ..JobFilter::default() };
        let (mut before, mut seen) = (None, 0);
        loop {
            let page = self.state().jobs(&filter, PAGE, before)?;
            for record in &page.items {
                self.heard(queue, record);
            }
            seen += page.items.len();
            before = page.next;
            if before.is_none() || seen >= Queue::MOST {
                return Ok(());
            }
        }
    }

    /// A job changed. What waits goes on waiting: repeated callbacks must not make the provider be asked more often.
    pub(super) fn heard(&self, queue: &mut Queue, JobRecord { sequence, job }: &JobRecord) {
        let next = self.next(job, None);
        if next.is_none() || !queue.has(*sequence) {
            queue.put(*sequence, next);
        }
    }

    /// When a job is to be asked about, if it is. `asked` says when it was; else what was last heard of it counts.
    pub(super) fn next(&self, job: &Job, asked: Option<Timestamp>) -> Option<Timestamp> {
        // What waits to be confirmed is asked about for that.
        if job.state != JobState::Running || !job.unconfirmed.is_empty() {
            return None;
        }
        // The provider's clock may be ahead.
        let made = job.created_at.min(job.updated_at);
        schedule::next(job.id.kind(), made, asked.unwrap_or(job.updated_at), self.inner.config.minute)
    }

    /// Asks about a job. Returns when to ask again.
    pub(super) async fn ask(&self, sequence: u64) -> Option<Timestamp> {
        let job = self.state().job_at(sequence).ok()??.job;
        self.next(&job, None)?;
        let now = Timestamp::now();
        if let Some(rest) = self.inner.trouble.hold_of(job.id.account()) {
            return Some(now.after(rest));
        }
        match self.asked(&job).await {
            Ok(()) => {
                let job = self.state().job_at(sequence).ok()??.job;
                self.next(&job, Some(now))
            }
            Err(AskError::Provider(ProviderError::OnHold)) => {
                self.inner.trouble.hold_of(job.id.account()).map(|rest| now.after(rest))
            }
            Err(AskError::Provider(_)) => Some(now),
            Err(error @ AskError::Refused(_)) => {
                tracing::warn!(job = %job.id, %error, "what the provider says cannot be recorded yet");
                Some(now.after(Self::SCAN_SOON))
            }
        }
    }

    async fn asked(&self, job: &Job) -> Result<(), AskError> {
        match self.answer(&job.id).await {
            Err(AskError::Provider(ProviderError::Gone)) => {
                // GET may not know of a job yet that has only just been made.
                let age = Timestamp::now().since(job.created_at.min(job.updated_at));
                if job.id.kind() == Kind::Video && age >= self.inner.config.minute {
                    tracing::info!(job = %job.id, "the provider has removed it");
                    self.inner.intake.removed(job.id.clone()).await?;
                }
                Ok(())
            }
            Err(AskError::Provider(error @ (ProviderError::NotTaken(_) | ProviderError::Unreadable(_)))) => {
                tracing::warn!(job = %job.id, %error, "the provider does not say how far it is");
                Ok(())
            }
            answered => answered.map(drop),
        }
    }

    /// Takes in what the provider says of a job. True when that changed something.
    async fn answer(&self, job: &JobId) -> Result<bool, AskError> {
        let trouble = &self.inner.trouble;
        let answer = self.inner.client.job(job).await;
        match &answer {
            Ok(_) | Err(ProviderError::Gone | ProviderError::NotTaken(_) | ProviderError::Unreadable(_)) => {
                trouble.ends();
            }
            Err(ProviderError::OnHold) => trouble.hold(job.account()),
            Err(error) => trouble.goes_on(error),
        }
        let answer = answer?;
        Ok(self.inner.intake.observe(answer.body, answer.observation, Unknown::Configured).await?)
    }

    /// Asks for fresh links of a job. True when there are some, which are recorded then.
    pub async fn refresh(&self, job: &JobId) -> bool {
        let trouble = &self.inner.trouble;
        if trouble.paused_until().is_some() || trouble.hold_of(job.account()).is_some() {
            return false;
        }
        match self.answer(job).await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%job, %error, "the provider names no fresh link");
                false
            }
        }
    }
}
