use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use replyvault_domain::{JobId, Kind};

use super::job::{Job, Published};
use super::media::File;

/// Every job and file since the start, in memory.
#[derive(Debug, Default)]
pub(super) struct Store(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    jobs: Vec<Arc<Job>>,
    by_id: HashMap<String, usize>,
    files: HashMap<String, Arc<File>>,
    /// What calls of the APIs give: the API, path and query, and the job's place and the file's.
    calls: HashMap<String, (usize, usize)>,
}

impl Store {
    /// More are refused, so that a run that never ends does not fill the memory.
    const MAX_JOBS: usize = 100_000;

    /// Adds the jobs that `make` makes when told how many there are already; none when there are too many.
    pub(super) fn add<E>(&self, make: impl FnOnce(u64) -> Result<Vec<Job>, E>) -> Result<Vec<Arc<Job>>, E> {
        let mut inner = self.0.write();
        if inner.jobs.len() >= Self::MAX_JOBS {
            return Ok(Vec::new());
        }
        let jobs: Vec<_> = make(inner.jobs.len() as u64)?.into_iter().map(Arc::new).collect();
        for job in &jobs {
            for Published { path, file } in job.assets.iter().flat_map(|asset| asset.published()) {
                inner.files.insert(path.clone(), Arc::clone(file));
            }
            let place = inner.jobs.len();
            for (file, asset) in job.assets.iter().enumerate().filter(|(_, asset)| !asset.call.is_empty()) {
                inner.calls.insert(format!("{} {}", job.id.provider(), asset.call), (place, file));
            }
            inner.by_id.insert(job.id.to_string(), place);
            inner.jobs.push(Arc::clone(job));
        }
        Ok(jobs)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Job>> {
        let inner = self.read();
        inner.by_id.get(id).and_then(|place| inner.jobs.get(*place)).cloned()
    }

    /// The job whose file a call of an API gives, and the file's place.
    pub(super) fn called(&self, api: &str, call: &str) -> Option<(Arc<Job>, usize)> {
        let inner = self.read();
        let (job, file) = *inner.calls.get(&format!("{api} {call}"))?;
        Some((inner.jobs.get(job)?.clone(), file))
    }

    pub(super) fn file(&self, path: &str) -> Option<Arc<File>> {
        self.read().files.get(path).cloned()
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Job>> {
        self.read().jobs.clone()
    }

    /// What the provider's lists hold of a kind, oldest first.
    pub(super) fn listed(&self, kind: Kind, account: Option<&str>) -> Vec<Arc<Job>> {
        let wanted = |job: &&Arc<Job>| {
            job.kind() == kind
                && job.is_of(JobId::FIRST_API)
                && job.is_listed()
                && account.is_none_or(|account| account == job.request.account)
        };
        self.read().jobs.iter().filter(wanted).cloned().collect()
    }

    /// What the provider's scheduler still follows.
    pub(super) fn running(&self, kinds: &[Kind]) -> Vec<Arc<Job>> {
        let is_wanted =
            |job: &&Arc<Job>| kinds.contains(&job.kind()) && job.is_of(JobId::FIRST_API) && job.is_tracked();
        self.read().jobs.iter().filter(is_wanted).cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read()
    }
}
