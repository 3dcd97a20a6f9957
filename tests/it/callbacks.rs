//! `POST /reply/{target}/{signature}`: every row of its table.

use std::time::Duration;

use replyvault::domain::{ReplyRef, Target};
use replyvault::intake::NewRef;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

const EXAMPLE_ID: &str = "user:4821-minimax:730015522-video:418200000000000017";

/// The URL of a new ref.
async fn ref_url(vault: &Vault, name: &str) -> String {
    let new = NewRef { reply_ref: Some(ReplyRef::new(name).unwrap()), ..NewRef::default() };
    let (record, _) = vault.running().intake().register(new).await.unwrap();
    vault.running().intake().urls().reply_url(&Target::Ref(record.id))
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_understood_callback_gets_200_and_is_visible_at_once() {
    let vault = Vault::start().await;
    let progress = json!({"videoId": EXAMPLE_ID, "status": 1, "percent": "37", "statusFinal": false, "replyRef": "boat-0017",
        "message": "Rendering", "userID": 923847293472394001u64, "unknown": {"deep": [1, null]}});
    let answer = vault.callback(progress).await;
    assert_eq!(
        answer,
        json!({"accepted": true, "jobId": EXAMPLE_ID, "replyRef": "boat-0017", "state": "running", "final": false})
    );
    let job = vault.job(EXAMPLE_ID).await;
    assert_eq!((&job["percent"], &job["message"], &job["callbacks"]), (&json!(37), &json!("Rendering"), &json!(1)));
    let answer = vault.callback(json!({"videoId": EXAMPLE_ID, "status": 3})).await;
    assert_eq!((&answer["final"], &answer["replyRef"]), (&json!(true), &json!("boat-0017")));
    let job = vault.job_in(EXAMPLE_ID, &["failed"]).await;
    assert_eq!((&job["outcome"], &job["percent"], &job["assets"]), (&json!("failed"), &json!(37), &json!([])));
    assert_eq!(vault.manifest(&job).await["callback"]["status"], 3);
}

#[tokio::test]
async fn unrecognised_json_is_quarantined() {
    let vault = Vault::start().await;
    for (body, reason) in [
        ("{}", "unknown_shape"),
        ("[]", "unknown_shape"),
        ("null", "unknown_shape"),
        ("1e999", "unknown_shape"),
        (r#"{"videoId":"user:1-minimax:2-video:../../etc"}"#, "unknown_id"),
        (r#"{"videoId":"user:1-minimax:2-file:3"}"#, "unknown_id"),
        (r#"{"imageId":"x"}"#, "unknown_id"),
        (r#"{"id":"7","voice_id":"user:1-minimax:2-audio:3"}"#, "unknown_shape"),
    ] {
        let (status, answer) = vault.post(&vault.channel_url(), body).await;
        assert_eq!(
            (status, &answer["reason"], &answer["accepted"]),
            (StatusCode::ACCEPTED, &json!(reason), &json!(true)),
            "{body}"
        );
        let id = answer["quarantineId"].as_str().unwrap();
        let url = vault.url(&format!("/api/v1/quarantine/{id}"));
        let kept = vault.client.get(url).bearer_auth(TOKEN).send().await.unwrap().text().await.unwrap();
        assert!(kept.ends_with(&format!("\"body\":{body}}}")), "{kept}");
    }
    let long = json!({"videoId": EXAMPLE_ID, "replyRef": "x".repeat(1025)}).to_string();
    assert_eq!(vault.post(&vault.channel_url(), long).await.1["reason"], "invalid_reply_ref");
}

#[tokio::test]
async fn a_body_that_is_not_json_gets_400_and_is_not_kept() {
    let vault = Vault::start().await;
    for body in ["", "{", "{'a':1}", "{\"a\":1,}", "NaN", "<html>", "videoId=user%3A1"] {
        let (status, answer) = vault.post(&vault.channel_url(), body).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "invalid_json"), "{body}");
    }
    assert_eq!(vault.get("/api/v1/quarantine").await.1["items"], json!([]));
    // Depth, lone surrogates, numbers and the Content-Type are no reason.
    let deep = format!(
        r#"{{"videoId":"{EXAMPLE_ID}","desc":"\ud800","n":1E+999,"x":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let request = vault.client.post(vault.channel_url()).header("content-type", "text/plain").body(deep);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn wrong_signatures_and_unknown_targets_are_alike() {
    let vault = Vault::start().await;
    let channel = vault.channel_url();
    let signature = channel.rsplit('/').next().unwrap();
    let mut answers = Vec::new();
    for path in [
        "/reply/minimax/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        format!("/reply/minimax/{signature}A"),
        format!("/reply/other/{signature}"),
        format!("/reply/ref_01jd0000000000000000000000/{signature}"),
        "/reply/minimax/%FF".to_owned(),
    ] {
        let (status, answer) = vault.post(&vault.url(&path), "{}").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        answers.push(answer);
    }
    answers.dedup();
    assert_eq!((answers.len(), code(&answers[0])), (1, "bad_signature"));
    let get = vault.client.get(&channel).send().await.unwrap();
    assert_eq!(get.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(vault.get("/api/v1/stats").await.1["quarantined"], 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_413() {
    let vault = Vault::start_with(|settings| settings.intake.max_callback_size = 2000).await;
    let body = |size: usize| {
        let empty = json!({"videoId": EXAMPLE_ID, "desc": ""}).to_string().len();
        json!({"videoId": EXAMPLE_ID, "desc": "x".repeat(size - empty)}).to_string()
    };
    assert_eq!(vault.post(&vault.channel_url(), body(2000)).await.0, 200);
    let (status, answer) = vault.post(&vault.channel_url(), body(2001)).await;
    assert_eq!((status, code(&answer)), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    let chunked = futures_util::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1000])));
    let (status, _) = vault.post(&vault.channel_url(), reqwest::Body::wrap_stream(chunked)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_flood_of_progress_gets_429_and_finals_never_do() {
    let vault = Vault::start().await;
    let mut statuses = Vec::new();
    for percent in 0..62 {
        let body = json!({"videoId": EXAMPLE_ID, "status": 1, "percent": percent}).to_string();
        statuses.push(vault.post(&vault.channel_url(), body).await.0.as_u16());
    }
    assert_eq!(statuses, [vec![200; 60], vec![429; 2]].concat());
    assert_eq!(vault.job(EXAMPLE_ID).await["callbacks"], 60, "nothing is kept of what got 429");
    let other = json!({"videoId": video_id(9), "status": 1}).to_string();
    assert_eq!(vault.post(&vault.channel_url(), other).await.0, 200, "another job has room of its own");
    for number in 0..70 {
        let body = json!({"videoId": EXAMPLE_ID, "status": 3, "message": number}).to_string();
        assert_eq!(vault.post(&vault.channel_url(), body).await.0, 200);
    }
}

#[tokio::test]
async fn a_repeat_is_counted_and_not_written_again() {
    let vault = Vault::start().await;
    let body = json!({"videoId": EXAMPLE_ID, "status": 3, "desc": "x".repeat(50_000)}).to_string();
    for _ in 0..20 {
        assert_eq!(vault.post(&vault.channel_url(), body.clone()).await.0, 200);
    }
    assert_eq!(vault.job(EXAMPLE_ID).await["callbacks"], 20);
    let written = vault.running().intake().log().journal().disk_bytes();
    assert!(written < 70_000, "{written} bytes for 20 times the same 50,000");
}

#[tokio::test]
async fn repeats_that_are_too_many_are_counted_soon_and_before_a_stop() {
    let mut vault = Vault::start().await;
    let body = json!({"videoId": EXAMPLE_ID, "status": 3}).to_string();
    let post = async |vault: &Vault, times: usize| {
        for _ in 0..times {
            assert_eq!(vault.post(&vault.channel_url(), body.clone()).await.0, 200);
        }
    };
    post(&vault, 200).await;
    let counted = async {
        while vault.job(EXAMPLE_ID).await["callbacks"] != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("some are not counted");
    post(&vault, 50).await;
    vault.stop().await;
    vault.start_again().await;
    assert_eq!(vault.job(EXAMPLE_ID).await["callbacks"], 250);
}

/// A cleaned name that is no file name could be written into a job's record, and not be read there.
#[tokio::test]
async fn a_file_that_is_nearly_named_as_the_manifest_leaves_its_job_readable() {
    let vault = Vault::start().await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    for (number, name) in ["manifest.json.", "manifest.json_", "manifest.json-", "manifest.json "].iter().enumerate() {
        let file = json!({"id": "a", "filename": name, "url": "https://cdn.discordapp.com/x.png"});
        let body = json!({"jobid": number.to_string(), "verb": "faceswap-swap", "status": "completed",
            "attachments": [file]});
        let id = format!("faceswap:{number}");
        // The second reads what the first has written.
        for _ in 0..2 {
            let (status, answer) = vault.post(&url, body.to_string()).await;
            assert_eq!((status, &answer["jobId"]), (StatusCode::OK, &json!(id)), "{name:?}: {answer}");
        }
        // The policy of the tests forbids the host.
        let job = vault.job_in(&id, &["stuck"]).await;
        assert_eq!((&job["callbacks"], &job["assets"][0]["file"]), (&json!(2), &json!("manifest_.json")), "{name:?}");
    }
    vault.callback(json!({"videoId": EXAMPLE_ID, "status": 1})).await;
    assert_eq!(vault.job(EXAMPLE_ID).await["state"], "running");
    assert_eq!(vault.get("/readyz").await.1["checks"]["state"], "ok");
}

#[tokio::test]
async fn a_job_belongs_to_the_ref_that_named_it_first() {
    let vault = Vault::start().await;
    let (mine, other) = (ref_url(&vault, "mine").await, ref_url(&vault, "other").await);
    let body = |reply_ref: Value| json!({"videoId": EXAMPLE_ID, "status": 1, "replyRef": reply_ref}).to_string();
    let (status, answer) = vault.post(&mine, body(Value::Null)).await;
    assert_eq!((status, &answer["replyRef"]), (StatusCode::OK, &json!("mine")));
    for (url, reply_ref, reason) in [
        (&other, Value::Null, "job_of_another_ref"),
        (&other, json!("other"), "job_of_another_ref"),
        (&mine, json!("other"), "reply_ref_mismatch"),
    ] {
        let (status, answer) = vault.post(url, body(reply_ref)).await;
        assert_eq!((status, &answer["reason"]), (StatusCode::ACCEPTED, &json!(reason)));
    }
    let (status, answer) = vault.post(&vault.channel_url(), body(json!("other"))).await;
    assert_eq!((status, &answer["replyRef"]), (StatusCode::OK, &json!("mine")), "a channel claims nothing");
    assert_eq!(vault.get("/api/v1/quarantine").await.1["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_deleted_refs_url_is_refused() {
    let vault = Vault::start().await;
    let url = ref_url(&vault, "gone").await;
    let body = json!({"videoId": EXAMPLE_ID, "status": 1}).to_string();
    assert_eq!(vault.post(&url, body.clone()).await.0, 200);
    let refs = vault.get("/api/v1/refs?replyRef=gone").await.1;
    let id = refs["items"][0]["refId"].as_str().unwrap().to_owned();
    let intake = vault.running().intake().clone();
    assert!(intake.remove_ref(&replyvault::domain::RefId::parse(&id).unwrap()).await.unwrap());
    assert_eq!(vault.post(&url, body).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(vault.job(EXAMPLE_ID).await["replyRef"], "gone", "its jobs stay");
}

#[tokio::test]
async fn unknown_refs_can_be_rejected_and_let_in_later() {
    let media = MediaServer::start();
    let bytes = mp4(1, 100);
    let url = media.put("/v.mp4", bytes.clone(), "video/mp4");
    let vault = Vault::start_with(|settings| settings.intake.adopt_unknown_refs = false).await;
    let body = completed(1, &url);
    let (status, answer) = vault.post(&vault.channel_url(), body.to_string()).await;
    assert_eq!((status, &answer["reason"]), (StatusCode::ACCEPTED, &json!("unknown_reply_ref")));
    ref_url(&vault, "ref-1").await;
    let id = answer["quarantineId"].as_str().unwrap();
    let replay = vault.client.post(vault.url(&format!("/api/v1/quarantine/{id}/replay")));
    let replayed = replay.bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(replayed.status(), 200);
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
}

#[tokio::test]
async fn a_reply_ref_may_be_any_text_of_1024_characters() {
    let vault = Vault::start().await;
    for (number, reply_ref) in
        ["✓".repeat(1024), "a\u{0}b\n".to_owned(), "../../x".to_owned(), "free 0018 / ünïcode ✓".to_owned()]
            .into_iter()
            .enumerate()
    {
        let id = video_id(number as u64);
        vault.callback(json!({"videoId": id, "status": 3, "replyRef": reply_ref})).await;
        let job = vault.job_in(&id, &["failed"]).await;
        assert_eq!(job["replyRef"], reply_ref);
        assert_eq!(vault.manifest(&job).await["job"]["replyRef"], reply_ref);
    }
}
