use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, rand::Rng, rand::thread_rng, thread};

use super::disk::{Blocks, Records};
use super::engine::Store;
use super::flush_control::Limits;
use super::range::Backwards;
use super::{IVec, StoreError, Write, sync};

/// Interleavings tried of each scenario, by each of two schedulers.
const INTERLEAVINGS: usize = 500;
/// How many times the second, which finds what few but well placed switches uncover, takes the turn from a thread.
const PCT_DEPTH: usize = 3;
/// Room for two commits of [`writes`]; the third has to wait.
const LIMITS: Limits = Limits { max_memtable_bytes: 1500, flush_threshold: 1000, min_bulk_bytes: 1200, flush_batch: 5 };
const TIMEOUT: Duration = Duration::from_secs(1);

fn explore(scenario: impl Fn() + Clone + Send + Sync + 'static) {
    fn run(scheduler: impl Scheduler + 'static, scenario: impl Fn() + Send + Sync + 'static) {
        let mut config = Config::new();
        config.stack_size = 1 << 18;
        config.max_steps = MaxSteps::FailAfter(100_000);
        let runs = Runner::new(scheduler, config).run(scenario);
        assert_eq!(runs, INTERLEAVINGS);
    }
    run(RandomScheduler::new(INTERLEAVINGS), scenario.clone());
    run(PctScheduler::new(PCT_DEPTH, INTERLEAVINGS), scenario);
}

fn open(disk: &Blocks) -> Arc<Store> {
    let store = Store::new(disk.clone(), LIMITS);
    store.start_writer().unwrap();
    Arc::new(store)
}

/// What is committed by `who` as its commit `number`, counted from one: two records that change together, a third that is put,
/// and the one before it removed.
fn writes(who: u8, number: u8) -> Vec<Write> {
    let value = || Some(IVec::from(&[number]));
    let entered = |number: u8| IVec::from(&[who, b'e', number]);
    vec![
        (IVec::from(&[who, b'a']), value()),
        (entered(number - 1), None),
        (entered(number), value()),
        (IVec::from(&[who, b'z']), value()),
    ]
}

/// As of which commit of `who` these records are: of one, all of it, and of no other.
fn commit_of(records: &Records, who: u8) -> u8 {
    let own: Vec<_> = records.iter().filter(|(key, _)| key[0] == who).collect();
    let Some((_, value)) = own.first() else { return 0 };
    let expected: Vec<_> = writes(who, value[0]).into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    assert!(
        own.iter().map(|(key, value)| (*key, *value)).eq(expected.iter().map(|(key, value)| (key, value))),
        "{own:?}"
    );
    value[0]
}

/// Looks at the count under the lock, as anybody may find it.
fn assert_bounded(store: &Store) {
    let inner = store.shared.lock();
    assert!(inner.memtable.bytes() <= LIMITS.max_memtable_bytes, "{}", inner.memtable.bytes());
}

/// Drops the last handle, and waits for the writer thread's end.
fn close(store: Arc<Store>) {
    let held = store.downgrade();
    drop(Arc::into_inner(store).expect("somebody else has it"));
    while held.strong_count() > 0 {
        thread::yield_now();
    }
}

/// What was seen once, by whichever way, or something newer is seen from then on.
fn read(store: &Store, who: u8, seen: &mut u8) {
    let value = store.get(&[who, b'z']).unwrap().map_or(0, |value| value[0]);
    assert!(value >= *seen, "{value} after {seen}");
    *seen = value;
    for back in [false, true] {
        let range = vec![who]..vec![who + 1];
        let records = if back { store.range(Backwards(range)) } else { store.range(range) };
        let mut records: Vec<_> = records.map(|record| record.unwrap()).collect();
        if back {
            records.reverse();
        }
        assert!(records.is_sorted_by(|(one, _), (next, _)| one < next), "{records:?}");
        let value = |name: u8| records.iter().find(|(key, _)| key[1] == name).map_or(0, |(_, value)| value[0]);
        let values = [b'a', b'z'].map(value);
        assert!(values.iter().all(|value| value >= seen), "{values:?} after {seen}");
        *seen = values.into_iter().max().unwrap_or_default();
    }
}

#[test]
fn commits_reads_and_flushes_agree_in_whatever_order_they_come() {
    explore(|| {
        sync::let_deadlines_pass(false);
        let disk = Blocks::default();
        let store = open(&disk);
        let committed = Arc::new(AtomicU8::new(0));
        let committer = {
            let (store, committed) = (store.clone(), committed.clone());
            thread::spawn(move || {
                for number in 1..=5 {
                    store.commit(writes(1, number)).unwrap();
                    committed.store(number, Ordering::SeqCst);
                    assert_eq!(store.get(&[1, b'z']).unwrap().as_deref(), Some([number].as_slice()));
                    assert_bounded(&store);
                }
            })
        };
        let reader = {
            let store = store.clone();
            thread::spawn(move || {
                let mut seen = 0;
                for _ in 0..2 {
                    read(&store, 1, &mut seen);
                    assert_bounded(&store);
                }
            })
        };
        let before = committed.load(Ordering::SeqCst);
        assert!(store.flush(TIMEOUT).unwrap());
        assert!(commit_of(&disk.content().durable, 1) >= before, "a flush that is not one");
        reader.join().unwrap();
        committer.join().unwrap();
        assert!(store.flush(TIMEOUT).unwrap());
        assert_eq!(commit_of(&disk.content().durable, 1), 5);
        assert_eq!(store.shared.lock().memtable.bytes(), 0);
        assert_eq!(store.failure(), None);
        close(store);
    });
}

#[test]
fn what_is_committed_reaches_the_disk_though_nobody_asks_for_it() {
    explore(|| {
        sync::let_deadlines_pass(false);
        let disk = Blocks::default();
        let store = open(&disk);
        for number in 1..=3 {
            store.commit(writes(1, number)).unwrap();
        }
        while commit_of(&disk.content().written, 1) < 3 {
            thread::yield_now();
        }
        close(store);
    });
}

#[test]
fn several_who_commit_never_fill_the_memtable_beyond_its_bound() {
    explore(|| {
        sync::let_deadlines_pass(false);
        let disk = Blocks::default();
        let store = open(&disk);
        let committers = [1, 2].map(|who| {
            let store = store.clone();
            thread::spawn(move || {
                for number in 1..=3 {
                    store.commit(writes(who, number)).unwrap();
                    assert_bounded(&store);
                }
            })
        });
        store.set_bulk(true);
        thread::yield_now();
        for who in [1, 2] {
            commit_of(&disk.content().written, who);
        }
        store.set_bulk(false);
        committers.into_iter().for_each(|committer| committer.join().unwrap());
        assert!(store.flush(TIMEOUT).unwrap());
        for who in [1, 2] {
            assert_eq!(commit_of(&disk.content().durable, who), 3);
        }
        close(store);
    });
}

#[test]
fn a_store_that_is_closed_at_any_moment_leaves_whole_commits_and_no_thread() {
    explore(|| {
        sync::let_deadlines_pass(false);
        let disk = Blocks::default();
        let store = open(&disk);
        let mut durable = 0;
        let flush_at = thread_rng().gen_range(1..=6);
        for number in 1..=4 {
            store.commit(writes(1, number)).unwrap();
            if number == flush_at {
                assert!(store.flush(TIMEOUT).unwrap());
                durable = number;
            }
        }
        close(store);
        let content = disk.content();
        assert!(commit_of(&content.durable, 1) >= durable);
        assert!(commit_of(&content.written, 1) >= commit_of(&content.durable, 1));
    });
}

#[test]
fn when_the_disk_fails_everybody_is_told_and_it_has_whole_commits() {
    explore(|| {
        sync::let_deadlines_pass(false);
        let disk = Blocks::default();
        disk.content().fails_after = Some(thread_rng().gen_range(0..3));
        let store = open(&disk);
        let committers = [1, 2].map(|who| {
            let store = store.clone();
            thread::spawn(move || (1..=4).try_for_each(|number| store.commit(writes(who, number))))
        });
        let flushed = store.flush(TIMEOUT);
        assert!(matches!(flushed, Ok(true) | Err(StoreError::DiskFull(_))), "{flushed:?}");
        for committed in committers.map(|committer| committer.join().unwrap()) {
            assert!(matches!(committed, Ok(()) | Err(StoreError::DiskFull(_))), "{committed:?}");
        }
        match store.flush(TIMEOUT) {
            Ok(flushed) => assert!(flushed && store.failure().is_none()),
            Err(_) => assert!(matches!(store.failure(), Some(StoreError::DiskFull(_)))),
        }
        for who in [1, 2] {
            commit_of(&disk.content().written, who);
        }
        close(store);
    });
}

#[test]
fn a_commit_that_gave_up_on_a_hanging_disk_is_not_visible_and_the_next_goes_on() {
    explore(|| {
        sync::let_deadlines_pass(true);
        let disk = Blocks::default();
        disk.content().hangs = true;
        let store = open(&disk);
        let mut last = 0;
        let refused = loop {
            match store.commit(writes(1, last + 1)) {
                Ok(()) => last += 1,
                Err(refused) => break refused,
            }
            assert_bounded(&store);
        };
        assert_eq!((refused, last), (StoreError::Stalled, 2));
        assert_eq!(store.get(&[1, b'z']).unwrap().as_deref(), Some([last].as_slice()));
        assert!(!store.flush(TIMEOUT).unwrap());
        disk.release();
        while store.commit(writes(1, last + 1)).is_err() {}
        while !store.flush(TIMEOUT).unwrap() {}
        assert_eq!(commit_of(&disk.content().durable, 1), last + 1);
        close(store);
        sync::let_deadlines_pass(false);
    });
}
