//! Imports what the provider's lists hold and is not here.
//!
//! A list is walked twice. The first walk finds where it ends, or where everything is known, and which pages hold
//! something that is missing; the second takes those pages in, the last first. So what was imported before a stop is at
//! the far end, and the next run walks up to it again: nothing need be written down for that. Only the ids of the pages are
//! held in between, and links are fresh when a job is taken in.

mod list_pager;

use super::Reconciler;
use super::progress::{BackfillReport, Progress, SyncError};
use crate::domain::{JobId, JobState};
use crate::intake::UnknownJobPolicy;
use crate::provider::{Answer, JobList, ListPosition, ProviderError};

use self::list_pager::ListPager;

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backfill {
    /// What some of the provider's lists hold.
    List(ListBackfill),
    /// These jobs, at most [`Backfill::MAX_IDS`]: many are in no list that can be walked.
    Jobs(Vec<JobId>),
}

impl Backfill {
    /// The most jobs imported by their ids in one go.
    pub const MAX_IDS: usize = 1000;
    /// What stands in place of a list's name where jobs are named by their ids.
    pub const BY_ID: &str = "jobs";

    /// The lists of an API, the first one's by default: the one of this name, by default all.
    ///
    /// # Errors
    /// In words, when there is none.
    pub fn lists(provider: Option<&str>, name: Option<&str>) -> Result<Vec<JobList>, String> {
        let provider = provider.unwrap_or(JobId::FIRST_API);
        let of_api = JobList::of(provider);
        if of_api.is_empty() {
            let mut with_lists: Vec<_> = JobList::all().map(JobList::provider).collect();
            with_lists.dedup();
            return Err(format!("provider: expected an API with a list, one of {}", with_lists.join(", ")));
        }
        let Some(name) = name else { return Ok(of_api) };
        let names: Vec<_> = of_api.iter().map(|list| list.as_str()).collect();
        let found: Vec<_> = of_api.iter().copied().filter(|list| list.as_str() == name).collect();
        if found.is_empty() {
            return Err(format!(
                "list: expected one of {} for {provider}, or {} with ids",
                names.join(", "),
                Self::BY_ID
            ));
        }
        Ok(found)
    }
}

/// What to import from lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBackfill {
    /// From which lists, all of one API.
    pub lists: Vec<JobList>,
    /// At most so many jobs, those at the far end of each list first.
    pub limit: Option<u64>,
    /// Whether to walk on where a whole page is known.
    pub all: bool,
}

/// A page that holds something that is missing.
struct Batch {
    list: JobList,
    account: Option<String>,
    after: Option<ListPosition>,
}

/// What a listed job is to the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SyncStatus {
    /// Its end is known here.
    Known,
    /// It has not ended.
    Running,
    /// It has ended, and that is not known here.
    Missing,
}

impl Reconciler {
    /// Imports what is finished and not here. Can be dropped at any time, and run again.
    ///
    /// # Errors
    /// When it ends early.
    pub async fn backfill(&self, what: &Backfill, progress: &Progress<BackfillReport>) -> Result<(), SyncError> {
        self.inner.intake.log().recovered().await;
        match what {
            Backfill::List(list) => self.import_lists(list, progress).await?,
            Backfill::Jobs(ids) => self.import_jobs(ids, progress).await?,
        }
        progress.complete(|report| report.complete = true);
        Ok(())
    }

    async fn import_jobs(&self, ids: &[JobId], progress: &Progress<BackfillReport>) -> Result<(), SyncError> {
        progress.expect(ids.len() as u64);
        for id in ids {
            let answer = match self.with_retry(|| self.inner.client.job(id)).await {
                Ok(answer) => answer,
                Err(
                    error @ (ProviderError::Gone
                    | ProviderError::Rejected(_)
                    | ProviderError::Unreadable(_)
                    | ProviderError::Failed(_)),
                ) => {
                    tracing::warn!(job = %id, %error, "a job cannot be imported");
                    progress.count(|report| report.unanswered += 1);
                    progress.step();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let standing = self.standing(&answer)?;
            progress.count(|report| match standing {
                SyncStatus::Known => report.known += 1,
                SyncStatus::Running => report.running += 1,
                SyncStatus::Missing => report.missing += 1,
            });
            if standing != SyncStatus::Known {
                let taken_in =
                    self.inner.intake.observe(answer.body, answer.observation, UnknownJobPolicy::Adopt).await?;
                let imported = taken_in && standing == SyncStatus::Missing;
                progress.count(|report| report.imported += u64::from(imported));
            }
            progress.step();
        }
        Ok(())
    }

    async fn import_lists(&self, what: &ListBackfill, progress: &Progress<BackfillReport>) -> Result<(), SyncError> {
        let mut missing = Vec::new();
        for list in &what.lists {
            for account in self.accounts(*list).await? {
                self.scan_list(*list, what.all, account, progress, &mut missing).await?;
            }
        }
        let wanted = progress.report().missing;
        progress.expect(what.limit.map_or(wanted, |limit| limit.min(wanted)));
        let mut left = what.limit.unwrap_or(u64::MAX);
        for batch in missing.iter().rev() {
            if left == 0 {
                break;
            }
            self.import(batch, progress, &mut left).await?;
        }
        Ok(())
    }

    /// Whose lists there are: nobody's in particular where the provider does not ask for an account.
    async fn accounts(&self, list: JobList) -> Result<Vec<Option<String>>, ProviderError> {
        let client = &self.inner.client;
        match self.with_retry(|| client.list(list, None, None)).await {
            Ok(_) => Ok(vec![None]),
            Err(error) => Ok(self.accounts_of(list, error).await?.into_iter().map(Some).collect()),
        }
    }

    /// Whose lists there are, where the provider answers with `error` to a question that names no account.
    ///
    /// # Errors
    /// With that error, when an account would not help.
    pub(super) async fn accounts_of(&self, list: JobList, error: ProviderError) -> Result<Vec<String>, ProviderError> {
        let client = &self.inner.client;
        if !matches!(error, ProviderError::Rejected(_)) || !list.has_accounts() {
            return Err(error);
        }
        let accounts = self.with_retry(|| client.accounts()).await?;
        if accounts.is_empty() { Err(error) } else { Ok(accounts) }
    }

    async fn scan_list(
        &self,
        list: JobList,
        all: bool,
        account: Option<String>,
        progress: &Progress<BackfillReport>,
        missing: &mut Vec<Batch>,
    ) -> Result<(), SyncError> {
        let mut walk = ListPager::new(list, account.clone());
        while let Some(page) = walk.next(self).await? {
            let mut counts = [0; 3];
            for answer in &page.jobs {
                counts[self.standing(answer)? as usize] += 1;
            }
            let [known, running, new] = counts;
            progress.count(|report| {
                report.listed += known + running + new;
                report.known += known;
                report.running += running;
                report.missing += new;
            });
            if new > 0 {
                missing.push(Batch { list, account: account.clone(), after: page.after });
            }
            // In what order a list is nobody says; a whole page of them is hardly an accident.
            if running + new == 0 && !all {
                break;
            }
        }
        Ok(())
    }

    async fn import(
        &self,
        Batch { list, account, after }: &Batch,
        progress: &Progress<BackfillReport>,
        left: &mut u64,
    ) -> Result<(), SyncError> {
        let client = &self.inner.client;
        let page = self.with_retry(|| client.list(*list, account.as_deref(), after.as_ref())).await?;
        for answer in page.jobs.into_iter().rev() {
            if *left == 0 {
                break;
            }
            if self.standing(&answer)? != SyncStatus::Missing {
                continue;
            }
            let Answer { observation, body } = answer;
            if self.inner.intake.observe(body, observation, UnknownJobPolicy::Adopt).await? {
                *left -= 1;
                progress.step();
                progress.count(|report| report.imported += 1);
            }
        }
        Ok(())
    }

    /// What is being archived, or stuck, has other ways to a better end.
    fn standing(&self, Answer { observation, .. }: &Answer) -> Result<SyncStatus, SyncError> {
        let record = self.state().job(&observation.job)?;
        Ok(match (record.map(|record| record.job), observation.outcome) {
            (Some(job), None) if job.state == JobState::Running => SyncStatus::Running,
            (None, None) => SyncStatus::Running,
            (Some(job), Some(outcome)) if job.state == JobState::Running || Some(outcome) > job.outcome => {
                SyncStatus::Missing
            }
            (None, Some(_)) => SyncStatus::Missing,
            (Some(_), _) => SyncStatus::Known,
        })
    }
}
