use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A map of what was put in last: when it is full, the first that was put in goes.
#[derive(Debug)]
pub(super) struct FifoMap<K, V> {
    entries: HashMap<K, V>,
    /// The keys of all entries, the first that was put in at the front.
    order: VecDeque<K>,
    most: usize,
}

impl<K: Copy + Eq + Hash, V> FifoMap<K, V> {
    /// Holds at most `most` entries, and room only for as many as there were.
    pub(super) fn new(most: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), most }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Puts an entry in, or another value into its place.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(first) = self.order.pop_front()
        {
            self.entries.remove(&first);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_the_newest_and_no_more(keys in proptest::collection::vec(0u8..20, 0..200), most in 1usize..8) {
            let mut fifo_map = FifoMap::new(most);
            let mut model: Vec<(u8, usize)> = Vec::new();
            for (value, key) in keys.into_iter().enumerate() {
                fifo_map.insert(key, value);
                match model.iter_mut().find(|(known, _)| *known == key) {
                    Some(known) => known.1 = value,
                    None => model.push((key, value)),
                }
                model.drain(..model.len().saturating_sub(most));
                prop_assert_eq!(fifo_map.len(), model.len());
                prop_assert_eq!(fifo_map.order.len(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(fifo_map.get_mut(key).copied(), Some(*value));
                }
            }
        }
    }
}
