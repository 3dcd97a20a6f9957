use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

/// Lanes that wait, by when they are tried and by their receivers.
#[derive(Debug)]
pub(super) struct Waiting<L> {
    all: BTreeSet<(Instant, L)>,
    /// Those that were not tried yet, so that nobody knows their receivers.
    untried: BTreeSet<(Instant, L)>,
    /// The others by what stands for their receivers.
    tried: HashMap<u64, BTreeSet<(Instant, L)>>,
    /// How many lanes each of these receivers has.
    sizes: BTreeSet<(usize, u64)>,
}

impl<L> Default for Waiting<L> {
    fn default() -> Self {
        Self { all: BTreeSet::new(), untried: BTreeSet::new(), tried: HashMap::new(), sizes: BTreeSet::new() }
    }
}

impl<L: Clone + Ord> Waiting<L> {
    pub(super) fn insert(&mut self, item: (Instant, L), receiver: Option<u64>) {
        self.all.insert(item.clone());
        let Some(receiver) = receiver else {
            self.untried.insert(item);
            return;
        };
        let lanes = self.tried.entry(receiver).or_default();
        let before = lanes.len();
        lanes.insert(item);
        let size = lanes.len();
        self.resize(receiver, before, size);
    }

    /// `receiver` is what it was inserted with.
    pub(super) fn remove(&mut self, item: &(Instant, L), receiver: Option<u64>) {
        self.all.remove(item);
        let Some(receiver) = receiver else {
            self.untried.remove(item);
            return;
        };
        let Some(lanes) = self.tried.get_mut(&receiver) else { return };
        let before = lanes.len();
        lanes.remove(item);
        let size = lanes.len();
        self.resize(receiver, before, size);
    }

    fn resize(&mut self, receiver: u64, before: usize, size: usize) {
        self.sizes.remove(&(before, receiver));
        if size == 0 {
            self.tried.remove(&receiver);
        } else {
            self.sizes.insert((size, receiver));
        }
    }

    /// The one that is tried first.
    pub(super) fn first(&self) -> Option<&(Instant, L)> {
        self.all.first()
    }

    /// The one to leave out for want of room: where more than half were not tried yet the last of these, else of the receiver
    /// that has most the one that waits for the least time, which has failed least often. So a receiver that does not answer
    /// takes the places of no other, and what it is sent comes to an end.
    pub(super) fn eviction_candidate(&self) -> Option<&(Instant, L)> {
        let largest = self.sizes.last().and_then(|(_, receiver)| self.tried.get(receiver));
        match largest {
            Some(lanes) if self.untried.len() <= self.all.len() / 2 => lanes.first(),
            _ => self.untried.last(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
