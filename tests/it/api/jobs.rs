use replyvault::domain::{AttemptFailure, JobState, StuckReason};
use reqwest::Method;

use super::*;

const JOBS: &str = "/api/v1/jobs";

/// Job `number`, completed, and its file not to be had.
async fn stuck(vault: &Vault, number: u32) {
    vault.completed(number).await;
    let (at, job) = (Timestamp::now(), id(number).parse::<replyvault::domain::JobId>().unwrap());
    let failure =
        AttemptFailure { error: "404".to_owned(), counted: true, stuck: Some(StuckReason::AttemptsExhausted) };
    let log = vault.intake.log();
    let failed = Event::AttemptFailed { at, job: job.clone(), slot: AssetId::media(), failure, due: at };
    log.record(failed, Durability::Buffered).await.unwrap();
    let decided_by = log.state().job(&job).unwrap().unwrap().job.final_callback;
    let ended = Event::Ended { at, job, state: JobState::Stuck, decided_by, manifest_key: None };
    log.record(ended, Durability::Synced).await.unwrap();
}

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_can_be_listed_by_what_they_were_made_with() {
    let vault = Vault::start().await;
    let images =
        [("1", "nano-banana-pro", "2K", "b1"), ("2", "nano-banana-pro", "4K", "b1"), ("3", "image-01", "HD", "b2")];
    for (id, model, resolution, batch) in images {
        let id = format!("user:1-minimax:2-image:{id}");
        let body = json!({"imageId": id, "status": 1, "modelID": model, "resolution": resolution, "batchID": batch});
        vault.callback(body).await;
    }
    vault.callback(json!({"videoId": "user:1-minimax:2-video:4", "status": 1, "duration": 6, "canAppeal": true})).await;
    for (query, ids) in [
        ("model=nano-banana-pro", vec!["2", "1"]),
        ("model=nano-banana-pro&resolution=4K", vec!["2"]),
        ("batchId=b1", vec!["2", "1"]),
        ("duration=6", vec!["4"]),
        ("duration=5", vec![]),
    ] {
        let page = vault.get(&format!("/api/v1/jobs?{query}")).await;
        let found: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|job| job["jobId"].as_str().unwrap()).collect();
        assert_eq!(found.iter().map(|id| id.rsplit(':').next().unwrap()).collect::<Vec<_>>(), ids, "{query}");
    }
    let job = vault.get("/api/v1/jobs/user:1-minimax:2-video:4").await;
    assert_eq!((&job["duration"], &job["canAppeal"], &job["model"]), (&json!(6.0), &json!(true), &Value::Null));
    assert_eq!(vault.send(Method::GET, "/api/v1/jobs?duration=long").await.status(), 400);
}

#[tokio::test]
async fn a_job_is_shown_as_the_contract_says() {
    let vault = Vault::start().await;
    let sha256 = vault.stored(3, b"some video", "video/mp4").await;
    let job = vault.get(&format!("{JOBS}/{}", id(3))).await;
    let names: Vec<&str> = job.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "jobId",
        "kind",
        "channel",
        "replyRef",
        "refId",
        "state",
        "outcome",
        "status",
        "statusLabel",
        "statusFinal",
        "percent",
        "message",
        "error",
        "reason",
        "prompt",
        "callbacks",
        "createdAt",
        "updatedAt",
        "archivedAt",
        "manifestKey",
        "assets",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    let asset = &job["assets"][0];
    assert_eq!((&asset["state"], &asset["sha256"]), (&json!("stored"), &json!(sha256)));
    assert_eq!(asset["sourceUrl"], "https://cdn.hailuoai.video/x.mp4?…");
    assert_eq!((&job["jobId"], &job["kind"], &job["replyRef"]), (&json!(id(3)), &json!("video"), &json!("boat")));
}

#[tokio::test]
async fn a_job_is_found_however_its_id_is_encoded() {
    let vault = Vault::start().await;
    vault.completed(3).await;
    let agent = "p551200-u4821-a2-bot:minimax";
    let body = json!({"id": agent, "jobId": agent, "status": "created"});
    let (status, answer) = vault.callback(body).await;
    assert_eq!(status, 200, "{answer}");
    for path in [
        id(3),
        "user%3A1-minimax%3A2-video%3A3".to_owned(),
        "user%3a1-minimax:2-video%3a3".to_owned(),
        "%75ser:1%2Dminimax:2-video:3".to_owned(),
    ] {
        assert_eq!(vault.get(&format!("{JOBS}/{path}")).await["jobId"], id(3), "{path}");
    }
    for path in [agent.to_owned(), agent.replace(':', "%3A")] {
        assert_eq!(vault.get(&format!("{JOBS}/{path}")).await["jobId"], agent);
    }
    for path in [id(4), "x".to_owned(), "%ff".to_owned(), format!("{}%2F", id(3)), format!("{}%00", id(3))] {
        let response = vault.send(Method::GET, &format!("{JOBS}/{path}")).await;
        assert_eq!(refusal(response).await, (404, "not_found".to_owned()), "{path}");
        let response = vault.send(Method::POST, &format!("{JOBS}/{path}/retry")).await;
        assert_eq!(refusal(response).await, (404, "not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_file_being_fetched_is_shown_so() {
    let vault = Vault::start().await;
    vault.completed(1).await;
    let state = vault.intake.log().state().clone();
    let sequence = state.job(&id(1).parse().unwrap()).unwrap().unwrap().sequence;
    let fetching = state.fetching(sequence, &AssetId::media());
    let path = format!("{JOBS}/{}", id(1));
    assert_eq!(vault.get(&path).await["assets"][0]["state"], "fetching");
    assert_eq!(vault.get("/api/v1/stats").await["fetching"], 1);
    drop(fetching);
    assert_eq!(vault.get(&path).await["assets"][0]["state"], "pending");
}

#[tokio::test]
async fn jobs_are_listed_newest_first_to_the_end() {
    let vault = Vault::start().await;
    for number in 0..7 {
        vault.completed(number).await;
    }
    let (mut listed, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = vault.get(&format!("{JOBS}?limit=3&cursor={cursor}")).await;
        listed.extend(ids(&page));
        pages += 1;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((listed, pages), ((0..7).rev().map(id).collect(), 3));
    assert_eq!(ids(&vault.get(JOBS).await).len(), 7);
    let cursors = ["x", "12", "00000000000000zz", "0000000000000000000", "+000000000000001", "FFFFFFFFFFFFFFFF"];
    for cursor in cursors {
        let response = vault.send(Method::GET, &format!("{JOBS}?cursor={cursor}")).await;
        assert_eq!(refusal(response).await, (400, "invalid_request".to_owned()), "{cursor}");
    }
}

#[tokio::test]
async fn jobs_are_filtered() {
    let vault = Vault::start().await;
    vault.completed(1).await;
    stuck(&vault, 2).await;
    let image = "user:1-minimax:2-image:3";
    let body = json!({"imageId": image, "status": 1, "replyRef": "other & more"});
    assert_eq!(vault.callback(body).await.0, 200);
    for (query, expected) in [
        ("", vec![image.to_owned(), id(2), id(1)]),
        ("state=running", vec![image.to_owned()]),
        ("state=archiving", vec![id(1)]),
        ("state=stuck", vec![id(2)]),
        ("state=archived", vec![]),
        ("kind=image", vec![image.to_owned()]),
        ("kind=speech", vec![]),
        ("kind=video&state=stuck", vec![id(2)]),
        ("kind=image&state=stuck", vec![]),
        ("replyRef=boat", vec![id(2), id(1)]),
        ("replyRef=boat&state=stuck", vec![id(2)]),
        ("replyRef=other%20%26+more", vec![image.to_owned()]),
        ("replyRef=nobody", vec![]),
        ("state=&kind=&replyRef=&limit=&cursor=", vec![image.to_owned(), id(2), id(1)]),
    ] {
        assert_eq!(ids(&vault.get(&format!("{JOBS}?{query}")).await), expected, "{query}");
    }
    for (query, names) in [
        ("state=done", "running, archiving, archived, failed, stuck"),
        ("state=Stuck", "running, archiving, archived, failed, stuck"),
        ("kind=audio", "video, image, agent, music, speech"),
        ("status=stuck", "`status`"),
    ] {
        let (status, body) = answer(vault.send(Method::GET, &format!("{JOBS}?{query}")).await).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("invalid_request")), "{query}");
        assert!(body["error"]["message"].as_str().unwrap().contains(names), "{body}");
    }
}

#[tokio::test]
async fn a_stuck_job_is_due_again_on_demand() {
    let vault = Vault::start().await;
    stuck(&vault, 2).await;
    let before = vault.get(&format!("{JOBS}/{}", id(2))).await;
    assert_eq!((&before["state"], &before["reason"]), (&json!("stuck"), &json!("attempts_exhausted")));
    assert_eq!(vault.get("/api/v1/stats").await["queueDepth"], 0);
    let (status, after) = vault.post(&format!("{JOBS}/{}/retry", id(2)), "ignored").await;
    assert_eq!((status, &after["state"], &after["reason"]), (202, &json!("archiving"), &Value::Null));
    assert_eq!((&after["assets"][0]["state"], &after["assets"][0]["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(vault.get("/api/v1/stats").await["queueDepth"], 1);
}
