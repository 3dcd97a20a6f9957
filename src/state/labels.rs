//! The labels of jobs' refs.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use super::keys;
use super::query::read_neighbours;
use super::records::{Counters, RefRecord};
use super::store::Store;
use super::txn::Txn;
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

/// Whether any ref in a store may have labels.
pub(super) fn may_be_in(store: &Store) -> bool {
    Txn::begin(store).map_or(true, |txn| txn.meta.counters.refs_labelled > 0)
}

impl State {
    /// Takes note of what is going to be committed.
    pub(super) fn note_labels(&self, counters: &Counters) {
        if counters.refs_labelled > 0 {
            self.shared.has_labels.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn has_labels(&self) -> bool {
        self.shared.has_labels.load(Ordering::SeqCst)
    }

    /// The labels of a job's ref, deleted or not.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn labels_of(&self, job: &Job) -> Result<BTreeMap<String, String>, StateError> {
        if !self.has_labels() {
            return Ok(BTreeMap::new());
        }
        let record = job.ref_id.as_ref().map(|id| self.ref_including_deleted(id)).transpose()?.flatten();
        Ok(record.map(|record| record.labels).unwrap_or_default())
    }

    /// The same for some jobs. Jobs that are listed together mostly belong to refs that stand together: these are read in one
    /// walk, the others one by one.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn labels_of_all<'a>(&self, jobs: impl IntoIterator<Item = &'a Job>) -> Result<Labels, StateError> {
        if !self.has_labels() {
            return Ok(Labels(HashMap::new()));
        }
        let store = self.store()?;
        let ids = jobs.into_iter().filter_map(|job| job.ref_id.as_ref());
        let wanted: BTreeMap<Vec<u8>, &RefId> = ids.map(|id| (keys::reply_ref_id(id), id)).collect();
        let mut found = HashMap::new();
        read_neighbours(&store, &wanted, |id, value| {
            found.insert((*id).clone(), postcard::from_bytes::<RefRecord>(&value)?.labels);
            Ok(true)
        })?;
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
