//! Every job that a call through the gateway makes is known, whatever the call says of callbacks and however it is answered.

use std::io::Write;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use replyvault::provider::ClientConfig;
use replyvault::simulator::{Config, Simulator};
use serde_json::{Value, json};

use super::provider::{Provider, gateway, loopback, vault};
use crate::support::media::MediaServer;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};
use crate::support::web_socket::WebSocket;

async fn create(vault: &Vault, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, String) {
    let mut request = vault.client.post(vault.url(&format!("/v1/minimax/{path}"))).bearer_auth(TOKEN).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn refs(vault: &Vault) -> usize {
    vault.get("/api/v1/refs").await.1["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_ref_that_is_no_text_stays_and_the_job_calls_back_here() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({"videoId": video_id(1)})));
    let vault = vault(&provider.base_url).await;
    for (given, named) in [
        ("42", Some("42")),
        ("4.20", Some("4.20")),
        ("true", Some("true")),
        ("false", Some("false")),
        ("null", None),
        (r#"{"a":1}"#, None),
        ("[1]", None),
    ] {
        let body = format!("{{\"prompt\": \"x\", \"replyRef\": {given} }}");
        assert_eq!(create(&vault, "videos/create", &[JSON], body.clone()).await.0, 200);
        let sent = provider.last().text();
        let url = provider.last().json()["replyUrl"].as_str().unwrap().to_owned();
        assert!(url.contains("/reply/ref_"), "{sent}");
        if given != "null" {
            assert!(sent.starts_with(body.trim_end_matches(" }")), "what the caller gave stays: {sent}");
        }
        let id = url.split('/').rev().nth(1).unwrap();
        let (_, reference) = vault.get(&format!("/api/v1/refs/{id}")).await;
        if let Some(named) = named {
            assert_eq!(reference["replyRef"], named);
        }
    }
    assert_eq!(vault.job(&video_id(1)).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_keep_their_own_reply_url_teach_their_jobs_all_the_same() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let provider = Provider::start(|asked| {
        let number = asked.json()["seed"].as_u64().unwrap();
        HttpResponse::Ok().json(json!({"id": "1", "videoId": video_id(number), "replyRef": asked.json()["replyRef"]}))
    });
    let vault = vault(&provider.base_url).await;
    let registered = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "mine"})).await.1;
    let registered_url = registered["replyUrl"].as_str().unwrap();
    let own = [
        json!("Place your call back URL here"),
        json!("not a url"),
        json!("/relative"),
        json!(7),
        json!(["https://h/"]),
        json!(vault.channel_url()),
        json!(registered_url),
        json!(format!("{registered_url}?job=7")),
        json!(format!("{registered_url}/")),
        json!(format!("{registered_url}#x")),
    ];
    for (number, reply_url) in (1..).zip(&own) {
        let body = json!({"seed": number, "replyUrl": reply_url, "replyRef": format!("r{number}")}).to_string();
        assert_eq!(create(&vault, "videos/create", &[JSON], body.clone()).await.0, 200);
        assert_eq!(provider.last().text(), body, "it reaches the provider as it is");
        let job = vault.job(&video_id(number)).await;
        let is_registered = reply_url.as_str().is_some_and(|url| url.starts_with(registered_url));
        let expected = if is_registered { json!("mine") } else { json!(format!("r{number}")) };
        assert_eq!((&job["state"], &job["replyRef"]), (&json!("running"), &expected), "{reply_url}");
        // And the callback counts.
        vault.callback(completed(number, &url)).await;
        vault.archived(&video_id(number)).await;
    }
    assert!(vault.get("/api/v1/quarantine").await.1["items"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_call_is_unpacked_and_calls_back_here() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({"videoId": video_id(1)})));
    let vault = vault(&provider.base_url).await;
    let text = br#"{"prompt":"x","replyRef":"packed"}"#;
    let gzip = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let zlib = {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let bare = {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    for (coding, body) in [("gzip", gzip), ("deflate", zlib), ("deflate", bare)] {
        assert_eq!(create(&vault, "videos/create", &[JSON, ("Content-Encoding", coding)], body).await.0, 200);
        let asked = provider.last();
        assert_eq!((asked.json()["replyRef"].as_str(), asked.header("content-encoding")), (Some("packed"), None));
        assert!(asked.json()["replyUrl"].as_str().unwrap().contains("/reply/ref_"));
        assert_eq!(asked.header("content-length").unwrap(), asked.body.len().to_string());
    }
    // What is not known here goes on as it is, and its answer is read all the same.
    let before = refs(&vault).await;
    create(&vault, "videos/create", &[JSON, ("Content-Encoding", "br")], &b"\x0b\x02\x80{}\x03"[..]).await;
    assert_eq!((provider.last().header("content-encoding"), refs(&vault).await), (Some("br"), before));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_any_media_type_and_with_any_number_of_ids_are_learned() {
    let provider = Provider::start(|asked| {
        let of = asked.json()["prompt"].as_str().unwrap().to_owned();
        let number = asked.json()["seed"].as_u64().unwrap();
        let body = match &*of {
            "list" => json!([{"videoId": video_id(number)}, {"videoId": video_id(number + 100)}]),
            "error" => json!({"error": "too busy", "videoId": video_id(number)}),
            _ => json!({"videoId": video_id(number)}),
        };
        let mut answer = HttpResponse::build(if of == "error" { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::OK });
        if of != "none" && of != "list" && of != "error" {
            answer.content_type(of.as_str());
        }
        answer.body(format!("\n {body} \n"))
    });
    let vault = vault(&provider.base_url).await;
    let types = [
        "text/plain",
        "text/html",
        "text/json",
        "application/vnd.api+json",
        "application/octet-stream",
        "none",
        "list",
        "error",
    ];
    for (number, of) in (1_u64..).zip(types) {
        let (_, answer) =
            create(&vault, "videos/create", &[JSON], json!({"prompt": of, "seed": number}).to_string()).await;
        assert!(answer.contains(&video_id(number)), "{of}: {answer}");
        let job = vault.job(&video_id(number)).await;
        assert!(job["refId"].as_str().is_some_and(|id| id.starts_with("ref_")), "{of}: {job}");
    }
    assert_eq!(vault.job(&video_id(107)).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_tells_of_its_job_whatever_its_type_and_lines() {
    let provider = Provider::start(|asked| {
        let form = asked.header("content-type").unwrap().starts_with("multipart/form-data");
        assert!(form && asked.text().contains("name=\"replyUrl\""));
        let number: u64 = asked.text().split("seed=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
        let id = video_id(number);
        let (content_type, body) = match number {
            1 => ("multipart/form-data", format!("data: {{\"status\":\"created\",\"videoId\":\"{id}\"}}\n\n")),
            2 => ("text/plain", format!("data:{{\"videoId\":\"{id}\"}}\r\rdata: x\r\r")),
            3 => (
                "text/event-stream",
                format!(
                    "event: a\r\ndata: {{\"status\":\r\ndata: \"created\",\r\ndata: \"videoId\":\"{id}\"}}\r\n\r\n"
                ),
            ),
            _ => ("application/octet-stream", format!("{{\"videoId\":\"{id}\"}}\n")),
        };
        HttpResponse::Ok().content_type(content_type).body(body)
    });
    let vault = vault(&provider.base_url).await;
    for number in 1..=4 {
        let body = format!("--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nseed={number};\r\n--b--\r\n");
        let form = ("Content-Type", "multipart/form-data; boundary=b");
        assert_eq!(create(&vault, "videos/agent-create", &[form], body).await.0, 200);
        let job = vault.job_in(&video_id(number), &["running"]).await;
        assert!(job["refId"].as_str().is_some_and(|id| id.starts_with("ref_")), "{job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_event_makes_the_job_be_asked_for_at_once() {
    let media = MediaServer::start();
    let url = media.put("/a.mp4", crate::support::media::mp4(1, 1000), "video/mp4");
    let provider = Provider::start(move |asked| match asked.method.as_str() {
        "GET" => HttpResponse::Ok().json(completed(5, &url)),
        _ => {
            let event = |status: &str| format!("data: {}\n\n", json!({"status": status, "videoId": video_id(5)}));
            HttpResponse::Ok().content_type("text/event-stream").body(event("created") + &event("finished"))
        }
    });
    let vault = vault(&provider.base_url).await;
    create(&vault, "videos/agent-create", &[JSON], r#"{"templateId":"1","replyRef":"car"}"#).await;
    let job = vault.archived(&video_id(5)).await;
    assert_eq!(job["replyRef"], "car");
    let asked = provider.asked();
    let get = asked.iter().find(|asked| asked.method == "GET").unwrap();
    assert_eq!(get.target, format!("/v1/minimax/videos/{}", video_id(5)));
    assert_eq!(get.header("authorization"), asked[0].header("authorization"));
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_missing_credits_leave_no_ref_and_are_known_to_the_client() {
    let provider = Provider::start(|asked| {
        let status = asked.json()["seed"].as_u64().unwrap() as u16;
        HttpResponse::build(StatusCode::from_u16(status).unwrap()).content_type("text/plain").body(r#"{"error":"no"}"#)
    });
    let base_url = provider.base_url.clone();
    let vault = Vault::start_with(|settings| {
        settings.reconcile.minute = Duration::from_secs(3600);
        let client = ClientConfig { base_url: base_url.parse().unwrap(), api_token: "t".into(), egress: loopback() };
        settings.provider = Some(client);
        settings.gateway = Some(gateway(&base_url));
    })
    .await;
    let metric = async |name: &str| {
        let text = vault.client.get(vault.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let line =
            text.lines().find(|line| line.starts_with(&format!("replyvault_{name} "))).unwrap_or_default().to_owned();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let provider_word = async || vault.get("/readyz").await.1["checks"]["provider"].clone();
    for status in [412, 596, 400, 422, 429] {
        for account in [json!({"account": "730015522"}), json!({})] {
            let mut body = json!({"prompt": "x", "seed": status});
            body.as_object_mut().unwrap().extend(account.as_object().unwrap().clone());
            assert_eq!(create(&vault, "videos/create", &[JSON], body.to_string()).await.0, status);
            assert_eq!(refs(&vault).await, 0, "{status}");
        }
        if status == 412 {
            assert_eq!(metric("provider_accounts_without_credits").await, "2");
            assert_eq!(provider_word().await, "an account is out of credits");
        }
    }
    assert_eq!(metric("provider_accounts_on_hold").await, "2");
    assert_eq!(provider_word().await, "an account is on hold");
    // A job is made again, or perhaps: the ref stays.
    create(&vault, "videos/create", &[JSON], json!({"seed": 200, "account": "730015522"}).to_string()).await;
    assert_eq!(metric("provider_accounts_without_credits").await, "1");
    create(&vault, "videos/create", &[JSON], json!({"seed": 504}).to_string()).await;
    assert_eq!(refs(&vault).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_over_a_web_socket_is_archived_once_listed() {
    let simulator = Simulator::start(Config::default()).await.unwrap();
    let vault = vault(&simulator.base_url()).await;
    let made = create(&vault, "audio/create-stream", &[JSON], r#"{"text":"hello","voice_id":"1"}"#).await;
    let made: Value = serde_json::from_str(&made.1).unwrap();
    let path = format!("/v1/minimax/audio/wss?token={}", made["token"].as_str().unwrap());
    let (mut socket, _) = WebSocket::open(vault.running().address(), &path).await.ok().unwrap();
    socket.send(actix_http::ws::OpCode::Text, made["payload"].to_string().as_bytes()).await;
    while let Some((_, data)) = socket.receive().await {
        if data.windows(10).any(|part| part == b"\"status\":2") {
            break;
        }
    }
    drop(socket);
    let listed = async {
        loop {
            let jobs = vault.get("/api/v1/jobs?kind=speech").await.1;
            if let Some(job) = jobs["items"].as_array().and_then(|items| items.first()) {
                return job["jobId"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let id = tokio::time::timeout(PATIENCE, listed).await.expect("nobody looked for it");
    assert_eq!(vault.archived(&id).await["kind"], "speech");
    simulator.stop().await;
}
