//! Many callbacks at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use reqwest::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::audit::{Wanted, audit};
use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{PATIENCE, Vault, completed};

const CALLBACKS: u64 = 2000;
const CONNECTIONS: u64 = 64;
/// Every so many jobs have the same bytes.
const DIFFERENT: u64 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_final_callbacks_at_once_all_end_archived_without_a_duplicate() {
    let media = MediaServer::start();
    for number in 0..DIFFERENT {
        media.put(&format!("/{number}.mp4"), mp4(number, 2000), "video/mp4");
    }
    let vault = Arc::new(Vault::start().await);
    let next = Arc::new(AtomicU64::new(0));
    let mut senders = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (vault, next, base) = (vault.clone(), next.clone(), media.url(""));
        senders.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= CALLBACKS {
                    return;
                }
                let body = completed(number, &format!("{base}/{}.mp4", number % DIFFERENT)).to_string();
                // Where the machine cannot keep up, a caller is told so after ten seconds, and sends it again.
                let answer = loop {
                    match vault.post(&vault.channel_url(), body.clone()).await {
                        (StatusCode::SERVICE_UNAVAILABLE, _) => {}
                        (_, answer) => break answer,
                    }
                };
                assert_eq!(answer["final"], true, "{answer}");
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    // However slow the machine is, it must go on.
    let mut last = (json!(0), Instant::now());
    while last.0 != json!(CALLBACKS) {
        let stats = vault.get("/api/v1/stats").await.1;
        let archived = &stats["jobs"]["archived"];
        if *archived != last.0 {
            last = (archived.clone(), Instant::now());
        }
        assert!(last.1.elapsed() < PATIENCE, "{stats:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let keys = vault.keys().await;
    let manifests = keys.iter().filter(|key| key.ends_with("/manifest.json")).count() as u64;
    let objects: Vec<_> = keys.iter().filter(|key| key.ends_with("/video.mp4")).collect();
    let mut different = HashSet::new();
    for key in &objects {
        different.insert(vault.object(key).await);
    }
    assert_eq!((manifests, objects.len() as u64, different.len() as u64), (CALLBACKS, DIFFERENT, DIFFERENT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing_that_was_accepted() {
    let (dir, media) = (tempfile::tempdir().unwrap(), Arc::new(MediaServer::start()));
    let program = Program::new(dir.path());
    let next = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(Mutex::new(Wanted::new()));
    for _ in 0..3 {
        let process = Arc::new(program.start().await);
        let started = next.load(Ordering::Relaxed);
        let mut senders = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (process, media, next) = (process.clone(), media.clone(), next.clone());
            let acknowledged = acknowledged.clone();
            senders.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let file = (number % DIFFERENT, 20_000);
                    match process.post(&completed(number, &media.generated(file.0, file.1))).await {
                        Some(200) => acknowledged.lock().unwrap().insert(number, file),
                        Some(503) => None,
                        Some(other) => panic!("{other}"),
                        None => return,
                    };
                }
            });
        }
        while next.load(Ordering::Relaxed) < started + 700 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
        while let Some(sender) = senders.join_next().await {
            sender.unwrap();
        }
    }
    let wanted = std::mem::take(&mut *acknowledged.lock().unwrap());
    audit(program.start().await, &wanted, &dir.path().join("bucket")).await.check();
}
