//! What waits to be written, by where it comes from: each sender has its share of the next write, in bytes, so that nobody
//! waits for more than a moment behind one who sends much.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A queue for each sender, and whose turn it is.
#[derive(Debug)]
pub(super) struct FairQueue<S, T> {
    lanes: HashMap<S, Lane<T>>,
    turns: VecDeque<S>,
    length: usize,
}

/// What one sender has waiting, in the order it came.
#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<(usize, T)>,
    /// How many bytes it may still have written: its turns so far, without what was written.
    credit: usize,
}

impl<S: Clone + Eq + Hash, T> FairQueue<S, T> {
    /// How many bytes one turn is good for. What is larger waits for several.
    const TURN_BYTES: usize = 64 << 10;

    pub(super) fn new() -> Self {
        Self { lanes: HashMap::new(), turns: VecDeque::new(), length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lets an item of so many bytes wait.
    pub(super) fn push(&mut self, sender: S, bytes: usize, item: T) {
        self.length += 1;
        match self.lanes.entry(sender) {
            MapEntry::Occupied(mut lane) => lane.get_mut().items.push_back((bytes, item)),
            MapEntry::Vacant(lane) => {
                self.turns.push_back(lane.key().clone());
                lane.insert(Lane { items: VecDeque::from([(bytes, item)]), credit: 0 });
            }
        }
    }

    /// Takes the next items, until they have `bytes` or more together or none is left. An item that is larger by itself comes
    /// alone, so that none that is ready waits for it to be written.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<T> {
        let mut taken = Vec::new();
        let mut left = bytes;
        while left > 0
            && let Some(sender) = self.turns.pop_front()
        {
            let MapEntry::Occupied(mut entry) = self.lanes.entry(sender) else { continue };
            let lane = entry.get_mut();
            lane.credit += Self::TURN_BYTES;
            let is_huge = |(size, _): &(usize, T)| *size > bytes && *size <= lane.credit;
            if !taken.is_empty() && lane.items.front().is_some_and(is_huge) {
                lane.credit -= Self::TURN_BYTES;
                self.turns.push_front(entry.key().clone());
                return taken;
            }
            while lane.items.front().is_some_and(|(bytes, _)| *bytes <= lane.credit)
                && let Some((bytes, item)) = lane.items.pop_front()
            {
                lane.credit -= bytes;
                left = left.saturating_sub(bytes);
                taken.push(item);
                self.length -= 1;
            }
            if lane.items.is_empty() {
                entry.remove();
            } else {
                self.turns.push_back(entry.key().clone());
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_backlog_of_large_items_holds_nobody_else_up() {
        let mut queue = FairQueue::new();
        for number in 0..100 {
            queue.push("heavy", 1 << 20, ("heavy", number));
        }
        queue.push("honest", 1000, ("honest", 0));
        for number in 0..500 {
            queue.push("other", 1000, ("other", number));
        }
        let first = queue.take(1 << 20);
        assert!(first.contains(&("honest", 0)), "{first:?}");
        assert!(first.iter().filter(|(sender, _)| *sender == "heavy").count() <= 1);
        let mut rest = Vec::new();
        while !queue.is_empty() {
            let taken = queue.take(1 << 20);
            assert!(taken.len() <= 1200);
            rest.extend(taken);
        }
        assert_eq!(first.len() + rest.len(), 601);
    }

    #[test]
    fn one_sender_alone_has_all_of_a_write() {
        let mut queue = FairQueue::new();
        for number in 0..4000 {
            queue.push((), 1000, number);
        }
        let taken = queue.take(1 << 20).len();
        assert!((1049..1200).contains(&taken), "{taken}");
        queue.push((), 3 << 20, 4000);
        assert_eq!(queue.take(usize::MAX).len(), 4001 - taken);
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_each_senders_in_order(
            items in proptest::collection::vec((0u8..4, 0usize..300_000), 0..60),
            share in 1usize..600_000,
        ) {
            let mut queue = FairQueue::new();
            for (number, (sender, bytes)) in items.iter().enumerate() {
                queue.push(*sender, *bytes, (*sender, number));
            }
            let mut seen: Vec<(u8, usize)> = Vec::new();
            while !queue.is_empty() {
                prop_assert_eq!(queue.len(), items.len() - seen.len());
                let taken = queue.take(share);
                prop_assert!(!taken.is_empty());
                seen.extend(taken);
            }
            for sender in 0..4 {
                let numbers: Vec<_> = seen.iter().filter(|(from, _)| *from == sender).map(|(_, number)| *number).collect();
                prop_assert!(numbers.is_sorted());
            }
            prop_assert_eq!(seen.len(), items.len());
        }
    }
}
