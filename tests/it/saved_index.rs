//! A clean stop saves the search index; the next start takes it up if it is of the state that it finds, and makes it anew
//! otherwise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::child::{Process, Program};
use crate::support::vault::{PATIENCE, video_id};

/// With it, the only index that a start can have is a saved one.
const CANNOT_INDEX: &str = "search.index=return";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("data/state/search-index")
    }

    async fn start(&self, failure_points: &str) -> Process {
        let mut program = Program::new(self.dir.path());
        program.failure_points = failure_points.to_owned();
        let process = program.listen().await;
        until("it is ready", async || process.touch("/readyz").await == Some(200)).await;
        process
    }
}

/// Waits for what takes a moment.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let held = async {
        while !holds().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("not yet: {what}"));
}

async fn running(process: &Process, number: u64, prompt: &str) {
    let job = json!({"videoId": video_id(number), "status": 1, "desc": prompt});
    process.post_until_accepted(&job).await;
}

/// The jobs that have a word, once it can be said; newest first.
async fn found(process: &Process, word: &str) -> Vec<Value> {
    let path = format!("/api/v1/jobs?q={word}");
    until("words are searched", async || process.touch(&path).await == Some(200)).await;
    let page = process.get(&path).await.unwrap();
    page["items"].as_array().unwrap().iter().map(|job| job["jobId"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_stop_words_are_searched_without_reading_any_job() {
    let place = Place::new();
    let process = place.start("").await;
    running(&process, 1, "a paper boat").await;
    running(&process, 2, "a paper kettle").await;
    assert_eq!(found(&process, "paper").await, [video_id(2), video_id(1)]);
    assert_eq!(process.terminate().await, Some(0));
    assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o777, 0o600);
    let mut before = 1;
    for round in 3..6 {
        let process = place.start(CANNOT_INDEX).await;
        assert_eq!(found(&process, "kettle").await, [video_id(2)]);
        assert_eq!(found(&process, "boat&state=running").await, [video_id(before)]);
        assert!(!place.file().exists(), "a later start would find it");
        running(&process, round, "a boat").await;
        let failed = json!({"videoId": video_id(before), "status": 3, "statusLabel": "failed", "statusFinal": true});
        process.post_until_accepted(&failed).await;
        assert_eq!(found(&process, "boat&state=running").await, [video_id(round)]);
        assert_eq!(process.terminate().await, Some(0));
        before = round;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_jobs_are_indexed_anew_and_what_was_saved_before_is_not_believed() {
    let place = Place::new();
    let process = place.start("").await;
    running(&process, 1, "a paper boat").await;
    assert_eq!(found(&process, "paper").await, [video_id(1)]);
    assert_eq!(process.terminate().await, Some(0));
    let saved = fs::read(place.file()).unwrap();

    let process = place.start("").await;
    running(&process, 2, "a paper kettle").await;
    process.kill();
    // As if it had not been removed.
    fs::write(place.file(), &saved).unwrap();
    let process = place.start(CANNOT_INDEX).await;
    until("what was saved is removed", async || !place.file().exists()).await;
    assert_eq!(process.touch("/api/v1/jobs?q=paper").await, Some(503));
    assert_eq!(process.terminate().await, Some(0));
    assert!(!place.file().exists(), "an index that is not whole was saved");

    let process = place.start("").await;
    assert_eq!(found(&process, "paper").await, [video_id(2), video_id(1)]);
    assert_eq!(process.terminate().await, Some(0));
    // Half of it, as a power cut leaves it.
    let saved = fs::read(place.file()).unwrap();
    fs::write(place.file(), &saved[..saved.len() / 2]).unwrap();
    let process = place.start("").await;
    assert_eq!(found(&process, "paper").await, [video_id(2), video_id(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_made_anew_takes_the_saved_index_with_it() {
    let place = Place::new();
    let process = place.start("").await;
    running(&process, 1, "a paper boat").await;
    assert_eq!(found(&process, "paper").await, [video_id(1)]);
    assert_eq!(process.terminate().await, Some(0));
    let program = Program::new(place.dir.path());
    let rebuilt = program.command(&["rebuild"]).output().unwrap();
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    assert!(!place.file().exists());
    let process = place.start("").await;
    assert_eq!(found(&process, "paper").await, [video_id(1)]);
}
