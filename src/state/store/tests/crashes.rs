//! A store and a plain map that is known to be right, through commits, flushes, reads, reopening and crashes. After a crash
//! the store must be what the map was after some commit: a whole one, and none before the last that was durable.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u8>)>),
    /// The writer's next batch.
    FlushSome(usize),
    /// Everything, to the disk.
    Flush,
    /// Reads a range, and flushes a batch in the middle of it.
    Range(Bound<u8>, Bound<u8>, bool),
    Get(u8),
    /// Says that much is committed, or no longer.
    Bulk(bool),
    Crash(Crash),
}

#[derive(Clone, Copy, Debug)]
enum Crash {
    /// The handle is dropped, with all that was not flushed.
    Drop,
    /// The files are copied as they are, and the copy is opened.
    Copy,
    /// The handle is dropped, and the store compacted.
    Compact,
}

fn bound() -> impl Strategy<Value = Bound<u8>> {
    prop_oneof![any::<u8>().prop_map(Bound::Included), any::<u8>().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn step() -> impl Strategy<Value = Step> {
    let write = (any::<u8>(), proptest::option::weighted(0.6, any::<u8>()));
    prop_oneof![
        8 => proptest::collection::vec(write, 1..40).prop_map(Step::Commit),
        4 => (1..80_usize).prop_map(Step::FlushSome),
        1 => Just(Step::Flush),
        3 => (bound(), bound(), any::<bool>()).prop_map(|(start, end, back)| Step::Range(start, end, back)),
        3 => any::<u8>().prop_map(Step::Get),
        1 => any::<bool>().prop_map(Step::Bulk),
        2 => prop_oneof![Just(Crash::Drop), Just(Crash::Copy), Just(Crash::Compact)].prop_map(Step::Crash),
    ]
}

/// Of four tables. Some are longer than what sled keeps without an allocation.
fn key(key: u8) -> Vec<u8> {
    let mut bytes = vec![key / 64, key];
    if key.is_multiple_of(3) {
        bytes.resize(31, key);
    }
    bytes
}

/// Some are so large that their blocks are compressed, some so large and so little alike that sled's buffers overflow.
fn value(of: u8) -> Vec<u8> {
    match of % 16 {
        15 => (0..30_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ of).collect(),
        more => vec![of; 1 + usize::from(more % 4) * 100],
    }
}

/// Under which each commit says its number.
const NUMBER: [u8; 1] = [9];

struct Bench {
    dir: TempDir,
    store: Option<Store>,
    has_writer: bool,
    /// What there was after each commit.
    history: Vec<Records>,
    /// The last commit that must outlive anything.
    durable: usize,
}

impl Bench {
    fn new(has_writer: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Self { dir, store: None, has_writer, history: vec![Records::new()], durable: 0 };
        bench.open();
        bench
    }

    fn open(&mut self) {
        let limits =
            Limits { max_memtable_bytes: 1 << 20, flush_threshold: 1 << 19, flush_batch: 40, min_bulk_bytes: 1 };
        let store = open_with(self.dir.path(), limits);
        if self.has_writer {
            store.start_writer().unwrap();
        }
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn now(&self) -> &Records {
        self.history.last().unwrap()
    }

    fn commit(&mut self, writes: &[(u8, Option<u8>)]) {
        let mut records = self.now().clone();
        let number = (self.history.len() as u32).to_be_bytes();
        // Of two writes under one key the last counts.
        let mut committed: Vec<Write> = vec![(NUMBER.as_slice().into(), Some(number.as_slice().into()))];
        records.insert(NUMBER.to_vec(), number.to_vec());
        for (it, new) in writes {
            committed.push((key(*it).into(), new.map(|new| value(new).into())));
            match new {
                Some(new) => records.insert(key(*it), value(*new)),
                None => records.remove(&key(*it)),
            };
        }
        // Nobody takes anything from a full memtable but the writer.
        if !self.has_writer && held_bytes(self.store()) > 1 << 19 {
            self.flush_some(1000);
        }
        self.store().commit(committed).unwrap();
        self.history.push(records);
    }

    fn flush_some(&self, writes: usize) {
        if !self.has_writer && held_bytes(self.store()) > 0 {
            flush_some(self.store(), writes);
        }
    }

    fn flush(&mut self) {
        if self.has_writer {
            assert!(self.store().flush(Duration::from_secs(600)).unwrap());
        } else {
            while held_bytes(self.store()) > 0 {
                self.flush_some(40);
            }
            self.store().shared.blocks.sync().unwrap();
        }
        self.durable = self.history.len() - 1;
    }

    fn check_range(&self, start: Bound<u8>, end: Bound<u8>, back: bool) {
        let range = (start.map(key), end.map(key));
        let store = self.store();
        let mut records = if back { store.range(Backwards(range.clone())) } else { store.range(range.clone()) };
        let mut found = Vec::new();
        found.extend(records.next());
        self.flush_some(40);
        found.extend(records);
        let found: Vec<_> = found.into_iter().map(|record| record.unwrap()).collect();
        let mut expected: Vec<_> = self.now().iter().filter(|(key, _)| range.contains(*key)).collect();
        if back {
            expected.reverse();
        }
        assert!(
            found
                .iter()
                .map(|(key, value)| (key.as_ref(), value.as_ref()))
                .eq(expected.iter().map(|(key, value)| (key.as_slice(), value.as_slice())))
        );
    }

    fn crash(&mut self, crash: Crash) {
        let copy = matches!(crash, Crash::Copy).then(|| copy(self.dir.path()));
        drop(self.store.take());
        if let Some(copy) = copy {
            self.dir = copy;
        }
        if matches!(crash, Crash::Compact) {
            let compacted = tempfile::tempdir().unwrap();
            assert!(Store::compact(self.dir.path(), compacted.path(), &mut || true).unwrap());
            self.dir = compacted;
        }
        self.open();
        let found: Records = self
            .store()
            .range(..)
            .map(|record| record.unwrap())
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        let number =
            found.get(NUMBER.as_slice()).map_or(0, |number| u32::from_be_bytes(number.as_slice().try_into().unwrap()));
        let number = number as usize;
        assert!(number >= self.durable, "commit {} was durable, {number} is the last", self.durable);
        assert!(found == self.history[number], "other records than after commit {number}");
        let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
        found.keys().for_each(|key| *counts.entry(key[0]).or_default() += 1);
        assert_eq!(self.store().count().unwrap(), counts);
        self.history.truncate(number + 1);
        self.durable = number;
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Commit(writes) => self.commit(&writes),
            Step::FlushSome(writes) => self.flush_some(writes),
            Step::Flush => self.flush(),
            Step::Range(start, end, back) => self.check_range(start, end, back),
            Step::Get(it) => {
                let found = self.store().get(&key(it)).unwrap();
                assert_eq!(found.as_deref(), self.now().get(&key(it)).map(Vec::as_slice));
            }
            Step::Bulk(bulk) => self.store().set_bulk(bulk),
            Step::Crash(crash) => self.crash(crash),
        }
    }
}

/// A copy of sled's files while it has them open. Nobody writes meanwhile.
fn copy(from: &Path) -> TempDir {
    fn copy_all(from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
            if path.is_dir() {
                std::fs::create_dir(&to).unwrap();
                copy_all(&path, &to);
            } else {
                std::fs::copy(&path, &to).unwrap();
            }
        }
    }
    let to = tempfile::tempdir().unwrap();
    copy_all(from, to.path());
    to
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_what_a_map_would_be_and_after_a_crash_what_it_was_after_a_commit(
        fills in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut bench = Bench::new(false);
        bench.take(Step::Bulk(fills));
        steps.into_iter().for_each(|step| bench.take(step));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// The writer thread is at work meanwhile. A copy of files that somebody writes to is none of a crash.
    #[test]
    fn so_it_is_while_the_writer_thread_flushes(steps in proptest::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new(true);
        for step in steps {
            bench.take(if let Step::Crash(Crash::Copy) = step { Step::Crash(Crash::Drop) } else { step });
        }
    }
}
