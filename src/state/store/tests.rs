//! Against a plain map, and with threads of the system's.

mod crashes;
mod hung_disk;

use super::flush_control::Step;
use super::*;

/// One that a test flushes by hand.
fn open(dir: &Path) -> Store {
    open_with(dir, Limits::default())
}

fn open_with(dir: &Path, limits: Limits) -> Store {
    // Nothing reaches the files but what a test has written there.
    Store::new(Blocks::open(dir, 1 << 20, None).unwrap(), limits)
}

fn open_with_writer(dir: &Path) -> Store {
    Store::open(dir, 1 << 20, Access::ReadWrite).unwrap()
}

fn held_bytes(store: &Store) -> usize {
    store.shared.lock().memtable.bytes()
}

fn flush_some(store: &Store, writes: usize) {
    store.shared.take_step(store.shared.lock(), Step::Flush { writes }).unwrap();
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
        store.shared.blocks.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
    };
    flush_some(&store, 1);
    assert_eq!((value("a"), value("covers")), (Some("1".into()), Some("1".into())));
    flush_some(&store, 5);
    assert_eq!((value("a"), value("covers")), (None, Some("3".into())));
    assert_eq!(store.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
    assert_eq!(held_bytes(&store), 0);
}

#[test]
fn what_was_written_before_much_is_committed_is_found_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let found = |key: &str| store.get(key.as_bytes()).unwrap().is_some();
    for [before, meanwhile] in [["a", "b"], ["c", "d"]] {
        store.commit(vec![put(before, "1")]).unwrap();
        flush_some(&store, 1);
        store.set_bulk(true);
        store.commit(vec![put(meanwhile, "1")]).unwrap();
        assert!(found(before) && found(meanwhile));
        flush_some(&store, 1);
        assert!(found(before) && found(meanwhile) && !found("e"));
        store.set_bulk(false);
    }
}

#[test]
fn what_is_written_into_an_empty_store_in_bulk_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.set_bulk(true);
    let keys: Vec<IVec> = (0..5000_u32).map(|number| number.to_be_bytes().as_slice().into()).collect();
    for some in keys.chunks(100) {
        store.commit(some.iter().map(|key| (key.clone(), Some(b"x".into()))).collect()).unwrap();
        flush_some(&store, 100);
    }
    assert_eq!(held_bytes(&store), 0);
    assert!(keys.iter().all(|key| store.get(key).unwrap().is_some()));
    assert_eq!(store.get(&5000_u32.to_be_bytes()).unwrap(), None);
    store.set_bulk(false);
    assert!(keys.iter().all(|key| store.get(key).unwrap().is_some()));
}

#[test]
fn a_range_goes_on_beyond_a_window_of_the_memtable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keys: Vec<Vec<u8>> = (0..1000_u32).map(|number| number.to_be_bytes().to_vec()).collect();
    for (number, key) in keys.iter().enumerate() {
        let write = (key.as_slice().into(), Some(b"x".into()));
        store.commit(vec![write]).unwrap();
        if number % 7 == 0 {
            flush_some(&store, 3);
        }
    }
    let found = |range: range::Range<'_>| range.map(|record| record.unwrap().0.to_vec()).collect::<Vec<_>>();
    assert_eq!(found(store.range(..)), keys);
    assert_eq!(found(store.range(Backwards(..))), keys.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(found(store.range(vec![0, 0, 2]..vec![0, 0, 3])), keys[512..768]);
}

#[test]
fn who_commits_waits_while_the_memtable_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Limits { max_memtable_bytes: 16 << 20, ..Limits::default() });
    store.start_writer().unwrap();
    let value: IVec = vec![7; 4 << 20].into();
    for number in 0..32_u32 {
        let key = (number % 8).to_be_bytes().as_slice().into();
        store.commit(vec![(key, Some(value.clone()))]).unwrap();
        assert!(held_bytes(&store) <= 16 << 20);
    }
    assert!(store.flush(Duration::from_secs(600)).unwrap());
    assert_eq!(held_bytes(&store), 0);
    assert_eq!(store.count().unwrap()[&0], 8);
}

#[test]
fn a_compacted_store_has_the_same_records_in_less_room() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let records = |store: &Store| store.range(..).map(Result::unwrap).collect::<Vec<_>>();
    let before = {
        let store = open(dir.path());
        for number in 0..20_000_u32 {
            let key = number.wrapping_mul(2_654_435_761).to_be_bytes();
            store.commit(vec![(key.as_slice().into(), Some(vec![number as u8; 40].into()))]).unwrap();
            flush_some(&store, 100);
        }
        records(&store)
    };
    assert!(Store::compact(dir.path(), to.path(), &mut || true).unwrap());
    let bytes = |dir: &Path| std::fs::metadata(dir.join("db")).unwrap().len();
    assert!(bytes(to.path()) < bytes(dir.path()), "{} of {}", bytes(to.path()), bytes(dir.path()));
    assert_eq!(records(&open(to.path())), before);
}

#[test]
fn compacting_ends_when_it_is_told_to() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut asked = 0;
    let mut go_on = || {
        asked += 1;
        asked < 2
    };
    {
        let store = open(dir.path());
        let large = |number: u32| (number.to_be_bytes().as_slice().into(), Some(vec![number as u8; 600].into()));
        store.commit((0..20_000).map(large).collect()).unwrap();
        flush_some(&store, 10);
    }
    assert!(!Store::compact(dir.path(), to.path(), &mut go_on).unwrap());
}

#[test]
fn a_damaged_store_is_not_compacted() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sled::open(dir.path()).unwrap().insert("key", "no block at all").unwrap();
    assert!(matches!(Store::compact(dir.path(), to.path(), &mut || true), Err(StoreError::Damaged(_))));
}

#[test]
fn a_flush_without_a_writer_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(vec![put("a", "1")]).unwrap();
    assert!(!store.flush(Duration::from_millis(1)).unwrap());
}

#[test]
fn threads_that_commit_and_flush_leave_nothing_in_the_memtable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with_writer(dir.path());
    std::thread::scope(|scope| {
        for table in 0..2_u8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..2000_u16 {
                    let key = [table, (number % 64) as u8].as_slice().into();
                    store.commit(vec![(key, Some(b"x".into()))]).unwrap();
                    if number % 500 == 0 {
                        assert!(store.flush(Duration::from_secs(600)).unwrap());
                    }
                }
            });
        }
    });
    assert!(store.flush(Duration::from_secs(600)).unwrap());
    assert_eq!((store.failure(), held_bytes(&store)), (None, 0));
}

#[test]
fn damage_that_a_reader_meets_is_told() {
    for is_range in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        sled::open(dir.path()).unwrap().insert("key", "no block at all").unwrap();
        let store = open(dir.path());
        assert_eq!(store.failure(), None);
        let read = if is_range { store.range(..).try_for_each(|it| it.map(drop)) } else { store.get(b"key").map(drop) };
        assert!(matches!(read, Err(StoreError::Damaged(_))));
        assert!(matches!(store.failure(), Some(StoreError::Damaged(_))));
    }
}
