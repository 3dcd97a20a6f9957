//! Every step from intake to manifest can fail once, before or after it did its work, and the end is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use replyvault::domain::Digest;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4};
use crate::support::ranged::{Ranged, RangedServer};
use crate::support::vault::{completed, video_id};

/// All named points but those of confirming, telling and passing on, which have tests of their own; another test holds the
/// lists against the source.
const POINTS: &[&str] = &[
    "journal.write",
    "journal.sync",
    "state.apply",
    "state.write",
    "worker.place",
    "worker.place.done",
    "worker.fetch",
    "worker.upload",
    "worker.upload.done",
    "worker.part",
    "worker.part.done",
    "worker.advance",
    "worker.advance.done",
    "worker.resume",
    "worker.resume.done",
    "worker.abort",
    "worker.abort.done",
    "worker.claim",
    "worker.claim.done",
    "worker.put",
    "worker.put.done",
    "worker.stored",
    "worker.stored.done",
    "worker.manifest",
    "worker.manifest.done",
    "worker.end",
    "worker.end.done",
];

/// Right after a sync; they never fail, and are there to look at the disk from (see `power_loss.rs`).
const SYNCED: &[&str] = &["journal.synced", "bucket.synced"];

/// A disk that cannot read: `archive.rs` has a test of its own.
const READING: &[&str] = &["journal.read"];

/// A segment that cannot be removed: `retention.rs` has a test of its own.
const REMOVING: &[&str] = &["journal.remove"];

/// A state that the disk cannot read, for long: `process_life.rs` has a test of its own.
const UNREADABLE: &[&str] = &["state.open", "state.store_attempts"];

/// A store that hangs, and is taken for such after seconds: `process_life.rs` has a test of its own.
const HANGING: &[&str] = &["state.hang_timeout", "state.probe"];

/// Do not fail, but have snapshots made without minutes in between, and small states compacted as large ones are.
const HURRYING: &[&str] = &["snapshot.hurry", "state.compact"];

/// Another replica is waited for half a second instead of a minute.
const IMPATIENT: &[&str] = &["worker.wait_for_another"];

/// Jobs that cannot be indexed anew: `saved_index.rs` has tests of its own.
const INDEXING: &[&str] = &["search.index"];

/// Parts that end: `process_life.rs` has a test of its own.
const ENDING: &[&str] = &["notify.part"];

/// What must be the same whatever failed: every object's bytes, and what the API says of every job.
type Outcome = (BTreeMap<String, String>, Vec<Value>);

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_any_step_of_archiving_changes_no_outcome() {
    let expected = run("").await;
    assert_eq!(expected.0.len(), 9, "three objects, six manifests: {expected:#?}");
    let mut runs = JoinSet::new();
    for point in POINTS {
        runs.spawn(async move { (*point, run(&format!("{point}=1*return")).await) });
    }
    while let Some(finished) = runs.join_next().await {
        let (point, found) = finished.unwrap();
        assert_eq!(found, expected, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_leaves_the_worker_alive_and_the_job_stuck_with_its_message() {
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let mut program = Program::new(dir.path());
    program.failure_points = "worker.fetch=1*panic(struck by lightning)".to_owned();
    let process = program.start().await;
    for number in [1, 2] {
        let url = media.put(&format!("/{number}.mp4"), mp4(number, 100), "video/mp4");
        process.post_until_accepted(&completed(number, &url)).await;
        let state = if number == 1 { "stuck" } else { "archived" };
        let job = process.job_in(&video_id(number), state).await;
        if number == 1 {
            assert_eq!(job["reason"], "internal_error");
            assert!(job["assets"][0]["lastError"].as_str().unwrap().contains("struck by lightning"), "{job:#}");
        }
    }
    assert_eq!(process.terminate().await, Some(0));
}

#[test]
fn the_list_of_points_is_that_of_the_source() {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(path).unwrap();
                found.extend(
                    source.split("fail_point!(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()),
                );
            }
        }
    }
    let points = [
        POINTS,
        SYNCED,
        READING,
        HURRYING,
        IMPATIENT,
        INDEXING,
        ENDING,
        HANGING,
        REMOVING,
        UNREADABLE,
        crate::confirm::crash::POINTS,
        crate::notify::POINTS,
        crate::relay::POINTS,
        crate::retention::POINTS,
    ]
    .concat();
    assert_eq!(found, points.into_iter().map(str::to_owned).collect());
}

/// A small file, the same again, one of several parts, one that breaks off until an attempt has failed, the same again, and
/// a job that failed.
async fn run(failure_points: &str) -> Outcome {
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let mut program = Program::new(dir.path());
    program.failure_points = failure_points.to_owned();
    let process = program.start().await;
    let (small, large) = (mp4(1, 1000), mp4(2, 200_000));
    let mut jobs = Vec::new();
    for (number, bytes) in [(1, &small), (2, &large), (3, &small)] {
        let url = media.put(&format!("/{number}.mp4"), bytes.clone(), "video/mp4");
        process.post_until_accepted(&completed(number, &url)).await;
        jobs.push(essence(process.job_in(&video_id(number), "archived").await));
    }
    let broken = RangedServer::start();
    let long = Ranged::new(mp4(5, 400_000));
    for (number, stops) in [(5, 4), (6, 0)] {
        let url = broken
            .put(&format!("/{number}.mp4"), Ranged { stops_at: Some(300_000), stops, cuts: true, ..long.clone() });
        process.post_until_accepted(&completed(number, &url)).await;
        let mut job = essence(process.job_in(&video_id(number), "archived").await);
        // It breaks off with or without progress, as what was injected has it.
        job["assets"][0].as_object_mut().unwrap().remove("attempts");
        jobs.push(job);
    }
    process.post_until_accepted(&json!({"videoId": video_id(4), "status": 3})).await;
    jobs.push(essence(process.job_in(&video_id(4), "failed").await));
    assert_eq!(process.terminate().await, Some(0));
    (objects(&dir.path().join("bucket")), jobs)
}

/// A job without what differs from run to run.
fn essence(mut job: Value) -> Value {
    for field in ["createdAt", "updatedAt", "archivedAt", "refId", "callbacks"] {
        job.as_object_mut().unwrap().remove(field);
    }
    for asset in job["assets"].as_array_mut().unwrap() {
        for field in ["storedAt", "sourceUrl"] {
            asset.as_object_mut().unwrap().remove(field);
        }
    }
    job
}

/// Every file below `root`, stray ones too, with the hash of its bytes, of a manifest that of what it says of its job.
fn objects(root: &Path) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.ends_with("_replyvault/vault.json") {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if path.ends_with("manifest.json") {
                let manifest: Value = serde_json::from_slice(&bytes).unwrap();
                bytes = essence(manifest["job"].clone()).to_string().into_bytes();
            }
            let key = path.strip_prefix(root).unwrap().display().to_string();
            objects.insert(key, Digest::of(&bytes).to_string());
        }
    }
    objects
}
