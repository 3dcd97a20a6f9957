//! What passes through the gateway while it is still coming.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::iter;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::provider::vault;
use crate::support::accept;
use crate::support::vault::{PATIENCE, TOKEN, video_id};

/// A provider that deals with each connection as `serve` says, once the head of its first request is read.
async fn raw<F>(serve: impl Fn(String, TcpStream) -> F + Send + Sync + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        loop {
            let mut stream = accept(&listener).await;
            let serve = serve.clone();
            tokio::spawn(async move {
                // A client may open a connection that it then has no use for.
                if let Some(head) = head_if_any(&mut stream).await {
                    serve(head, stream).await;
                }
            });
        }
    });
    base_url
}

async fn head_if_any(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn head(stream: &mut TcpStream) -> String {
    head_if_any(stream).await.expect("the connection ended")
}

const EVENT_STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_they_are_made_and_tell_of_their_job() {
    let (next, waiting) = tokio::sync::watch::channel(0);
    let base_url = raw(move |head, mut stream| {
        let mut waiting = waiting.clone();
        async move {
            assert!(head.starts_with("POST /v1/minimax/videos/agent-create HTTP/1.1\r\n"), "{head}");
            let image = "https://cdn.hailuoai.video/car.png";
            let events = [
                json!({"status": "created", "videoId": video_id(5), "code": 200}).to_string(),
                json!({"status": "progress", "message": {"attachmentInfo": {"attachments": [{"file": {"fileUrl": image}, "status": 3}]}}}).to_string(),
                json!({"status": "finished", "videoId": video_id(5)}).to_string(),
            ];
            stream.write_all(EVENT_STREAM).await.unwrap();
            for (number, event) in events.iter().enumerate() {
                waiting.wait_for(|allowed| *allowed >= number).await.unwrap();
                stream.write_all(format!("data: {event}\n\n").as_bytes()).await.unwrap();
            }
        }
    });
    let vault = vault(&base_url.await).await;
    let request = vault.client.post(vault.url("/v1/minimax/videos/agent-create")).bearer_auth(TOKEN);
    let mut response = request.json(&json!({"templateId": "1", "replyRef": "car"})).send().await.unwrap();
    let mut seen = String::new();
    for number in 0..3 {
        // Nothing more is sent until this has arrived.
        while seen.matches("\n\n").count() <= number {
            let piece = timeout(PATIENCE, response.chunk()).await.unwrap().unwrap().expect("the stream ended");
            seen.push_str(std::str::from_utf8(&piece).unwrap());
        }
        next.send(number + 1).unwrap();
    }
    assert!(seen.starts_with("data: {") && seen.contains("\"finished\""));
    let job = vault.job_in(&video_id(5), &["running"]).await;
    assert_eq!((&job["replyRef"], &job["assets"]), (&json!("car"), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_many_lines_is_read_once_and_tells_of_its_job() {
    let lines = "data:null,\n".repeat(200_000);
    let begin = format!("data: {{\"status\":\"created\",\"videoId\":\"{}\",\"x\":[\n", video_id(5));
    let event = format!("{begin}{lines}data: 0]}}\n\n");
    let sent = event.clone();
    let base_url = raw(move |_, mut stream| {
        let sent = sent.clone();
        async move {
            stream.write_all(EVENT_STREAM).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            // What it was asked with must not be left unread, or the connection is reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
        }
    });
    let vault = vault(&base_url.await).await;
    let request = vault.client.post(vault.url("/v1/minimax/videos/agent-create")).bearer_auth(TOKEN);
    let request = request.json(&json!({"templateId": "1", "replyRef": "car"}));
    let passed = timeout(PATIENCE, async { request.send().await.unwrap().text().await.unwrap() }).await;
    assert!(passed.expect("it is read again with each line") == event);
    assert_eq!(vault.job_in(&video_id(5), &["running"]).await["replyRef"], "car");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_and_a_large_download_pass() {
    const SIZE: u64 = 200 << 20;
    let base_url = raw(|head, mut stream| async move {
        if head.starts_with("POST") {
            assert!(head.contains(&format!("content-length: {SIZE}\r\n")), "{head}");
            let mut sum = 0_u64;
            let mut left = SIZE;
            let mut piece = vec![0; 1 << 16];
            while left > 0 {
                let length = stream.read(&mut piece).await.unwrap();
                assert!(length > 0, "cut off");
                sum += piece[..length].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                left -= length as u64;
            }
            let body = json!({"sum": sum}).to_string();
            let close = "Connection: close\r\n";
            let answer = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        } else {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..SIZE >> 20 {
                stream.write_all(&[3; 1 << 20]).await.unwrap();
            }
        }
    });
    let vault = vault(&base_url.await).await;
    let url = vault.url("/v1/minimax/files/?account=1");
    let pieces = iter(std::iter::repeat_n(Bytes::from(vec![2_u8; 1 << 20]), (SIZE >> 20) as usize));
    let body = reqwest::Body::wrap_stream(futures_util::StreamExt::map(pieces, Ok::<_, std::io::Error>));
    let request = vault.client.post(&url).bearer_auth(TOKEN).header("Content-Type", "image/png");
    let answer: serde_json::Value =
        request.header("Content-Length", SIZE).body(body).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["sum"], 2 * SIZE);

    let mut response = vault.client.get(&url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(response.content_length(), Some(SIZE));
    let mut length = 0;
    while let Some(piece) = response.chunk().await.unwrap() {
        assert!(piece.iter().all(|byte| *byte == 3));
        length += piece.len() as u64;
    }
    assert_eq!(length, SIZE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_is_cut_off_here_too() {
    let base_url = raw(|_, mut stream| async move {
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nContent-Length: 100\r\n\r\nhalf";
        stream.write_all(answer).await.unwrap();
    });
    let vault = vault(&base_url.await).await;
    let response = vault.client.get(vault.url("/v1/minimax/files")).bearer_auth(TOKEN).send().await.unwrap();
    assert!(response.headers().get("x-hop").is_none());
    assert!(response.bytes().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_its_caller_breaks_off_is_none_to_the_provider() {
    let (begins, mut begun) = tokio::sync::mpsc::channel(1);
    let (ends, mut ended) = tokio::sync::mpsc::channel(1);
    let base_url = raw(move |_, mut stream| {
        let (begins, ends) = (begins.clone(), ends.clone());
        async move {
            let mut got = Vec::new();
            while !got.ends_with(b"half\r\n") {
                got.push(stream.read_u8().await.unwrap());
            }
            begins.send(String::from_utf8(got).unwrap()).await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            ends.send(rest).await.unwrap();
        }
    });
    let vault = vault(&base_url.await).await;
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut stream = TcpStream::connect(vault.running().address()).await.unwrap();
        let request = format!(
            "POST /v1/minimax/files HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer {TOKEN}\r\n{head}\r\n\r\n4\r\nhalf\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = timeout(PATIENCE, begun.recv()).await.unwrap().unwrap();
        drop(stream);
        let rest = timeout(PATIENCE, ended.recv()).await.unwrap().unwrap();
        assert!(got.ends_with("half\r\n") && rest.is_empty(), "{head}: {got:?} {rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speech_streams_token_opens_it_after_a_restart_and_without_the_state() {
    let base_url = raw(|head, mut stream| async move {
        let body = r#"{"token":"speech","payload":{}}"#;
        let created = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let answer = if head.starts_with("POST") { &created } else { switch };
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let mut vault = vault(&base_url.await).await;
    let create = vault.client.post(vault.url("/v1/minimax/audio/create-stream")).bearer_auth(TOKEN);
    assert_eq!(create.json(&json!({"text": "x"})).send().await.unwrap().status(), 200);
    for keeps_state in [true, true, false] {
        let (known, unknown) = (opened(&vault, "speech").await, opened(&vault, "another").await);
        assert!(known.starts_with("HTTP/1.1 101") && unknown.starts_with("HTTP/1.1 401"), "{known} {unknown}");
        vault.stop().await;
        if !keeps_state {
            std::fs::remove_dir_all(vault.settings.data_dir.join("state")).unwrap();
        }
        vault.start_again().await;
        vault.running().ready().await;
    }
    assert!(opened(&vault, "speech").await.starts_with("HTTP/1.1 101"));
}

/// The head of the answer to a speech stream's token.
async fn opened(vault: &crate::support::vault::Vault, token: &str) -> String {
    let mut stream = TcpStream::connect(vault.running().address()).await.unwrap();
    let request = format!(
        "GET /v1/minimax/audio/wss?token={token} HTTP/1.1\r\nHost: vault\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: abc\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    timeout(PATIENCE, head(&mut stream)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_passes_with_a_token_that_was_given_here() {
    let base_url = raw(|head, mut stream| async move {
        if head.starts_with("POST /v1/minimax/audio/create-stream") {
            let body = json!({"token": "speech token/1", "payload": {}}).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            return stream.write_all(answer.as_bytes()).await.unwrap();
        }
        assert!(head.starts_with("GET /v1/minimax/audio/wss?token=speech%20token%2F1 HTTP/1.1\r\n"), "{head}");
        let lower = head.to_ascii_lowercase();
        assert!(lower.contains("upgrade: websocket\r\n") && lower.contains("sec-websocket-key: abc\r\n"), "{head}");
        assert!(!lower.contains("authorization"), "{head}");
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: xyz\r\n\r\nhello";
        stream.write_all(switch.as_bytes()).await.unwrap();
        let mut piece = [0; 4];
        while stream.read_exact(&mut piece).await.is_ok() {
            stream.write_all(&piece.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
        }
    });
    let vault = vault(&base_url.await).await;
    let address = vault.running().address();
    let ask = async |token: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /v1/minimax/audio/wss?token={token} HTTP/1.1\r\nHost: vault\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = timeout(PATIENCE, head(&mut stream)).await.unwrap();
        (head, stream)
    };
    let (refused, _) = ask("speech%20token%2F1").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let create = vault.client.post(vault.url("/v1/minimax/audio/create-stream")).bearer_auth(TOKEN);
    assert_eq!(create.json(&json!({"text": "x"})).send().await.unwrap().status(), 200);
    let (refused, _) = ask("another").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");

    let (accepted, mut stream) = ask("speech%20token%2F1").await;
    assert!(accepted.starts_with("HTTP/1.1 101"), "{accepted}");
    assert!(accepted.to_ascii_lowercase().contains("sec-websocket-accept: xyz\r\n"), "{accepted}");
    let mut piece = [0; 5];
    timeout(PATIENCE, stream.read_exact(&mut piece)).await.unwrap().unwrap();
    assert_eq!(&piece, b"hello");
    for said in [b"abcd", b"\0\xffxy"] {
        stream.write_all(said).await.unwrap();
        let mut piece = [0; 4];
        timeout(PATIENCE, stream.read_exact(&mut piece)).await.unwrap().unwrap();
        assert_eq!(piece, said.map(|byte| byte.to_ascii_uppercase()));
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty());
}
