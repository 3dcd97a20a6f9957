//! The state can be made anew.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Archive, is_line_about, run};
use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4, png};
use crate::support::s3::{Call, Fault, S3Server};
use crate::support::vault::{PATIENCE, Vault, completed, video_id, with_bucket};

async fn answers(vault: &Vault) -> Vec<Value> {
    let mut answers = Vec::new();
    for path in ["jobs", "media", "refs", "quarantine", "stats"] {
        let (status, mut answer) = vault.get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, 200, "{path}");
        if path == "stats" {
            // Opening a journal begins a segment.
            answer["journalBytes"] = Value::Null;
            // Counted since the start.
            answer["callbacksPerMinute"] = Value::Null;
        }
        // It listens elsewhere after each start.
        let text = answer.to_string().replace(&vault.url(""), "http://vault");
        answers.push(serde_json::from_str(&text).unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_made_anew_gives_the_same_answers() {
    let mut archive = Archive::of(&[1000, 2000]).await;
    archive.vault.start_again().await;
    let again = archive.media.put("/again.mp4", mp4(0, 1000), "video/mp4");
    archive.vault.callback(completed(7, &again)).await;
    archive.vault.archived(&video_id(7)).await;
    archive.vault.callback(json!({"videoId": video_id(8), "status": 1, "percent": 40})).await;
    let (status, _) = archive.vault.post(&archive.vault.channel_url(), "{\"strange\": 1}").await;
    assert_eq!(status, 202);
    let before = answers(&archive.vault).await;
    archive.vault.stop().await;
    let marker = archive.vault.dir.path().join("data/state/marker");
    std::fs::write(&marker, "").unwrap();

    // By another process: what this one lets go of, one that another test starts right now may hold for a moment longer.
    let lock = archive.vault.dir.path().join("data/lock");
    let mut holder = Command::new("flock")
        .arg("--no-fork")
        .arg(&lock)
        .args(["sh", "-c", "echo held && exec sleep 3600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.line(2).ends_with("rebuild needs it stopped") && marker.exists(), "{ended:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.result().starts_with("the state was made anew from "), "{ended:?}");
    assert!(ended.stdout.contains("jobs: running 1, archived 3\n"), "{ended:?}");
    assert!(ended.stdout.contains("refs 3, quarantined 1, callbacks 4\nobjects 2, "), "{ended:?}");
    assert!(!marker.exists());
    archive.vault.start_again().await;
    assert_eq!(answers(&archive.vault).await, before);
    archive.vault.stop().await;
    let mut program = archive.program();
    program.failure_points = "state.compact=return".to_owned();
    std::fs::write(&marker, "").unwrap();
    let ended = run(&program, &["rebuild"]).await;
    assert!(ended.stdout.contains("jobs: running 1, archived 3\n"), "{ended:?}");
    assert!(!ended.stderr.contains("others could read it"), "{ended:?}");
    archive.vault.start_again().await;
    assert_eq!(answers(&archive.vault).await, before);
    archive.vault.stop().await;
    assert!(archive.run(&["verify"]).await.result().contains("damage 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_journal_a_state_is_not_thrown_away() {
    let archive = Archive::of(&[1000]).await;
    let data = archive.vault.dir.path().join("data");
    let segments: Vec<_> = std::fs::read_dir(data.join("journal")).unwrap().map(|file| file.unwrap().path()).collect();
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(segments.iter().map(|path| size(path)).sum::<u64>() > 0);
    std::fs::rename(data.join("journal"), data.join("elsewhere")).unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.line(2).contains("expected a journal to make the state of"), "{ended:?}");
    std::fs::create_dir_all(data.join("journal")).unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.line(2).contains("expected a journal to make the state of"), "{ended:?}");
    assert!(data.join("state").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_says_no_more_than_the_journal_is_not_taken_over() {
    let mut vault = Vault::start().await;
    let media = MediaServer::start();
    let id = "p1-u1-a2-bot:minimax";
    let attachment =
        |name: &str, status: u8, url: &str| json!({"attachmentID": name, "status": status, "file": {"fileUrl": url}});
    let ready = media.put("/ready.png", png(1), "image/png");
    let attachments = [attachment("a", 3, &ready), attachment("b", 2, "")];
    vault.callback(json!({"jobId": id, "status": "completed", "response": {"attachments": attachments}})).await;
    let job = vault.job_in(id, &["stuck"]).await;
    assert_eq!(vault.manifest(&job).await["job"]["state"], "stuck");
    vault.stop().await;
    let journal_bytes = || replyvault::journal::Journal::open(&vault.dir.path().join("data/journal")).unwrap().end();
    for _ in 0..2 {
        let before = journal_bytes().unwrap();
        let ended = run(&Program::new(vault.dir.path()), &["rebuild"]).await;
        assert!(ended.result().contains(" and 0 manifests\njobs: stuck 1\n"), "{ended:?}");
        assert_eq!(journal_bytes().unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_object_is_gone_or_cut_makes_no_index_entry_and_no_archived_job() {
    let mut archive = Archive::of(&[1000, 2000, 3000]).await;
    std::fs::remove_dir_all(archive.vault.dir.path().join("data")).unwrap();
    std::fs::remove_file(archive.path(archive.key(0))).unwrap();
    std::fs::write(archive.path(archive.key(1)), "cut").unwrap();
    for manifests in ["3", "0"] {
        let ended = archive.run(&["rebuild"]).await;
        assert!(
            ended.code == 0
                && ended.stdout.contains(&format!(" and {manifests} manifests\njobs: archived 1, stuck 2\n")),
            "{ended:?}"
        );
    }
    archive.vault.start_again().await;
    let (_, media) = archive.vault.get("/api/v1/media").await;
    let keys: Vec<_> = media["items"].as_array().unwrap().iter().map(|media| media["key"].as_str().unwrap()).collect();
    assert_eq!(keys, [archive.key(2)]);
    let lost = archive.vault.job(&video_id(0)).await;
    assert!(lost["assets"][0]["lastError"].as_str().unwrap().contains("is not there"), "{lost:#}");
    assert_eq!(archive.vault.job(&video_id(2)).await["state"], "archived");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_damaged_manifest_only_files_whose_bytes_it_names_are_believed() {
    let mut archive = Archive::of(&[1000, 2000, 3000]).await;
    std::fs::remove_dir_all(archive.vault.dir.path().join("data")).unwrap();
    archive.change_a_digit(0);
    archive.change_manifest(1, "\"callbacks\": 1", "\"callbacks\": 7");
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.code == 0 && ended.stdout.contains(" and 3 manifests\njobs: archived 2, stuck 1\n"), "{ended:?}");
    archive.vault.start_again().await;
    let (_, media) = archive.vault.get("/api/v1/media").await;
    let mut keys: Vec<_> = media["items"].as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, [archive.key(1), archive.key(2)]);
}

async fn until(what: &str, is_reached: impl Fn() -> bool) {
    let reached = async {
        while !is_reached() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_could_not_be_read_are_read_later_also_after_a_restart() {
    for restarts in [false, true] {
        let (s3, media) = (S3Server::start().await, MediaServer::start());
        let mut vault = Vault::start_with(with_bucket(s3.config("vault"))).await;
        vault.callback(json!({"videoId": video_id(1), "status": 1})).await;
        vault.stop().await;
        let data = vault.settings.data_dir.clone();
        let (journal, copy) = (data.join("journal"), vault.dir.path().join("copy"));
        std::fs::create_dir(&copy).unwrap();
        for item in std::fs::read_dir(&journal).unwrap() {
            let item = item.unwrap();
            std::fs::copy(item.path(), copy.join(item.file_name())).unwrap();
        }
        vault.start_again().await;
        let url = media.put("/2.mp4", mp4(2, 1000), "video/mp4");
        vault.callback(completed(2, &url)).await;
        vault.archived(&video_id(2)).await;
        vault.stop().await;
        for folder in [&journal, &data.join("state")] {
            std::fs::remove_dir_all(folder).unwrap();
        }
        std::fs::rename(&copy, &journal).unwrap();
        let (refused, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        s3.inject({
            let (refused, is_over) = (refused.clone(), is_over.clone());
            move |call: &Call| {
                let is_manifest = call.method.as_str() == "GET" && call.path.ends_with("/manifest.json");
                if !is_manifest || is_over.load(Ordering::Relaxed) {
                    return None;
                }
                refused.fetch_add(1, Ordering::Relaxed);
                Some(Fault::Refuse(403, "InvalidAccessKeyId", None))
            }
        });
        vault.start_again().await;
        if restarts {
            until("it is refused", || refused.load(Ordering::Relaxed) > 0).await;
            vault.stop().await;
            is_over.store(true, Ordering::Relaxed);
            vault.start_again().await;
        } else {
            // More often than one read of a manifest is tried.
            until("it is tried again", || refused.load(Ordering::Relaxed) > 3).await;
            is_over.store(true, Ordering::Relaxed);
        }
        vault.archived(&video_id(2)).await;
        until("it is done", || !data.join("state.restore").exists()).await;
        assert_eq!(media.hits("/2.mp4"), 1, "{restarts}");
        vault.stop().await;
    }
}

/// What a job is archived as, when its data directory is lost and the object of one file not there yet.
struct HalfRestored {
    archive: Archive,
    manifest: PathBuf,
    object: PathBuf,
    aside: PathBuf,
    written: Vec<u8>,
}

const AGENT_JOB: &str = "p1-u1-a2-bot:minimax";

impl HalfRestored {
    async fn new() -> Self {
        let media = MediaServer::start();
        let attachments = ["a", "b"].map(|name| {
            let url = media.put(&format!("/{name}.png"), png(u64::from(name.as_bytes()[0])), "image/png");
            json!({"attachmentID": name, "status": 3, "file": {"fileUrl": url}})
        });
        let body = json!({"jobId": AGENT_JOB, "status": "completed", "response": {"attachments": attachments}});
        Self::of(media, AGENT_JOB, body, "/b.png").await
    }

    /// Of the job `id`, whose file from the path `lost` is not back.
    async fn of(media: MediaServer, id: &str, callback: Value, lost: &str) -> Self {
        let mut vault = Vault::start().await;
        vault.callback(callback).await;
        let job = vault.archived(id).await;
        vault.stop().await;
        let archive = Archive { vault, media, jobs: vec![job] };
        let assets = archive.jobs[0]["assets"].as_array().unwrap();
        let missing = assets.iter().find(|asset| asset["sourceUrl"].as_str().unwrap().ends_with(lost)).unwrap();
        let object = archive.path(missing["key"].as_str().unwrap());
        let manifest = archive.path(archive.manifest_key(0));
        let (aside, written) = (archive.vault.dir.path().join("aside"), std::fs::read(&manifest).unwrap());
        std::fs::rename(&object, &aside).unwrap();
        std::fs::remove_dir_all(archive.vault.dir.path().join("data")).unwrap();
        let ended = archive.run(&["rebuild"]).await;
        assert!(ended.stdout.contains("jobs: stuck 1\n"), "{ended:?}");
        Self { archive, manifest, object, aside, written }
    }

    /// The manifest still tells all, once the object is back.
    async fn comes_back(&self) {
        assert!(std::fs::read(&self.manifest).unwrap() == self.written);
        std::fs::rename(&self.aside, &self.object).unwrap();
        let ended = self.archive.run(&["rebuild"]).await;
        assert!(ended.stdout.contains("jobs: archived 1\n"), "{ended:?}");
        let ended = self.archive.run(&["verify"]).await;
        assert!(ended.result().contains("damage 0"), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_keeps_a_manifest_that_says_more_than_the_state() {
    let half = HalfRestored::new().await;
    let ended = half.archive.run(&["verify", "--repair"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let start = format!("damaged_manifest {} ", half.archive.manifest_key(0));
    for text in ["; cannot be repaired: it says more than the state and is kept", "`replyvault rebuild`"] {
        assert!(is_line_about(&ended, &start, text), "{ended:?}");
    }
    let damaged = half.archive.change_manifest(0, "\"writtenAt\": \"20", "\"writtenAt\": \"21");
    let ended = half.archive.run(&["verify", "--repair"]).await;
    assert!(is_line_about(&ended, &start, "; cannot be repaired: it is damaged, says more"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&half.manifest).unwrap(), damaged);
    std::fs::write(&half.manifest, &half.written).unwrap();
    half.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_fails_keeps_a_manifest_that_names_more_files_than_the_state() {
    let mut half = HalfRestored::new().await;
    half.archive.media.put_after("/b.png", &[404; 10], png(1), "image/png");
    let hits = half.archive.media.hits("/b.png");
    let vault = &mut half.archive.vault;
    vault.start_again().await;
    let (status, answer) = vault.send("POST", &format!("/api/v1/jobs/{AGENT_JOB}/retry"), &Value::Null).await;
    assert!(status.is_success(), "{answer}");
    vault.job_in(AGENT_JOB, &["stuck"]).await;
    assert!(half.archive.media.hits("/b.png") > hits);
    half.archive.vault.stop().await;
    half.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ends_failed_keeps_a_manifest_that_names_a_file_which_the_state_lacks() {
    let media = MediaServer::start();
    let url = media.put("/1.mp4", mp4(1, 1000), "video/mp4");
    let mut half = HalfRestored::of(media, &video_id(1), completed(1, &url), "/1.mp4").await;
    let vault = &mut half.archive.vault;
    vault.start_again().await;
    vault.callback(json!({"videoId": video_id(1), "status": 5, "statusLabel": "moderated", "statusFinal": true})).await;
    vault.job_in(&video_id(1), &["failed"]).await;
    vault.stop().await;
    half.comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_repair_writes_again_keeps_the_callback_that_it_had() {
    let archive = Archive::of(&[1000]).await;
    std::fs::remove_dir_all(archive.vault.dir.path().join("data")).unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.stdout.contains("jobs: archived 1\n"), "{ended:?}");
    let path = archive.path(archive.manifest_key(0));
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let callback = manifest["callback"].clone();
    assert!(callback.is_object());
    manifest["job"]["state"] = "stuck".into();
    // As an earlier version wrote it.
    manifest.as_object_mut().unwrap().remove("digest").unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
    let ended = archive.run(&["verify", "--repair"]).await;
    assert!(is_line_about(&ended, "damaged_manifest ", "; repaired"), "{ended:?}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!((&manifest["job"]["state"], &manifest["callback"]), (&Value::from("archived"), &callback));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_with_the_only_copy_of_a_callback_is_kept() {
    let archive = Archive::of(&[1000]).await;
    std::fs::remove_dir_all(archive.vault.dir.path().join("data")).unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.stdout.contains("jobs: archived 1\n"), "{ended:?}");
    let path = archive.path(archive.manifest_key(0));
    let damaged = archive.change_manifest(0, "\"replyRef\": \"ref-0\"", "\"replyRef\": \"raf-0\"");
    let ended = archive.run(&["verify", "--repair"]).await;
    assert!(is_line_about(&ended, "damaged_manifest ", "; cannot be repaired: it is damaged, and so"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    std::fs::remove_file(&path).unwrap();
    let ended = archive.run(&["verify", "--repair"]).await;
    assert!(is_line_about(&ended, "missing_manifest ", "; repaired"), "{ended:?}");
    assert!(archive.run(&["verify"]).await.result().contains("damage 0"));
}
