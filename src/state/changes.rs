//! Which jobs change, for whoever listens, and the latest of these changes for whoever lost the connection.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::State;
use super::records::JobChanged;
use crate::domain::JobState;

/// How many changes a slow listener may lag behind before it misses some.
const CHANGES: usize = 1024;
/// So many of the latest changes are kept, in 512 KiB: those of two seconds when callbacks come as fast as they can.
const MAX_RECENT: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Changes {
    sender: broadcast::Sender<Option<JobChanged>>,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The number of the last change; the first has 1.
    last: u64,
    /// Which job each of them was of.
    sequences: VecDeque<u64>,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(CHANGES), recent: Mutex::default() }
    }

    /// Tells that a job changed.
    pub(super) fn tell(&self, sequence: u64, state: JobState) {
        let mut recent = self.recent.lock();
        recent.last += 1;
        if recent.sequences.len() == MAX_RECENT {
            recent.sequences.pop_front();
        }
        recent.sequences.push_back(sequence);
        // It fails when nobody listens.
        let _ = self.sender.send(Some(JobChanged { sequence, state, number: recent.last }));
    }
}

impl State {
    /// Every job that changes from now on; `None` when there will be no more. As it then is it can be read.
    pub fn changes(&self) -> broadcast::Receiver<Option<JobChanged>> {
        self.shared.changes.sender.subscribe()
    }

    /// Tells those who listen to changes, or wait for an end, that there will be no more.
    pub fn end_changes(&self) {
        // It fails when nobody listens.
        let _ = self.shared.changes.sender.send(None);
        self.shared.waiters.close();
    }

    /// Of which job each change behind the one with this number was; the first of them has the next number. `None` when not all
    /// of them are kept any more, or there was no such change since the start.
    pub fn changed_since(&self, number: u64) -> Option<Vec<u64>> {
        let recent = self.shared.changes.recent.lock();
        let first = recent.last - recent.sequences.len() as u64 + 1;
        if number > recent.last || number + 1 < first {
            return None;
        }
        let skipped = (number + 1 - first) as usize;
        Some(recent.sequences.range(skipped..).copied().collect())
    }

    /// The number of the last change since the start; 0 before the first.
    pub fn last_change(&self) -> u64 {
        self.shared.changes.recent.lock().last
    }

    /// Whether there will be no more changes.
    pub fn changes_have_ended(&self) -> bool {
        self.shared.waiters.is_closed()
    }
}
