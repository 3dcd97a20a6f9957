//! The state is a view: it comes back from the journal, whatever became of the store.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::journal::Writer;
use crate::state::store::{Access, Store};

#[tokio::test]
async fn the_state_comes_back_from_the_journal_alone() {
    let mut bench = Bench::new().await;
    bench.add_ref(1, "one").await;
    for number in 0..20 {
        bench.post(Target::Channel, progress(number)).await;
        bench.post(Target::Channel, done(number, Some("adopted"))).await;
    }
    bench.event(stored(3, "x", "video/3", false)).await;
    bench.post(Target::Channel, json!({"what": "ever"})).await;
    let before = snapshot(bench.log.state());

    let recovery;
    (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.replayed, recovery.moved_aside), (0, None), "replay applies nothing twice");
    assert_eq!(snapshot(bench.log.state()), before);

    bench.log.close();
    for damage in [remove, truncate, fill_with_zeros] {
        damage(&bench.dir.path().join("state"));
        let log = open(bench.dir.path());
        let recovery = log.recovered().await.unwrap();
        assert_eq!(recovery.replayed, 43);
        assert_eq!(snapshot(log.state()), before);
        log.close();
    }
}

/// A replay keeps what it has read from one commit to the next.
#[tokio::test]
async fn what_changes_from_commit_to_commit_of_a_replay_comes_back() {
    const ROUNDS: u32 = 70;
    const JOBS: u32 = 40;
    let bench = Bench::new().await;
    for round in 0..ROUNDS {
        // The name answers to another ref each time, and to none in between.
        bench.add_ref(round, "one").await;
        let named = done(1000 + round, Some("one"));
        let posts = (0..JOBS).map(|number| bench.post(Target::Channel, progress(number)));
        futures_util::future::join_all(posts).await;
        bench.post(Target::Channel, named).await;
        bench.event(Event::RefRemoved { at: now(), id: ref_id(round) }).await;
    }
    assert_eq!((bench.job(7).callbacks, bench.job(1000).callbacks), (ROUNDS, 1));
    let before = snapshot(bench.log.state());
    bench.log.close();
    remove(&bench.dir.path().join("state"));
    let (bench, recovery) = bench.reopen().await;
    assert_eq!(recovery.replayed, u64::from(ROUNDS * (JOBS + 3)));
    assert_eq!(snapshot(bench.log.state()), before);
    assert_eq!(bench.job(7).callbacks, ROUNDS);
}

/// Noise that sled alone does not always notice: it may open without an error and with records gone.
#[tokio::test]
async fn noise_in_any_of_the_stores_files_is_noticed_and_mended() {
    let bench = Bench::new().await;
    for number in 0..300 {
        bench.post(Target::Channel, done(number, Some(&format!("ref-{number}")))).await;
        bench.event(stored(number, &format!("{number}"), &format!("video/{number}"), false)).await;
    }
    let before = snapshot(bench.log.state());
    bench.log.close();
    let (dir, mut random, mut rebuilt) = (bench.dir.path().join("state"), 1u64, 0);
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    for _ in 0..25 {
        for name in ["db", "conf"].map(|name| dir.join(name)) {
            let mut bytes = std::fs::read(&name).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            for _ in 0..4 {
                let at = next() as usize % used;
                bytes.iter_mut().skip(at).take(64).for_each(|byte| *byte = next() as u8);
            }
            std::fs::write(&name, &bytes).unwrap();
            let log = open(bench.dir.path());
            rebuilt += usize::from(log.recovered().await.unwrap().moved_aside.is_some());
            assert!(snapshot(log.state()) == before, "other records than before");
            log.close();
        }
    }
    // What hits room that is not in use is no damage; what hits the configuration always is.
    assert!(rebuilt >= 25, "the noise hits nothing: {rebuilt}");
}

/// A kill while the store is opened, or a full disk, leaves one.
#[tokio::test]
async fn a_snapshot_that_sled_has_written_half_is_no_damage() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    bench.log.close();
    let half = bench.dir.path().join("state/snap.7FFFFFFFFFFFFFFF.generating");
    std::fs::write(&half, b"half").unwrap();
    let (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.moved_aside, recovery.replayed), (None, 0));
    bench.job(1);
    assert!(!half.exists());
}

fn remove(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
}

fn truncate(dir: &Path) {
    std::fs::write(dir.join("db"), b"").unwrap();
    std::fs::remove_file(dir.join("conf")).unwrap();
}

fn fill_with_zeros(dir: &Path) {
    let length = std::fs::metadata(dir.join("conf")).unwrap().len();
    std::fs::write(dir.join("conf"), vec![0; length as usize]).unwrap();
}

fn snapshot(state: &State) -> impl PartialEq + std::fmt::Debug + use<> {
    let jobs = state.jobs(&JobFilter::default(), 100, None).unwrap().items;
    let quarantine = state.quarantine(100, None).unwrap().items;
    (jobs, quarantine, state.refs(100, None).unwrap(), state.media_list(100, None).unwrap(), state.counters().unwrap())
}

#[tokio::test]
async fn a_store_that_fails_at_run_time_is_opened_anew_and_nothing_is_lost() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    bench.log.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, ApplyOutcome::Deferred);
    loop {
        if let ApplyOutcome::Job { .. } = bench.post(Target::Channel, done(3, None)).await {
            break;
        }
    }
    let jobs = bench.log.state().jobs(&JobFilter::default(), 10, None).unwrap().items;
    assert_eq!(jobs.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>(), [id(3), id(2), id(1)]);
}

#[tokio::test]
async fn what_is_folded_in_while_the_store_is_opened_anew_is_told_as_a_gap() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let state = bench.log.state();
    let (mut changes, last) = (state.changes(), state.last_change());
    state.set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, ApplyOutcome::Deferred);
    let told = tokio::time::timeout(Duration::from_secs(60), changes.recv()).await.expect("nothing is told");
    assert_eq!(told.unwrap(), ChangeNotice::Gap);
    bench.job(2);
    assert_eq!(state.changed_since(last), None);
    assert_eq!(state.changed_since(state.last_change()), Some(Vec::new()));
}

#[tokio::test]
async fn a_record_that_is_damaged_at_run_time_makes_the_store_be_made_anew() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let before = bench.job(1);
    let record = bench.log.state().job(&id(1)).unwrap().unwrap();
    bench
        .log
        .state()
        .store()
        .unwrap()
        .commit(vec![(keys::job(record.sequence).into(), Some(b"noise".into()))])
        .unwrap();
    assert_eq!(bench.post(Target::Channel, done(1, None)).await, ApplyOutcome::Deferred);
    let mended = async {
        loop {
            match bench.log.state().job(&id(1)) {
                Ok(Some(record)) => return record.job,
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let job = tokio::time::timeout(std::time::Duration::from_secs(60), mended).await.unwrap();
    assert_eq!((job.callbacks, job.state), (2, before.state));
}

#[tokio::test]
async fn a_state_that_cannot_be_brought_up_to_date_does_not_hold_up_a_stop() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    // The journal is still written through its open file; it cannot be read from its folder any more.
    std::fs::remove_dir_all(bench.dir.path().join("journal")).unwrap();
    bench.log.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, ApplyOutcome::Deferred);
    let log = bench.log.clone();
    let (done, closed) = std::sync::mpsc::channel();
    // Not one of the runtime's threads: the runtime would wait for it when the test has failed.
    std::thread::spawn(move || {
        log.close();
        done.send(())
    });
    closed.recv_timeout(std::time::Duration::from_secs(30)).expect("the stop hangs");
}

/// Waits until `condition` holds, for as long as a busy machine may need.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.expect("it never happens");
}

fn damaged_copies(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("state.damaged-")).count()
}

#[tokio::test]
async fn a_store_that_the_system_does_not_let_open_stays_and_is_tried_again_while_callbacks_are_taken() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    bench.log.close();
    let (state, away) = (bench.dir.path().join("state"), bench.dir.path().join("away"));
    std::fs::rename(&state, &away).unwrap();
    // A link to itself cannot be opened: ELOOP.
    std::os::unix::fs::symlink(&state, &state).unwrap();
    let bench = Bench { log: open(bench.dir.path()), ..bench };
    until(|| bench.log.state().problem() == Some("it cannot be opened")).await;
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, ApplyOutcome::Deferred);
    std::fs::remove_file(&state).unwrap();
    std::fs::rename(&away, &state).unwrap();
    let recovery = bench.log.recovered().await.unwrap();
    assert_eq!((recovery.moved_aside, recovery.replayed, recovery.damage.len()), (None, 1, 0));
    assert_eq!(bench.log.state().problem(), None);
    assert!(bench.job(1) != bench.job(2));
    assert_eq!(damaged_copies(bench.dir.path()), 0);
    // It began where no position had been used, and goes on from there.
    let (_, recovery) = bench.reopen().await;
    assert_eq!((recovery.replayed, recovery.damage.len()), (0, 0));
}

#[tokio::test]
async fn a_reader_that_keeps_the_store_for_long_is_waited_for() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let held = bench.log.state().store().unwrap();
    bench.log.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, ApplyOutcome::Deferred);
    until(|| bench.log.state().problem() == Some("it cannot be opened")).await;
    assert_eq!(bench.post(Target::Channel, done(3, None)).await, ApplyOutcome::Deferred);
    drop(held);
    until(|| bench.log.state().problem().is_none()).await;
    bench.job(3);
    assert_eq!(damaged_copies(bench.dir.path()), 0);
}

#[tokio::test]
async fn of_damaged_states_one_is_kept_aside() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    bench.log.close();
    for _ in 0..3 {
        fill_with_zeros(&bench.dir.path().join("state"));
        let log = open(bench.dir.path());
        let (_, aside) = log.recovered().await.unwrap().moved_aside.unwrap();
        log.close();
        assert!(aside.is_dir());
        assert_eq!(damaged_copies(bench.dir.path()), 1);
    }
}

#[tokio::test]
async fn a_state_that_is_begun_anew_has_the_manifests_read_by_this_start_or_a_later_one() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let (dir, marker) = (bench.dir.path().join("state"), bench.dir.path().join("state.restore"));
    let (bench, _) = bench.reopen().await;
    assert!(!marker.exists());
    bench.log.start_over().await.unwrap();
    assert!(marker.exists(), "while it runs");
    bench.log.close();
    std::fs::remove_file(&marker).unwrap();
    // None is begun while that cannot be kept.
    let draft = bench.dir.path().join("state.restore.new");
    std::fs::create_dir(&draft).unwrap();
    fill_with_zeros(&dir);
    let bench = Bench { log: open(bench.dir.path()), ..bench };
    until(|| bench.log.state().problem() == Some("it cannot be opened")).await;
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, ApplyOutcome::Deferred);
    std::fs::remove_dir(&draft).unwrap();
    assert!(bench.log.recovered().await.unwrap().moved_aside.is_some());
    assert!(marker.exists(), "at a start");
    assert_eq!(damaged_copies(bench.dir.path()), 1);
    bench.job(2);
}

#[tokio::test]
async fn an_entry_that_folding_comes_upon_a_defect_with_is_kept_aside_and_the_rest_is_folded_in() {
    fn defective(body: &[u8]) -> ParsedCallback {
        assert!(!body.windows(4).any(|word| word == b"boom"), "a defect");
        parse_callback(body)
    }
    let open = |dir: &Path| {
        EventLog::open(Journal::open(&dir.join("journal")).unwrap(), &dir.join("state"), defective).unwrap()
    };
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    bench.post(Target::Channel, done(2, Some("boom"))).await;
    bench.post(Target::Channel, done(3, None)).await;
    bench.log.close();
    remove(&bench.dir.path().join("state"));
    let bench = Bench { log: open(bench.dir.path()), ..bench };
    let recovery = bench.log.recovered().await.unwrap();
    assert_eq!((recovery.passed_over.len(), recovery.moved_aside), (1, None));
    bench.job(1);
    bench.job(3);
    // While it runs, too.
    bench.log.state().set_store(None);
    bench.post(Target::Channel, done(4, Some("boom"))).await;
    bench.post(Target::Channel, done(5, None)).await;
    until(|| bench.log.state().problem().is_none()).await;
    bench.job(5);
    let kept = bench.log.state().quarantine(10, None).unwrap().items;
    assert_eq!(kept.iter().map(|record| record.reason).collect::<Vec<_>>(), [QuarantineReason::InternalError; 2]);
    assert_eq!(bench.log.state().jobs(&JobFilter::default(), 10, None).unwrap().items.len(), 3);
}

/// Opens the closed state in `dir`, and makes the record of the job with this sequence one that says nothing.
fn open_with_noise(dir: &Path, sequence: u64) -> Store {
    let store = open::open_store(dir, 16 << 20, Access::ReadWrite).unwrap();
    store.commit(vec![(keys::job(sequence).into(), Some(b"noise".into()))]).unwrap();
    store
}

#[tokio::test]
async fn an_entry_that_needs_an_unreadable_record_of_a_state_made_anew_is_passed_over() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let sequence = bench.log.state().job(&id(1)).unwrap().unwrap().sequence;
    bench.log.close();
    let journal = Journal::open(&bench.dir.path().join("journal")).unwrap();
    let entry = Entry::Event(Event::Retried { at: now(), job: id(1) });
    let written = Writer::new(journal.clone(), 0).unwrap().append([&entry], Durability::Synced).unwrap();
    let store = open_with_noise(&bench.dir.path().join("state"), sequence);
    let fold = |passed_over: &[u64], made_anew| {
        let passed_over = passed_over.iter().copied().collect::<BTreeSet<_>>();
        replay::replay(&store, &journal, parse_callback, &passed_over, made_anew, &mut || true)
    };
    assert!(matches!(fold(&[], false), Err(RecoveryError::State(StateError::Damaged(_)))));
    assert!(matches!(fold(&[], true), Err(RecoveryError::Defect { position, .. }) if position == written[0]));
    assert_eq!(fold(&written, true).unwrap().replayed, 1);
}

#[tokio::test]
async fn the_state_that_snapshots_are_made_of_is_made_anew_when_a_record_of_it_says_nothing() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let sequence = bench.log.state().job(&id(1)).unwrap().unwrap().sequence;
    let (journal, aside) = (bench.log.journal().clone(), bench.dir.path().join("aside"));
    let fold = || State::fold_aside(&aside, &journal, parse_callback, &mut || true);
    fold().unwrap();
    let store = open_with_noise(&aside, sequence);
    assert!(store.flush(Duration::from_secs(60)).unwrap());
    drop(store);
    bench.event(Event::Retried { at: now(), job: id(1) }).await;
    fold().unwrap();
    let store = open::open_store(&aside, 16 << 20, Access::ReadOnly).unwrap();
    assert_ne!(*store.get(&keys::job(sequence)).unwrap().unwrap(), *b"noise");
}

#[tokio::test]
async fn a_store_that_hangs_does_not_hold_up_callbacks_nor_a_stop() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    // One that nothing is taken from any more, and that is full.
    let elsewhere = tempfile::tempdir().unwrap();
    let hung = open::open_store(elsewhere.path(), 1 << 20, Access::ReadOnly).unwrap();
    let mut number = 0_u32;
    for bytes in [4 << 20, 64 << 10] {
        let write = |number: u32| (number.to_be_bytes().as_slice().into(), Some(vec![7; bytes].into()));
        while hung.commit(vec![write(number)]).is_ok() {
            number += 1;
        }
    }
    bench.log.state().set_store(Some(std::sync::Arc::new(hung)));
    let answered = async {
        let mut number = 0;
        while bench.log.state().problem().is_none() {
            bench.post(Target::Channel, done(number, Some(&"x".repeat(1000)))).await;
            number += 1;
        }
        bench.post(Target::Channel, done(number, None)).await;
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), answered).await.expect("callbacks are held up");
    let log = bench.log.clone();
    let closed = tokio::task::spawn_blocking(move || log.close());
    tokio::time::timeout(std::time::Duration::from_secs(120), closed).await.expect("the stop is held up").unwrap();
}
