use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StateError;
use super::keys::META;
use super::records::Meta;
use crate::domain::RefId;

/// Reads through a set of writes that become visible together.
#[derive(Debug)]
pub(super) struct Txn<'a> {
    tree: &'a sled::Tree,
    writes: HashMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) meta: Meta,
    pub(super) due_changed: bool,
    pub(super) asks_changed: bool,
    /// Refs over whose URL something came that is to be passed on.
    pub(super) to_pass_on: Vec<RefId>,
}

impl<'a> Txn<'a> {
    pub(super) fn begin(tree: &'a sled::Tree) -> Result<Self, StateError> {
        let mut txn = Self {
            tree,
            writes: HashMap::new(),
            meta: Meta::default(),
            due_changed: false,
            asks_changed: false,
            to_pass_on: Vec::new(),
        };
        txn.meta = txn.get(&META)?.unwrap_or(Meta { version: super::records::VERSION, ..Meta::default() });
        Ok(txn)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StateError> {
        match self.writes.get(key) {
            Some(Some(value)) => Ok(Some(postcard::from_bytes(value)?)),
            Some(None) => Ok(None),
            None => self.tree.get(key)?.map(|value| Ok(postcard::from_bytes(&value)?)).transpose(),
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, StateError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.is_some()),
            None => Ok(self.tree.contains_key(key)?),
        }
    }

    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, value: &T) -> Result<(), StateError> {
        self.writes.insert(key, Some(postcard::to_stdvec(value)?));
        Ok(())
    }

    /// An index entry: the key says all.
    pub(super) fn mark(&mut self, key: Vec<u8>) {
        self.writes.insert(key, Some(Vec::new()));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.writes.insert(key, None);
    }

    /// Makes all writes visible at once; everything before journal position `applied` is then folded in.
    pub(super) fn commit(mut self, applied: u64) -> Result<(), StateError> {
        self.meta.applied = applied;
        let mut batch = sled::Batch::default();
        for (key, value) in self.writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(&META, postcard::to_stdvec(&self.meta)?);
        self.tree.apply_batch(batch)?;
        Ok(())
    }
}
