//! What is damaged in the bucket is found, named and mended; and the state can be made anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use replyvault::config::DataDir;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cli::Ended;
use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4};
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id, with_bucket};

/// More than three parts of the program's.
const LARGE: usize = 200 << 10;

/// Jobs that are archived, their service stopped.
struct Archive {
    vault: Vault,
    media: MediaServer,
    jobs: Vec<Value>,
}

impl Archive {
    async fn of(sizes: &[usize]) -> Self {
        Self::with(Vault::start().await, sizes).await
    }

    async fn with(mut vault: Vault, sizes: &[usize]) -> Self {
        let media = MediaServer::start();
        let mut jobs = Vec::new();
        for (number, size) in (0..).zip(sizes) {
            let url = media.put(&format!("/{number}.mp4"), mp4(number, *size), "video/mp4");
            vault.callback(completed(number, &url)).await;
        }
        for number in 0..sizes.len() {
            jobs.push(vault.archived(&video_id(number as u64)).await);
        }
        vault.stop().await;
        Self { vault, media, jobs }
    }

    fn key(&self, job: usize) -> &str {
        self.jobs[job]["assets"][0]["key"].as_str().unwrap()
    }

    fn manifest_key(&self, job: usize) -> &str {
        self.jobs[job]["manifestKey"].as_str().unwrap()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.vault.dir.path().join("bucket").join(key)
    }

    fn program(&self) -> Program {
        Program::new(self.vault.dir.path())
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        run(&self.program(), arguments).await
    }

    fn flip_a_byte(&self, job: usize) {
        let path = self.path(self.key(job));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    /// The lines that `verify` should print: kind, key and job.
    fn expected(&self, faults: &[(&str, &str, Option<usize>)]) -> BTreeSet<String> {
        let line = |(kind, key, job): &(&str, &str, Option<usize>)| {
            let job = job.map_or("-".to_owned(), |job| video_id(job as u64));
            format!("{kind} {key} {job}")
        };
        faults.iter().map(line).collect()
    }
}

fn command(program: &Program, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replyvault"));
    command.args(arguments).current_dir(&program.dir).env_clear().envs(program.settings.iter().cloned());
    command
}

async fn run(program: &Program, arguments: &[&str]) -> Ended {
    let mut command = command(program, arguments);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await.unwrap().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What was found, without what follows the first colon after the key and the job.
fn findings(ended: &Ended) -> BTreeSet<String> {
    let lines = ended.stdout.lines().filter(|line| line.contains(": ") && line.contains('/'));
    lines.map(|line| line.split(": ").next().unwrap().to_owned()).collect()
}

fn is_line_about(ended: &Ended, start: &str, text: &str) -> bool {
    ended.stdout.lines().any(|line| line.starts_with(start) && line.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_as_it_was_stored_is_clean() {
    let archive = Archive::of(&[1000, 2000, LARGE]).await;
    let ended = archive.run(&["verify"]).await;
    assert!(ended.result().starts_with("3 index entries (3 objects read back, "), "{ended:?}");
    assert!(ended.stdout.contains(", 3 jobs, 3 manifests, 6 objects listed\n"), "{ended:?}");
    assert!(ended.stdout.ends_with("damage 0, repaired 0, could not be read 0\n"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_found_and_named() {
    let archive = Archive::of(&[1000; 8]).await;
    let at = |key: &str| archive.path(key);
    std::fs::remove_file(at(archive.key(0))).unwrap();
    std::fs::write(at(archive.key(1)), [0; 999]).unwrap();
    archive.flip_a_byte(2);
    std::fs::write(at(archive.manifest_key(3)), "{\"schema\": ").unwrap();
    std::fs::remove_file(at(archive.manifest_key(4))).unwrap();
    let other = std::fs::read(at(archive.manifest_key(6))).unwrap();
    std::fs::write(at(archive.manifest_key(5)), other).unwrap();
    let text = std::fs::read_to_string(at(archive.manifest_key(7))).unwrap();
    let sha256 = archive.jobs[7]["assets"][0]["sha256"].as_str().unwrap();
    std::fs::write(at(archive.manifest_key(7)), text.replace(sha256, &"0".repeat(64))).unwrap();
    let beside = archive.key(6).replace("video.mp4", "stranger.mp4");
    std::fs::write(at(&beside), "nobody's").unwrap();
    std::fs::create_dir_all(at("video/elsewhere")).unwrap();
    std::fs::write(at("video/elsewhere/video.mp4"), "nobody's").unwrap();
    std::fs::write(at("video/elsewhere/manifest.json"), "{}").unwrap();

    let expected = archive.expected(&[
        ("missing_object", archive.key(0), Some(0)),
        ("wrong_size", archive.key(1), Some(1)),
        ("wrong_digest", archive.key(2), Some(2)),
        ("damaged_manifest", archive.manifest_key(3), Some(3)),
        ("missing_manifest", archive.manifest_key(4), Some(4)),
        ("damaged_manifest", archive.manifest_key(5), Some(5)),
        ("damaged_manifest", archive.manifest_key(7), Some(7)),
        ("orphan_object", &beside, Some(6)),
        ("orphan_object", "video/elsewhere/video.mp4", None),
        ("orphan_manifest", "video/elsewhere/manifest.json", None),
    ]);
    let ended = archive.run(&["verify"]).await;
    assert_eq!((ended.code, findings(&ended)), (1, expected), "{ended:?}");
    assert_eq!(ended.stderr, "replyvault: damage was found\n");
    assert!(ended.stdout.ends_with("damage 10, repaired 0, could not be read 0\n"), "{ended:?}");
    // Nothing was touched, orphans least of all.
    let again = archive.run(&["verify"]).await;
    assert_eq!(findings(&again), findings(&ended));
    assert!(at(&beside).exists() && !at(archive.key(0)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_mended_is_and_the_rest_is_said_and_kept() {
    let archive = Archive::of(&[1000, LARGE, LARGE, 1000, 1000, 1000, 1000]).await;
    let at = |key: &str| archive.path(key);
    let manifest_before: Value = serde_json::from_slice(&std::fs::read(at(archive.manifest_key(3))).unwrap()).unwrap();
    std::fs::remove_file(at(archive.key(0))).unwrap();
    std::fs::write(at(archive.key(1)), [0; 999]).unwrap();
    archive.flip_a_byte(2);
    std::fs::write(at(archive.manifest_key(3)), "").unwrap();
    std::fs::remove_file(at(archive.manifest_key(4))).unwrap();
    // One whose source has other bytes of the same number now, and whose manifest must not be written without it.
    std::fs::remove_file(at(archive.key(5))).unwrap();
    std::fs::remove_file(at(archive.manifest_key(5))).unwrap();
    archive.media.put("/5.mp4", mp4(99, 1000), "video/mp4");
    // One whose source is gone, and which is worth keeping as it is.
    archive.flip_a_byte(6);
    archive.media.put_after("/6.mp4", &[404], mp4(6, 1000), "video/mp4");
    let flipped = std::fs::read(at(archive.key(6))).unwrap();

    let ended = archive.run(&["verify", "--repair"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    for (kind, key) in [
        ("missing_object", archive.key(0)),
        ("wrong_size", archive.key(1)),
        ("wrong_digest", archive.key(2)),
        ("damaged_manifest", archive.manifest_key(3)),
        ("missing_manifest", archive.manifest_key(4)),
    ] {
        assert!(is_line_about(&ended, &format!("{kind} {key} "), "; repaired"), "{kind}: {ended:?}");
    }
    for (kind, key, why) in [
        ("missing_object", archive.key(5), "the source has other bytes now"),
        ("missing_manifest", archive.manifest_key(5), "which it names, is not there as it was stored"),
        ("wrong_digest", archive.key(6), "/6.mp4: "),
    ] {
        assert!(is_line_about(&ended, &format!("{kind} {key} "), "; cannot be repaired: "), "{kind}: {ended:?}");
        assert!(is_line_about(&ended, &format!("{kind} {key} "), why), "{kind}: {ended:?}");
    }
    assert!(ended.stdout.ends_with("damage 8, repaired 5, could not be read 0\n"), "{ended:?}");
    for (number, size) in [(0, 1000), (1, LARGE), (2, LARGE)] {
        assert!(std::fs::read(at(archive.key(number as usize))).unwrap() == mp4(number, size), "{number}");
    }
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(at(archive.manifest_key(3))).unwrap()).unwrap();
    manifest["writtenAt"] = manifest_before["writtenAt"].clone();
    assert_eq!(manifest, manifest_before);
    assert!(std::fs::read(at(archive.key(6))).unwrap() == flipped && !at(archive.key(5)).exists());

    let again = archive.run(&["verify"]).await;
    let left = archive.expected(&[
        ("missing_object", archive.key(5), Some(5)),
        ("missing_manifest", archive.manifest_key(5), Some(5)),
        ("wrong_digest", archive.key(6), Some(6)),
    ]);
    assert_eq!((again.code, findings(&again)), (1, left), "{again:?}");

    archive.media.put("/5.mp4", mp4(5, 1000), "video/mp4");
    let mended = archive.run(&["verify", "--repair"]).await;
    assert!(mended.stdout.ends_with("damage 3, repaired 3, could not be read 0\n"), "{mended:?}");
    assert!(archive.run(&["verify"]).await.result().contains("damage 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_hashed_and_all_are_looked_for() {
    let archive = Archive::of(&[100; 40]).await;
    archive.flip_a_byte(7);
    let hashed = |ended: &Ended| -> usize {
        let (_, rest) = ended.stdout.split_once("40 index entries (").unwrap_or_else(|| panic!("{ended:?}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let none = archive.run(&["verify", "--sample", "0%"]).await;
    assert_eq!((none.code, hashed(&none)), (0, 0), "{none:?}");
    let some = archive.run(&["verify", "--sample", "5%"]).await;
    assert!(hashed(&some) <= 12, "{some:?}");
    let all = archive.run(&["verify", "--sample", "100%"]).await;
    assert_eq!((all.code, hashed(&all)), (1, 40), "{all:?}");
    assert_eq!(findings(&all), archive.expected(&[("wrong_digest", archive.key(7), Some(7))]));
    // The size is looked at whatever the sample.
    std::fs::write(archive.path(archive.key(7)), "short").unwrap();
    let none = archive.run(&["verify", "--sample", "0%"]).await;
    assert_eq!(findings(&none), archive.expected(&[("wrong_size", archive.key(7), Some(7))]));
    for wrong in ["5", "101%", "-1%"] {
        let ended = archive.run(&["verify", &format!("--sample={wrong}")]).await;
        assert!(ended.line(2).contains("expected a share from 0% to 100%"), "{ended:?}");
    }
}

async fn s3_archive(s3: &S3Server, sizes: &[usize]) -> (Archive, Program) {
    let archive = Archive::with(Vault::start_with(with_bucket(s3.config(""))).await, sizes).await;
    let mut program = archive.program();
    let storage = [
        ("URL", format!("s3://{}", s3.bucket)),
        ("ENDPOINT", s3.endpoint.clone()),
        ("ACCESS_KEY_ID", s3.access_key.clone()),
        ("SECRET_ACCESS_KEY", s3.secret_key.clone()),
        ("ALLOW_HTTP", "true".to_owned()),
    ];
    program.settings.retain(|(key, _)| !key.contains("STORAGE__"));
    program.settings.extend(storage.map(|(key, value)| (format!("REPLYVAULT_STORAGE__{key}"), value)));
    (archive, program)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_not_an_empty_one() {
    let s3 = S3Server::start().await;
    let (_archive, program) = s3_archive(&s3, &[1000; 3]).await;
    let ended = run(&program, &["verify"]).await;
    assert!(ended.result().contains("damage 0"), "{ended:?}");
    s3.break_with(503);
    let ended = run(&program, &["verify", "--repair"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(!ended.stdout.contains("missing") && ended.stdout.contains("damage 0, repaired 0"), "{ended:?}");
    assert!(ended.stdout.contains("\n6 unreadable\n"), "{ended:?}");
    assert!(ended.stdout.ends_with("could not be read 6; stopped before the end\n"), "{ended:?}");
    assert!(ended.stderr.starts_with("replyvault: the bucket could not be read: "), "{ended:?}");
    s3.break_with(0);
    assert!(run(&program, &["verify"]).await.result().contains("damage 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_says_what_it_has_found() {
    let s3 = S3Server::start().await;
    let (_archive, program) = s3_archive(&s3, &[1000; 3]).await;
    s3.break_with(503);
    let mut child = command(&program, &["verify"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let pid = rustix::process::Pid::from_child(&child);
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut text).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        std::io::Read::read_to_string(&mut stdout, &mut text).unwrap();
        (text, child.wait().unwrap())
    });
    let (text, status) = tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.starts_with("unreadable ") && text.ends_with("; stopped before the end\n"), "{text}");
}

async fn answers(vault: &Vault) -> Vec<Value> {
    let mut answers = Vec::new();
    for path in ["jobs", "media", "refs", "quarantine", "stats"] {
        let (status, mut answer) = vault.get(&format!("/api/v1/{path}")).await;
        assert_eq!(status, 200, "{path}");
        if path == "stats" {
            // Opening a journal begins a segment.
            answer["journalBytes"] = Value::Null;
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

    let held = DataDir::lock(&archive.vault.dir.path().join("data")).unwrap();
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.line(2).ends_with("rebuild needs it stopped") && marker.exists(), "{ended:?}");
    drop(held);
    let ended = archive.run(&["rebuild"]).await;
    assert!(ended.result().starts_with("the state was made anew from "), "{ended:?}");
    assert!(ended.stdout.contains("jobs: running 1, archived 3\n"), "{ended:?}");
    assert!(ended.stdout.contains("refs 3, quarantined 1, callbacks 4\nobjects 2, "), "{ended:?}");
    assert!(!marker.exists());
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
async fn the_running_service_does_it_when_it_holds_the_data() {
    let archive = Archive::of(&[1000, 2000]).await;
    let mut program = archive.program();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    program.settings.push(("REPLYVAULT_SERVER__LISTEN".to_owned(), address.to_string()));
    let process = program.start().await;
    std::fs::remove_file(archive.path(archive.key(0))).unwrap();
    let expected = archive.expected(&[("missing_object", archive.key(0), Some(0))]);
    let ended = run(&program, &["verify", "--sample", "0%"]).await;
    assert_eq!((ended.code, findings(&ended)), (1, expected), "{ended:?}");
    assert!(ended.stdout.contains("2 index entries (0 objects read back, "), "{ended:?}");
    let ended = run(&program, &["verify", "--repair"]).await;
    assert!(ended.stdout.ends_with("damage 1, repaired 1, could not be read 0\n"), "{ended:?}");
    let ended = run(&program, &["verify"]).await;
    assert!(ended.result().contains("damage 0"), "{ended:?}");
    let tasks = process.get("/api/v1/tasks").await.unwrap();
    let tasks = tasks["items"].as_array().unwrap();
    let damage: Vec<_> = tasks.iter().map(|task| task["report"]["damage"].as_u64().unwrap()).collect();
    assert_eq!(damage, [0, 1, 1], "newest first: {tasks:?}");
    assert!(tasks.iter().all(|task| task["state"] == "done" && task["kind"] == "verify"), "{tasks:?}");
    // With nobody holding the data, however that ended, the command does it itself.
    process.kill();
    let ended = run(&program, &["verify"]).await;
    assert!(ended.result().contains("2 index entries (2 objects read back, "), "{ended:?}");
}

async fn start_task(vault: &Vault, kind: &str, body: &Value) -> (StatusCode, Value) {
    let request = vault.client.post(vault.url(&format!("/api/v1/tasks/{kind}"))).bearer_auth(TOKEN);
    let response = request.body(body.to_string()).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn ended_task(vault: &Vault, id: &str) -> Value {
    let ended = async {
        loop {
            let (_, task) = vault.get(&format!("/api/v1/tasks/{id}")).await;
            if task["state"] != "running" {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_how_far_it_is_and_how_it_ended() {
    let s3 = S3Server::start().await;
    let (mut archive, _) = s3_archive(&s3, &[1000; 2]).await;
    archive.vault.start_again().await;
    let vault = &archive.vault;
    s3.break_with(503);
    let (status, task) = start_task(vault, "verify", &json!({})).await;
    assert_eq!((status.as_u16(), &task["state"], &task["endedAt"]), (202, &"running".into(), &Value::Null));
    let id = task["taskId"].as_str().unwrap();
    let (status, refused) = start_task(vault, "verify", &json!({})).await;
    assert_eq!((status.as_u16(), &refused["error"]["code"]), (409, &"already_running".into()));
    assert!(refused["error"]["message"].as_str().unwrap().contains(id));
    let failed = ended_task(vault, id).await;
    assert!(failed["error"].as_str().unwrap().starts_with("the bucket could not be read: "), "{failed:#}");
    let (state, report) = (&failed["state"], &failed["report"]);
    assert_eq!((state, &report["damage"], &report["complete"]), (&"failed".into(), &0.into(), &false.into()));

    s3.break_with(0);
    let (_, task) = start_task(vault, "verify", &json!({"sample": "100%", "repair": true})).await;
    let done = ended_task(vault, task["taskId"].as_str().unwrap()).await;
    assert_eq!((&done["state"], &done["error"]), (&"done".into(), &Value::Null), "{done:#}");
    assert_eq!(done["progress"]["done"], done["progress"]["total"]);
    assert!(done["endedAt"].is_string() && done["report"]["objectsHashed"] == 2, "{done:#}");

    for (kind, body, expected) in [
        ("verify", json!({"sample": "5"}), (422, "invalid_request")),
        ("verify", json!({"bogus": 1}), (422, "invalid_request")),
        ("reconcile", json!({}), (409, "no_provider_token")),
        ("reconcile", json!({"bogus": 1}), (422, "invalid_request")),
        ("backfill", json!({"kind": "videos"}), (409, "no_provider_token")),
        ("backfill", json!({"kind": "songs"}), (422, "invalid_request")),
        ("backfill", json!({"kind": "images", "limit": 0}), (422, "invalid_request")),
        ("backfill", json!({}), (422, "invalid_request")),
    ] {
        let (status, answer) = start_task(vault, kind, &body).await;
        assert_eq!((status.as_u16(), answer["error"]["code"].as_str().unwrap()), expected, "{kind} {body}");
    }
    assert_eq!(vault.get("/api/v1/tasks/task_0").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_remembered_up_to_a_number() {
    let vault = Vault::start().await;
    let mut ids = Vec::new();
    for _ in 0..52 {
        let (_, task) = start_task(&vault, "verify", &json!({})).await;
        let id = task["taskId"].as_str().unwrap().to_owned();
        ended_task(&vault, &id).await;
        ids.push(id);
    }
    ids.reverse();
    let (_, list) = vault.get("/api/v1/tasks").await;
    let listed: Vec<_> = list["items"].as_array().unwrap().iter().map(|task| task["taskId"].clone()).collect();
    assert_eq!(listed, ids[..50]);
}

/// A verification while jobs fail, are taken up again and are archived: nothing under way is damage.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_archived_is_no_damage() {
    const JOBS: u64 = 200;
    let vault = Vault::start().await;
    let media = MediaServer::start();
    for number in 0..JOBS {
        let body = json!({"videoId": video_id(number), "status": 3, "statusLabel": "failed", "statusFinal": true});
        vault.callback(body).await;
    }
    let all_in = async |state: &str| {
        let reached = async {
            while vault.get("/api/v1/stats").await.1["jobs"][state] != JOBS {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    };
    all_in("failed").await;
    let calling = async {
        for number in 0..JOBS {
            let url = media.put(&format!("/{number}.mp4"), mp4(number, 1000), "video/mp4");
            vault.callback(completed(number, &url)).await;
        }
        all_in("archived").await;
    };
    let verifying = async {
        loop {
            let (_, task) = start_task(&vault, "verify", &json!({})).await;
            let done = ended_task(&vault, task["taskId"].as_str().unwrap()).await;
            assert_eq!((&done["state"], &done["report"]["byKind"]), (&"done".into(), &json!({})), "{done:#}");
            if done["report"]["indexEntries"] == JOBS {
                return;
            }
        }
    };
    tokio::join!(calling, verifying);
}
