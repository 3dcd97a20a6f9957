//! A key of the bucket belongs to one digest, also when the store has done what it did not say and the source has changed.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::support::child::Program;

/// The digest of every object in the index is that of its bytes.
async fn assert_index_is_true(vault: &Vault) {
    let (_, list) = vault.get("/api/v1/media").await;
    for media in list["items"].as_array().unwrap() {
        let sha256 = media["sha256"].as_str().unwrap();
        let content = vault.client.get(vault.url(&format!("/api/v1/media/{sha256}/content")));
        let bytes = content.bearer_auth(TOKEN).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(Digest::of(&bytes).to_string(), sha256, "{media:#}");
    }
}

async fn until(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it never happens");
}

/// What becomes of writes to the first job's file.
const DONE_AND_DENIED: usize = 0;
const HELD: usize = 1;
const TAKEN: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_was_done_keeps_its_key_when_the_source_changes_and_another_job_brings_the_same() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = vault(&s3, IMPATIENT).await;
    let (mode, seen) = (Arc::new(AtomicUsize::new(DONE_AND_DENIED)), Arc::new([const { AtomicUsize::new(0) }; 3]));
    let (now, count) = (mode.clone(), seen.clone());
    s3.inject(move |call| {
        if !(is_single_put(call) && call.path.contains("video-1/")) {
            return None;
        }
        let mode = now.load(Ordering::Relaxed);
        count[mode].fetch_add(1, Ordering::Relaxed);
        [Some(Fault::DoneThen(500)), Some(Fault::Stall), None][mode]
    });
    let (first, second) = (mp4(1, SMALL), mp4(2, SMALL));
    let url = media.put("/1.mp4", first.clone(), "video/mp4");
    vault.callback(completed(1, &url)).await;
    until(async || seen[DONE_AND_DENIED].load(Ordering::Relaxed) > 0).await;
    media.put("/1.mp4", second, "video/mp4");
    mode.store(HELD, Ordering::Relaxed);
    until(async || {
        seen[HELD].load(Ordering::Relaxed) > 0 && media.hits("/1.mp4") > 1
            || vault.job(&video_id(1)).await["state"] == "archived"
    })
    .await;
    let url = media.put("/2.mp4", first.clone(), "video/mp4");
    vault.callback(completed(2, &url)).await;
    let other = vault.archived(&video_id(2)).await;
    mode.store(TAKEN, Ordering::Relaxed);
    vault.archived(&video_id(1)).await;
    vault.assert_stored(&other, &first).await;
    assert_index_is_true(&vault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_was_given_up_and_arrives_late_finds_no_other_object_under_its_key() {
    for size in [SMALL, LARGE] {
        let (media, s3) = (MediaServer::start(), S3Server::start().await);
        let vault = vault(&s3, IMPATIENT).await;
        let (refuses, struck) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (switch, count) = (refuses.clone(), struck.clone());
        s3.inject(move |call| {
            let strikes = (is_single_put(call) || is_completion(call)) && switch.load(Ordering::Relaxed);
            count.fetch_add(usize::from(strikes), Ordering::Relaxed);
            strikes.then_some(Fault::Refuse(500, "InternalError", None))
        });
        let (first, second) = (mp4(1, size), mp4(2, size));
        let url = media.put("/1.mp4", first.clone(), "video/mp4");
        vault.callback(completed(1, &url)).await;
        until(async || struck.load(Ordering::Relaxed) > 0).await;
        media.put("/1.mp4", second.clone(), "video/mp4");
        until(async || vault.get("/readyz").await.1["checks"]["storage"] != "ok" || media.hits("/1.mp4") > 1).await;
        refuses.store(false, Ordering::Relaxed);
        let job = vault.archived(&video_id(1)).await;
        vault.assert_stored(&job, &second).await;
        let file = job["assets"][0]["file"].as_str().unwrap();
        let folder = job["manifestKey"].as_str().unwrap().trim_end_matches("manifest.json");
        assert_eq!(job["assets"][0]["key"], format!("{folder}{file}"));
        // What was given up arrives after all.
        let late = s3.root.path().join(&s3.bucket).join(format!("{folder}video.mp4"));
        std::fs::write(late, &first).unwrap();
        vault.assert_stored(&job, &second).await;
        assert_index_is_true(&vault).await;
        assert_eq!(s3.unfinished_uploads(), Vec::<std::path::PathBuf>::new());
    }
}

/// A process that is killed while S3 takes in the object of its first job, which may then appear at any time, and what it is
/// started with again.
struct Killed {
    program: Program,
    media: MediaServer,
    s3: S3Server,
    /// The key that S3 was asked to store under.
    key: String,
    _dir: TempDir,
}

impl Killed {
    async fn with_job_of(bytes: &[u8]) -> Self {
        let (dir, media, s3) = (tempfile::tempdir().unwrap(), MediaServer::start(), S3Server::start().await);
        let mut program = Program::new(dir.path());
        program.store_in(&s3);
        let held = Arc::new(Mutex::new(None::<String>));
        let first = held.clone();
        s3.inject(move |call| {
            let mut held = first.lock().unwrap();
            let is_first = (is_single_put(call) || is_completion(call)) && held.is_none();
            is_first.then(|| {
                *held = Some(call.path.clone());
                Fault::Stall
            })
        });
        let process = program.start().await;
        let url = media.put("/1.mp4", bytes.to_vec(), "video/mp4");
        process.post_until_accepted(&completed(1, &url)).await;
        until(async || held.lock().unwrap().is_some()).await;
        process.kill();
        let path = held.lock().unwrap().clone().unwrap();
        let key = path.strip_prefix(&format!("/{}/", s3.bucket)).unwrap().to_owned();
        Self { program, media, s3, key, _dir: dir }
    }

    /// Starts it again, and has a second job bring `bytes`. Returns both jobs when they are archived.
    async fn with_second_job_of(&self, bytes: &[u8]) -> [Value; 2] {
        let process = self.program.start().await;
        let url = self.media.put("/2.mp4", bytes.to_vec(), "video/mp4");
        process.post_until_accepted(&completed(2, &url)).await;
        let second = process.job_in(&video_id(2), "archived").await;
        let first = process.job_in(&video_id(1), "archived").await;
        assert_eq!(process.terminate().await, Some(0));
        [first, second]
    }

    fn file(&self) -> PathBuf {
        self.s3.root.path().join(&self.s3.bucket).join(&self.key)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_a_killed_process_was_storing_are_stored_under_their_key_by_whoever_brings_them() {
    // A small file needs no source any more when another job brings its bytes. A large one is stored by its own job.
    let never = [503; 100];
    for (size, first_answers) in [(SMALL, &never[..]), (LARGE, &never[..1])] {
        let bytes = mp4(1, size);
        let killed = Killed::with_job_of(&bytes).await;
        killed.media.put_after("/1.mp4", first_answers, bytes.clone(), "video/mp4");
        let [first, second] = killed.with_second_job_of(&bytes).await;
        for (job, deduplicated) in [(&first, false), (&second, true)] {
            let asset = &job["assets"][0];
            assert_eq!((asset["key"].as_str(), &asset["deduplicated"]), (Some(&*killed.key), &json!(deduplicated)));
        }
        assert_eq!(std::fs::read(killed.file()).unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_are_when_their_own_job_has_brought_other_bytes() {
    let (bytes, other) = (mp4(1, SMALL), mp4(2, SMALL));
    let killed = Killed::with_job_of(&bytes).await;
    killed.media.put("/1.mp4", other, "video/mp4");
    let process = killed.program.start().await;
    let first = process.job_in(&video_id(1), "archived").await;
    let url = killed.media.put("/2.mp4", bytes.clone(), "video/mp4");
    process.post_until_accepted(&completed(2, &url)).await;
    let second = process.job_in(&video_id(2), "archived").await;
    assert_ne!(first["assets"][0]["key"], killed.key);
    assert_eq!(second["assets"][0]["key"], killed.key);
    assert_eq!(std::fs::read(killed.file()).unwrap(), bytes);
    assert_eq!(process.terminate().await, Some(0));
}
