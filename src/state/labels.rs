//! The labels of jobs' refs.

use std::collections::{BTreeMap, HashMap};

use super::keys;
use super::records::RefRecord;
use super::{State, StateError};
use crate::domain::{Job, RefId};

/// What was read of some jobs' refs.
#[derive(Debug)]
pub struct Labels(HashMap<RefId, BTreeMap<String, String>>);

impl Labels {
    /// Those of one of the jobs.
    pub fn of(&self, job: &Job) -> BTreeMap<String, String> {
        job.ref_id.as_ref().and_then(|id| self.0.get(id)).cloned().unwrap_or_default()
    }
}

impl State {
    /// The labels of a job's ref, deleted or not.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn labels_of(&self, job: &Job) -> Result<BTreeMap<String, String>, StateError> {
        let record = job.ref_id.as_ref().map(|id| self.ref_including_deleted(id)).transpose()?.flatten();
        Ok(record.map(|record| record.labels).unwrap_or_default())
    }

    /// The same for some jobs. Jobs that are listed together mostly belong to refs that stand together: these are read in one
    /// walk, the others one by one.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn labels_of_all<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) -> Result<Labels, StateError> {
        /// To pass so many refs over for each that is wanted is cheaper than to look each up.
        const MAX_PASSED: usize = 4;
        let store = self.store()?;
        let ids = jobs.into_iter().filter_map(|job| job.ref_id.as_ref());
        let wanted: BTreeMap<Vec<u8>, &RefId> = ids.map(|id| (keys::reply_ref_id(id), id)).collect();
        let mut found = HashMap::new();
        if let (Some((first, _)), Some((last, _))) = (wanted.first_key_value(), wanted.last_key_value()) {
            for record in store.range(first.clone()..=last.clone()).take(wanted.len() * (1 + MAX_PASSED)) {
                let (key, value) = record?;
                if let Some(&id) = wanted.get(&*key) {
                    found.insert(id.clone(), postcard::from_bytes::<RefRecord>(&value)?.labels);
                }
            }
        }
        for &id in wanted.values() {
            if !found.contains_key(id)
                && let Some(record) = self.ref_including_deleted(id)?
            {
                found.insert(id.clone(), record.labels);
            }
        }
        Ok(Labels(found))
    }
}
