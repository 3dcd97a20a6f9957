use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::super::Reconciler;
use super::super::progress::SyncError;
use crate::provider::{Answer, JobList, ListPosition};

/// Goes through a list page by page, each job once.
pub(super) struct ListPager {
    list: JobList,
    account: Option<String>,
    after: Option<ListPosition>,
    ended: bool,
    /// Hashes of the ids: a million of them are some megabytes.
    seen: HashSet<u64>,
    hasher: RandomState,
}

/// What is new on a page, and where it begins.
pub(super) struct ListPage {
    pub(super) after: Option<ListPosition>,
    pub(super) jobs: Vec<Answer>,
}

impl ListPager {
    /// More jobs than anybody's list has.
    const MAX_JOBS_SEEN: usize = 1_000_000;

    pub(super) fn new(list: JobList, account: Option<String>) -> Self {
        Self { list, account, after: None, ended: false, seen: HashSet::new(), hasher: RandomState::new() }
    }

    /// The next page with something new on it. An empty page is the end, and so is one that shows nothing new, whatever it
    /// says of a next one: a list that begins anew would be walked for ever.
    pub(super) async fn next(&mut self, reconciler: &Reconciler) -> Result<Option<ListPage>, SyncError> {
        if self.ended {
            return Ok(None);
        }
        let (client, list, account) = (&reconciler.inner.client, self.list, self.account.as_deref());
        let after = self.after.clone();
        let mut page = reconciler.with_retry(|| client.list(list, account, after.as_ref())).await?;
        self.ended = page.has_next == Some(false) || page.next.is_none();
        self.after = page.next.take();
        page.jobs.retain(|job| self.seen.insert(self.hasher.hash_one(&job.observation.job)));
        if self.seen.len() > Self::MAX_JOBS_SEEN {
            return Err(SyncError::Endless(Self::MAX_JOBS_SEEN));
        }
        Ok((!page.jobs.is_empty()).then_some(ListPage { after, jobs: page.jobs }))
    }
}
