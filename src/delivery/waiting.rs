use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::round_robin::RoundRobin;

/// Whom a lane concerns, by what stands for them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parties {
    /// Whose it is.
    pub(super) owner: u64,
    /// Its receiver, once it was tried.
    pub(super) receiver: Option<u64>,
}

/// Lanes that wait: which is tried next, and which is left out for want of room.
#[derive(Debug)]
pub(super) struct Waiting<L> {
    turns: RoundRobin<L>,
    /// Those that were not tried yet, by their owners: nobody knows their receivers.
    untried: Groups<L>,
    /// The others, by their receivers.
    tried: Groups<L>,
}

/// Lanes in groups, of which the largest is known.
#[derive(Debug)]
struct Groups<L> {
    lanes: HashMap<u64, BTreeSet<(Instant, L)>>,
    /// How many lanes each group has.
    sizes: BTreeSet<(usize, u64)>,
    len: usize,
}

impl<L> Default for Waiting<L> {
    fn default() -> Self {
        Self { turns: RoundRobin::default(), untried: Groups::default(), tried: Groups::default() }
    }
}

impl<L> Default for Groups<L> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), sizes: BTreeSet::new(), len: 0 }
    }
}

impl<L: Clone + Ord> Waiting<L> {
    pub(super) fn insert(&mut self, item: (Instant, L), parties: Parties) {
        self.turns.insert(item.clone(), parties.owner);
        match parties.receiver {
            Some(receiver) => self.tried.insert(item, receiver),
            None => self.untried.insert(item, parties.owner),
        }
    }

    /// `parties` are those it was inserted with.
    pub(super) fn remove(&mut self, item: &(Instant, L), parties: Parties) {
        self.turns.remove(item, parties.owner);
        match parties.receiver {
            Some(receiver) => self.tried.remove(item, receiver),
            None => self.untried.remove(item, parties.owner),
        }
    }

    /// The one whose turn it is, if its time has come.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<&(Instant, L)> {
        self.turns.next_turn(now)
    }

    /// When the next time comes, or came.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.turns.next_at()
    }

    /// The one to leave out for want of room: where more than half were not tried yet, of the owner that has most of these the
    /// last; else of the receiver that has most the one that waits for the least time, which has failed least often. So
    /// neither an owner nor a receiver that does not answer takes the places of another, and what it is sent comes to an end.
    pub(super) fn eviction_candidate(&self) -> Option<&(Instant, L)> {
        match self.tried.largest() {
            Some(lanes) if self.untried.len <= self.tried.len => lanes.first(),
            _ => self.untried.largest()?.last(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.untried.len + self.tried.len
    }
}

impl<L: Ord> Groups<L> {
    fn insert(&mut self, item: (Instant, L), group: u64) {
        let lanes = self.lanes.entry(group).or_default();
        let before = lanes.len();
        lanes.insert(item);
        let size = lanes.len();
        self.resize(group, before, size);
    }

    fn remove(&mut self, item: &(Instant, L), group: u64) {
        let Some(lanes) = self.lanes.get_mut(&group) else { return };
        let before = lanes.len();
        lanes.remove(item);
        let size = lanes.len();
        self.resize(group, before, size);
    }

    fn resize(&mut self, group: u64, before: usize, size: usize) {
        self.len = self.len + size - before;
        self.sizes.remove(&(before, group));
        if size == 0 {
            self.lanes.remove(&group);
        } else {
            self.sizes.insert((size, group));
        }
    }

    fn largest(&self) -> Option<&BTreeSet<(Instant, L)>> {
        self.sizes.last().and_then(|(_, group)| self.lanes.get(group))
    }
}
