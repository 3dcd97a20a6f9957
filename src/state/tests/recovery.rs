//! The state is a view: it comes back from the journal, whatever became of the store.

use super::*;

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
    let before = snapshot(bench.ledger.state());

    let recovery;
    (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.replayed, recovery.moved_aside), (0, None), "replay applies nothing twice");
    assert_eq!(snapshot(bench.ledger.state()), before);

    bench.ledger.close();
    for damage in [remove, truncate, fill_with_zeros] {
        damage(&bench.dir.path().join("state"));
        let ledger = open(bench.dir.path());
        let recovery = ledger.recovered().await.unwrap();
        assert_eq!(recovery.replayed, 43);
        assert_eq!(snapshot(ledger.state()), before);
        ledger.close();
    }
}

/// Noise that sled alone does not always notice: it may open without an error and with records gone.
#[tokio::test]
async fn noise_in_any_of_the_stores_files_is_noticed_and_mended() {
    let bench = Bench::new().await;
    for number in 0..300 {
        bench.post(Target::Channel, done(number, Some(&format!("ref-{number}")))).await;
        bench.event(stored(number, &format!("{number}"), &format!("video/{number}"), false)).await;
    }
    let before = snapshot(bench.ledger.state());
    bench.ledger.close();
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
            let ledger = open(bench.dir.path());
            rebuilt += usize::from(ledger.recovered().await.unwrap().moved_aside.is_some());
            assert!(snapshot(ledger.state()) == before, "other records than before");
            ledger.close();
        }
    }
    // What hits room that is not in use is no damage; what hits the configuration always is.
    assert!(rebuilt >= 25, "the noise hits nothing: {rebuilt}");
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
    bench.ledger.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, Applied::Deferred);
    loop {
        if let Applied::Job { .. } = bench.post(Target::Channel, done(3, None)).await {
            break;
        }
    }
    let jobs = bench.ledger.state().jobs(&JobFilter::default(), 10, None).unwrap().items;
    assert_eq!(jobs.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>(), [id(3), id(2), id(1)]);
}

#[tokio::test]
async fn a_record_that_is_damaged_at_run_time_makes_the_store_be_made_anew() {
    let bench = Bench::new().await;
    bench.post(Target::Channel, done(1, None)).await;
    let before = bench.job(1);
    let record = bench.ledger.state().job(&id(1)).unwrap().unwrap();
    bench
        .ledger
        .state()
        .store()
        .unwrap()
        .commit(vec![(keys::job(record.sequence).into(), Some(b"noise".into()))])
        .unwrap();
    assert_eq!(bench.post(Target::Channel, done(1, None)).await, Applied::Deferred);
    let mended = async {
        loop {
            match bench.ledger.state().job(&id(1)) {
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
    bench.ledger.state().set_store(None);
    assert_eq!(bench.post(Target::Channel, done(2, None)).await, Applied::Deferred);
    let ledger = bench.ledger.clone();
    let (done, closed) = std::sync::mpsc::channel();
    // Not one of the runtime's threads: the runtime would wait for it when the test has failed.
    std::thread::spawn(move || {
        ledger.close();
        done.send(())
    });
    closed.recv_timeout(std::time::Duration::from_secs(30)).expect("the stop hangs");
}
