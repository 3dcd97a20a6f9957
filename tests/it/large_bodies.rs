//! Callbacks with files in them: through the disk on their way in, and in memory one at a time ever after.

use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use replyvault::domain::Digest;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::child::Program;
use crate::support::media::png_of;
use crate::support::vault::{PATIENCE, Vault, completed, video_id};

const FIXTURE: &str = include_str!("../../src/provider/apis/fixtures/google-flow-image-inline.json");

/// A picture of so many bytes, unlike that of any other seed.
fn picture(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    png_of(&noise.take(bytes / 8).flatten().collect::<Vec<_>>())
}

fn flow_id(number: u64) -> String {
    format!("j17951726{number:05}i-u4821-email:studio@example.com-bot:google-flow")
}

/// A job of Google Flow whose images stand in the body.
fn flow(number: u64, pictures: &[Vec<u8>]) -> Value {
    let mut body: Value = serde_json::from_str(FIXTURE).unwrap();
    body["jobid"] = json!(flow_id(number));
    let one = body["response"]["media"][0].clone();
    let media = pictures.iter().enumerate().map(|(place, picture)| {
        let mut one = one.clone();
        one["name"] = json!(format!("07182930-5e6f-4071-8c23-{place:012}"));
        one["image"]["generatedImage"]["encodedImage"] = json!(BASE64_STANDARD.encode(picture));
        one
    });
    body["response"]["media"] = media.collect();
    body
}

fn path_of(id: &str) -> String {
    let id: String = id
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("/api/v1/jobs/{id}")
}

/// A running video's body of about so many bytes.
fn running(number: u64, bytes: usize) -> String {
    format!("{{\"videoId\":\"{}\",\"status\":1,\"desc\":\"{}\"}}", video_id(number), "x".repeat(bytes))
}

async fn archived(vault: &Vault, id: &str) -> Value {
    let wait = async {
        loop {
            let (_, job) = vault.get(&path_of(id)).await;
            if job["state"] == "archived" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(job) => job,
        Err(_) => panic!("{:#}", vault.get(&path_of(id)).await.1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_in_a_body_of_20_mib_are_archived_byte_for_byte_with_a_manifest_of_usual_size() {
    let vault = Vault::start().await;
    let pictures: Vec<_> = (0..4).map(|seed| picture(seed, 4_000_000)).collect();
    let body = flow(1, &pictures).to_string();
    assert!((20 << 20..22 << 20).contains(&body.len()), "{}", body.len());
    let (status, answer) = vault.post(&vault.channel_url(), body.clone()).await;
    assert_eq!(
        (status, &answer["state"], &answer["replyRef"]),
        (StatusCode::OK, &json!("archiving"), &json!("blue-square"))
    );
    let job = archived(&vault, &flow_id(1)).await;
    for (asset, picture) in job["assets"].as_array().unwrap().iter().zip(&pictures) {
        assert_eq!(asset["sha256"], Digest::of(picture).to_string());
        assert!(vault.object(asset["key"].as_str().unwrap()).await == *picture, "other bytes");
    }
    assert_eq!(job["assets"].as_array().unwrap().len(), 4);
    let manifest = vault.manifest(&job).await;
    assert_eq!(manifest["callback"]["response"]["media"][3]["image"]["generatedImage"]["encodedImage"], "…");
    assert_eq!(manifest["callback"]["request"]["seed"], 482_193);
    // The same again is no news, and nothing is left on the way.
    let (status, _) = vault.post(&vault.channel_url(), body).await;
    assert_eq!((status, vault.get(&path_of(&flow_id(1))).await.1["callbacks"].clone()), (StatusCode::OK, json!(2)));
    assert_eq!(std::fs::read_dir(vault.settings.data_dir.join("spool")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_outlives_a_kill_after_the_200_and_one_in_the_middle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::new(dir.path());
    let process = program.start().await;
    let pictures = [picture(1, 6_000_000), picture(2, 6_000_000)];
    let half = flow(2, &pictures).to_string();
    let mut socket = TcpStream::connect(process.base.strip_prefix("http://").unwrap()).await.unwrap();
    let url = process.channel_url();
    let path = &url[process.base.len()..];
    let head = format!("POST {path} HTTP/1.1\r\nhost: v\r\ncontent-length: {}\r\n\r\n", half.len());
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&half.as_bytes()[..half.len() - 10]).await.unwrap();
    assert_eq!(process.post(&flow(1, &pictures)).await, Some(200));
    process.kill();
    let process = program.start().await;
    let wait = async {
        loop {
            match process.get(&path_of(&flow_id(1))).await {
                Some(job) if job["state"] == "archived" => return job,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let job = tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{}", process.log()));
    for (asset, picture) in job["assets"].as_array().unwrap().iter().zip(&pictures) {
        assert_eq!(asset["sha256"], Digest::of(picture).to_string());
    }
    assert_eq!(process.get(&path_of(&flow_id(2))).await, None);
    // A rebuild reads it from the journal again.
    assert_eq!(process.terminate().await, Some(0));
    assert!(program.command(&["rebuild"]).status().unwrap().success());
    let process = program.start().await;
    let job = process.get(&path_of(&flow_id(1))).await.unwrap();
    assert_eq!((&job["state"], job["assets"].as_array().unwrap().len()), (&json!("archived"), 2));
    let spool = std::fs::read_dir(dir.path().join("data/spool")).map_or(0, Iterator::count);
    assert_eq!(spool, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_bodies_at_once_are_sent_away_rather_than_held() {
    let dir = tempfile::tempdir().unwrap();
    let process = Program::new(dir.path()).start().await;
    assert_eq!(process.post(&completed(1, "http://127.0.0.1:9/x.mp4")).await, Some(200));
    let (before, _) = process.holds();
    let body = bytes::Bytes::from(running(1, 24_000_000));
    let mut senders = JoinSet::new();
    for number in 2..42_u64 {
        let id = format!("{}\"", video_id(number));
        let body = [format!("{{\"videoId\":\"{id},\"x\":").into_bytes(), body.to_vec(), b"}".to_vec()].concat();
        let (client, url) = (process.client.clone(), process.channel_url());
        senders.spawn(async move { client.post(url).body(body).send().await.map(|got| got.status().as_u16()) });
    }
    let (mut taken, mut refused) = (0, 0);
    while let Some(sent) = senders.join_next().await {
        match sent.unwrap() {
            Ok(200) => taken += 1,
            // The answer may be lost to who is still sending.
            Ok(429 | 503) | Err(_) => refused += 1,
            Ok(other) => panic!("{other}"),
        }
    }
    assert!(taken >= 1 && refused >= 20, "{taken} {refused}");
    let grown = process.peak_memory().saturating_sub(before) >> 20;
    println!("{taken} of 40 taken; {grown} MiB more than before");
    assert!(grown < 200, "{grown} MiB");
    let (status, _) = (process.post(&completed(99, "http://127.0.0.1:9/x.mp4")).await, ());
    assert_eq!(status, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_callbacks_and_other_senders_are_answered_while_large_ones_trickle() {
    let vault = Vault::start().await;
    let (_, of_one) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "one"})).await;
    let url = of_one["replyUrl"].as_str().unwrap().to_owned();
    let body = running(1, 20_000_000);
    let address = vault.running().address();
    let path = &url[url.find("/reply/").unwrap()..];
    let head = format!("POST {path} HTTP/1.1\r\nhost: v\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut slow = JoinSet::new();
    for _ in 0..20 {
        let (head, body) = (head.clone(), body.clone());
        slow.spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(&body.as_bytes()[..3_000_000]).await.unwrap_or_default();
            // Fast enough not to be cut for slowness.
            for piece in body.as_bytes()[3_000_000..].chunks(60_000) {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if socket.write_all(piece).await.is_err() {
                    break;
                }
            }
            let mut answer = String::new();
            let _ = socket.read_to_string(&mut answer).await;
            answer
        });
    }
    // As many as may be are on their way to the disk, and some were sent away.
    let turned_away = tokio::time::timeout(PATIENCE, slow.join_next()).await.unwrap().unwrap().unwrap();
    assert!(turned_away.is_empty() || turned_away.contains(" 503 "), "{turned_away}");
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let started = Instant::now();
        vault.callback(completed(100 + number, "http://127.0.0.1:9/x.mp4")).await;
        slowest = slowest.max(started.elapsed());
    }
    println!("the slowest of 50 small ones took {slowest:?}");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    // A body of another sender finds room, of middle size and of large.
    for bytes in [500_000, 20_000_000] {
        let (status, answer) = vault.post(&vault.channel_url(), running(200 + bytes as u64, bytes)).await;
        assert_eq!(status, 200, "{answer}");
    }
}

fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_counts_with_what_comes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let process = Program::new(dir.path()).start().await;
    let post =
        async |body: Vec<u8>| process.client.post(process.channel_url()).body(body).send().await.unwrap().status();
    assert_eq!(post(zipped(running(1, 100).as_bytes())).await, 200);
    let (before, _) = process.holds();
    let large = zipped(running(2, 30_000_000).as_bytes());
    assert!(large.len() < 200_000, "{}", large.len());
    assert_eq!(post(large.clone()).await, 200);
    assert_eq!(post(zipped(running(3, 40 << 20).as_bytes())).await, 413);
    let statuses = join_all((0..24).map(|_| post(large.clone()))).await;
    assert!(statuses.iter().all(|status| [200, 503].contains(&status.as_u16())), "{statuses:?}");
    let grown = process.peak_memory().saturating_sub(before) >> 20;
    println!("{grown} MiB more than before");
    assert!(grown < 200, "{grown} MiB");
    // Bare deflate that may be JSON is unpacked within the same bounds.
    let deflated = process.client.post(process.channel_url()).header("content-encoding", "deflate");
    let body = running(4, 20_000_000);
    assert_eq!(deflated.body(body).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_unknown_body_is_shown_without_its_files_and_replayed_whole() {
    let vault = Vault::start().await;
    let body = json!({"unknown": 1, "url": "https://a.example/x?token=1", "file": "A".repeat(12_000_000)}).to_string();
    let (status, answer) = vault.post(&vault.channel_url(), body.clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let path = format!("/api/v1/quarantine/{}", answer["quarantineId"].as_str().unwrap());
    // They are read one at a time; who has waited for ten seconds is told to come again.
    let show = async || loop {
        let shown = vault.get(&path).await;
        if shown.0 != StatusCode::SERVICE_UNAVAILABLE {
            return shown;
        }
    };
    let shown = tokio::time::timeout(PATIENCE, join_all((0..6).map(|_| show()))).await.unwrap();
    for (status, shown) in shown {
        assert_eq!((status, &shown["bytes"]), (StatusCode::OK, &json!(body.len())));
        assert_eq!(shown["body"], json!({"unknown": 1, "url": "https://a.example/x?…", "file": "…"}));
    }
    let (status, again) = vault.send("POST", &format!("{path}/replay"), &Value::Null).await;
    assert_eq!((status, &again["quarantineId"]), (StatusCode::ACCEPTED, &answer["quarantineId"]));
    assert_eq!(vault.get("/api/v1/quarantine").await.1["items"].as_array().unwrap().len(), 1);
}
