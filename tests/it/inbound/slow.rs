//! Senders that take their time, and many at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{address, path, until_cut};
use crate::support::vault::{Vault, completed, video_id};

/// How long an honest client may wait meanwhile; a busy machine is forgiven a little.
const SOON: Duration = Duration::from_secs(1);

/// Sends `text` one byte at a time until it is over or the connection is.
async fn drip(address: String, text: String) {
    let Ok(mut socket) = TcpStream::connect(address).await else { return };
    for byte in text.bytes() {
        if socket.write_all(&[byte]).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_and_forgers_keep_nobody_else_waiting() {
    let vault = Vault::start().await;
    let url = vault.channel_url();
    let mut attack = JoinSet::new();
    for number in 0..600 {
        let head = format!("POST {} HTTP/1.1\r\nhost: vault\r\ncontent-length: 5000\r\n", path(&url));
        let address = address(&vault);
        if number % 2 == 0 {
            attack.spawn(drip(address, head + &"x-more: x\r\n".repeat(100)));
        } else {
            attack.spawn(async move {
                let Ok(mut socket) = TcpStream::connect(address).await else { return };
                if socket.write_all(format!("{head}\r\n").as_bytes()).await.is_ok() {
                    for _ in 0..500 {
                        if socket.write_all(b"x").await.is_err() {
                            return;
                        }
                        sleep(Duration::from_millis(200)).await;
                    }
                }
            });
        }
    }
    let forged = vault.url("/reply/minimax/AAAA");
    for _ in 0..8 {
        let (client, forged) = (vault.client.clone(), forged.clone());
        attack.spawn(async move {
            loop {
                let answer = client.post(&forged).body("{\"videoId\":\"x\"}").send().await;
                assert!(answer.is_ok_and(|answer| answer.status() == 401));
            }
        });
    }
    // A connection of its own, as the provider would come with.
    let honest = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
    let (mut worst_health, mut worst_callback) = (Duration::ZERO, Duration::ZERO);
    let end = Instant::now() + Duration::from_secs(5);
    let mut number = 0;
    while Instant::now() < end {
        let started = Instant::now();
        assert_eq!(honest.get(vault.url("/healthz")).send().await.unwrap().status(), 200);
        worst_health = worst_health.max(started.elapsed());
        let started = Instant::now();
        number += 1;
        let body = completed(number, "http://127.0.0.1:9/x.mp4").to_string();
        assert_eq!(honest.post(&url).body(body).send().await.unwrap().status(), 200);
        worst_callback = worst_callback.max(started.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    println!("{number} rounds; worst /healthz {worst_health:?}, worst callback {worst_callback:?}");
    assert!(worst_health < SOON * 3 && worst_callback < SOON * 3, "{worst_health:?} {worst_callback:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_answered_408_after_five_seconds() {
    let vault = Vault::start().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost:").await.unwrap();
    let started = Instant::now();
    let answer = until_cut(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((4..9).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

/// The head timer of actix-web runs from the connection on.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_opened_ahead_is_served() {
    let vault = Vault::start().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    // A head may take five.
    sleep(Duration::from_secs(6)).await;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: vault\r\nconnection: close\r\n\r\n").await.unwrap();
    let answer = until_cut(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// The head timer of actix-web covers the first head only.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_second_head_does_not_hold_a_connection_for_ever() {
    let longest = Duration::from_secs(2);
    let vault = Vault::start_with(|settings| settings.idle_timeout = longest).await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: vault\r\n\r\nGET /heal").await.unwrap();
    let (started, mut ended) = (Instant::now(), String::new());
    let cut = timeout(Duration::from_secs(15), socket.read_to_string(&mut ended)).await;
    assert!(cut.is_ok(), "it was not cut: {ended}");
    assert!(ended.starts_with("HTTP/1.1 200 ") && started.elapsed() >= longest, "{ended} {:?}", started.elapsed());
    // One with a request being answered is let be, however long that takes.
    let events = vault.client.get(vault.url("/api/v1/events")).bearer_auth(crate::support::vault::TOKEN);
    let mut events = events.send().await.unwrap();
    sleep(longest * 3).await;
    vault.callback(completed(1, "http://127.0.0.1:9/x.mp4")).await;
    let event = timeout(Duration::from_secs(5), events.chunk()).await.expect("no event").unwrap();
    assert!(event.is_some(), "the stream was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_strangers_leave_no_line_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let process = crate::support::child::Program::new(dir.path()).start().await;
    let address = process.base.strip_prefix("http://").unwrap();
    let started = async {
        while !process.log().contains("the bucket was marked") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), started).await.expect("the bucket is not marked");
    let before = process.log().lines().count();
    for request in [
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "\0\r\n\r\n",
        "POST /reply/minimax/AAAA HTTP/1.1\r\nhost: v\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /reply/minimax/AAAA HTTP/1.1\r\nhost: v\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx",
        "GET /api/v1/jobs HTTP/1.1\r\nhost: v\r\nconnection: close\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        assert!(until_cut(&mut socket).await.starts_with("HTTP/1.1 4"), "{request:?}");
    }
    assert_eq!(process.log().lines().count(), before, "{}", process.log());
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_cut_off_at_the_limit_and_nothing_of_it_is_kept() {
    let longest = Duration::from_secs(2);
    let vault = Vault::start_with(|settings| settings.intake.body_time = longest).await;
    let url = vault.channel_url();
    let body = completed(1, "http://127.0.0.1:9/x.mp4").to_string();
    let heads = ["transfer-encoding: chunked".to_owned(), format!("content-length: {}", body.len())];
    let drips = heads.map(|framing| {
        let (address, body) = (address(&vault), body.clone());
        let head = format!("POST {} HTTP/1.1\r\nhost: vault\r\n{framing}\r\n\r\n", path(&url));
        let chunked = framing.contains("chunked");
        async move {
            let (answers, mut requests) = TcpStream::connect(address).await.unwrap().into_split();
            requests.write_all(head.as_bytes()).await.unwrap();
            let started = Instant::now();
            let dripping = tokio::spawn(async move {
                // All but the last byte, and that for far longer than is waited.
                for byte in body.bytes().take(body.len() - 1) {
                    let byte = if chunked { format!("1\r\n{}\r\n", byte as char) } else { (byte as char).to_string() };
                    if requests.write_all(byte.as_bytes()).await.is_err() {
                        return true;
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                false
            });
            let answer = until_cut(answers).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("incomplete_body") && answer.contains("not within 2 seconds"), "{answer}");
            assert!(started.elapsed() >= longest, "{:?}", started.elapsed());
            assert!(dripping.await.unwrap(), "it could go on");
        }
    });
    let honest = async {
        let answer = vault.callback(completed(2, "http://127.0.0.1:9/x.mp4")).await;
        assert_eq!(answer["accepted"], true);
    };
    // Slow, but done in time.
    let slow = async {
        let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
        let body = completed(3, "http://127.0.0.1:9/x.mp4").to_string();
        let length = body.len();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: vault\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
            path(&url)
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        for piece in body.as_bytes().chunks(length / 5) {
            socket.write_all(piece).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        let answer = until_cut(socket).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    tokio::join!(join_all(drips), honest, slow);
    assert_eq!(vault.get(&format!("/api/v1/jobs/{}", video_id(1).replace(':', "%3A"))).await.0, 404);
    let (_, jobs) = vault.get("/api/v1/jobs").await;
    let (_, aside) = vault.get("/api/v1/quarantine").await;
    println!("{jobs}\n{aside}");
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(2), "{jobs}");
    assert_eq!(aside["items"].as_array().map(Vec::len), Some(0), "{aside}");
}
