use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use sled::IVec;

use super::blocks::Walk;
use super::{Store, Write};
use crate::state::StateError;

/// The records of a range, from its start on or from its end on.
///
/// It goes by windows: what waits in one is copied first, then sled is read over the same keys. So a record that is
/// written to sled meanwhile is seen in one place or the other, and nobody who commits waits for who reads.
pub(in crate::state) struct Range<'a> {
    store: &'a Store,
    back: bool,
    /// What is left behind the window.
    start: Bound<IVec>,
    end: Bound<IVec>,
    is_last: bool,
    waiting: VecDeque<Write>,
    written: Option<Walk>,
    next_written: Option<(IVec, IVec)>,
}

/// How many records that wait are copied at a time.
const WINDOW: usize = 128;

type Record = Result<(IVec, IVec), StateError>;

impl Store {
    /// The records of a range, in the order of their keys.
    pub(in crate::state) fn range(&self, range: impl RangeBounds<Vec<u8>>) -> Range<'_> {
        self.records(range, false)
    }

    /// The records of a range, the last first.
    pub(in crate::state) fn range_back(&self, range: impl RangeBounds<Vec<u8>>) -> Range<'_> {
        self.records(range, true)
    }

    /// The records whose keys begin with `prefix`, in the order of their keys.
    pub(in crate::state) fn with_prefix(&self, prefix: Vec<u8>) -> Range<'_> {
        let mut behind = prefix.clone();
        while behind.pop_if(|last| *last == u8::MAX).is_some() {}
        let end = match behind.pop() {
            Some(last) => {
                behind.push(last + 1);
                Bound::Excluded(behind)
            }
            None => Bound::Unbounded,
        };
        self.records((Bound::Included(prefix), end), false)
    }

    fn records(&self, range: impl RangeBounds<Vec<u8>>, back: bool) -> Range<'_> {
        let owned = |bound: Bound<&Vec<u8>>| bound.map(|key| IVec::from(key.as_slice()));
        Range {
            store: self,
            back,
            start: owned(range.start_bound()),
            end: owned(range.end_bound()),
            is_last: false,
            waiting: VecDeque::new(),
            written: None,
            next_written: None,
        }
    }
}

impl Range<'_> {
    fn next_window(&mut self) -> Result<(), StateError> {
        let (start, end) = (self.start.clone(), self.end.clone());
        if is_empty(&start, &end) {
            self.is_last = true;
            return Ok(());
        }
        let keys = (start.as_ref().map(AsRef::as_ref), end.as_ref().map(AsRef::as_ref));
        self.waiting = self.store.shared.waiting().some_of(keys, self.back, WINDOW);
        let last = self.waiting.back().filter(|_| self.waiting.len() == WINDOW).map(|(key, _)| key.clone());
        self.is_last = last.is_none();
        let (mut window_start, mut window_end) = (start, end);
        if let Some(last) = last {
            let (end_of_window, rest) =
                if self.back { (&mut window_start, &mut self.end) } else { (&mut window_end, &mut self.start) };
            *end_of_window = Bound::Included(last.clone());
            *rest = Bound::Excluded(last);
        }
        self.written = Some(self.store.shared.written.walk(window_start, window_end, self.back)?);
        Ok(())
    }

    /// True when the first of what waits comes before what was read from sled, or takes its place.
    fn waiting_is_next(&self) -> bool {
        match (self.waiting.front(), &self.next_written) {
            (Some((waiting, _)), Some((key, _))) if self.back => waiting >= key,
            (Some((waiting, _)), Some((key, _))) => waiting <= key,
            (waiting, _) => waiting.is_some(),
        }
    }
}

impl Iterator for Range<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            if self.next_written.is_none() {
                match self.written.as_mut().and_then(Iterator::next).transpose() {
                    // Past its end it would find what is written by now, and has been shown.
                    Ok(None) => self.written = None,
                    Ok(record) => self.next_written = record,
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.waiting_is_next() {
                let (key, value) = self.waiting.pop_front()?;
                self.next_written.take_if(|(old, _)| *old == key);
                match value {
                    Some(value) => return Some(Ok((key, value))),
                    None => continue,
                }
            }
            match self.next_written.take() {
                Some(record) => return Some(Ok(record)),
                None if self.is_last => return None,
                None => {
                    if let Err(error) = self.next_window() {
                        self.is_last = true;
                        return Some(Err(error));
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
