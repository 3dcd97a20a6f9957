//! What calls through the gateway may take up, and for how long, whoever makes them and however slow the disk is.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::provider::{CALLERS_TOKEN, Provider, vault};
use crate::support::child::Program;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

/// Sends a call that creates jobs, but for the last byte of its body.
async fn withhold(vault: &Vault, length: usize) -> TcpStream {
    let mut socket = TcpStream::connect(vault.running().address()).await.unwrap();
    let head = format!(
        "POST /v1/minimax/videos/create HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer {CALLERS_TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = socket.write_all(head.as_bytes()).await;
    // What is not read stays here.
    let _ = timeout(Duration::from_secs(2), socket.write_all(&vec![b' '; length - 1])).await;
    socket
}

/// All that comes until the connection ends, however it ends, in lower case.
async fn until_cut(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it was not cut");
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_body_stops_coming_is_cut_before_its_time_is_over() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({"videoId": video_id(7)})));
    let vault = vault(&provider.base_url).await;
    let answer = until_cut(withhold(&vault, 1000).await).await;
    assert!(answer.starts_with("http/1.1 400 ") && answer.contains("incomplete_body"), "{answer}");
    assert!(answer.contains("less than 16 kib"), "{answer}");
    assert!(provider.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_on_holds_no_memory_while_the_provider_is_silent() {
    // More than the share of one token.
    const CALLS: usize = 40;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (came, mut requests) = unbounded_channel();
    let silent = tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let came = came.clone();
            open.spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\"}") && socket.read_buf(&mut request).await.unwrap() > 0 {}
                let _ = came.send(String::from_utf8(request).unwrap().to_ascii_lowercase());
                std::future::pending::<()>().await;
            });
        }
    });
    let vault = vault(&base).await;
    let mut calls = JoinSet::new();
    for _ in 0..CALLS {
        let call = vault.client.post(vault.url("/v1/minimax/videos/create")).bearer_auth(CALLERS_TOKEN);
        calls.spawn(call.json(&json!({"prompt": "x".repeat(20_000)})).send());
    }
    for number in 0..CALLS {
        let request = timeout(PATIENCE, requests.recv()).await.unwrap_or_else(|_| panic!("{number} came")).unwrap();
        assert!(request.contains("content-length: 20") && !request.contains("transfer-encoding"), "{request}");
    }
    drop(calls);
    silent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_withhold_a_byte_leave_memory_for_the_bodies_of_others() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({"videoId": video_id(7)})));
    let vault = vault(&provider.base_url).await;
    let withheld = join_all((0..100).map(|_| withhold(&vault, 1_000_000))).await;
    let answers = join_all(withheld.into_iter().map(until_cut));
    let others = async {
        for bytes in [10, 900_000] {
            let url = vault.url("/v1/minimax/videos/create");
            let body = json!({"prompt": "x".repeat(bytes)});
            let answer = vault.client.post(url).bearer_auth(TOKEN).json(&body).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{bytes} bytes");
        }
    };
    let (answers, ()) = tokio::join!(answers, others);
    // Not all of them are in memory at a time, and whoever waits is given the place of who sends nothing.
    let is_sent_away = |answer: &String| answer.starts_with("http/1.1 503 ") && answer.contains("retry-after: ");
    assert!(answers.iter().any(is_sent_away), "{answers:#?}");
    assert!(!answers.iter().any(|answer| answer.starts_with("http/1.1 200 ")), "{answers:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_journal_hangs_an_answer_is_handed_on_after_ten_seconds_whatever_it_says() {
    let jobs: Vec<Value> = (1..=100).map(|number| completed(number, "http://127.0.0.1:9/x.mp4")).collect();
    let provider = Provider::start(move |asked| match &*asked.method {
        "POST" => HttpResponse::Ok().json(json!({"token": "of-a-stream"})),
        _ => HttpResponse::Ok().json(&jobs),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("PROVIDER__BASE_URL", provider.base_url.clone());
    program.set("GATEWAY__ENABLED", "true".to_owned());
    program.set("GATEWAY__ADOPT_LISTED", "true".to_owned());
    program.set("GATEWAY__PROVIDER_TOKENS", format!("[{CALLERS_TOKEN:?}]"));
    program.failure_points = "journal.sync=1*off->sleep(100000)".to_owned();
    let process = program.start().await;
    assert_eq!(process.post(&json!({"videoId": video_id(200), "status": 1})).await, Some(200));
    let began = Instant::now();
    let call = async |method: &str, path: &str| {
        let request = process.client.request(method.parse().unwrap(), format!("{}/v1/minimax/{path}", process.base));
        let request = if method == "POST" { request.json(&json!({"text": "x", "voice_id": "1"})) } else { request };
        let answer = request.bearer_auth(CALLERS_TOKEN).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (stream, list) = tokio::join!(call("POST", "audio/create-stream"), call("GET", "videos"));
    assert_eq!(stream, (200, json!({"token": "of-a-stream"})));
    assert_eq!((list.0, list.1.as_array().map(Vec::len)), (200, Some(100)));
    // One by one they would take more than a minute, and the disk as long.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    process.kill();
}
