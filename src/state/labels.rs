//! The labels of many jobs' refs.

use std::collections::{BTreeMap, HashMap};

use super::{State, StateError};
use crate::domain::{Job, RefId};

/// Reads the labels of jobs, newest first, and those of older refs ahead: jobs in a row mostly belong to refs in a row. What it
/// has read stays true, since a ref is given its labels once.
#[derive(Debug, Default)]
pub struct LabelReader {
    known: HashMap<RefId, BTreeMap<String, String>>,
    /// How many refs were read ahead the last time.
    ahead: usize,
    /// How often something was found in `known` since.
    found: usize,
}

impl LabelReader {
    const MAX_AHEAD: usize = 64;
    const MAX_KNOWN: usize = 1024;

    /// The labels of a job's ref, deleted or not.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn labels_of(&mut self, state: &State, job: &Job) -> Result<BTreeMap<String, String>, StateError> {
        let Some(id) = &job.ref_id else { return Ok(BTreeMap::new()) };
        if let Some(labels) = self.known.get(id) {
            self.found += 1;
            return Ok(labels.clone());
        }
        // Twice as many as the last time if half of those were of use; else half as many.
        self.ahead =
            if self.found * 2 >= self.ahead { (self.ahead * 2).clamp(1, Self::MAX_AHEAD) } else { self.ahead / 2 };
        self.found = 0;
        if self.known.len() + self.ahead >= Self::MAX_KNOWN {
            self.known.clear();
        }
        if self.ahead > 0 {
            let (older, _) = state.refs(self.ahead, Some(id))?;
            self.known.extend(older.into_iter().map(|record| (record.id, record.labels)));
        }
        let labels = state.labels_of(job)?;
        self.known.insert(id.clone(), labels.clone());
        Ok(labels)
    }
}
