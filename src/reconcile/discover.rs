//! Jobs that run and that nobody has heard of.

use std::collections::{BTreeSet, HashSet};

use super::{AskError, Reconciler};
use crate::domain::{Job, JobId, Target};
use crate::intake::{IntakeError, UnknownJobPolicy};
use crate::provider::{self, Answer, JobList, JobMention, ProviderError, RunningList};
use crate::state::{JobFilter, StateError};

/// Asked about each time: far more than the provider lets run at once.
const MAX_MENTIONS: usize = 200;

impl Reconciler {
    /// The APIs to look at: the first, and those of the newest jobs. Who makes nothing with an API has no list there.
    pub(super) async fn apis_in_use(&self) -> Result<Vec<&'static str>, AskError> {
        /// About as many as anybody makes between two looks.
        const NEWEST: usize = 1000;
        let store = self.state().clone();
        let read = tokio::task::spawn_blocking(move || {
            let (mut names, mut before, mut seen) = (BTreeSet::from([JobId::FIRST_API.to_owned()]), None, 0);
            loop {
                let page = store.jobs(&JobFilter::default(), NEWEST / 4, before)?;
                names.extend(page.items.iter().map(|record| record.job.id.provider()));
                (before, seen) = (page.next, seen + page.items.len());
                if before.is_none() || seen >= NEWEST {
                    return Ok(names);
                }
            }
        });
        // It fails only with the runtime, and then nobody is left to wait for it.
        let names: Result<_, StateError> = read.await.unwrap_or(Err(StateError::Rebuilding));
        let names = names.map_err(IntakeError::from)?;
        Ok(provider::names().filter(|name| names.contains(*name)).collect())
    }

    /// Asks these APIs what runs, and about each job of it that is not known. How many were taken in. What one does not say
    /// keeps none of the others from being asked.
    pub(super) async fn discover(&self, apis: &[&'static str]) -> Result<u64, AskError> {
        let (mut discovered, mut result) = (0, Ok(()));
        for api in apis {
            match self.discover_of(api).await {
                Ok(found) => discovered += found,
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map(|()| discovered)
    }

    async fn discover_of(&self, api: &str) -> Result<u64, AskError> {
        let client = &self.inner.client;
        let (mut told, mut result) = (Vec::new(), Ok(()));
        for list in RunningList::of(api) {
            match or_none(self.with_retry(|| client.running(list)).await) {
                Ok(mentions) => told.extend(mentions),
                Err(error) if self.is_outage() => return Err(error.into()),
                Err(error) => result = result.and(Err(error)),
            }
        }
        // What stands in two lists is asked about once.
        let mut seen = HashSet::new();
        told.retain(|mention| seen.insert(mention.job.clone()));
        let (mut asked, mut discovered) = (0, 0);
        for mention in told {
            match self.known(&mention.job)? {
                Some(job) => drop(self.associate(&mention, Some(&job)).await?),
                None if asked == MAX_MENTIONS => break,
                None => {
                    asked += 1;
                    discovered += u64::from(self.take_in(&mention).await?);
                }
            }
        }
        result?;
        Ok(discovered)
    }

    /// Reads the first page of each list: up to 30 jobs for one question, among them such as ended without a callback. Jobs
    /// that are not known are taken in where `gateway.adopt_listed` says so.
    pub(super) async fn read_first_pages(&self, apis: &[&'static str]) -> Result<(), AskError> {
        let mut result = Ok(());
        for list in apis.iter().flat_map(|api| JobList::of(api)) {
            result = result.and(self.read_first_page(list).await);
        }
        result
    }

    /// What one account is refused, such as one on hold, keeps none of the others from being asked for; an outage does.
    async fn read_first_page(&self, list: JobList) -> Result<(), AskError> {
        let error = match self.read_first_page_of(list, None).await {
            Err(AskError::Provider(error)) => error,
            read => return read,
        };
        let mut result = Ok(());
        for account in self.accounts_of(list, error).await? {
            match self.read_first_page_of(list, Some(&account)).await {
                Err(error @ AskError::Provider(_)) if !self.is_outage() => result = result.and(Err(error)),
                read => read?,
            }
        }
        result
    }

    async fn read_first_page_of(&self, list: JobList, account: Option<&str>) -> Result<(), AskError> {
        let unknown = if self.inner.config.adopt_listed { UnknownJobPolicy::Adopt } else { UnknownJobPolicy::Skip };
        let client = &self.inner.client;
        let page = self.with_retry(|| client.list(list, account, None)).await?;
        for Answer { observation, body } in page.jobs {
            self.inner.intake.observe_listed(body, observation, unknown).await?;
        }
        Ok(())
    }

    fn known(&self, job: &JobId) -> Result<Option<Job>, AskError> {
        let record = self.state().job(job).map_err(IntakeError::from)?;
        Ok(record.map(|record| record.job))
    }

    /// Asks about a job that is not known. True when it is taken in. What the provider does not say of it keeps no other from
    /// being asked about; an outage does.
    async fn take_in(&self, mention: &JobMention) -> Result<bool, AskError> {
        match self.with_retry(|| self.inner.client.job(&mention.job)).await {
            Ok(answer) => {
                let is_associated = self.associate(mention, None).await?;
                let observed =
                    self.inner.intake.observe(answer.body, answer.observation, UnknownJobPolicy::Configured).await?;
                if is_associated || observed {
                    tracing::info!(job = %mention.job, "the provider runs a job that was not known");
                }
                Ok(is_associated || observed)
            }
            // It is asked about again at the next discovery.
            Err(
                ProviderError::Gone | ProviderError::OnHold | ProviderError::Rejected(_) | ProviderError::Unreadable(_),
            ) => Ok(false),
            Err(_) if !self.is_outage() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Ties a job to the ref whose reply URL the call that created it gave, else to the ref that its replyRef names: when
    /// it is asked about the job itself, the provider says neither. True when that changed something.
    async fn associate(&self, mention: &JobMention, job: Option<&Job>) -> Result<bool, AskError> {
        let intake = &self.inner.intake;
        let answer = Answer::naming(&mention.job, mention.reply_ref.as_ref());
        let target = mention.reply_url.as_deref().and_then(|url| intake.urls().parse(url));
        if let Some(Target::Ref(id)) = target
            && self.state().reply_ref(&id).map_err(IntakeError::from)?.is_some()
        {
            let is_claimed = job.is_some_and(|job| job.claimed);
            return Ok(!is_claimed && intake.job_created(id, answer.body, answer.observation).await?);
        }
        let is_tied = job.is_some_and(|job| job.ref_id.is_some());
        if is_tied || mention.reply_ref.is_none() {
            return Ok(false);
        }
        Ok(intake.observe(answer.body, answer.observation, UnknownJobPolicy::Configured).await?)
    }
}

/// Some of the provider's users have no such list.
fn or_none(told: Result<Vec<JobMention>, ProviderError>) -> Result<Vec<JobMention>, ProviderError> {
    match told {
        Err(ProviderError::Gone | ProviderError::Rejected(_) | ProviderError::Unreadable(_)) => Ok(Vec::new()),
        told => told,
    }
}
