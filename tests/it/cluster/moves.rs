//! From one machine to replicas and back; a replica that comes later.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Replicas, callback, caught_up, cluster_check, is_stale, nothing_waits, until};
use crate::support::child::Program;
use crate::support::vault::{completed, video_id};
use crate::support::write_journal;

/// What a command says, and its exit code.
fn run(program: &Program, arguments: &[&str]) -> (Option<i32>, String) {
    let said = program.command(arguments).output().unwrap();
    (said.status.code(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
}

/// A vault of one machine becomes the first replica of several, with all that it has; and one machine's again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_vault_of_one_machine_moves_into_the_log_and_back() {
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let url = replicas.postgres.url();
    replicas.programs[0].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let alone = replicas.programs[0].start().await;
    for number in 0..30 {
        alone.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
    }
    alone.job_in(&video_id(29), "archived").await;
    assert_eq!(alone.terminate().await, Some(0));
    replicas.programs[0].set("CLUSTER__POSTGRES", url);
    let (code, said) = run(&replicas.programs[0], &["cluster", "import"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&replicas.programs[0], &["cluster", "import"]);
    assert!(code == Some(2) && said.contains("has a log already"), "{said}");
    replicas.add();
    let processes = replicas.start().await;
    for number in 0..30 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    processes[1].post_until_accepted(&completed(30, &replicas.media.generated(30, 1000))).await;
    processes[0].job_in(&video_id(30), "archived").await;
    assert_eq!(processes[0].terminate().await, Some(0));
    let (code, said) = run(&replicas.programs[0], &["cluster", "export"]);
    assert!(code == Some(2) && said.contains("replicas still run"), "{said}");
    caught_up(&processes[1]).await;
    assert_eq!(processes[1].terminate().await, Some(0));
    replicas.programs[1].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let refused = replicas.programs[1].command(&["serve"]).output().unwrap();
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("cluster export"), "{refused}");
    replicas.programs[1].set("CLUSTER__POSTGRES", replicas.postgres.url());
    let (code, said) = run(&replicas.programs[1], &["cluster", "export"]);
    assert_eq!(code, Some(0), "{said}");
    replicas.programs[1].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let alone = replicas.programs[1].start().await;
    alone.post_until_accepted(&completed(31, &replicas.media.generated(31, 1000))).await;
    for number in 0..32 {
        alone.job_in(&video_id(number), "archived").await;
    }
    assert_eq!(replicas.objects().len(), 64);
}

/// Callbacks that a replica kept while PostgreSQL was away are not left behind: PostgreSQL does not know of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kept_callbacks_go_into_the_log_before_a_vault_moves_back_to_one_machine() {
    const CALLBACKS: u64 = 3;
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let process = replicas.programs[0].start().await;
    nothing_waits(&process).await;
    replicas.postgres.end(Signal::QUIT);
    for number in 0..CALLBACKS {
        process.post_until_accepted(&completed(number, &replicas.media.generated(number, 1000))).await;
    }
    assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    replicas.postgres.begin().await;
    let (code, said) = run(&replicas.programs[0], &["cluster", "export"]);
    assert!(code == Some(2) && said.contains("3 callbacks wait in"), "{said}");
    let (code, said) = run(&replicas.programs[0], &["cluster", "digest"]);
    assert!(code == Some(0) && said.contains("3 callbacks wait in"), "{said}");

    // As an earlier version, which did not look, has left it.
    let (name, aside) = (replicas.programs[0].dir.join("data/replica"), replicas.programs[0].dir.join("replica"));
    std::fs::rename(&name, &aside).unwrap();
    replicas.programs[0].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    for arguments in [["serve"].as_slice(), &["rebuild"]] {
        let (code, said) = run(&replicas.programs[0], arguments);
        assert!(code == Some(2) && said.contains("3 callbacks wait in its folder `outage`"), "{said}");
    }
    std::fs::rename(&aside, &name).unwrap();

    replicas.programs[0].set("CLUSTER__POSTGRES", replicas.postgres.url());
    let process = replicas.programs[0].start().await;
    nothing_waits(&process).await;
    caught_up(&process).await;
    assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    let (code, said) = run(&replicas.programs[0], &["cluster", "export"]);
    assert!(code == Some(0) && said.contains("cluster digest"), "{said}");
    replicas.programs[0].settings.retain(|(key, _)| !key.contains("CLUSTER"));
    let alone = replicas.programs[0].start().await;
    for number in 0..CALLBACKS {
        alone.job_in(&video_id(number), "archived").await;
    }
}

/// A journal may begin at position 0, where no other segment can stand before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_has_an_imported_journal_from_position_0_on() {
    const CALLBACKS: u64 = 5;
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let folder = replicas.programs[0].dir.join("data/journal");
    let callbacks = (0..CALLBACKS).map(|number| callback(&completed(number, &replicas.media.generated(number, 1000))));
    write_journal(&folder, &callbacks.collect::<Vec<_>>());
    let said = replicas.programs[0].command(&["cluster", "import"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let first = replicas.programs[0].start().await;
    first.job_in(&video_id(CALLBACKS - 1), "archived").await;
    replicas.add();
    let later = replicas.programs[1].start().await;
    for number in 0..CALLBACKS {
        later.job_in(&video_id(number), "archived").await;
    }
    assert!(!later.log().contains("a part of the journal is missing"), "{}", later.log());
}

/// Old segments leave PostgreSQL for the bucket, and a replica that comes later is made of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_is_made_of_the_bucket_and_the_log() {
    let Some(mut replicas) = Replicas::prepare(2).await else { return };
    for program in &mut replicas.programs {
        program.set("DATA__JOURNAL_RETENTION", "1s".to_owned());
    }
    let mut processes = replicas.start().await;
    let post = async |number: u64| {
        let callback = completed(number, &replicas.media.generated(number, 1000));
        processes[number as usize % 2].post_until_accepted(&callback).await;
    };
    post(0).await;
    let first = replicas.postgres.run("SELECT min(position) FROM replyvault_journal").await;
    for number in 1..20 {
        post(number).await;
    }
    for number in 0..20 {
        processes[1].job_in(&video_id(number), "archived").await;
    }
    until("the oldest segment has left", || async {
        replicas.postgres.run("SELECT min(position) FROM replyvault_journal").await != first
    })
    .await;
    replicas.add().set("DATA__JOURNAL_RETENTION", "1h".to_owned());
    processes.push(replicas.programs[2].start().await);
    for number in 0..20 {
        processes[2].job_in(&video_id(number), "archived").await;
    }
    processes[2].post_until_accepted(&completed(20, &replicas.media.generated(20, 1000))).await;
    processes[0].job_in(&video_id(20), "archived").await;
    assert_eq!(replicas.objects().len(), 42);
}

/// However large the callbacks in the log are, a replica that comes later has PostgreSQL send each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_comes_later_reads_large_callbacks_once() {
    const CALLBACKS: u64 = 40;
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let process = replicas.programs[0].start().await;
    for number in 0..CALLBACKS {
        process.post_until_accepted(&large_progress(number, 3 << 20)).await;
    }
    // Large payloads are in a table of their own, whose index is looked into once for each that is read.
    let sent = async || -> u64 {
        let said = "SELECT coalesce(idx_scan, 0) FROM pg_stat_all_tables
            WHERE relid = (SELECT reltoastrelid FROM pg_class WHERE relname = 'replyvault_journal')";
        replicas.postgres.run(said).await[0].parse().unwrap()
    };
    let before = sent().await;
    let later = replicas.programs[1].start().await;
    let last = format!("/api/v1/jobs/{}", video_id(CALLBACKS - 1));
    until("it has all", || async { later.get(&last).await.is_some() }).await;
    until("it is counted", || async { sent().await >= before + CALLBACKS }).await;
    let rows = sent().await - before;
    assert!(rows < 2 * CALLBACKS, "{rows} payloads were read for {CALLBACKS} callbacks");
}

/// A replica that has long to copy takes callbacks meanwhile, and says how far it is behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_far_behind_takes_callbacks_while_it_copies_the_log() {
    const LARGE: u64 = 64;
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let first = replicas.programs[0].start().await;
    for number in 0..LARGE {
        first.post_until_accepted(&large_progress(number, 900 << 10)).await;
    }
    let line = SlowLine::to(&replicas.postgres.url());
    replicas.add().set("CLUSTER__POSTGRES", line.url.clone());
    let later = replicas.programs[1].listen().await;
    let said = || async { cluster_check(&later).await.unwrap_or_default() };
    let is_behind = || async { said().await.starts_with("behind the shared log by") };
    until("it says how far it is behind", is_behind).await;
    until("what is read may be stale", || async { is_stale(&later).await == Some(true) }).await;
    for number in LARGE..LARGE + 2 {
        let url = replicas.media.generated(number, 1000);
        assert_eq!(later.post(&completed(number, &url)).await, Some(200), "{}", later.log());
    }
    assert!(is_behind().await, "all of the log was copied before callbacks were answered");
    line.widen();
    for process in [&first, &later] {
        for number in LARGE..LARGE + 2 {
            process.job_in(&video_id(number), "archived").await;
        }
        nothing_waits(process).await;
        caught_up(process).await;
    }
    for process in [&first, &later] {
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    }
    replicas.assert_alike().await;
}

/// A callback that says how far a job is, of about so many bytes.
fn large_progress(number: u64, bytes: usize) -> Value {
    let mut body = completed(number, "");
    body["status"] = json!(1);
    body["downloadURL"] = Value::Null;
    body["padding"] = json!("x".repeat(bytes));
    body
}

/// A way to PostgreSQL over which little comes back in a second.
struct SlowLine {
    url: String,
    is_wide: Arc<AtomicBool>,
}

impl SlowLine {
    /// More than half a minute for all of the log.
    const BYTES_PER_SECOND: u32 = 3 << 19;

    fn to(url: &str) -> Self {
        let (listener, is_wide) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::<AtomicBool>::default());
        let mut slow = url::Url::parse(url).unwrap();
        let server = slow.port().unwrap();
        slow.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let flag = is_wide.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (mut asked, mut asks) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                // Either side closes when it likes.
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut asks, &mut asked);
                    let _ = asked.shutdown(Shutdown::Both);
                });
                let flag = flag.clone();
                std::thread::spawn(move || drop(carry_slowly(server, client, &flag)));
            }
        });
        Self { url: slow.to_string(), is_wide }
    }

    /// Slows nothing down from now on.
    fn widen(&self) {
        self.is_wide.store(true, Ordering::Relaxed);
    }
}

fn carry_slowly(mut from: TcpStream, mut to: TcpStream, is_wide: &AtomicBool) -> std::io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return to.shutdown(Shutdown::Both);
        }
        to.write_all(&buffer[..read])?;
        if !is_wide.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(1) * u32::try_from(read).unwrap() / SlowLine::BYTES_PER_SECOND);
        }
    }
}
