//! Reading blocks one after the other.

use std::collections::VecDeque;
use std::ops::Bound;

use sled::IVec;

use super::StoreError;
use super::blocks::guard;
use super::codec::DecodedBlock;

/// The records of a range, from its start on or from its end on.
pub(super) struct BlockIter {
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

impl BlockIter {
    /// `first` is where the block with the first record of `range` begins.
    pub(super) fn new(tree: sled::Db, first: Bound<IVec>, range: (Bound<IVec>, Bound<IVec>), back: bool) -> Self {
        let (start, end) = range;
        Self { tree, back, passed: None, first, start, end, records: VecDeque::new() }
    }
}

impl Iterator for BlockIter {
    type Item = Result<(IVec, IVec), StoreError>;

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

impl BlockIter {
    /// Reads the next block, looked for anew each time: one that is split meanwhile would be missed in part, or seen twice.
    fn next_block(&mut self) -> Result<bool, StoreError> {
        let passed = self.passed.take().map(Bound::Excluded);
        let next = guard(|| {
            Ok(if self.back {
                let end = passed.unwrap_or_else(|| self.end.clone());
                self.tree.range::<IVec, _>((self.first.clone(), end)).next_back()
            } else {
                let start = passed.unwrap_or_else(|| self.first.clone());
                self.tree.range::<IVec, _>((start, self.end.clone())).next()
            })
        })?;
        let Some((key, block)) = next.transpose()? else { return Ok(false) };
        self.decode(&block)?;
        if self.back {
            self.end = Bound::Excluded(self.records.front().map_or_else(|| key.clone(), |(first, _)| first.clone()));
        } else if let Some((last, _)) = self.records.back() {
            self.start = Bound::Excluded(last.clone());
        }
        self.passed = Some(key);
        Ok(true)
    }

    fn decode(&mut self, block: &[u8]) -> Result<(), StoreError> {
        let block = DecodedBlock::of(block)?;
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
