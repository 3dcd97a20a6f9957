//! The labels of jobs' refs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::keys::{self, Table};
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

    /// The same for some jobs. Those that are listed together mostly belong to refs that stand together, which are read in one
    /// go.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn labels_of_all<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) -> Result<Labels, StateError> {
        /// To pass so many records over is cheaper than to look for the next.
        const MAX_PASSED: usize = 8;
        let store = self.store()?;
        let ids: BTreeSet<&RefId> = jobs.into_iter().filter_map(|job| job.ref_id.as_ref()).collect();
        let mut found = HashMap::new();
        let mut wanted = ids.iter().map(|id| (keys::reply_ref_id(id), *id)).peekable();
        let mut are_more = true;
        while are_more && let Some((first, _)) = wanted.peek() {
            let (mut passed, refs) = (0, first.clone()..vec![Table::Refs as u8 + 1]);
            are_more = false;
            for record in store.range(refs) {
                let (key, value) = record?;
                while wanted.next_if(|(wanted, _)| wanted.as_slice() < &*key).is_some() {}
                if let Some((_, id)) = wanted.next_if(|(wanted, _)| wanted.as_slice() == &*key) {
                    found.insert(id.clone(), postcard::from_bytes::<RefRecord>(&value)?.labels);
                    passed = 0;
                } else {
                    passed += 1;
                }
                are_more = passed > MAX_PASSED;
                if are_more || wanted.peek().is_none() {
                    break;
                }
            }
        }
        for id in ids {
            if !found.contains_key(id)
                && let Some(deleted) = self.get::<RefRecord>(&keys::removed_ref(id))?
            {
                found.insert(id.clone(), deleted.labels);
            }
        }
        Ok(Labels(found))
    }
}
