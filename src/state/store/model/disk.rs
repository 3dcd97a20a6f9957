//! A disk in the place of sled: what is written is there at once and whole, and durable when it is synced.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use shuttle::sync::{Condvar, Mutex, MutexGuard};

use super::{IVec, StoreError};

pub(super) type Records = BTreeMap<IVec, IVec>;

#[derive(Clone, Debug, Default)]
pub(super) struct Blocks(Arc<Disk>);

#[derive(Debug, Default)]
struct Disk {
    content: Mutex<Content>,
    released: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) written: Records,
    /// What a crash leaves.
    pub(super) durable: Records,
    /// A write hangs while it is set.
    pub(super) hangs: bool,
    /// So many writes succeed, and no more.
    pub(super) fails_after: Option<usize>,
}

impl Blocks {
    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        self.0.content.lock().unwrap()
    }

    pub(super) fn release(&self) {
        self.content().hangs = false;
        self.0.released.notify_all();
    }

    /// A map finds out soon enough that it lacks a key.
    pub(super) fn filter_misses(&self, _filter: bool) {}

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        Ok(self.content().written.get(key).cloned())
    }

    pub(super) fn iter(&self, start: Bound<IVec>, end: Bound<IVec>, back: bool) -> Result<BlockIter, StoreError> {
        Ok(BlockIter { disk: self.clone(), start, end, back })
    }

    pub(super) fn write(&self, writes: BTreeMap<IVec, Option<IVec>>) -> Result<(), StoreError> {
        let mut content = self.content();
        while content.hangs {
            content = self.0.released.wait(content).unwrap();
        }
        if let Some(left) = &mut content.fails_after {
            *left = left.checked_sub(1).ok_or_else(|| StoreError::DiskFull("as told".to_owned()))?;
        }
        for (key, value) in writes {
            match value {
                Some(value) => content.written.insert(key, value),
                None => content.written.remove(&key),
            };
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let mut content = self.content();
        content.durable = content.written.clone();
        Ok(())
    }
}

/// Looks for each record anew, as that of sled's does for each block.
pub(super) struct BlockIter {
    disk: Blocks,
    start: Bound<IVec>,
    end: Bound<IVec>,
    back: bool,
}

impl Iterator for BlockIter {
    type Item = Result<(IVec, IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let content = self.disk.content();
        let mut range = content.written.range::<IVec, _>((self.start.clone(), self.end.clone()));
        let (key, value) = if self.back { range.next_back() } else { range.next() }?;
        let passed = if self.back { &mut self.end } else { &mut self.start };
        *passed = Bound::Excluded(key.clone());
        Some(Ok((key.clone(), value.clone())))
    }
}
