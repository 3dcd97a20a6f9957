//! Heads that are too large or never whole, and answers that nobody reads.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::{address, path, until_cut};
use crate::support::child::Program;
use crate::support::media::MediaServer;
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nhost: vault\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_taken_up_to_16_kib_and_refused_beyond() {
    let vault = Vault::start().await;
    for (bytes, status) in [(12_000, "200"), (40_000, "431"), (400_000, "431")] {
        for before in ["", "GET /healthz HTTP/1.1\r\nhost: vault\r\n\r\n"] {
            let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
            if !before.is_empty() {
                socket.write_all(before.as_bytes()).await.unwrap();
                sleep(Duration::from_millis(50)).await;
            }
            let lines = "x: y\r\n".repeat(50);
            let head = format!("{HEALTHZ}x-long: {}\r\n{lines}connection: close\r\n\r\n", "a".repeat(bytes));
            let head = if status == "200" { head.replace(&lines, "") } else { head };
            let _ = socket.write_all(head.as_bytes()).await;
            let answer = until_cut(socket).await;
            let last = answer.rsplit("HTTP/1.1 ").next().unwrap();
            // The answer may be lost when the connection ends with the rest of the head unread.
            let is_cut = answer.is_empty() || last.starts_with("200") && !before.is_empty();
            assert!(last.starts_with(status) || status == "431" && is_cut, "{bytes} {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_later_head_is_answered_408_after_five_seconds() {
    let vault = Vault::start().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    socket.write_all(format!("{HEALTHZ}\r\n").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    socket.write_all(b"GET /heal").await.unwrap();
    let started = Instant::now();
    let answer = until_cut(&mut socket).await;
    assert!(answer.contains("HTTP/1.1 200 ") && answer.contains("HTTP/1.1 408 "), "{answer}");
    assert!((4..12).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_a_chunked_one_has_a_time_of_its_own() {
    let vault = Vault::start().await;
    let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
    let url = vault.channel_url();
    let head = format!("POST {} HTTP/1.1\r\nhost: vault\r\ntransfer-encoding: chunked\r\n\r\n", path(&url));
    socket.write_all(head.as_bytes()).await.unwrap();
    // The body comes by itself, as it does from a proxy that passes it on.
    sleep(Duration::from_millis(200)).await;
    socket.write_all(b"e\r\n{\"loud\": true}\r\n0\r\n\r\n").await.unwrap();
    // A head may take five.
    sleep(Duration::from_secs(6)).await;
    socket.write_all(format!("{HEALTHZ}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let answer = until_cut(&mut socket).await;
    assert!(answer.contains("HTTP/1.1 202 ") && answer.contains("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_never_whole_cost_little_memory() {
    const CONNECTIONS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let process = Program::new(dir.path()).start().await;
    let (before, _) = process.holds();
    let sockets = join_all((0..CONNECTIONS).map(|_| async {
        let mut socket = TcpStream::connect(process.base.strip_prefix("http://").unwrap()).await.unwrap();
        socket.write_all(format!("{HEALTHZ}\r\n").as_bytes()).await.unwrap();
        let mut start = [0; 13];
        socket.read_exact(&mut start).await.unwrap();
        let head = format!("{HEALTHZ}x-long: {}", "a".repeat(120_000));
        let _ = timeout(Duration::from_secs(1), socket.write_all(head.as_bytes())).await;
        socket
    }));
    let sockets = sockets.await;
    let (after, _) = process.holds();
    let each = (after.saturating_sub(before) / CONNECTIONS as u64) >> 10;
    println!("{each} KiB each");
    assert!(each < 80, "{each} KiB each");
    drop(sockets);
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_larger_than_what_is_read_ahead_arrive_whole() {
    let vault = Vault::start().await;
    let body = serde_json::json!({"videoId": video_id(1), "status": 1, "desc": "x".repeat(1_000_000)}).to_string();
    let url = vault.channel_url();
    // Pieces of many sizes, one of which is larger than what is read ahead.
    for sizes in [&[1usize, 7, 100_000, 20_000][..], &[3], &[70_000]] {
        let mut socket = TcpStream::connect(address(&vault)).await.unwrap();
        let head = "HTTP/1.1\r\nhost: vault\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        socket.write_all(format!("POST {} {head}", path(&url)).as_bytes()).await.unwrap();
        let text = if sizes == [3] { &body.replace(&"x".repeat(900_000), "") } else { &body };
        let (mut rest, mut sizes, mut framed) = (text.as_str(), sizes.iter().cycle(), String::new());
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            framed += &format!("{:x}\r\n{piece}\r\n", piece.len());
            rest = left;
        }
        socket.write_all((framed + "0\r\n\r\n").as_bytes()).await.unwrap();
        let answer = until_cut(socket).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_who_takes_next_to_nothing_is_cut_and_a_slow_one_is_not() {
    let longest = Duration::from_secs(5);
    let vault = Vault::start_with(|settings| settings.longest_unread = longest).await;
    let media = MediaServer::start();
    let url = media.generated(1, 24 << 20);
    vault.callback(completed(1, &url)).await;
    let job = vault.archived(&video_id(1)).await;
    let content = format!("/api/v1/media/{}/content", job["assets"][0]["sha256"].as_str().unwrap());
    let request =
        format!("GET {content} HTTP/1.1\r\nhost: vault\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    let open = async |buffer: Option<u32>| {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let mut socket = socket.connect(vault.running().address()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    };
    let drip = async {
        let mut socket = open(Some(16 << 10)).await;
        let mut some = [0; 512];
        let cut = async {
            while let Ok(1..) = socket.read(&mut some).await {
                sleep(Duration::from_millis(300)).await;
            }
        };
        // Far from what it would take for all of it, which is hours.
        timeout(PATIENCE, cut).await.expect("it is not cut");
    };
    let slow = async {
        let mut socket = open(None).await;
        let (mut got, mut some) = (0, vec![0; 1 << 20]);
        // A rest after each MiB, all together longer than nothing may be read: twenty times what it takes not to be cut, for
        // a busy machine.
        while let Ok(length @ 1..) = read_some(&mut socket, &mut some).await {
            got += length;
            sleep(longest / 16).await;
        }
        got
    };
    let ((), got) = tokio::join!(drip, slow);
    assert!(got > 24 << 20, "a slow client got {got} bytes");
}

/// Fills `some`, or reads what is left; how much that is.
async fn read_some(socket: &mut TcpStream, some: &mut [u8]) -> std::io::Result<usize> {
    let mut got = 0;
    while got < some.len() {
        match socket.read(&mut some[got..]).await? {
            0 => break,
            length => got += length,
        }
    }
    Ok(got)
}
