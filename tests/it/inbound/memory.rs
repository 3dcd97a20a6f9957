//! What bodies may take up, whoever sends them and however slow the disk is.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{address, path, until_cut};
use crate::support::child::Program;
use crate::support::vault::{PATIENCE, Vault, completed, video_id};

/// How long an honest client may wait meanwhile on a busy machine: half of what a whole body may take.
const SOON: Duration = Duration::from_secs(15);

/// A body of a callback with about so many bytes.
fn body(number: u64, bytes: usize) -> Vec<u8> {
    format!("{{\"videoId\":\"{}\",\"status\":1,\"desc\":\"{}\"}}", video_id(number), "x".repeat(bytes)).into_bytes()
}

/// Sends all of a request but its last byte.
async fn withhold(address: &str, url: &str, body: &[u8]) -> TcpStream {
    send_part(address, url, &body[..body.len() - 1], body.len()).await
}

/// Sends what begins a body of `length` bytes.
async fn send_part(address: &str, url: &str, part: &[u8], length: usize) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {} HTTP/1.1\r\nhost: vault\r\ncontent-length: {length}\r\n\r\n", path(url));
    let _ = socket.write_all(head.as_bytes()).await;
    // What is not read stays here.
    let _ = timeout(Duration::from_secs(2), socket.write_all(part)).await;
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_who_withhold_a_byte_keep_nobody_waiting() {
    let vault = Vault::start().await;
    let url = vault.channel_url();
    let (large, small) = (body(1, 1_000_000), body(2, 10_000));
    for withheld in [&large, &small] {
        let held = (0..100).map(|_| withhold(address(&vault).leak(), &url, withheld));
        let held = join_all(held).await;
        for bytes in [500, 900_000] {
            let started = Instant::now();
            let (status, answer) = vault.post(&url, body(3, bytes)).await;
            assert_eq!(status, 200, "{answer}");
            assert!(started.elapsed() < SOON, "{bytes} bytes waited {:?}", started.elapsed());
        }
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_are_made_to_be_searched_long_keep_nobody_waiting() {
    let vault = Vault::start().await;
    let (_, of_ref) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "one"})).await;
    let url = vault.channel_url();
    let long = json!({"videoId": video_id(1), "status": 1, "statusLabel": "@".repeat(1_000_000)});
    let mut deep = json!({"videoId": video_id(2)});
    let escaped = format!("{}%{}2f", ":".repeat(115_000), "25".repeat(11));
    for name in ["status", "statusLabel", "message", "error", "desc", "modelID", "resolution", "aspectRatio", "batchID"]
    {
        deep[name] = escaped.clone().into();
    }
    let costly = [long, deep].map(|body| vault.post(&url, body.to_string()));
    let small = async {
        let started = Instant::now();
        let (status, answer) = vault.post(of_ref["replyUrl"].as_str().unwrap(), body(3, 500)).await;
        assert_eq!(status, 200, "{answer}");
        assert!(started.elapsed() < SOON, "it waited {:?}", started.elapsed());
    };
    let both = async { tokio::join!(join_all(costly), small) };
    let (answers, ()) = timeout(PATIENCE, both).await.expect("a text is searched for too long");
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_coming_is_cut_before_its_time_is_over() {
    let vault = Vault::start().await;
    let started = Instant::now();
    let socket = withhold(&address(&vault), &vault.channel_url(), &body(1, 1000)).await;
    let answer = until_cut(socket).await;
    assert!(answer.contains("incomplete_body") && answer.contains("less than 16 KiB"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refs_slow_senders_leave_memory_for_other_targets() {
    let vault = Vault::start().await;
    let (_, of_one) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "one"})).await;
    let of_one = of_one["replyUrl"].as_str().unwrap().to_owned();
    let mut slow = JoinSet::new();
    for number in 0..100 {
        let (address, url, body) = (address(&vault), of_one.clone(), body(number, 1_000_000));
        slow.spawn(async move {
            let mut socket = send_part(&address, &url, &body[..100_000], body.len()).await;
            // Fast enough not to be cut for slowness.
            for piece in body[100_000..].chunks(20_000) {
                sleep(Duration::from_millis(500)).await;
                if socket.write_all(piece).await.is_err() {
                    return;
                }
            }
        });
    }
    sleep(Duration::from_secs(2)).await;
    // Had they all of it, whoever else comes would be sent away after ten seconds.
    for number in 0..5 {
        let (status, answer) = vault.post(&vault.channel_url(), body(1000 + number, 900_000)).await;
        assert_eq!(status, 200, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_wait_for_a_slow_disk_stay_within_their_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.failure_points = "journal.sync=1*off->sleep(3000)".to_owned();
    let process = program.start().await;
    assert_eq!(process.post(&completed(1, "http://127.0.0.1:9/x.mp4")).await, Some(200));
    let (before, _) = process.holds();
    let mut senders = JoinSet::new();
    for number in 0..200 {
        let (client, url) = (process.client.clone(), process.channel_url());
        senders
            .spawn(async move { client.post(url).body(body(number, 1_000_000)).send().await.map(|got| got.status()) });
    }
    let mut most = 0;
    let watch = async {
        while let Some(sent) = senders.join_next().await {
            // The answer may be lost to who is still sending, and a busy machine sends late.
            if let Ok(status) = sent.unwrap() {
                assert!([200, 408, 503].contains(&status.as_u16()), "{status}");
            }
        }
    };
    tokio::pin!(watch);
    loop {
        tokio::select! {
            () = &mut watch => break,
            () = sleep(Duration::from_millis(50)) => most = most.max(process.holds().0),
        }
    }
    let grown = most.saturating_sub(before) >> 20;
    println!("{grown} MiB more than before");
    assert!(grown < 160, "{grown} MiB");
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_is_answered_503_and_readiness_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.failure_points = "journal.sync=1*off->1*sleep(20000)->off".to_owned();
    let process = program.start().await;
    let callback = |number| completed(number, "http://127.0.0.1:9/x.mp4");
    assert_eq!(process.post(&callback(1)).await, Some(200));
    let started = Instant::now();
    let sent = join_all((2..5).map(|number| {
        let request = process.client.post(process.channel_url()).body(callback(number).to_string());
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
        }
    }));
    let ready = async {
        sleep(Duration::from_secs(7)).await;
        let answer = process.client.get(format!("{}/readyz", process.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };
    let (sent, (status, readiness)) = tokio::join!(sent, ready);
    assert_eq!(sent, [(503, true); 3]);
    assert!((9..18).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(status, 503, "{readiness}");
    assert_eq!(readiness["checks"]["journal"], "a write is under way for more than 5 s");
    // It was late, and not lost.
    for number in 1..5 {
        process.job_in(&video_id(number), "archiving").await;
    }
    let well = async {
        while process.touch("/readyz").await != Some(200) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, well).await.expect("it stays unavailable");
    assert_eq!(process.terminate().await, Some(0));
}
