//! Every job that has ended, its files in the index and its manifest.

use futures_util::FutureExt;

use super::index::Expected;
use super::{Finding, FindingKind, PAGE, Run, VerifyError};
use crate::bucket::{BucketError, Manifest, ObjectFolder, ObjectKey};
use crate::domain::{Job, JobState};
use crate::state::{JobFilter, JobRecord};

/// How often a job that changes while it is looked at is looked at again.
const LOOKS: usize = 3;

impl Run<'_> {
    pub(super) async fn check_jobs(&self) -> Result<(), VerifyError> {
        let mut before = None;
        loop {
            let page = self.state(move |state| state.jobs(&JobFilter::default(), PAGE, before)).await?;
            self.do_all(page.items.into_iter().map(|record| self.check_job(record).boxed()).collect()).await?;
            match page.next {
                Some(next) => before = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn check_job(&self, record: JobRecord) -> Result<(), VerifyError> {
        self.check_files(&record.job).await?;
        self.check_manifest(record).await?;
        self.progress.count(|report| report.jobs += 1);
        self.progress.step();
        Ok(())
    }

    /// What the index names has been looked at; what it should name and does not has not.
    async fn check_files(&self, job: &Job) -> Result<(), VerifyError> {
        for file in job.assets.iter().filter_map(|asset| asset.stored.as_ref()) {
            let sha256 = file.sha256;
            let entry = self.state(move |state| state.media(&sha256)).await?;
            if entry.is_none() {
                let detail = "the index does not know its digest: rebuild the state";
                self.progress.found(Finding::new(FindingKind::MissingIndexEntry, &file.key, Some(&job.id), detail));
            }
            if entry.is_none_or(|entry| (entry.key, entry.bytes) != (file.key.clone(), file.bytes)) {
                let expected = Expected {
                    sha256,
                    bytes: file.bytes,
                    content_type: file.content_type.clone(),
                    key: file.key.clone(),
                };
                self.check_object(&expected, Some(&job.id)).await?;
            }
        }
        Ok(())
    }

    async fn check_manifest(&self, mut record: JobRecord) -> Result<(), VerifyError> {
        let state = self.inner.log.state().clone();
        for _ in 0..LOOKS {
            let Some(key) = manifest_key(&record.job) else { return Ok(()) };
            let Some(read) = self.read_manifest(&key).await? else { return Ok(()) };
            let (kind, detail) = match read {
                Content::Missing => (FindingKind::MissingManifest, "it is not in the bucket".to_owned()),
                Content::Damaged(why) => (FindingKind::DamagedManifest, why),
                Content::Read(content) => match difference(&content, &record.job) {
                    Some(why) => (FindingKind::DamagedManifest, why),
                    None => return Ok(()),
                },
            };
            // In a running service the job may have moved on, and a manifest is written before that is recorded.
            let sequence = record.sequence;
            let worked_on = state.is_leased(sequence);
            let Some(now) = self.state(move |state| state.job_at(sequence)).await? else { return Ok(()) };
            if worked_on || now.job != record.job {
                record = now;
                continue;
            }
            let mut finding = Finding::new(kind, key.as_str(), Some(&record.job.id), detail);
            if self.options.repair {
                finding = finding.with_repair(self.mend_manifest(sequence, &key).await);
            }
            self.progress.found(finding);
            return Ok(());
        }
        // It is being worked on, and gets its manifest from that.
        Ok(())
    }

    /// `None` when it cannot be read, which is then in the report.
    async fn read_manifest(&self, key: &ObjectKey) -> Result<Option<Content>, VerifyError> {
        let bucket = &self.inner.bucket;
        let read = self.read(key, || async {
            match bucket.read_manifest(key).await {
                Err(BucketError::NotFound(_)) => Ok(Content::Missing),
                Err(error @ BucketError::TooLarge(..)) => Ok(Content::Damaged(error.to_string())),
                read => Ok(match Manifest::read(&read?) {
                    Ok(content) => Content::Read(Box::new(content)),
                    Err(why) => Content::Damaged(why),
                }),
            }
        });
        let read = read.await?;
        let is_there = read.as_ref().is_some_and(|read| !matches!(read, Content::Missing));
        self.progress.count(|report| report.manifests += u64::from(is_there));
        Ok(read)
    }
}

/// What lies where a manifest should.
enum Content {
    Missing,
    Damaged(String),
    Read(Box<Manifest>),
}

/// Where the manifest of a job has to be; `None` when it has none, or will get another.
pub(super) fn manifest_key(job: &Job) -> Option<ObjectKey> {
    match job.state {
        JobState::Running | JobState::Archiving => None,
        JobState::Stuck => job.manifest_key.as_deref()?.parse().ok(),
        JobState::Archived | JobState::Failed => match &job.manifest_key {
            Some(key) => key.parse().ok(),
            None => Some(job.folder.as_deref()?.parse::<ObjectFolder>().ok()?.manifest()),
        },
    }
}

/// What a manifest says otherwise than the job's record. Later callbacks may change what is not looked at here.
fn difference(content: &Manifest, job: &Job) -> Option<String> {
    let found = &content.job;
    if found.job_id != job.id {
        return Some(format!("it is of the job {}", found.job_id));
    }
    if found.state != job.state {
        return Some(format!("it says {}, expected {}", found.state.as_str(), job.state.as_str()));
    }
    let written = found.assets.iter().map(|file| (&file.file, file.key.as_ref(), file.sha256, file.bytes));
    let files = job.assets.iter().map(|asset| {
        let stored = asset.stored.as_ref();
        let (sha256, bytes) = (stored.map(|file| file.sha256), stored.map(|file| file.bytes));
        (&asset.file, stored.map(|file| &file.key), sha256, bytes)
    });
    (!files.eq(written)).then(|| "it does not name the job's files as they are".to_owned())
}
