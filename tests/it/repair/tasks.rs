//! A verification as a task of the running service.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Archive, findings, run, s3_archive};
use crate::support::media::{MediaServer, mp4};
use crate::support::s3::S3Server;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

#[tokio::test(flavor = "multi_thread")]
async fn the_running_service_does_it_when_it_holds_the_data() {
    let archive = Archive::of(&[1000, 2000]).await;
    let mut program = archive.program();
    let address = crate::support::free_address();
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
        ("backfill", json!({}), (409, "no_provider_token")),
        ("backfill", json!({"bogus": 1}), (422, "invalid_request")),
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
async fn a_job_being_archived_is_no_damage() {
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
