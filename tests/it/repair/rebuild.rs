//! The state can be made anew.

use std::path::Path;

use replyvault::config::DataDir;
use serde_json::{Value, json};

use super::{Archive, run};
use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4, png};
use crate::support::vault::{Vault, completed, video_id};

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
