//! Records in a sled tree, packed: some neighbours together in one of its entries.
//!
//! sled has at most 16 entries in a page and some hundred bytes of memory for each page there is (`Node::should_split` and
//! `PageTable` in 0.34.7); a million jobs are nine million records, mostly of some ten bytes. Packed, they take
//! a fraction of the pages, and all of them are read in seconds.
//!
//! A block has records of one table, in the order of their keys, each key without what it has in common with the one
//! before. It stands under a key that none of its records comes before. Records that are large, as jobs are, much resemble
//! their neighbours: more of them are packed together, and compressed.

mod pack;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use sled::IVec;

use self::pack::{Head, Merged, Unpacked};
use super::Write;
use crate::state::StateError;

/// The tree.
#[derive(Debug)]
pub(in crate::state) struct Blocks {
    tree: sled::Db,
}

/// The records of a range, from its start on or from its end on.
pub(super) struct Walk {
    tree: sled::Db,
    back: bool,
    /// The key of the block that was read last.
    passed: Option<IVec>,
    /// What is left of the range.
    start: Bound<IVec>,
    end: Bound<IVec>,
    /// Where the block of `start` begins.
    first: Bound<IVec>,
    records: VecDeque<(IVec, IVec)>,
}

impl Blocks {
    pub(in crate::state) fn new(tree: sled::Db) -> Self {
        Self { tree }
    }

    pub(in crate::state) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub(in crate::state) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StateError> {
        let Some((_, block)) = self.block_of(key)? else { return Ok(None) };
        let block = Unpacked::of(&block)?;
        let mut records = block.records();
        while let Some(value) = records.next()? {
            if *records.key >= *key {
                return Ok((*records.key == *key).then(|| value.into()));
            }
        }
        Ok(None)
    }

    /// How many records each table has, by the first byte of their keys. Reads and checks all blocks, from both ends at once.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(in crate::state) fn count(&self) -> Result<BTreeMap<u8, u64>, StateError> {
        // The last block from the one end and from the other.
        let seen: Mutex<[Option<IVec>; 2]> = Mutex::default();
        let count = |back: bool| {
            let mut blocks = self.tree.iter();
            let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
            while let Some(block) = if back { blocks.next_back() } else { blocks.next() } {
                let (first, block) = block?;
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let met = match &seen[usize::from(!back)] {
                    Some(other) if back => first <= *other,
                    Some(other) => first >= *other,
                    None => false,
                };
                if met {
                    break;
                }
                seen[usize::from(back)] = Some(first.clone());
                drop(seen);
                *counts.entry(first.first().copied().unwrap_or_default()).or_default() += Head::of(&block)?.records;
            }
            Ok(counts)
        };
        let (front, back) = std::thread::scope(|scope| {
            let front = scope.spawn(|| count(false));
            let back = count(true);
            (front.join().unwrap_or(Err(StateError::Panicked)), back)
        });
        let mut counts = front?;
        for (table, more) in back? {
            *counts.entry(table).or_default() += more;
        }
        Ok(counts)
    }

    pub(super) fn walk(&self, start: Bound<IVec>, end: Bound<IVec>, back: bool) -> Result<Walk, StateError> {
        let first = match &start {
            Bound::Included(key) | Bound::Excluded(key) => {
                Bound::Included(self.block_of(key)?.map_or_else(|| key.clone(), |(first, _)| first))
            }
            Bound::Unbounded => Bound::Unbounded,
        };
        Ok(Walk { tree: self.tree.clone(), back, passed: None, first, start, end, records: VecDeque::new() })
    }

    /// Writes all of `writes`, or nothing of it.
    pub(super) fn write(&self, writes: BTreeMap<IVec, Option<IVec>>) -> Result<(), StateError> {
        let mut batch = sled::Batch::default();
        let mut writes = writes.into_iter().peekable();
        let mut group: Vec<Write> = Vec::new();
        while let Some((key, _)) = writes.peek() {
            let (first, block) = self.block_of(key)?.map_or((key.clone(), None), |(first, block)| (first, Some(block)));
            let behind = (Bound::Excluded(key.clone()), Bound::Unbounded);
            let next = self.tree.range::<IVec, _>(behind).next().transpose()?.map(|(next, _)| next);
            let belongs =
                |(key, _): &Write| key.first() == first.first() && next.as_ref().is_none_or(|next| key < next);
            group.clear();
            while let Some(write) = writes.next_if(belongs) {
                group.push(write);
            }
            rewrite(&mut batch, first, block.as_deref(), &group)?;
        }
        self.tree.apply_batch(batch)?;
        Ok(())
    }

    pub(super) fn flush(&self) -> Result<(), StateError> {
        self.tree.flush()?;
        Ok(())
    }

    /// The block that has the record under `key`, if there is one.
    fn block_of(&self, key: &[u8]) -> Result<Option<(IVec, IVec)>, StateError> {
        let found = self.tree.range::<&[u8], _>(..=key).next_back().transpose()?;
        Ok(found.filter(|(first, _)| first.first() == key.first()))
    }
}

impl Iterator for Walk {
    type Item = Result<(IVec, IVec), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.records.is_empty() {
            match self.next_block() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let next = if self.back { self.records.pop_back() } else { self.records.pop_front() };
        next.map(Ok)
    }
}

impl Walk {
    /// Reads the next block, looked for anew each time: one that is split meanwhile would be missed in part, or seen twice.
    fn next_block(&mut self) -> Result<bool, StateError> {
        let passed = self.passed.take().map(Bound::Excluded);
        let next = if self.back {
            let end = passed.unwrap_or_else(|| self.end.clone());
            self.tree.range::<IVec, _>((self.first.clone(), end)).next_back()
        } else {
            let start = passed.unwrap_or_else(|| self.first.clone());
            self.tree.range::<IVec, _>((start, self.end.clone())).next()
        };
        let Some((key, block)) = next.transpose()? else { return Ok(false) };
        self.unpack(&block)?;
        if self.back {
            self.end = Bound::Excluded(self.records.front().map_or_else(|| key.clone(), |(first, _)| first.clone()));
        } else if let Some((last, _)) = self.records.back() {
            self.start = Bound::Excluded(last.clone());
        }
        self.passed = Some(key);
        Ok(true)
    }

    fn unpack(&mut self, block: &[u8]) -> Result<(), StateError> {
        let block = Unpacked::of(block)?;
        let mut records = block.records();
        while let Some(value) = records.next()? {
            let key = records.key.as_slice();
            let is_behind_start = match &self.start {
                Bound::Included(start) => key >= start.as_ref(),
                Bound::Excluded(start) => key > start.as_ref(),
                Bound::Unbounded => true,
            };
            let is_before_end = match &self.end {
                Bound::Included(end) => key <= end.as_ref(),
                Bound::Excluded(end) => key < end.as_ref(),
                Bound::Unbounded => true,
            };
            if !is_before_end {
                break;
            }
            if is_behind_start {
                self.records.push_back((key.into(), value.into()));
            }
        }
        Ok(())
    }
}

/// Puts into `batch` what becomes of a block.
fn rewrite(batch: &mut sled::Batch, first: IVec, block: Option<&[u8]>, writes: &[Write]) -> Result<(), StateError> {
    let block = block.map(Unpacked::of).transpose()?;
    let mut merged = Merged::default();
    let mut writes = writes.iter().peekable();
    let mut is_changed = false;
    let mut appends = true;
    if let Some(block) = &block {
        let mut records = block.records();
        while let Some(value) = records.next()? {
            let key = records.key.as_slice();
            while let Some((new, value)) = writes.next_if(|(new, _)| new.as_ref() < key) {
                if let Some(value) = value {
                    merged.push(new, value);
                    (is_changed, appends) = (true, false);
                }
            }
            match writes.next_if(|(new, _)| new.as_ref() == key) {
                None => merged.push(key, value),
                Some((new, Some(newer))) => {
                    is_changed |= newer.as_ref() != value;
                    merged.push(new, newer);
                }
                Some((_, None)) => is_changed = true,
            }
        }
    }
    for (new, value) in writes {
        if let Some(value) = value {
            merged.push(new, value);
            is_changed = true;
        }
    }
    if !is_changed {
        return Ok(());
    }
    if merged.is_empty() {
        batch.remove(first);
        return Ok(());
    }
    merged.pack(batch, first, appends);
    Ok(())
}
