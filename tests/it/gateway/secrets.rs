//! Nothing of a token that passes reaches log or disk.

use std::path::Path;

use replyvault::simulator::{Config, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::provider::{CALLERS_TOKEN, PROVIDER_TOKEN};
use crate::support::child::{Process, Program, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn no_token_reaches_the_log_or_the_disk() {
    let simulator = Simulator::start(Config::default()).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("PROVIDER__BASE_URL", simulator.base_url());
    program.set("PROVIDER__API_TOKEN", PROVIDER_TOKEN.to_owned());
    program.set("GATEWAY__ENABLED", "true".to_owned());
    program.set("GATEWAY__PROVIDER_TOKENS", format!("[{CALLERS_TOKEN:?}]"));
    program.set("LOG", "trace".to_owned());
    let process = program.start().await;
    let mut tokens = [TOKEN, PROVIDER_TOKEN, CALLERS_TOKEN, "a-token-nobody-knows"].map(str::to_owned).to_vec();
    for token in [TOKEN, CALLERS_TOKEN, "a-token-nobody-knows"] {
        let post = async |path: &str| -> Value {
            let url = format!("{}/v1/minimax/{path}", process.base);
            let body = json!({"prompt": "x", "text": "x", "voice_id": "1"});
            process.client.post(url).bearer_auth(token).json(&body).send().await.unwrap().json().await.unwrap()
        };
        post("videos/create").await;
        if let Some(speech) = post("audio/create-stream").await["token"].as_str() {
            assert_eq!(speak(&process, speech).await, "HTTP/1.1 101");
            tokens.push(speech.to_owned());
        }
    }
    assert_eq!(speak(&process, "a-token-nobody-knows").await, "HTTP/1.1 401");
    assert_eq!(process.terminate().await, Some(0));
    assert!(process.log().contains("passed on"), "the log is not as detailed as it was meant to be");
    assert_eq!(tokens.len(), 6);
    let mut looked_at = 0;
    look(dir.path(), &tokens, &mut looked_at);
    assert!(looked_at > 3, "log, journal and state were meant to be looked at");
}

/// Opens a speech stream; the beginning of the answer.
async fn speak(process: &Process, token: &str) -> String {
    let mut stream = TcpStream::connect(process.base.trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "GET /v1/minimax/audio/wss?token={token} HTTP/1.1\r\nHost: vault\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    String::from_utf8(status.to_vec()).unwrap()
}

fn look(folder: &Path, tokens: &[String], looked_at: &mut usize) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            look(&path, tokens, looked_at);
            continue;
        }
        *looked_at += 1;
        let bytes = std::fs::read(&path).unwrap();
        for token in tokens {
            let found = memchr::memmem::find(&bytes, token.as_bytes());
            let around = found.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at]).into_owned());
            assert_eq!(around, None, "{token} is in {}", path.display());
        }
    }
}
