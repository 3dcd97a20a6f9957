mod read_cache;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::read_cache::ReadCache;
use super::StateError;
use super::keys::{META, Table, with_prefix};
use super::queue::Lane;
use super::records::{Meta, NotificationsChanged};
use super::store::{IVec, Store};
use crate::domain::RefId;

/// Reads through a set of writes that become visible together. Nobody else commits meanwhile.
#[derive(Debug)]
pub(super) struct Txn<'a> {
    store: &'a Store,
    is_replay: bool,
    writes: BTreeMap<Vec<u8>, Option<IVec>>,
    /// How many bytes of keys and values it holds, about.
    bytes: RefCell<usize>,
    /// What was read of the store: many entries ask for the same ref.
    reads: RefCell<ReadCache>,
    /// Empty; what is written is serialized here, so that it is allocated once.
    buffer: Vec<u8>,
    pub(super) meta: Meta,
    pub(super) due_changed: bool,
    /// Where jobs were put in the queue.
    pub(super) lanes: Vec<Lane>,
    pub(super) confirmations_changed: bool,
    /// Refs over whose URL something came that is to be passed on.
    pub(super) outbox_updates: Vec<RefId>,
    /// Where there is something new to send.
    pub(super) notifications: Vec<NotificationsChanged>,
    /// The position of the entry that is folded in.
    pub(super) position: u64,
}

impl<'a> Txn<'a> {
    pub(super) fn begin(store: &'a Store) -> Result<Self, StateError> {
        let mut txn = Self::empty(store);
        txn.meta = txn.get(&META)?.unwrap_or(Meta { version: super::records::VERSION, ..Meta::default() });
        Ok(txn)
    }

    fn empty(store: &'a Store) -> Self {
        Self {
            store,
            is_replay: false,
            writes: BTreeMap::new(),
            bytes: RefCell::default(),
            reads: RefCell::default(),
            buffer: Vec::new(),
            meta: Meta::default(),
            due_changed: false,
            lanes: Vec::new(),
            confirmations_changed: false,
            outbox_updates: Vec::new(),
            notifications: Vec::new(),
            position: 0,
        }
    }

    /// For entries that were recorded before.
    pub(super) fn begin_replay(store: &'a Store) -> Result<Self, StateError> {
        Ok(Self { is_replay: true, ..Self::begin(store)? })
    }

    /// Whether entries are folded in that were recorded before.
    pub(super) fn is_replay(&self) -> bool {
        self.is_replay
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StateError> {
        self.raw(key)?.map(|value| Ok(postcard::from_bytes(&value)?)).transpose()
    }

    /// The bytes of a record.
    pub(super) fn raw(&self, key: &[u8]) -> Result<Option<IVec>, StateError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.read(key),
        }
    }

    /// About how many bytes it holds: what it has read and is to write.
    pub(super) fn bytes(&self) -> usize {
        *self.bytes.borrow()
    }

    pub(super) fn contains(&self, key: &[u8]) -> Result<bool, StateError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.is_some()),
            None => Ok(self.read(key)?.is_some()),
        }
    }

    fn read(&self, key: &[u8]) -> Result<Option<IVec>, StateError> {
        if let Some(value) = self.reads.borrow_mut().get(key) {
            return Ok(value);
        }
        let value = self.store.get(key)?;
        *self.bytes.borrow_mut() += key.len() + value.as_ref().map_or(0, |value| value.len());
        self.reads.borrow_mut().insert(key, value.clone());
        Ok(value)
    }

    /// The records of a table that follow a key in the store, at most `most`; what this transaction writes is not among them.
    pub(super) fn behind<T: DeserializeOwned>(
        &self,
        key: &[u8],
        table: Table,
        most: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StateError> {
        let range = (Bound::Excluded(key.to_owned()), Bound::Excluded(vec![table as u8 + 1]));
        let items = self.store.range(range).take(most);
        items
            .map(|item| {
                let (key, value) = item?;
                Ok((key.to_vec(), postcard::from_bytes(&value)?))
            })
            .collect()
    }

    /// The records whose keys begin with `prefix`; what this transaction writes is among them.
    pub(super) fn records(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, IVec>, StateError> {
        let keys = with_prefix(prefix.to_vec());
        let mut found = BTreeMap::new();
        for item in self.store.range(keys.clone()) {
            let (key, value) = item?;
            found.insert(key.to_vec(), value);
        }
        for (key, value) in self.writes.range(keys) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }

    pub(super) fn put<T: Serialize>(&mut self, key: Vec<u8>, value: &T) -> Result<(), StateError> {
        let mut bytes = postcard::to_extend(value, std::mem::take(&mut self.buffer))?;
        self.put_raw(key, &bytes);
        bytes.clear();
        self.buffer = bytes;
        Ok(())
    }

    pub(super) fn put_raw(&mut self, key: Vec<u8>, value: &[u8]) {
        *self.bytes.get_mut() += key.len() + value.len();
        self.writes.insert(key, Some(value.into()));
    }

    /// An index entry: the key says all.
    pub(super) fn mark(&mut self, key: Vec<u8>) {
        self.put_raw(key, &[]);
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        *self.bytes.get_mut() += key.len();
        self.writes.insert(key, None);
    }

    /// Makes all writes visible at once; everything before journal position `applied` is then folded in.
    pub(super) fn commit(mut self, applied: u64) -> Result<(), StateError> {
        self.put_meta(applied)?;
        Ok(self.store.commit(self.writes.into_iter().map(|(key, value)| (key.into(), value)).collect())?)
    }

    /// The same. Returns the transaction that follows, which knows what this one has read: for who commits often while nobody
    /// else does.
    pub(super) fn commit_and_continue(mut self, applied: u64) -> Result<Self, StateError> {
        self.put_meta(applied)?;
        let mut reads = self.reads.take();
        reads.update(&self.writes);
        let next = Self {
            is_replay: self.is_replay,
            meta: self.meta.clone(),
            reads: RefCell::new(reads),
            ..Self::empty(self.store)
        };
        self.commit(applied)?;
        Ok(next)
    }

    fn put_meta(&mut self, applied: u64) -> Result<(), StateError> {
        self.meta.applied = applied;
        self.writes.insert(META.to_vec(), Some(postcard::to_stdvec(&self.meta)?.into()));
        Ok(())
    }
}
