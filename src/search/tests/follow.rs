use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use tempfile::TempDir;

use super::*;
use crate::domain::Target;
use crate::intake::Intake;
use crate::journal::{self, CallbackEntry, Journal};
use crate::search::follow::Follower;
use crate::search::{Incomplete, Search};
use crate::state::EventLog;

const PATIENCE: Duration = Duration::from_secs(60);
const JOBS: u64 = 9;

async fn open(dir: &TempDir) -> EventLog {
    let journal = Journal::open(&dir.path().join("journal")).unwrap();
    let log = EventLog::open(journal, &dir.path().join("state"), Intake::parse_callback).unwrap();
    log.recovered().await.unwrap();
    log
}

async fn until(is_true: impl Fn() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

/// Records new jobs, and waits until they are told of.
async fn record_jobs(log: &EventLog) {
    for number in 0..JOBS {
        let job = serde_json::json!({ "videoId": format!("user:1-minimax:2-video:{number}"), "status": 1 });
        let body = Bytes::from(job.to_string());
        let parsed = Intake::parse_callback(&body);
        let entry = CallbackEntry {
            at: Timestamp::now(),
            target: Target::Channel,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            foreign: false,
            replay_of: None,
            body,
        };
        log.record_callback(journal::Entry::Callback(entry), parsed).await.unwrap();
    }
    until(|| log.state().last_change() >= JOBS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_taken_in_until_a_time_and_what_is_left_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir).await;
    let (mut follower, rows) = (Follower::new(log.state().clone()), RwLock::new(rows(1 << 20)));
    record_jobs(&log).await;
    let count = || rows.read().find(&Query::default(), None, 0, 99).unwrap().len() as u64;
    let past = Instant::now();
    assert!(!follower.catch_up(&rows, past));
    assert!((1..JOBS).contains(&count()), "{}", count());
    assert!((1..JOBS).any(|_| follower.catch_up(&rows, past)));
    assert_eq!(count(), JOBS);
}

/// As it is when jobs come faster than they can be indexed: somebody always takes in changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_would_wait_long_for_the_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir).await;
    record_jobs(&log).await;
    let search = Search::start(log.state().clone(), log.supervisor()).unwrap();
    let all = Query::default();
    until(|| search.find(&all, None, 0, 1).is_ok()).await;
    {
        let _follower = search.inner.follower.lock();
        assert_eq!(search.find(&all, None, 0, 1), Err(Incomplete));
        assert_eq!(search.days(&all), Err(Incomplete));
    }
    until(|| search.find(&all, None, 0, 99).is_ok_and(|found| found.len() as u64 == JOBS)).await;
}
