use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;
use crate::state::open::open_sled;

/// What is done to a store, and to a map that is known to be right.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    Write,
    /// Walks a range, and writes to sled in the middle of it.
    Walk(Bound<u8>, Bound<u8>, bool),
    Get(u8),
    Reopen,
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![any::<u8>().prop_map(Bound::Included), any::<u8>().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn step() -> impl Strategy<Value = Step> {
    let write = (any::<u8>(), proptest::option::weighted(0.6, any::<u8>()));
    prop_oneof![
        6 => proptest::collection::vec(write, 1..40).prop_map(Step::Commit),
        2 => Just(Step::Write),
        3 => (bound(), bound(), any::<bool>()).prop_map(|(start, end, back)| Step::Walk(start, end, back)),
        3 => any::<u8>().prop_map(Step::Get),
        1 => Just(Step::Reopen),
    ]
}

fn key(key: u8) -> Vec<u8> {
    // Some are longer than what sled keeps without an allocation.
    if key.is_multiple_of(3) { vec![key; 30] } else { vec![key] }
}

/// Some are so large that their blocks are compressed.
fn value_of(value: u8) -> Vec<u8> {
    vec![value; 1 + usize::from(value % 4) * 100]
}

fn open(dir: &std::path::Path) -> Store {
    Store::without_writer(open_sled(dir, 1 << 20).unwrap())
}

fn is_in(range: &(Bound<u8>, Bound<u8>), it: u8) -> bool {
    std::ops::RangeBounds::contains(range, &it)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn reads_are_as_if_all_was_written(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model: BTreeMap<u8, u8> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(writes) => {
                    let of = |(it, value): &(u8, Option<u8>)| (key(*it).into(), value.map(|it| value_of(it).into()));
                    store.commit(writes.iter().map(of).collect()).unwrap();
                    for (key, value) in writes {
                        match value {
                            Some(value) => { model.insert(key, value); }
                            None => { model.remove(&key); }
                        }
                    }
                }
                Step::Write => write(&store),
                Step::Get(it) => {
                    let found = store.get(&key(it)).unwrap();
                    prop_assert_eq!(found.map(|value| value[0]), model.get(&it).copied());
                    prop_assert_eq!(store.contains(&key(it)).unwrap(), model.contains_key(&it));
                }
                Step::Walk(start, end, back) => {
                    let range = (start, end);
                    let keys = (start.map(key), end.map(key));
                    let mut walk = if back { store.range_back(keys) } else { store.range(keys) };
                    let mut found = Vec::new();
                    found.extend(walk.next());
                    write(&store);
                    found.extend(walk);
                    let found: Vec<_> = found.into_iter().map(|record| {
                        let (key, value) = record.unwrap();
                        (key[0], value[0])
                    }).collect();
                    let mut expected: Vec<_> =
                        model.iter().map(|(key, value)| (*key, *value)).filter(|(key, _)| is_in(&range, *key)).collect();
                    if back {
                        expected.reverse();
                    }
                    prop_assert_eq!(found, expected);
                }
                Step::Reopen => {
                    while store.shared.waiting().bytes() > 0 {
                        write(&store);
                    }
                    drop(store);
                    store = open(dir.path());
                }
            }
        }
    }
}

fn write(store: &Store) {
    if store.shared.waiting().bytes() > 0 {
        store.shared.write_some(40).unwrap();
    }
}

fn put(key: &str, value: &str) -> Write {
    (key.into(), Some(value.into()))
}

#[test]
fn sled_has_whole_commits_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(vec![put("a", "1"), put("covers", "1")]).unwrap();
    store.commit(vec![put("a", "2"), put("b", "2"), put("covers", "2")]).unwrap();
    store.commit(vec![("a".into(), None), put("covers", "3")]).unwrap();
    let value = |key: &str| {
        store.shared.written.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    store.shared.write_some(1).unwrap();
    assert_eq!((value("a"), value("covers")), (Some("1".into()), Some("1".into())));
    store.shared.write_some(5).unwrap();
    assert_eq!((value("a"), value("covers")), (None, Some("3".into())));
    assert_eq!(store.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
    assert_eq!(store.shared.waiting().bytes(), 0);
}

#[test]
fn a_window_of_what_waits_does_not_end_a_walk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keys: Vec<Vec<u8>> = (0..1000_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    for (number, key) in keys.iter().enumerate() {
        let write = (key.as_slice().into(), Some(b"x".into()));
        store.commit(vec![write]).unwrap();
        if number % 7 == 0 {
            store.shared.write_some(3).unwrap();
        }
    }
    let found = |walk: range::Range<'_>| walk.map(|record| record.unwrap().0.to_vec()).collect::<Vec<_>>();
    assert_eq!(found(store.range(..)), keys);
    assert_eq!(found(store.range_back(..)), keys.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(found(store.with_prefix(vec![0, 0, 2])), keys[512..768]);
}

#[test]
fn who_commits_waits_while_too_much_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(open_sled(dir.path(), 1 << 20).unwrap()).unwrap();
    let value: IVec = vec![7; 4 << 20].into();
    for number in 0..64_u32 {
        let key = (number % 8).to_be_bytes().as_slice().into();
        store.commit(vec![(key, Some(value.clone()))]).unwrap();
        assert!(store.shared.waiting().bytes() <= MOST);
    }
    assert!(store.settle(Duration::from_secs(600)).unwrap());
    assert_eq!(store.shared.waiting().bytes(), 0);
    assert_eq!(store.shared.written.count().unwrap()[&0], 8);
}

#[test]
fn who_commits_without_room_is_told_in_time() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody writes: sled hangs.
    let store = open(dir.path());
    let value: IVec = vec![7; 4 << 20].into();
    let commit = |number: u32| store.commit(vec![(number.to_be_bytes().as_slice().into(), Some(value.clone()))]);
    let refused = (0..64).map(commit).find_map(Result::err);
    assert!(matches!(refused, Some(StateError::Stalled)), "{refused:?}");
    write(&store);
    commit(99).unwrap();
}

#[test]
fn what_waits_is_counted_right_while_commits_and_the_writer_meet() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(open_sled(dir.path(), 1 << 20).unwrap()).unwrap();
    std::thread::scope(|scope| {
        for table in 0..2_u8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..2000_u16 {
                    let key = [table, (number % 64) as u8].as_slice().into();
                    store.commit(vec![(key, Some(b"x".into()))]).unwrap();
                    if number % 500 == 0 {
                        assert!(store.settle(Duration::from_secs(600)).unwrap());
                    }
                }
            });
        }
    });
    assert!(store.settle(Duration::from_secs(600)).unwrap());
    assert!(store.failure().is_none());
    assert_eq!(store.shared.waiting().bytes(), 0);
}
