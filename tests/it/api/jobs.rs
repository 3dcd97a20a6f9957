mod beginnings;

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
    let failed =
        Event::AttemptFailed { at, job: job.clone(), slot: AssetId::media(), failure, renewals: None, due: at };
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
        "provider",
        "labels",
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
    assert_eq!(job["labels"], json!({}));
    let document = vault.get("/api/v1/openapi.json").await;
    let required = document["components"]["schemas"]["JobView"]["required"].as_array().unwrap();
    assert!(required.contains(&json!("labels")), "{required:?}");
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

/// A running video made on a day at noon.
async fn made(vault: &Vault, number: u32, day: &str, reply_ref: &str, prompt: &str) {
    let noon = Timestamp::parse_rfc3339(&format!("{day}T12:00:00Z")).unwrap().millis();
    let body = json!({"videoId": id(number), "status": 1, "createTime": noon, "replyRef": reply_ref, "desc": prompt});
    let (status, answer) = vault.callback(body).await;
    assert_eq!(status, 200, "{answer}");
}

async fn numbers(vault: &Vault, query: &str) -> Vec<u32> {
    let page = vault.get(&format!("{JOBS}?{query}")).await;
    ids(&page).iter().map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_found_by_words_days_labels_and_provider() {
    let vault = Vault::start().await;
    let body = json!({"replyRef": "kettle-04", "labels": {"project": "harbour: east"}}).to_string();
    let (_, made_ref) = vault.post("/api/v1/refs", body).await;
    let body = json!({"replyRef": "moth", "labels": {"team:sub": "x: y"}}).to_string();
    assert_eq!(vault.post("/api/v1/refs", body).await.0, 201);
    made(&vault, 1, "2026-03-01", "boat-0017", "A paper boat crosses a flooded street").await;
    made(&vault, 2, "2026-03-03", "kettle-04", "a green KETTLE on a paper cloth, a mo\u{308}we").await;
    made(&vault, 3, "2026-03-02", "moth", "Århus at night <script>alert(1)</script>").await;
    assert!(made_ref["replyUrl"].is_string());
    for (query, expected) in [
        ("", vec![2, 3, 1]),
        ("q=paper", vec![2, 1]),
        ("q=PAPER+boat", vec![1]),
        ("q=boat-0017", vec![1]),
        ("q=%C3%A5rhus", vec![3]),
        ("q=A%CC%8Arhus", vec![3]),
        ("q=m%C3%B6we", vec![2]),
        ("q=mo%CC%88w*", vec![2]),
        ("q=%F0%9F%9A%80", vec![]),
        ("q=***", vec![]),
        ("q=%22%22", vec![]),
        ("q=!?&state=running", vec![]),
        ("q=%F0%9F%9A%80+paper+-", vec![2, 1]),
        ("q=+%09", vec![2, 3, 1]),
        ("q=kett*", vec![2]),
        ("q=floo*&kind=video", vec![1]),
        ("q=kett", vec![]),
        ("q=alert&state=running", vec![3]),
        ("q=alert&state=archived", vec![]),
        ("from=2026-03-02", vec![2, 3]),
        ("to=2026-03-02", vec![3, 1]),
        ("from=2026-03-02&to=2026-03-02", vec![3]),
        ("from=1900-01-01", vec![2, 3, 1]),
        ("from=0001-01-01&to=2026-03-02", vec![3, 1]),
        ("to=1970-01-01", vec![]),
        ("to=1969-12-31", vec![]),
        ("from=1900-01-01&to=1969-12-31&q=boa*", vec![]),
        ("label=project:harbour:+east", vec![2]),
        ("label=project:harbour", vec![]),
        ("label=team:sub:x:+y", vec![3]),
        ("label=team:sub", vec![]),
        ("provider=minimax", vec![2, 3, 1]),
        ("provider=kling", vec![]),
        ("skip=1&limit=1", vec![3]),
        ("replyRef=moth", vec![3]),
    ] {
        assert_eq!(numbers(&vault, query).await, expected, "{query}");
    }
    let job = vault.get(&format!("{JOBS}/{}", id(2))).await;
    assert_eq!((&job["provider"], &job["labels"]), (&json!("minimax"), &json!({"project": "harbour: east"})));
    for query in [
        "from=yesterday",
        "to=2026-02-30",
        "from=1900-13-01",
        "to=1969",
        "label=project",
        "q=a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q",
        "skip=-1",
        "skip=1&cursor=0000000000000001",
        "cursor=00",
    ] {
        let response = vault.send(Method::GET, &format!("{JOBS}?{query}")).await;
        assert_eq!(refusal(response).await, (400, "invalid_request".to_owned()), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_search_go_on_where_the_last_ended() {
    let vault = Vault::start().await;
    for number in 1..=9 {
        made(&vault, number, &format!("2026-03-0{}", 1 + number % 3), "boat", "paper").await;
    }
    for query in ["q=paper", "q=pape*", "provider=minimax&duration=0"] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = vault.get(&format!("{JOBS}?{query}&limit=2&cursor={cursor}")).await;
            seen.extend(ids(&page));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        let expected = if query.contains("duration") { 0 } else { 9 };
        assert_eq!(seen.len(), expected, "{query}: {seen:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_says_how_many_are_still_to_be_skipped() {
    let vault = Vault::start().await;
    for number in 1..=9 {
        made(&vault, number, &format!("2026-03-0{number}"), "boat", "paper").await;
    }
    for query in ["q=paper", "q=pape*"] {
        let page = vault.get(&format!("{JOBS}?{query}&limit=2")).await;
        let cursor = page["nextCursor"].as_str().unwrap();
        assert_eq!(numbers(&vault, &format!("{query}&limit=2&cursor={cursor}")).await, [7, 6], "{query}");
        let skipping = format!("{cursor}0000000000000003");
        assert_eq!(numbers(&vault, &format!("{query}&limit=2&cursor={skipping}")).await, [4, 3], "{query}");
        let response = vault.send(Method::GET, &format!("{JOBS}/days?{query}&cursor={skipping}")).await;
        assert_eq!(refusal(response).await, (400, "invalid_request".to_owned()), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_found_by_labels_that_are_registered_after_their_callbacks() {
    let vault = Vault::start().await;
    made(&vault, 1, "2026-03-01", "boat-17", "a paper boat").await;
    made(&vault, 2, "2026-03-02", "kettle", "a kettle").await;
    assert_eq!(numbers(&vault, "q=boat").await, [1], "it is indexed");
    let body = json!({"replyRef": "boat-17", "labels": {"project": "harbour"}}).to_string();
    assert_eq!(vault.post("/api/v1/refs", body).await.0, 200);
    assert_eq!(numbers(&vault, "label=project:harbour").await, [1]);
    let days = vault.get(&format!("{JOBS}/days?label=project:harbour")).await;
    assert_eq!(days["items"].as_array().unwrap().len(), 1, "{days}");
}

#[tokio::test(flavor = "multi_thread")]
async fn days_are_counted_under_the_same_filters() {
    let vault = Vault::start().await;
    let body = json!({"replyRef": "r", "labels": {"team:sub": "x"}}).to_string();
    assert_eq!(vault.post("/api/v1/refs", body).await.0, 201);
    for number in 1..=9 {
        let prompt = if number == 5 { "kettle" } else { "boat" };
        made(&vault, number, &format!("2026-03-0{}", 1 + number % 3), "r", prompt).await;
    }
    let counts = async |query: &str| -> Vec<(String, u64)> {
        let page = vault.get(&format!("{JOBS}/days?{query}")).await;
        assert_eq!(page["nextCursor"], Value::Null);
        let day = |item: &Value| (item["day"].as_str().unwrap()[8..].to_owned(), item["jobs"].as_u64().unwrap());
        page["items"].as_array().unwrap().iter().map(day).collect()
    };
    let days = |counts: &[(&str, u64)]| counts.iter().map(|(day, jobs)| ((*day).to_owned(), *jobs)).collect::<Vec<_>>();
    assert_eq!(counts("").await, days(&[("03", 3), ("02", 3), ("01", 3)]));
    assert_eq!(counts("to=2026-03-02").await, days(&[("02", 3), ("01", 3)]));
    assert_eq!(counts("q=kettle").await, days(&[("03", 1)]));
    assert_eq!(counts("q=boat*").await, days(&[("03", 2), ("02", 3), ("01", 3)]));
    assert_eq!(counts("q=boa*").await, days(&[("03", 2), ("02", 3), ("01", 3)]));
    assert_eq!(counts("q=***").await, days(&[]));
    assert_eq!(counts("label=team:sub:x").await, days(&[("03", 3), ("02", 3), ("01", 3)]));
    assert_eq!(counts("state=stuck").await, days(&[]));
}

#[tokio::test]
async fn a_job_s_manifest_is_shown_once_there_is_one() {
    let vault = Vault::start().await;
    vault.completed(1).await;
    for path in [format!("{JOBS}/{}/manifest", id(1)), format!("{JOBS}/{}/manifest", id(2))] {
        assert_eq!(refusal(vault.send(Method::GET, &path).await).await, (404, "not_found".to_owned()));
    }
}
