//! Everything at once for a while: callbacks in disorder, readers, a bad CDN, a bad store, and in the end kills. Nothing may
//! be lost, and what the process holds may not grow with what it has done.
//!
//! `SOAK_SECONDS=600 cargo test --release --test it soak -- --nocapture` does it longer than the few seconds of a usual run.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use replyvault::domain::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::audit::{Wanted, audit};
use crate::support::child::{Process, Program};
use crate::support::media::MediaServer;
use crate::support::s3::{Fault, S3Server};
use crate::support::vault::{completed, video_id};

const SENDERS: usize = 6;
const KILLS: u64 = 4;

/// What all tasks share.
struct Soak {
    media: MediaServer,
    next: AtomicU64,
    acknowledged: Mutex<Wanted>,
    /// Jobs that were only heard of with a dead link, so far.
    dead: Mutex<Wanted>,
    /// Jobs that wait at the service.
    backlog: AtomicU64,
    archived: AtomicU64,
}

fn length() -> Duration {
    Duration::from_secs(std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(6))
}

/// Each file is wanted twice; now and then one has several parts.
fn file(number: u64) -> (u64, usize) {
    let pair = number / 2;
    if pair % 200 == 199 { (pair % 2000, 6 << 20) } else { (pair, 1000 + (pair % 60) as usize * 100) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_under_mixed_faults_loses_nothing_and_holds_no_more_in_the_end() {
    let (dir, s3) = (tempfile::tempdir().unwrap(), S3Server::start().await);
    let mut program = Program::new(dir.path());
    program.store_in(&s3);
    program.set("FETCH__IDLE_TIMEOUT", "2s".to_owned());
    let mut turn = 0_u64;
    s3.inject(move |_| {
        turn += 1;
        match turn % 211 {
            0 => Some(Fault::Refuse(500, "InternalError", None)),
            70 => Some(Fault::Refuse(503, "SlowDown", None)),
            140 => Some(Fault::Refuse(503, "SlowDown", Some(1))),
            // Now and then for longer than the client itself tries again.
            _ => (turn % 20_000 >= 19_960).then_some(Fault::Refuse(500, "InternalError", None)),
        }
    });
    let soak = Arc::new(Soak {
        media: MediaServer::start(),
        next: AtomicU64::new(0),
        acknowledged: Mutex::default(),
        dead: Mutex::default(),
        backlog: AtomicU64::new(0),
        archived: AtomicU64::new(0),
    });
    let process = Arc::new(program.start().await);
    let load = load(&soak, &process);
    let samples = watch(&soak, &process).await;
    drop(load);
    assert_flat(&samples);

    for kill in 0..KILLS {
        process.kill();
        let next = Arc::new(program.start().await);
        let load = self::load(&soak, &next);
        tokio::time::sleep(Duration::from_millis(300 + kill * 150)).await;
        next.kill();
        drop(load);
    }
    let process = program.start().await;
    // A kill may have come between a dead link and the good one that follows it.
    let mut wanted = std::mem::take(&mut *soak.acknowledged.lock().unwrap());
    let dead = std::mem::take(&mut *soak.dead.lock().unwrap());
    for (number, (seed, size)) in dead {
        if let Entry::Vacant(new) = wanted.entry(number) {
            process.post_until_accepted(&completed(number, &soak.media.rough(seed, size, "late"))).await;
            new.insert((seed, size));
        }
    }
    let mut figures = audit(process, &wanted, &s3.root.path().join(&s3.bucket)).await;
    figures.leftovers += s3.unfinished_parts().len();
    println!("{figures:?}");
    figures.check();
}

/// Senders, readers and listeners, which end when this is dropped.
fn load(soak: &Arc<Soak>, process: &Arc<Process>) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for _ in 0..SENDERS {
        load.spawn(send(soak.clone(), process.clone()));
    }
    for pause in [0, 0, 50] {
        let process = process.clone();
        load.spawn(async move {
            loop {
                process.listen(Duration::from_millis(pause)).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    load.spawn(read(soak.clone(), process.clone()));
    load
}

/// A job's callbacks, as a provider on a bad day sends them.
async fn send(soak: Arc<Soak>, process: Arc<Process>) {
    loop {
        if soak.backlog.load(Ordering::Relaxed) > 400 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let number = soak.next.fetch_add(1, Ordering::Relaxed);
        let (seed, size) = file(number);
        let progress = json!({"videoId": video_id(number), "status": 1, "percent": number % 100});
        if number.is_multiple_of(3) {
            process.post(&progress).await;
        }
        if number % 50 == 7 {
            // Its link is dead already; another comes later.
            soak.dead.lock().unwrap().insert(number, (seed, size));
            let expired = Timestamp::now().millis() / 1000 - 60;
            process.post(&completed(number, &soak.media.rough(seed, size, &format!("Expires={expired}&dead")))).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let expires = Timestamp::now().millis() / 1000 + 600 + number % 7200;
        let last = completed(number, &soak.media.rough(seed, size, &format!("Expires={expires}&n={number}")));
        if process.post(&last).await == Some(200) {
            soak.acknowledged.lock().unwrap().insert(number, (seed, size));
        }
        if number.is_multiple_of(5) {
            process.post(&last).await;
        }
        if number.is_multiple_of(4) {
            process.post(&progress).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn read(soak: Arc<Soak>, process: Arc<Process>) {
    for turn in 0_u64.. {
        if let Some(stats) = process.get("/api/v1/stats").await {
            soak.backlog.store(stats["queueDepth"].as_u64().unwrap_or_default(), Ordering::Relaxed);
            soak.archived.store(stats["jobs"]["archived"].as_u64().unwrap_or_default(), Ordering::Relaxed);
        }
        let number = turn.wrapping_mul(7919) % soak.next.load(Ordering::Relaxed).max(1);
        process.touch("/api/v1/jobs?limit=50").await;
        process.touch("/metrics").await;
        if let Some(job) = process.get(&format!("/api/v1/jobs/{}", video_id(number))).await
            && let Some(sha256) = job["assets"][0]["sha256"].as_str()
        {
            process.touch(&format!("/api/v1/media/{sha256}/content")).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Looks at the process every 30 seconds, or ten times in a shorter run: bytes of memory, open files.
async fn watch(soak: &Soak, process: &Process) -> Vec<(u64, usize)> {
    let (begun, length) = (Instant::now(), length());
    let every = (length / 10).min(Duration::from_secs(30));
    let mut samples = Vec::new();
    while begun.elapsed() < length {
        tokio::time::sleep(every).await;
        let (memory, open) = process.holds();
        let acknowledged = soak.acknowledged.lock().unwrap().len();
        println!(
            "{:4} s: acked {acknowledged}, archived {}, RSS {} MiB, open files {open}",
            begun.elapsed().as_secs(),
            soak.archived.load(Ordering::Relaxed),
            memory >> 20,
        );
        samples.push((memory, open));
    }
    samples
}

/// The second half against the first, without what it takes to get going.
fn assert_flat(samples: &[(u64, usize)]) {
    let (first, second) = samples.split_at(samples.len() / 2);
    let first = &first[first.len() / 4..];
    let most = |samples: &[(u64, usize)]| {
        let memory = samples.iter().map(|(memory, _)| *memory).max().unwrap();
        (memory, samples.iter().map(|(_, open)| *open).max().unwrap())
    };
    let ((memory, open), (memory_then, open_then)) = (most(first), most(second));
    assert!(memory_then < memory + memory / 2 + (64 << 20), "memory grows: {samples:?}");
    assert!(open_then < open + 64, "open files grow: {samples:?}");
}
