//! Reading a range of keys from the memtable and the blocks at once.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds, RangeFrom, RangeFull, RangeInclusive};

use sled::IVec;

use super::blocks::BlockIter;
use super::engine::Store;
use super::{StoreError, Write};

/// The records of a range, from its start on or from its end on.
///
/// It goes by windows: what the memtable has in one is copied first, then sled is read over the same keys. So a record that
/// is flushed meanwhile is seen in one place or the other, and nobody who commits waits for who reads.
pub(in crate::state) struct Range<'a> {
    store: &'a Store,
    back: bool,
    /// What is left behind the window.
    start: Bound<IVec>,
    end: Bound<IVec>,
    is_last: bool,
    in_memory: VecDeque<Write>,
    on_disk: Option<BlockIter>,
    next_on_disk: Option<(IVec, IVec)>,
}

/// How many records of the memtable are copied at a time.
const WINDOW: usize = 128;

/// A range of keys, and which of them comes first.
pub(in crate::state) trait Keys {
    /// Whether the last comes first.
    const ARE_BACKWARDS: bool = false;

    /// Where it starts and ends.
    fn bounds(&self) -> (Bound<&Vec<u8>>, Bound<&Vec<u8>>);
}

/// A range whose last key comes first.
pub(in crate::state) struct Backwards<R>(pub(in crate::state) R);

impl<R: RangeBounds<Vec<u8>>> Keys for Backwards<R> {
    const ARE_BACKWARDS: bool = true;

    fn bounds(&self) -> (Bound<&Vec<u8>>, Bound<&Vec<u8>>) {
        (self.0.start_bound(), self.0.end_bound())
    }
}

/// Each kind is named: an implementation for all ranges would overlap with that for `Backwards`.
macro_rules! forwards {
    ($($range:ty),*) => {
        $(impl Keys for $range {
            fn bounds(&self) -> (Bound<&Vec<u8>>, Bound<&Vec<u8>>) {
                (self.start_bound(), self.end_bound())
            }
        })*
    };
}

forwards!(
    RangeFull,
    RangeInclusive<Vec<u8>>,
    std::ops::Range<Vec<u8>>,
    RangeFrom<Vec<u8>>,
    (Bound<Vec<u8>>, Bound<Vec<u8>>)
);

type Record = Result<(IVec, IVec), StoreError>;

impl Store {
    /// The records of a range such as `from..to`, in the order of their keys; of one in [`Backwards`], the last first. Each is as
    /// it was at some moment since the range was asked for.
    pub(in crate::state) fn range<K: Keys>(&self, keys: K) -> Range<'_> {
        let (start, end) = keys.bounds();
        let owned = |bound: Bound<&Vec<u8>>| bound.map(|key| IVec::from(key.as_slice()));
        Range {
            store: self,
            back: K::ARE_BACKWARDS,
            start: owned(start),
            end: owned(end),
            is_last: false,
            in_memory: VecDeque::new(),
            on_disk: None,
            next_on_disk: None,
        }
    }
}

impl Range<'_> {
    fn next_window(&mut self) -> Result<(), StoreError> {
        let (start, end) = (self.start.clone(), self.end.clone());
        if is_empty(&start, &end) {
            self.is_last = true;
            return Ok(());
        }
        let keys = (start.as_ref().map(AsRef::as_ref), end.as_ref().map(AsRef::as_ref));
        self.in_memory = self.store.shared.window(keys, self.back, WINDOW);
        let last = self.in_memory.back().filter(|_| self.in_memory.len() == WINDOW).map(|(key, _)| key.clone());
        self.is_last = last.is_none();
        let (mut window_start, mut window_end) = (start, end);
        if let Some(last) = last {
            let (end_of_window, rest) =
                if self.back { (&mut window_start, &mut self.end) } else { (&mut window_end, &mut self.start) };
            *end_of_window = Bound::Included(last.clone());
            *rest = Bound::Excluded(last);
        }
        self.on_disk = Some(self.store.shared.blocks.iter(window_start, window_end, self.back)?);
        Ok(())
    }

    /// True when the next record of the memtable comes before the next on the disk, or takes its place.
    fn memory_is_next(&self) -> bool {
        match (self.in_memory.front(), &self.next_on_disk) {
            (Some((newer, _)), Some((key, _))) if self.back => newer >= key,
            (Some((newer, _)), Some((key, _))) => newer <= key,
            (newer, _) => newer.is_some(),
        }
    }
}

impl Iterator for Range<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            if self.next_on_disk.is_none() {
                match self.on_disk.as_mut().and_then(Iterator::next).transpose() {
                    // Past its end it would find what is written by now, and has been shown.
                    Ok(None) => self.on_disk = None,
                    Ok(record) => self.next_on_disk = record,
                    Err(error) => return Some(Err(self.store.shared.note_damage(error))),
                }
            }
            if self.memory_is_next() {
                let (key, value) = self.in_memory.pop_front()?;
                self.next_on_disk.take_if(|(old, _)| *old == key);
                match value {
                    Some(value) => return Some(Ok((key, value))),
                    None => continue,
                }
            }
            match self.next_on_disk.take() {
                Some(record) => return Some(Ok(record)),
                None if self.is_last => return None,
                None => {
                    if let Err(error) = self.next_window() {
                        self.is_last = true;
                        return Some(Err(self.store.shared.note_damage(error)));
                    }
                }
            }
        }
    }
}

fn is_empty(start: &Bound<IVec>, end: &Bound<IVec>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
    }
}
