//! Bodies that nobody wants.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::{address, path, until_cut};
use crate::support::vault::{TOKEN, Vault};

/// When a connection has to be cut at the latest.
const CUT: Duration = Duration::from_secs(5);
/// What a sender may get rid of until then: what the service reads, and what the system takes into its buffers.
const BUFFERS: usize = 16 << 20;

/// How a sender fared.
#[derive(Debug)]
struct Fared {
    answer: String,
    sent: usize,
    cut_after: Duration,
}

/// Sends `chunk` with `pause` in between until the connection is cut.
async fn send_without_end(vault: &Vault, head: &str, chunk: &[u8], pause: Duration) -> Fared {
    let (answers, mut requests) = TcpStream::connect(address(vault)).await.unwrap().into_split();
    let started = Instant::now();
    requests.write_all(head.as_bytes()).await.unwrap();
    let answer = tokio::spawn(until_cut(answers));
    let mut sent = 0;
    let sending = async {
        while requests.write_all(chunk).await.is_ok() {
            sent += chunk.len();
            sleep(pause).await;
        }
    };
    timeout(Duration::from_secs(20), sending).await.unwrap_or_else(|_| panic!("{head}: never cut"));
    Fared { answer: answer.await.unwrap(), sent, cut_after: started.elapsed() }
}

fn chunked(request: &str, more: &str) -> String {
    format!("{request} HTTP/1.1\r\nhost: vault\r\ntransfer-encoding: chunked\r\n{more}\r\n")
}

/// Requests that are answered before their body is read, and the status.
fn unwanted(vault: &Vault) -> Vec<(String, &'static str)> {
    let channel = vault.channel_url();
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    vec![
        (chunked("POST /reply/minimax/AAAA", ""), "401"),
        (chunked(&format!("GET {}", path(&channel)), ""), "405"),
        (chunked(&format!("POST {}", path(&channel)), ""), "413"),
        (chunked("POST /api/v1/refs", ""), "401"),
        (chunked("POST /api/v1/refs", &bearer), "413"),
        (chunked("GET /api/v1/stats", &bearer), "200"),
        (chunked("GET /healthz", ""), "200"),
        (chunked("HEAD /healthz", ""), "200"),
        (chunked("POST /nowhere", ""), "404"),
        ("POST /reply/minimax/AAAA HTTP/1.1\r\nhost: vault\r\ncontent-length: 999999999999\r\n\r\n".to_owned(), "401"),
        (format!("POST {} HTTP/1.1\r\nhost: vault\r\ncontent-length: 999999999\r\n\r\n", path(&channel)), "413"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_nobody_reads_is_cut_soon_and_after_few_bytes() {
    let vault = Vault::start_with(|settings| settings.intake.max_callback_size = 1 << 20).await;
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
    for (head, status) in unwanted(&vault) {
        let fared = send_without_end(&vault, &head, &chunk, Duration::ZERO).await;
        let summary = (head.lines().next(), fared.answer.get(..12), fared.sent, fared.cut_after);
        println!("{summary:?}");
        assert!(fared.answer.starts_with(&format!("HTTP/1.1 {status} ")), "{summary:?}");
        assert!(fared.cut_after < CUT && fared.sent < BUFFERS, "{summary:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_nobody_reads_is_cut_soon_although_it_comes_slowly() {
    let vault = Vault::start().await;
    let senders = unwanted(&vault).into_iter().filter(|(_, status)| *status != "413").map(|(head, status)| {
        let vault = &vault;
        async move {
            let fared = send_without_end(vault, &head, b"1\r\nx\r\n", Duration::from_millis(100)).await;
            assert!(fared.answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{fared:?}");
            assert!(fared.cut_after < CUT, "{head}{fared:?}");
        }
    });
    futures_util::future::join_all(senders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_client_gets_the_answer_at_once_and_the_whole_of_it() {
    let vault = Vault::start().await;
    let body = format!("8000\r\n{}\r\n0\r\n\r\n", "x".repeat(32768));
    for (head, status) in unwanted(&vault).into_iter().filter(|(head, _)| head.contains("chunked")) {
        // One that sends all before it reads, one that waits for the answer first.
        for patient in [false, true] {
            if status == "413" {
                continue;
            }
            let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
            let head = head.replace("host: vault", "host: vault\r\nconnection: close");
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut start = [0; 12];
            if patient && !head.starts_with("HEAD") {
                timeout(Duration::from_secs(1), socket.read_exact(&mut start)).await.expect("no answer yet").unwrap();
            }
            socket.write_all(body.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // No reset: it ends as it should.
            timeout(CUT, socket.read_to_end(&mut answer)).await.unwrap().unwrap();
            let answer = [if patient && !head.starts_with("HEAD") { &start[..] } else { &[] }, &answer].concat();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = length.is_none_or(|length| body.is_empty() || length.parse::<usize>().unwrap() == body.len());
            assert!(whole, "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_bodies_were_read_goes_on() {
    let vault = Vault::start().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    let url = vault.channel_url();
    for _ in 0..3 {
        let head = chunked(&format!("POST {}", path(&url)), "");
        socket.write_all(format!("{head}9\r\nnot json!\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        let mut some = [0; 4096];
        let length = timeout(CUT, socket.read(&mut some)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&some[..length]);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid_json"), "{answer}");
    }
}
