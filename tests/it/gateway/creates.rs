//! Calls that create jobs are made to call back here, and their callers do not notice.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::provider::{Asked, Provider, vault};
use crate::support::vault::{TOKEN, Vault, video_id};

/// Answers as the provider does: with what it was given.
fn create(asked: &Asked) -> HttpResponse {
    let given = match asked.header("content-type").unwrap_or_default() {
        "application/json" => asked.json(),
        "application/x-www-form-urlencoded" => {
            let pairs = url::form_urlencoded::parse(&asked.body);
            pairs.map(|(name, value)| (name.into_owned(), Value::from(value))).collect()
        }
        _ => json!({}),
    };
    let mut answer = json!({"id": "1", "videoId": video_id(7), "n": 0});
    for name in ["replyUrl", "replyRef"] {
        if !given[name].is_null() {
            answer[name] = given[name].clone();
        }
    }
    HttpResponse::Ok().json(answer)
}

async fn post(vault: &Vault, body: &str, content_type: &str) -> (u16, String) {
    let request = vault.client.post(vault.url("/v1/minimax/videos/create")).bearer_auth(TOKEN);
    let response = request.header("Content-Type", content_type).body(body.to_owned()).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_calls_back_here_and_its_caller_sees_its_own() {
    let provider = Provider::start(create);
    let vault = vault(&provider.base_url).await;
    let body =
        r#"{"seed": 12345678901234567890, "replyRef": "boat", "replyUrl":"https://caller.example/hook?k=s" ,"x":1.10}"#;
    let (status, answer) = post(&vault, body, "application/json").await;
    assert_eq!(status, 200);
    let asked = provider.last();
    let own = asked.json()["replyUrl"].as_str().unwrap().to_owned();
    assert!(own.starts_with("http://127.0.0.1:") && own.contains("/reply/ref_"), "{own}");
    assert_eq!(asked.text(), body.replace("https://caller.example/hook?k=s", &own));
    let expected = json!({"id": "1", "videoId": video_id(7), "n": 0, "replyUrl": "https://caller.example/hook?k=s", "replyRef": "boat"});
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap(), expected);

    let job = vault.job(&video_id(7)).await;
    assert_eq!((&job["state"], &job["replyRef"]), (&json!("running"), &json!("boat")));
    let (_, reference) = vault.get(&format!("/api/v1/refs/{}", job["refId"].as_str().unwrap())).await;
    assert_eq!((&reference["origin"], &reference["replyRef"]), (&json!("gateway"), &json!("boat")));

    // Its callback comes over that URL.
    let (status, _) =
        vault.post(&own, json!({"videoId": video_id(7), "status": 3, "replyRef": "boat"}).to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(vault.job_in(&video_id(7), &["failed"]).await["refId"], job["refId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_gives_nothing_sees_nothing() {
    let provider = Provider::start(create);
    let vault = vault(&provider.base_url).await;
    for (body, content_type) in [
        (r#"{"prompt":"x"}"#, "application/json"),
        (r#"{"prompt":"x","replyUrl":"","replyRef":null}"#, "application/json"),
        ("prompt=x&replyRef=", "application/x-www-form-urlencoded"),
    ] {
        let (status, answer) = post(&vault, body, content_type).await;
        assert_eq!((status, answer), (200, format!(r#"{{"id":"1","n":0,"videoId":"{}"}}"#, video_id(7))));
        let sent = provider.last();
        assert!(
            sent.text().contains("replyRef") && sent.text().contains("reply%2Fref_")
                || sent.text().contains("/reply/ref_")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_its_own_ref_even_of_the_same_name() {
    let provider = Provider::start(create);
    let vault = vault(&provider.base_url).await;
    for _ in 0..3 {
        post(&vault, r#"{"replyRef":"same"}"#, "application/json").await;
    }
    let urls: Vec<_> = provider.asked().iter().map(|asked| asked.json()["replyUrl"].clone()).collect();
    assert!(urls[0] != urls[1] && urls[1] != urls[2]);
    let (_, refs) = vault.get("/api/v1/refs?replyRef=same").await;
    assert_eq!(refs["items"].as_array().unwrap().len(), 3);
    // None of them stands in a registered one's way.
    assert_eq!(vault.send("POST", "/api/v1/refs", &json!({"replyRef": "same"})).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_forms_are_rewritten_whatever_their_size() {
    let provider = Provider::start(create);
    let vault = vault(&provider.base_url).await;
    for size in [10, 3 << 20] {
        let file = "f".repeat(size);
        let part = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = format!(
            "{}{}{}--b--\r\n",
            part("replyUrl", "https://caller.example/"),
            part("file", &file),
            part("prompt", "x")
        );
        let (status, _) = post(&vault, &body, "multipart/form-data; boundary=b").await;
        assert_eq!(status, 200);
        let asked = provider.last();
        let kept = format!("{}{}", part("file", &file), part("prompt", "x"));
        let sent = asked.text();
        assert!(sent.starts_with(&kept), "the other parts are as they were");
        let added = &sent[kept.len()..];
        assert!(
            added.starts_with("--b\r\nContent-Disposition: form-data; name=\"replyUrl\"\r\n\r\nhttp://127.0.0.1:"),
            "{added}"
        );
        assert!(added.contains("name=\"replyRef\"") && added.ends_with("\r\n--b--\r\n"), "{added}");
        assert_eq!(asked.header("content-length").is_some(), size == 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_create_reaches_the_provider_unchanged() {
    let provider = Provider::start(|_| HttpResponse::BadRequest().json(json!({"error": "no", "code": 400})));
    let vault = vault(&provider.base_url).await;
    let long = "r".repeat(1025);
    for body in [
        "{".to_owned(),
        "[]".to_owned(),
        r#"{"replyUrl":"not a url"}"#.to_owned(),
        r#"{"replyUrl":7}"#.to_owned(),
        format!(r#"{{"replyRef":"{long}"}}"#),
        format!(r#"{{"replyUrl":"https://h/{long}"}}"#),
        format!(r#"{{"replyUrl":"{}"}}"#, vault.channel_url()),
    ] {
        let (status, answer) = post(&vault, &body, "application/json").await;
        assert_eq!((status, answer.as_str()), (400, r#"{"code":400,"error":"no"}"#));
        assert_eq!(provider.last().text(), body);
    }
    // A refused call leaves no ref behind.
    post(&vault, r#"{"prompt":"x"}"#, "application/json").await;
    assert_eq!(vault.get("/api/v1/refs").await.1["items"], json!([]));
    let huge = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(post(&vault, &huge, "application/json").await.0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_waited_for_too_long_keeps_its_ref() {
    let provider = Provider::start(|_| HttpResponse::RequestTimeout().json(json!({"error": "timeout"})));
    let vault = vault(&provider.base_url).await;
    assert_eq!(post(&vault, r#"{"prompt":"x"}"#, "application/json").await.0, 408);
    let refs = vault.get("/api/v1/refs").await.1;
    assert_eq!(refs["items"].as_array().map(Vec::len), Some(1), "its job may still call back: {refs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_lists_running_jobs_ties_none_of_them() {
    let provider = Provider::start(|asked| {
        let running = json!([{"videoId": video_id(9), "replyUrl": asked.json()["replyUrl"], "replyRef": ""}]);
        HttpResponse::TooManyRequests().json(json!({"error": "busy", "runningVideos": running}))
    });
    let vault = vault(&provider.base_url).await;
    let (status, answer) = post(&vault, r#"{"prompt":"x"}"#, "application/json").await;
    assert!(status == 429 && !answer.contains("/reply/"), "{answer}");
    assert_eq!(vault.get("/api/v1/jobs").await.1["items"], json!([]));
}
