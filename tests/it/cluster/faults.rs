//! Replicas and their database, when some of it dies, stalls or goes away.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use replyvault::journal::{Entry, Event};
use rustix::process::Signal;

use super::{Replicas, callback, caught_up, cluster_check, is_stale, nothing_waits, until};
use crate::support::child::{Process, TOKEN};
use crate::support::vault::{completed, video_id};
use crate::support::write_journal;

/// A killed replica's jobs go on within 31 s, and nothing that it answered is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_killed_replica_had_under_way_is_taken_over_in_time() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    until("the work is spread", || async {
        replicas.postgres.ask("SELECT count(*) FROM replyvault_lease GROUP BY holder").await == ["32", "32"]
    })
    .await;
    for number in 0..20 {
        let path = format!("/slow-{number}.mp4");
        let url = replicas.media.put(&path, crate::support::media::mp4(number, 4000), "video/mp4");
        replicas.media.delay(&path, Duration::from_secs(2));
        processes[0].post_until_accepted(&completed(number, &url)).await;
    }
    nothing_waits(&processes[0]).await;
    processes[0].kill();
    let killed = Instant::now();
    for number in 0..20 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    let took = killed.elapsed();
    println!("taken over and archived after {took:?}");
    assert!(took < Duration::from_secs(31 + 5), "{took:?}");
    assert_eq!(replicas.objects().len(), 40);
}

/// While PostgreSQL is away, callbacks are kept here and answered; afterwards they are in the log, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_is_away_callbacks_are_kept_and_then_put_into_the_log_once() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let mut processes = replicas.start().await;
    let post = async |process: &Process, number: u64| {
        let url = replicas.media.generated(number, 1000);
        process.post_until_accepted(&completed(number, &url)).await;
    };
    post(&processes[0], 0).await;
    processes[1].job_in(&video_id(0), "archived").await;
    replicas.postgres.end(Signal::QUIT);
    for number in 1..=40 {
        post(&processes[number as usize % 2], number).await;
    }
    for process in &processes {
        until("it says how many wait", || async {
            cluster_check(process).await.unwrap() == "the shared log cannot be reached; 20 callbacks wait here"
        })
        .await;
        let sent = process.client.get(format!("{}/api/v1/jobs/{}", process.base, video_id(0)));
        let sent = sent.bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(sent.status(), 200);
        assert_eq!(sent.headers()["replyvault-stale"], "true");
    }
    // One of them dies with what it has kept, and takes it up again; also without PostgreSQL.
    processes[0].kill();
    processes[0] = replicas.programs[0].start().await;
    post(&processes[0], 41).await;
    replicas.postgres.begin().await;
    all_are_in_the_log_once(&replicas, &processes, 42).await;
    let job = processes[0].get(&format!("/api/v1/jobs/{}", video_id(20))).await.unwrap();
    assert_eq!(job["callbacks"], 1, "{job:#}");
}

/// PostgreSQL that hangs is as good as away: no connection ends, and nothing is answered. No caller gets an error for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_hangs_callbacks_are_kept_and_then_put_into_the_log_once() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    replicas.postgres.pause();
    let post = async |number: u64| {
        let url = replicas.media.generated(number, 1000);
        processes[number as usize % 2].post(&completed(number, &url)).await
    };
    let answers = futures_util::future::join_all((0..20).map(&post)).await;
    assert!(answers.iter().all(|answer| *answer == Some(200)), "{answers:?}");
    for number in 20..30 {
        assert_eq!(post(number).await, Some(200));
    }
    for process in &processes {
        let said = cluster_check(process).await.unwrap();
        assert!(said.contains("15 callbacks wait here"), "{said}");
    }
    replicas.postgres.go_on();
    all_are_in_the_log_once(&replicas, &processes, 30).await;
}

/// A replica that starts while PostgreSQL hangs is none that works: it says so from the first moment on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_starts_while_postgres_hangs_says_so() {
    let Some(replicas) = Replicas::prepare(1).await else { return };
    let process = replicas.programs[0].start().await;
    nothing_waits(&process).await;
    assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    replicas.postgres.pause();
    let process = replicas.programs[0].listen().await;
    assert_eq!(cluster_check(&process).await.unwrap(), "the shared log cannot be reached; 0 callbacks wait here");
    until("it can be read", || async {
        let is_stale = is_stale(&process).await;
        assert_ne!(is_stale, Some(false));
        is_stale.is_some()
    })
    .await;
    assert_eq!(process.post(&completed(0, &replicas.media.generated(0, 1000))).await, Some(200));
    replicas.postgres.go_on();
    all_are_in_the_log_once(&replicas, &[process], 1).await;
}

/// PostgreSQL that refuses what is appended, as it does when its disk is full, is as good as away too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_has_a_full_disk_callbacks_are_kept_and_then_put_into_the_log_once() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    replicas.postgres.fill_disk().await;
    for number in 0..30 {
        let url = replicas.media.generated(number, 1000);
        assert_eq!(processes[number as usize % 2].post(&completed(number, &url)).await, Some(200));
    }
    for process in &processes {
        until("it says so", || async {
            cluster_check(process).await.is_some_and(|said| said.contains("15 callbacks wait here"))
        })
        .await;
    }
    until("it has been tried again and again", || async { replicas.postgres.refusals() > 8 }).await;
    replicas.postgres.empty_disk().await;
    all_are_in_the_log_once(&replicas, &processes, 30).await;
    // It was tried again now and then, and said once.
    for process in &processes {
        assert!(process.log().matches("the shared log is away").count() <= 2, "{}", process.log());
    }
}

/// A replica whose disk refuses to settle a batch in doubt tries again, and appends nothing until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_in_doubt_that_the_disk_does_not_let_be_settled_is_settled_later() {
    const CALLBACKS: u64 = 2;
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let process = replicas.programs[0].start().await;
    nothing_waits(&process).await;
    assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    // A batch of a connection that was lost, under a number that the log does not have.
    let folder = replicas.programs[0].dir.join("data/outage");
    let mut batch = vec![Entry::Event(Event::Doubtful { serial: 1_000_000, callbacks: CALLBACKS })];
    batch.extend((0..CALLBACKS).map(|number| callback(&completed(number, &replicas.media.generated(number, 1000)))));
    write_journal(&folder, &batch);
    // The callbacks, the callbacks once more, the mark behind them; then all goes well.
    replicas.programs[0].failure_points = "journal.write=1*return->1*off->1*return->off".to_owned();
    let process = replicas.programs[0].start().await;
    all_are_in_the_log_once(&replicas, &[process], CALLBACKS).await;
    let log = std::fs::read_to_string(replicas.programs[0].dir.join("log.json")).unwrap();
    assert!(log.contains("what waits here for the log cannot be put into it") && log.contains("injected"), "{log}");
}

/// The first `count` callbacks are archived, stand in the log once each, and nothing waits.
async fn all_are_in_the_log_once(replicas: &Replicas, processes: &[Process], count: u64) {
    for number in 0..count {
        processes[number as usize % processes.len()].job_in(&video_id(number), "archived").await;
    }
    for process in processes {
        nothing_waits(process).await;
    }
    let callbacks =
        replicas.postgres.run("SELECT count(*) FROM replyvault_journal WHERE get_byte(payload, 0) = 1").await;
    assert_eq!(callbacks, [count.to_string()]);
    assert_eq!(replicas.objects().len() as u64, 2 * count);
}

/// A replica that was stopped for longer than its lease, and goes on, changes nothing with what it had under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_was_stopped_for_longer_than_its_lease_is_refused() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    until("the work is spread", || async {
        replicas.postgres.ask("SELECT count(*) FROM replyvault_lease GROUP BY holder").await == ["32", "32"]
    })
    .await;
    for number in 0..12 {
        let path = format!("/slow-{number}.mp4");
        let url = replicas.media.put(&path, crate::support::media::mp4(number, 4000), "video/mp4");
        replicas.media.delay(&path, Duration::from_secs(3));
        processes[0].post_until_accepted(&completed(number, &url)).await;
    }
    nothing_waits(&processes[0]).await;
    processes[0].signal(Signal::STOP);
    for number in 0..12 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    processes[0].signal(Signal::CONT);
    let id = std::fs::read_to_string(replicas.programs[0].dir.join("data/replica")).unwrap();
    until("it is a member again, in another epoch", || async {
        let said = format!("SELECT epoch > 2 AND until IS NOT NULL FROM replyvault_replica WHERE id = '{id}'");
        replicas.postgres.ask(&said).await == ["t"]
    })
    .await;
    until("what it had under way is refused", || async { processes[0].log().contains("an entry was refused") }).await;
    for number in 0..12 {
        let job = processes[0].job_in(&video_id(number), "archived").await;
        assert_eq!(job["assets"][0]["state"], "stored");
    }
    assert_eq!(replicas.objects().len(), 24);
    // It works on.
    let url = replicas.media.generated(99, 1000);
    processes[0].post_until_accepted(&completed(99, &url)).await;
    processes[1].job_in(&video_id(99), "archived").await;
}

/// The answer that gives a replica its shards can be lost with its connection: then the tables say that they are its own, and it
/// does not know. They are given back and taken anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shards_that_a_replica_does_not_know_to_be_its_own_are_worked_on_all_the_same() {
    let Some(replicas) = Replicas::prepare(1).await else { return };
    let process = replicas.programs[0].start().await;
    until("it has all shards", || async { replicas.postgres.ask(HELD).await == ["64"] }).await;
    assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    // In its next epoch.
    replicas
        .postgres
        .run("UPDATE replyvault_lease SET holder = known.id, epoch = known.epoch + 1 FROM replyvault_replica AS known")
        .await;
    let process = replicas.programs[0].start().await;
    for number in 0..4 {
        let url = replicas.media.generated(number, 1000);
        process.post_until_accepted(&completed(number, &url)).await;
    }
    for number in 0..4 {
        process.job_in(&video_id(number), "archived").await;
    }
    assert_eq!(replicas.postgres.run(HELD).await, ["64"]);
}

/// How many shards are a member's.
const HELD: &str = "SELECT count(*) FROM replyvault_lease AS lease JOIN replyvault_replica AS known
     ON known.id = lease.holder AND known.epoch = lease.epoch WHERE known.until IS NOT NULL";

/// Rounds of whatever may happen, while callbacks come in through all replicas: all that was answered 200 is archived, once, and
/// all views are the same in the end. `REPLYVAULT_CLUSTER_ROUNDS` says how many.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_dies_nothing_that_was_answered_is_lost_or_doubled() {
    let Some(replicas) = Replicas::prepare(3).await else { return };
    let rounds = std::env::var("REPLYVAULT_CLUSTER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(14);
    let seed: u64 = std::env::var("REPLYVAULT_CLUSTER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = StdRng::seed_from_u64(seed);
    let mut processes = replicas.start().await;
    let mut jobs = 0;
    let mut counts = [0; 7];
    let began = Instant::now();
    let mut faults = Vec::new();
    for round in 0..rounds {
        // Each once before any comes again.
        if faults.is_empty() {
            faults = (0..counts.len()).collect();
            faults.shuffle(&mut random);
        }
        let fault = faults.pop().unwrap();
        let victim = random.random_range(0..3);
        counts[fault] += 1;
        match fault {
            0 => processes[victim].kill(),
            1 => replicas.postgres.end(Signal::INT),
            2 => replicas.postgres.end(Signal::QUIT),
            3 => replicas.postgres.cut().await,
            4 => replicas.postgres.pause(),
            5 => replicas.postgres.fill_disk().await,
            _ => processes[victim].signal(Signal::STOP),
        }
        for _ in 0..random.random_range(5..25) {
            let to = (0..3)
                .map(|step| (victim + 1 + step + jobs as usize) % 3)
                .find(|to| !matches!(fault, 0 | 6) || *to != victim);
            let url = replicas.media.generated(jobs, 1500);
            processes[to.unwrap()].post_until_accepted(&completed(jobs, &url)).await;
            jobs += 1;
        }
        // Now and then for longer than a lease; PostgreSQL, for two minutes.
        let pause = match fault {
            0 | 6 if round % 8 == 7 => Duration::from_secs(25),
            1 | 2 | 4 | 5 if round % 50 == 49 => Duration::from_secs(120),
            _ => Duration::from_millis(random.random_range(50..1500)),
        };
        tokio::time::sleep(pause).await;
        match fault {
            0 => processes[victim] = replicas.programs[victim].start().await,
            1 | 2 => replicas.postgres.begin().await,
            3 => {}
            4 => replicas.postgres.go_on(),
            5 => replicas.postgres.empty_disk().await,
            _ => processes[victim].signal(Signal::CONT),
        }
    }
    for number in 0..jobs {
        processes[number as usize % 3].job_in(&video_id(number), "archived").await;
    }
    for process in &processes {
        nothing_waits(process).await;
    }
    assert_eq!(replicas.objects().len() as u64, 2 * jobs);
    let [killed, ended, crashed, cut, hung, full, stopped] = counts;
    println!(
        "{rounds} rounds in {:?}: replicas killed {killed} and stopped {stopped}; PostgreSQL ended {ended}, crashed {crashed}, \
         hung {hung}, its disk full {full}, its connections cut {cut}; {jobs} jobs, each archived once",
        began.elapsed(),
    );
    for process in &processes {
        caught_up(process).await;
    }
    for process in &processes {
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    }
    replicas.assert_alike().await;
}
