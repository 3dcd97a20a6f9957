//! Jobs that are read together.

use std::collections::{BTreeMap, HashMap};

use super::keys;
use super::query::read_neighbours;
use super::records::JobRecord;
use super::store::IVec;
use super::stored_job::Header;
use super::{State, StateError};
use crate::domain::Job;

/// Jobs that are read together. Those that stand near each other, as jobs made one after the other do, are read at once.
#[derive(Debug)]
pub struct JobBatch<'a> {
    state: &'a State,
    records: HashMap<u64, IVec>,
}

impl State {
    /// Some jobs by their sequences. Keeps about a MiB of them in memory, at the most.
    ///
    /// # Errors
    /// When the state cannot be read; so for all that is asked of it.
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
