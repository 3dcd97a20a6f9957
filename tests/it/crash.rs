//! The process is killed at random moments under load; what it had said 200 to is archived in the end, once and whole. Half of
//! the load are callbacks of one API with large files and equal ones, the other half jobs of every API at the simulator.
//!
//! `CRASH_KILLS=500 cargo test --test it crash -- --nocapture` does it more often than the few times of a usual run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use replyvault::domain::Target;
use replyvault::provider;
use replyvault::simulator::{Config, CreateCall, Simulator};
use tokio::task::JoinSet;

use crate::support::apis;
use crate::support::audit::{Figures, audit_with};
use crate::support::child::{Process, Program};
use crate::support::media::MediaServer;
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, completed};

const SENDERS: usize = 4;
const CREATORS: usize = 2;
/// What the simulated provider does now and then, none of which may cost a file.
const FAULTS: &str = "repeat=0.2,disorder=0.2,drop=0.05,fail=0.05,moderate=0.05,no-clean=0.2,inline=0.5,cdn-500=0.02";

pub(crate) fn kills() -> u64 {
    std::env::var("CRASH_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_a_directory_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    let figures = run(&mut program, 150_000, &dir.path().join("bucket"), &|| Vec::new()).await;
    check(&figures);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_s3_loses_and_doubles_nothing() {
    let (dir, s3) = (tempfile::tempdir().unwrap(), S3Server::start().await);
    let mut program = Program::new(dir.path());
    program.store_in(&s3);
    let figures = run(&mut program, 6 << 20, &s3.root.path().join(&s3.bucket), &|| s3.unfinished_parts()).await;
    check(&figures);
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn check(figures: &Figures) {
    println!("kills: {}, {figures:?}", kills());
    figures.check();
}

/// What a callback's file is: three jobs in a row want the same bytes, and some files have several parts.
fn file(number: u64, large: usize) -> (u64, usize) {
    let seed = number / 3;
    (seed, if seed % 8 == 7 { large } else { 1000 + (seed % 50) as usize * 100 })
}

/// Makes jobs of all APIs in turn, until it is dropped.
async fn make(process: Arc<Process>, simulator: Arc<Simulator>, calls: Vec<CreateCall>, next: Arc<AtomicUsize>) {
    let reply_url = process.reply_url(&Target::UseApi);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let name = format!("made-{number}");
        apis::create(&process.client, &simulator, &calls[number % calls.len()], &reply_url, &name).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

async fn run(program: &mut Program, large: usize, bucket: &Path, unfinished: &dyn Fn() -> Vec<PathBuf>) -> Figures {
    let media = Arc::new(MediaServer::start());
    let next = Arc::new(AtomicU64::new(1));
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let pace = Duration::from_millis(40);
    let config = Config { faults: FAULTS.parse().unwrap(), pace, ..Config::default() };
    let simulator = Arc::new(Simulator::start(config).await.unwrap());
    program.set("PROVIDER__BASE_URL", simulator.base_url());
    program.set("PROVIDER__API_TOKEN", "token".to_owned());
    let (calls, turn) = (Simulator::creates().collect::<Vec<_>>(), Arc::new(AtomicUsize::new(0)));
    for kill in 0..kills() {
        let process = Arc::new(program.start().await);
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(process.clone(), media.clone(), next.clone(), acknowledged.clone(), large));
        }
        let mut creators = JoinSet::new();
        for _ in 0..CREATORS {
            creators.spawn(make(process.clone(), simulator.clone(), calls.clone(), turn.clone()));
        }
        // Every other life gets as far as a callback of both kinds, however slow the machine is; the last as far as one of
        // every API.
        let before = acknowledged.lock().unwrap().len();
        let heard = simulator.stats().callbacks_acked;
        let is_last = kill + 1 == kills();
        let taken = async {
            let is_idle = || acknowledged.lock().unwrap().len() == before || simulator.stats().callbacks_acked == heard;
            while (kill % 2 == 1 && is_idle()) || is_last && heard_apis(&simulator) < provider::names().count() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.unwrap_or_else(|_| panic!("nothing is taken:\n{}", process.log()));
        // From hardly up to busy with transfers, differently each time.
        tokio::time::sleep(Duration::from_millis((kill * 37) % 400)).await;
        process.kill();
        creators.shutdown().await;
        while senders.join_next().await.is_some() {}
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    let wanted = acknowledged.into_iter().map(|number| (number, file(number, large))).collect();
    simulator.idle().await;
    let mut figures = audit_with(program.start().await, &wanted, &simulator.truth(), bucket).await;
    assert_eq!(figures.apis.len(), provider::names().count(), "{figures:?}");
    figures.leftovers += unfinished().len();
    figures
}

/// Of how many APIs an end was acknowledged.
fn heard_apis(simulator: &Simulator) -> usize {
    let truth = simulator.truth();
    truth.iter().filter(|job| job.heard).map(|job| job.job_id.provider()).collect::<BTreeSet<_>>().len()
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
