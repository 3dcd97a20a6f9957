//! Which jobs change, for whoever listens, and the latest of these changes for whoever lost the connection.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::records::{ChangeNotice, JobChanged};
use super::{State, StateError, keys};
use crate::domain::{JobState, ReplyRef};

/// How many changes a slow listener may lag behind before it misses some.
const CHANGES: usize = 1024;
/// So many of the latest changes are kept, in 512 KiB: those of two seconds when callbacks come as fast as they can.
const MAX_RECENT: usize = 1 << 16;
/// So many of the latest refs that were labelled late are kept, in 4 MiB at the most.
const MAX_LABELLED: usize = 1 << 10;

#[derive(Debug)]
pub(super) struct Changes {
    sender: broadcast::Sender<ChangeNotice>,
    /// Which job each change was of.
    recent: Mutex<Recent<u64>>,
    /// Refs that were given labels when they had jobs already: a change of so many jobs that it is told by the ref.
    labelled: Mutex<Recent<ReplyRef>>,
}

/// The latest of what is counted from the start of the process on.
#[derive(Debug)]
struct Recent<T> {
    /// The number of the last; the first has 1.
    last: u64,
    kept: VecDeque<T>,
    max: usize,
}

impl<T: Clone> Recent<T> {
    fn new(max: usize) -> Self {
        Self { last: 0, kept: VecDeque::new(), max }
    }

    fn push(&mut self, item: T) {
        self.last += 1;
        if self.kept.len() == self.max {
            self.kept.pop_front();
        }
        self.kept.push_back(item);
    }

    /// Notes that there was more, which nobody can name: from before it nothing is told any more.
    fn push_gap(&mut self) {
        self.last += 1;
        self.kept.clear();
    }

    /// All behind the one with this number. `None` when not all of them are kept any more, or there was no such.
    fn since(&self, number: u64) -> Option<Vec<T>> {
        let first = self.last - self.kept.len() as u64 + 1;
        if number > self.last || number + 1 < first {
            return None;
        }
        let skipped = (number + 1 - first) as usize;
        Some(self.kept.range(skipped..).cloned().collect())
    }
}

impl Changes {
    pub(super) fn new() -> Self {
        let (recent, labelled) = (Mutex::new(Recent::new(MAX_RECENT)), Mutex::new(Recent::new(MAX_LABELLED)));
        Self { sender: broadcast::Sender::new(CHANGES), recent, labelled }
    }

    /// Tells that a ref was given labels when it may have had jobs already.
    pub(super) fn tell_labelled(&self, name: ReplyRef) {
        self.labelled.lock().push(name);
    }

    /// Tells that a job changed, and whether that was because somebody asked for another try.
    pub(super) fn tell(&self, sequence: u64, state: JobState, is_retry: bool) {
        let mut recent = self.recent.lock();
        recent.push(sequence);
        // It fails when nobody listens.
        let _ = self.sender.send(ChangeNotice::Job(JobChanged { sequence, state, number: recent.last, is_retry }));
    }
}

impl State {
    /// Every job that changes from now on. As it then is it can be read.
    pub fn changes(&self) -> broadcast::Receiver<ChangeNotice> {
        self.shared.changes.sender.subscribe()
    }

    /// Tells that any job may have changed, and where there are labels, those of any ref.
    pub(super) fn tell_gap(&self) {
        let changes = &self.shared.changes;
        if self.has_labels() {
            changes.labelled.lock().push_gap();
        }
        let mut recent = changes.recent.lock();
        recent.push_gap();
        // It fails when nobody listens.
        let _ = changes.sender.send(ChangeNotice::Gap);
    }

    /// Tells those who listen to changes, or wait for an end, that there will be no more.
    pub fn end_changes(&self) {
        // It fails when nobody listens.
        let _ = self.shared.changes.sender.send(ChangeNotice::End);
        self.shared.waiters.close();
    }

    /// Of which job each change behind the one with this number was; the first of them has the next number. `None` when not all
    /// of them are kept any more, or there was no such change since the start.
    pub fn changed_since(&self, number: u64) -> Option<Vec<u64>> {
        self.shared.changes.recent.lock().since(number)
    }

    /// The number of the last change since the start; 0 before the first.
    pub fn last_change(&self) -> u64 {
        self.shared.changes.recent.lock().last
    }

    /// The refs that were given labels when they may have had jobs already, behind the one with this number; the first of them
    /// has the next number. `None` when not all of them are kept any more, or there was no such ref since the start.
    pub fn labelled_since(&self, number: u64) -> Option<Vec<ReplyRef>> {
        self.shared.changes.labelled.lock().since(number)
    }

    /// The number of the last ref that [`State::labelled_since`] knows; 0 before the first.
    pub fn last_labelled(&self) -> u64 {
        self.shared.changes.labelled.lock().last
    }

    /// The sequences of all jobs with this reference, oldest first: eight bytes of memory for each.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails.
    pub fn jobs_of_ref(&self, name: &ReplyRef) -> Result<Vec<u64>, StateError> {
        let store = self.store()?;
        let mut sequences = Vec::new();
        for item in store.range(keys::with_prefix(keys::jobs_of_ref(name))) {
            sequences.extend(keys::trailing_number(&item?.0));
        }
        Ok(sequences)
    }

    /// Whether there will be no more changes.
    pub fn changes_have_ended(&self) -> bool {
        self.shared.waiters.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_any_more_is_not_told_in_part() {
        let mut recent = Recent::new(2);
        assert_eq!(recent.since(0), Some(vec![]));
        for item in 1..=3 {
            recent.push(item);
        }
        let told = [0, 1, 2, 3, 4].map(|number| recent.since(number));
        assert_eq!(told, [None, Some(vec![2, 3]), Some(vec![3]), Some(vec![]), None]);
        recent.push_gap();
        assert_eq!([0, 3, 4, 5].map(|number| recent.since(number)), [None, None, Some(vec![]), None]);
        recent.push(5);
        assert_eq!([3, 4, 5].map(|number| recent.since(number)), [None, Some(vec![5]), Some(vec![])]);
    }
}
