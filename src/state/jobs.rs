//! Reading jobs: one, a list of them, some together.

use std::collections::{BTreeMap, HashMap};

use super::keys::{self, Table};
use super::query::{Page, read_neighbours};
use super::records::JobRecord;
use super::store::{Backwards, IVec, StoreError};
use super::stored_job::Header;
use super::{State, StateError};
use crate::domain::{Asset, AssetId, Job, JobId, JobState, Kind, ReplyRef};

/// Which jobs a list shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFilter {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only those of this kind.
    pub kind: Option<Kind>,
    /// Only those tied to this reference.
    pub reply_ref: Option<ReplyRef>,
    /// Only those made with this model.
    pub model: Option<String>,
    /// Only those of this resolution.
    pub resolution: Option<String>,
    /// Only those of this duration in seconds, give or take a twentieth of a second.
    pub duration: Option<f64>,
    /// Only those of this batch.
    pub batch_id: Option<String>,
}

impl JobFilter {
    /// Whether the list shows this job.
    pub fn takes(&self, job: &Job) -> bool {
        const TOLERANCE: f64 = 0.05;
        let same = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        self.state.is_none_or(|state| job.state == state)
            && self.kind.is_none_or(|kind| job.kind() == kind)
            && (self.reply_ref.is_none() || self.reply_ref == job.reply_ref)
            && same(&self.model, &job.details.model)
            && same(&self.resolution, &job.details.resolution)
            && same(&self.batch_id, &job.details.batch_id)
            && self
                .duration
                .is_none_or(|wanted| job.details.duration.is_some_and(|found| (found - wanted).abs() <= TOLERANCE))
    }
}

/// Jobs that are read together. Those that stand near each other, as jobs made one after the other do, are read at once.
#[derive(Debug)]
pub struct JobBatch<'a> {
    state: &'a State,
    records: HashMap<u64, IVec>,
}

/// Reads a job's own record and, with `read`, what goes with it, as they were at one moment: the others change only along
/// with it, or one at a time. `read` is told how many bytes that record has.
fn stable<T>(
    get: impl Fn(&[u8]) -> Result<Option<IVec>, StateError>,
    sequence: u64,
    read: impl Fn(Header, usize) -> Result<T, StateError>,
) -> Result<Option<T>, StateError> {
    /// More often than any job changes while it is read.
    const TRIES: usize = 16;
    let key = keys::job(sequence);
    let mut record = get(&key)?;
    for tries in 1.. {
        let Some(bytes) = &record else { return Ok(None) };
        let header = Header::read(bytes)?;
        let has_more = header.has_more();
        let found = read(header, bytes.len());
        if !has_more || tries == TRIES {
            return found.map(Some);
        }
        let now = get(&key)?;
        if now == record {
            return found.map(Some);
        }
        record = now;
    }
    Ok(None)
}

impl State {
    /// A job by its id.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails; so for all that follow.
    pub fn job(&self, id: &JobId) -> Result<Option<JobRecord>, StateError> {
        let Some(sequence) = self.get::<u64>(&keys::job_id(id))? else { return Ok(None) };
        self.job_at(sequence)
    }

    /// A job by its sequence.
    pub fn job_at(&self, sequence: u64) -> Result<Option<JobRecord>, StateError> {
        Ok(self.weighed_job(sequence)?.map(|(record, _)| record))
    }

    /// A job by its sequence, as if it had no files. Costs the same however many it has.
    pub fn job_without_files(&self, sequence: u64) -> Result<Option<Job>, StateError> {
        let Some(record) = self.store()?.get(&keys::job(sequence))? else { return Ok(None) };
        Ok(Some(Header::read(&record)?.without_files()))
    }

    /// The same by its id.
    pub fn job_header(&self, id: &JobId) -> Result<Option<Job>, StateError> {
        match self.get::<u64>(&keys::job_id(id))? {
            Some(sequence) => self.job_without_files(sequence),
            None => Ok(None),
        }
    }

    /// At most `limit` jobs first heard of before `before`, newest first, as if they had no files.
    pub fn job_headers(&self, limit: usize, before: Option<u64>) -> Result<Vec<(u64, Job)>, StateError> {
        let end = before.map_or_else(|| keys::after(Table::Jobs), keys::job);
        let store = self.store()?;
        let read = |record: Result<(IVec, IVec), StoreError>| {
            let (key, value) = record?;
            let sequence = keys::trailing_number(&key)
                .ok_or_else(|| StateError::Untrue("a job's key has no number".to_owned()))?;
            Ok((sequence, Header::read(&value)?.without_files()))
        };
        store.range(Backwards(Table::Jobs.prefix()..end)).take(limit).map(read).collect()
    }

    /// One file of a job. Costs the same however many others the job has.
    pub fn file_of(&self, sequence: u64, slot: &AssetId) -> Result<Option<Asset>, StateError> {
        let store = self.store()?;
        let get = |key: &[u8]| Ok(store.get(key)?);
        let found = stable(get, sequence, |header, _| header.file(sequence, slot, &get))?;
        Ok(found.flatten().map(|(asset, _)| asset))
    }

    /// A job, and about how many bytes it has.
    pub fn weighed_job(&self, sequence: u64) -> Result<Option<(JobRecord, usize)>, StateError> {
        let store = self.store()?;
        let get = |key: &[u8]| Ok(store.get(key)?);
        stable(get, sequence, |header, bytes| {
            let (job, more) = header.whole(sequence, &get)?;
            Ok((job, bytes + more))
        })
    }

    /// The same when its own record was just read, and has so many bytes.
    pub(super) fn weighed_job_of(
        &self,
        sequence: u64,
        header: Header,
        bytes: usize,
    ) -> Result<Option<(JobRecord, usize)>, StateError> {
        match header.alone() {
            Some(job) => Ok(Some((JobRecord { sequence, job }, bytes))),
            None => self.weighed_job(sequence),
        }
    }

    /// The job that holds a folder of the bucket.
    pub fn job_in_folder(&self, folder: &str) -> Result<Option<JobRecord>, StateError> {
        match self.get::<u64>(&keys::folder(folder))? {
            Some(sequence) => self.job_at(sequence),
            None => Ok(None),
        }
    }

    /// Jobs first heard of before `before`, newest first.
    pub fn jobs(&self, filter: &JobFilter, limit: usize, before: Option<u64>) -> Result<Page<JobRecord>, StateError> {
        let prefix = match (&filter.reply_ref, filter.state.and_then(keys::jobs_in_state)) {
            (Some(name), _) => keys::jobs_of_ref(name),
            (None, Some(prefix)) => prefix,
            (None, None) => Table::Jobs.prefix(),
        };
        let store = self.store()?;
        let is_index = prefix != Table::Jobs.prefix();
        self.page(&prefix, limit, before, |sequence, value| {
            let found = if is_index { store.get(&keys::job(sequence))? } else { Some(value.clone()) };
            let Some(record) = found else { return Ok(None) };
            let header = Header::read(&record)?;
            if filter.takes(header.job()) { self.weighed_job_of(sequence, header, record.len()) } else { Ok(None) }
        })
    }

    /// Some jobs by their sequences. Keeps about a MiB of them in memory, at the most.
    pub fn job_batch(&self, sequences: impl IntoIterator<Item = u64>) -> Result<JobBatch<'_>, StateError> {
        const MAX_BYTES: usize = 1 << 20;
        let wanted: BTreeMap<_, _> = sequences.into_iter().map(|sequence| (keys::job(sequence), sequence)).collect();
        let (store, mut records, mut bytes) = (self.store()?, HashMap::new(), 0);
        read_neighbours(&store, &wanted, |sequence, record| {
            bytes += record.len();
            records.insert(*sequence, record);
            Ok(bytes < MAX_BYTES)
        })?;
        Ok(JobBatch { state: self, records })
    }
}

impl JobBatch<'_> {
    /// A job as [`State::job_without_files`] gives it.
    pub fn without_files(&self, sequence: u64) -> Result<Option<Job>, StateError> {
        match self.records.get(&sequence) {
            Some(record) => Ok(Some(Header::read(record)?.without_files())),
            None => self.state.job_without_files(sequence),
        }
    }

    /// A job as [`State::weighed_job`] gives it.
    pub fn weighed(&self, sequence: u64) -> Result<Option<(JobRecord, usize)>, StateError> {
        match self.records.get(&sequence) {
            Some(record) => self.state.weighed_job_of(sequence, Header::read(record)?, record.len()),
            None => self.state.weighed_job(sequence),
        }
    }
}
