//! The process is killed at random moments under load; what it had said 200 to is archived in the end, once and whole.
//!
//! `CRASH_KILLS=500 cargo test --test it crash -- --nocapture` does it more often than the few times of a usual run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use replyvault::domain::Digest;
use secrecy::ExposeSecret;
use tokio::task::JoinSet;

use crate::support::child::{Process, Program};
use crate::support::media::{MediaServer, mp4};
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, completed, video_id};

const SENDERS: usize = 4;

/// What is printed, and what must be zero.
#[derive(Debug, Default)]
struct Figures {
    kills: u64,
    acknowledged: usize,
    archived: usize,
    duplicates: usize,
    wrong: usize,
    leftovers: usize,
}

fn kills() -> u64 {
    std::env::var("CRASH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_a_directory_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::new(dir.path());
    let figures = run(&program, 150_000, &dir.path().join("bucket"), &|| Vec::new()).await;
    check(&figures);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_s3_loses_and_doubles_nothing() {
    let (dir, s3) = (tempfile::tempdir().unwrap(), S3Server::start().await);
    let mut program = Program::new(dir.path());
    let config = s3.config("");
    for (key, value) in [
        ("STORAGE__URL", format!("s3://{}", s3.bucket)),
        ("STORAGE__ENDPOINT", s3.endpoint.clone()),
        ("STORAGE__ALLOW_HTTP", "true".to_owned()),
        ("STORAGE__ACCESS_KEY_ID", config.access_key_id.as_ref().unwrap().expose_secret().to_owned()),
        ("STORAGE__SECRET_ACCESS_KEY", config.secret_access_key.as_ref().unwrap().expose_secret().to_owned()),
        ("STORAGE__PART_SIZE", "5MiB".to_owned()),
    ] {
        program.set(key, value);
    }
    let figures = run(&program, 6 << 20, &s3.root.path().join(&s3.bucket), &|| s3.unfinished_parts()).await;
    check(&figures);
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn check(figures: &Figures) {
    println!("{figures:?}");
    assert!(figures.acknowledged > 0, "nothing was acknowledged");
    assert_eq!(figures.archived, figures.acknowledged);
    assert_eq!((figures.duplicates, figures.wrong, figures.leftovers), (0, 0, 0), "{figures:?}");
}

/// What a callback's file is: three jobs in a row want the same bytes, and some files have several parts.
fn file(number: u64, large: usize) -> (u64, usize) {
    let seed = number / 3;
    (seed, if seed % 8 == 7 { large } else { 1000 + (seed % 50) as usize * 100 })
}

async fn run(program: &Program, large: usize, bucket: &Path, unfinished: &dyn Fn() -> Vec<PathBuf>) -> Figures {
    let media = Arc::new(MediaServer::start());
    let next = Arc::new(AtomicU64::new(1));
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let mut figures = Figures { kills: kills(), ..Figures::default() };
    for kill in 0..figures.kills {
        let process = Arc::new(program.start().await);
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(process.clone(), media.clone(), next.clone(), acknowledged.clone(), large));
        }
        // From hardly up to busy with transfers, differently each time.
        tokio::time::sleep(Duration::from_millis((kill * 37) % 400)).await;
        process.kill();
        while senders.join_next().await.is_some() {}
    }
    let process = program.start().await;
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    figures.acknowledged = acknowledged.len();
    finish(&process).await;
    for number in &acknowledged {
        let job = process.job_in(&video_id(*number), "archived").await;
        let asset = &job["assets"][0];
        let (seed, size) = file(*number, large);
        let right = Digest::of(&mp4(seed, size)).to_string();
        let stored = std::fs::read(bucket.join(asset["key"].as_str().unwrap())).unwrap_or_default();
        let manifest = bucket.join(job["manifestKey"].as_str().unwrap());
        let whole = asset["sha256"] == right && Digest::of(&stored).to_string() == right && manifest.is_file();
        figures.wrong += usize::from(!whole);
        figures.archived += 1;
    }
    assert_eq!(process.terminate().await, Some(0));
    let mut digests = BTreeSet::new();
    for path in files(bucket) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains('#') {
            figures.leftovers += 1;
        } else if name != "manifest.json" {
            figures.duplicates += usize::from(!digests.insert(Digest::of(&std::fs::read(&path).unwrap()).to_string()));
        }
    }
    figures.leftovers += unfinished().len();
    figures
}

/// Waits until nothing is due any more. However much there is to do, it must go on.
async fn finish(process: &Process) {
    let mut last = (None, Instant::now());
    loop {
        // Nothing is answered while the state is brought up to date.
        let stats = process.get("/api/v1/stats").await;
        if stats.as_ref().is_some_and(|stats| stats["queueDepth"] == 0) {
            return;
        }
        let archived = stats.and_then(|stats| stats["jobs"]["archived"].as_u64());
        if archived != last.0 {
            last = (archived, Instant::now());
        }
        assert!(last.1.elapsed() < PATIENCE, "it does not go on:\n{}", process.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn send(
    process: Arc<Process>,
    media: Arc<MediaServer>,
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    large: usize,
) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let (seed, size) = file(number, large);
        match process.post(&completed(number, &media.generated(seed, size))).await {
            Some(200) => {
                acknowledged.lock().unwrap().insert(number);
            }
            Some(_) => {}
            None => return,
        }
        // As many as the worker can follow, so that kills find it at all its steps.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}
