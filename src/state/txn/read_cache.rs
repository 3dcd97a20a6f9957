//! Records that were read lately.

use std::collections::{BTreeMap, HashMap};

use sled::IVec;

/// How much memory the records take up at most, about.
const MAX_BYTES: usize = 8 << 20;
/// Of a record, beside its bytes: its place in the map, and what the allocator adds.
const OVERHEAD_BYTES: usize = 120;

/// Records as they are in the store, or as what is committed next makes them. Holds the latest that were asked for.
#[derive(Debug, Default)]
pub(super) struct ReadCache {
    /// What was asked for lately.
    recent: HashMap<Vec<u8>, Option<IVec>>,
    /// What was asked for before `recent` was begun, and not since.
    earlier: HashMap<Vec<u8>, Option<IVec>>,
    /// About how much memory `recent` takes up.
    recent_bytes: usize,
}

impl ReadCache {
    /// The value under a key; `None` if it is not here, `Some(None)` if the store has none.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Option<IVec>> {
        if let Some(value) = self.recent.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.earlier.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    /// Takes in what the store has under a key that is not here.
    pub(super) fn insert(&mut self, key: &[u8], value: Option<IVec>) {
        self.put(key.to_owned(), value);
    }

    /// Takes note of writes to what is here.
    pub(super) fn update(&mut self, writes: &BTreeMap<Vec<u8>, Option<IVec>>) {
        for (key, value) in writes {
            if let Some(known) = self.recent.get_mut(key) {
                self.recent_bytes = self.recent_bytes.saturating_sub(size(key, known)) + size(key, value);
                known.clone_from(value);
            } else if let Some((key, _)) = self.earlier.remove_entry(key) {
                self.put(key, value.clone());
            }
        }
        self.forget_old();
    }

    fn put(&mut self, key: Vec<u8>, value: Option<IVec>) {
        self.recent_bytes += size(&key, &value);
        self.recent.insert(key, value);
        self.forget_old();
    }

    fn forget_old(&mut self) {
        if self.recent_bytes > MAX_BYTES / 2 {
            std::mem::swap(&mut self.recent, &mut self.earlier);
            self.recent.clear();
            self.recent_bytes = 0;
        }
    }
}

fn size(key: &[u8], value: &Option<IVec>) -> usize {
    OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Large enough that some of them make the cache forget.
    const VALUE_BYTES: usize = MAX_BYTES / 10;

    #[derive(Clone, Debug)]
    enum Step {
        Read(u8),
        Commit(BTreeMap<Vec<u8>, Option<u8>>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let writes = proptest::collection::btree_map((0..12u8).prop_map(|key| vec![key]), any::<Option<u8>>(), 0..6);
        let step = prop_oneof![3 => (0..12u8).prop_map(Step::Read), 1 => writes.prop_map(Step::Commit)];
        proptest::collection::vec(step, 1..60)
    }

    fn value(byte: u8) -> IVec {
        vec![byte; VALUE_BYTES].into()
    }

    fn held(cache: &ReadCache) -> usize {
        [&cache.recent, &cache.earlier].into_iter().flatten().map(|(key, value)| size(key, value)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_it_has_is_what_the_store_has(steps in steps()) {
            let (mut cache, mut store) = (ReadCache::default(), BTreeMap::<Vec<u8>, IVec>::new());
            for step in steps {
                match step {
                    Step::Read(key) => match cache.get(&[key]) {
                        Some(value) => prop_assert_eq!(value.as_ref(), store.get([key].as_slice())),
                        None => cache.insert(&[key], store.get([key].as_slice()).cloned()),
                    },
                    Step::Commit(writes) => {
                        let writes: BTreeMap<_, _> =
                            writes.into_iter().map(|(key, byte)| (key, byte.map(value))).collect();
                        cache.update(&writes);
                        for (key, value) in writes {
                            match value {
                                Some(value) => drop(store.insert(key, value)),
                                None => drop(store.remove(&key)),
                            }
                        }
                    }
                }
                prop_assert!(held(&cache) <= MAX_BYTES + 6 * VALUE_BYTES);
            }
        }
    }

    #[test]
    fn what_is_asked_for_again_stays_and_what_is_not_goes() {
        let mut cache = ReadCache::default();
        cache.insert(b"often", Some(value(0)));
        cache.insert(b"once", None);
        for number in 0..30u8 {
            cache.insert(&[number], Some(value(number)));
            assert_eq!(cache.get(b"often"), Some(Some(value(0))));
        }
        assert_eq!(cache.get(b"once"), None);
    }
}
