//! An S3 server that misbehaves: work waits for it, uses up no attempts, and each object ends up there once and whole.

mod keys;
mod refusals;
mod unreadable;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use replyvault::bucket::Limits;
use replyvault::domain::Digest;
use serde_json::json;

use crate::support::media::{MediaServer, mp4};
use crate::support::s3::{Call, Fault, S3Server};
use crate::support::vault::{PATIENCE, TOKEN, Vault, completed, video_id};

const SMALL: usize = 1000;
const LARGE: usize = 12 << 20;

/// A service that has one attempt for each file: whatever counts makes a job stuck.
async fn vault(s3: &S3Server, limits: Limits) -> Vault {
    Vault::start_with(|settings| {
        settings.bucket = s3.config("");
        settings.bucket.limits = limits;
        settings.worker.max_attempts = 1;
    })
    .await
}

/// A store that stalls is given up after two or three seconds.
const IMPATIENT: Limits =
    Limits { silence: Duration::from_secs(1), completion: Duration::from_secs(3), min_speed: 2560 << 10 };

fn is_write(call: &Call) -> bool {
    call.method == Method::PUT || call.method == Method::POST
}

fn is_part(call: &Call) -> bool {
    call.method == Method::PUT && call.query.contains("partNumber=1&")
}

fn is_completion(call: &Call) -> bool {
    call.method == Method::POST && call.query.contains("uploadId=")
}

fn is_single_put(call: &Call) -> bool {
    call.method == Method::PUT && call.query.is_empty() && call.path.ends_with(".mp4")
}

/// `fault` strikes the first `times` requests that are `wanted`. Returns how often it has struck.
fn strike(s3: &S3Server, times: usize, wanted: fn(&Call) -> bool, fault: Fault) -> Arc<AtomicUsize> {
    let struck = Arc::new(AtomicUsize::new(0));
    let count = struck.clone();
    s3.inject(move |call| {
        let strikes = wanted(call) && count.load(Ordering::Relaxed) < times;
        count.fetch_add(usize::from(strikes), Ordering::Relaxed);
        strikes.then_some(fault)
    });
    struck
}

/// A small file and one of several parts get archived while `fault` strikes; neither has used up an attempt, and
/// nothing else is in the bucket.
async fn survives(times: usize, wanted: fn(&Call) -> bool, fault: Fault) {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let stalls = matches!(fault, Fault::Stall | Fault::DoneThenStall);
    let vault = vault(&s3, if stalls { IMPATIENT } else { Limits::default() }).await;
    let struck = strike(&s3, times, wanted, fault);
    for (number, size) in [(1, SMALL), (2, LARGE)] {
        let url = media.put(&format!("/{number}.mp4"), mp4(number, size), "video/mp4");
        vault.callback(completed(number, &url)).await;
    }
    for (number, size) in [(1, SMALL), (2, LARGE)] {
        let job = vault.archived(&video_id(number)).await;
        assert_eq!(job["assets"][0]["attempts"], 0, "{fault:?}: {job:#}");
        vault.assert_stored(&job, &mp4(number, size)).await;
    }
    assert_eq!(struck.load(Ordering::Relaxed), times, "{fault:?}");
    let keys = vault.keys().await;
    assert_eq!(keys.len(), 4, "{fault:?}: {keys:?}");
    assert_eq!(s3.unfinished_uploads(), Vec::<std::path::PathBuf>::new(), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_errors_is_waited_for() {
    // More than the few that the client itself tries again.
    let all = [
        Fault::Refuse(500, "InternalError", None),
        Fault::Refuse(503, "SlowDown", None),
        Fault::Refuse(503, "SlowDown", Some(1)),
        Fault::Refuse(429, "TooManyRequests", Some(1)),
    ];
    futures_util::future::join_all(all.map(|fault| survives(6, is_write, fault))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_stalls_is_given_up_and_sent_again() {
    survives(5, is_part, Fault::Stall).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_is_done_and_not_answered_counts() {
    let all = [Fault::DoneThenStall, Fault::DoneThen(500), Fault::DoneThen(503)];
    futures_util::future::join_all(all.map(|fault| survives(1, is_completion, fault))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_is_still_at_work_when_its_upload_is_unknown_counts() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = vault(&s3, Limits::default()).await;
    let (mut is_done, mut hidden) = (false, 4);
    s3.inject(move |call| {
        if is_completion(call) && !std::mem::replace(&mut is_done, true) {
            return Some(Fault::DoneThen(500));
        }
        // The upload is gone and the object not shown yet.
        let asks = call.method == Method::HEAD || call.method == Method::GET;
        let hides = is_done && hidden > 0 && asks && call.path.ends_with(".mp4");
        hidden -= i32::from(hides);
        hides.then_some(Fault::Refuse(404, "NoSuchKey", None))
    });
    let url = media.put("/1.mp4", mp4(1, LARGE), "video/mp4");
    vault.callback(completed(1, &url)).await;
    let job = vault.archived(&video_id(1)).await;
    assert_eq!(job["assets"][0]["attempts"], 0, "{job:#}");
    vault.assert_stored(&job, &mp4(1, LARGE)).await;
    assert_eq!(media.hits("/1.mp4"), 1, "it was downloaded again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_fails_until_the_client_gives_up_is_done_again() {
    survives(5, is_completion, Fault::Stall).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_done_and_not_answered_makes_no_second_object() {
    let all = [Fault::DoneThenStall, Fault::DoneThen(500)];
    futures_util::future::join_all(all.map(|fault| survives(5, is_single_put, fault))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_done_and_not_answered_counts_when_the_source_has_died() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = vault(&s3, Limits::default()).await;
    let struck = strike(&s3, usize::MAX, is_single_put, Fault::DoneThen(500));
    let bytes = mp4(1, SMALL);
    vault.callback(completed(1, &media.put("/1.mp4", bytes.clone(), "video/mp4"))).await;
    let put = async {
        while struck.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, put).await.expect("nothing is put");
    media.put_after("/1.mp4", &[404; 99], "gone", "text/plain");
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_becomes_visible_after_its_file_was_given_up_counts_after_the_next_start() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let mut vault = vault(&s3, IMPATIENT).await;
    let (put, struck) = tokio::sync::oneshot::channel();
    let mut put = Some(put);
    s3.inject(move |call| {
        let strikes = is_single_put(call);
        if let Some(put) = put.take_if(|_| strikes) {
            let _ = put.send(call.path.clone());
        }
        strikes.then_some(Fault::Stall)
    });
    let bytes = mp4(1, SMALL);
    vault.callback(completed(1, &media.put("/1.mp4", bytes.clone(), "video/mp4"))).await;
    let path = tokio::time::timeout(PATIENCE, struck).await.expect("nothing is put").unwrap();
    media.put_after("/1.mp4", &[404; 99], "gone", "text/plain");
    vault.job_in(&video_id(1), &["stuck"]).await;
    // The store gets that far only now.
    let object = s3.root.path().join(path.trim_start_matches('/'));
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(object, &bytes).unwrap();
    vault.stop().await;
    s3.inject(|_| None);
    vault.start_again().await;
    vault.assert_stored(&vault.archived(&video_id(1)).await, &bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_credentials_are_refused_work_waits_and_storage_is_left_alone() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = vault(&s3, Limits::default()).await;
    let refusing = Arc::new(AtomicBool::new(true));
    let (asked, switch) = (Arc::new(AtomicUsize::new(0)), refusing.clone());
    let count = asked.clone();
    s3.inject(move |_| {
        let refuses = switch.load(Ordering::Relaxed);
        count.fetch_add(usize::from(refuses), Ordering::Relaxed);
        refuses.then_some(Fault::Refuse(403, "AccessDenied", None))
    });
    for number in 0..40 {
        let url = media.put(&format!("/{number}.mp4"), mp4(number, SMALL), "video/mp4");
        vault.callback(completed(number, &url)).await;
    }
    // One round of the worker meets it, then three probes do, after one, two and four seconds.
    let refused = Instant::now();
    while refused.elapsed() < Duration::from_secs(8) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let met = asked.load(Ordering::Relaxed);
    assert!((2..60).contains(&met), "{met} requests in eight seconds");
    let (status, ready) = vault.get("/readyz").await;
    assert_eq!(status, 503);
    assert_ne!(ready["checks"]["storage"], "ok", "{ready}");
    let fetched: usize = (0..40).map(|number| media.hits(&format!("/{number}.mp4"))).sum();
    assert!(fetched <= 20, "{fetched} downloads although nothing can be stored");
    refusing.store(false, Ordering::Relaxed);
    for number in 0..40 {
        let job = vault.archived(&video_id(number)).await;
        assert_eq!(job["assets"][0]["attempts"], 0, "{job:#}");
        vault.assert_stored(&job, &mp4(number, SMALL)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_s3_lost_is_stored_again_under_its_key() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = vault(&s3, Limits::default()).await;
    for (number, size) in [(1, SMALL), (3, LARGE)] {
        let url = media.put(&format!("/{number}.mp4"), mp4(number, size), "video/mp4");
        vault.callback(completed(number, &url)).await;
        let first = vault.archived(&video_id(number)).await;
        let key = first["assets"][0]["key"].as_str().unwrap();
        std::fs::remove_file(s3.root.path().join(&s3.bucket).join(key)).unwrap();
        vault.callback(completed(number + 1, &url)).await;
        let second = vault.archived(&video_id(number + 1)).await;
        assert_eq!(second["assets"][0]["key"], key);
        vault.assert_stored(&second, &mp4(number, size)).await;
    }
    assert_eq!(s3.unfinished_uploads().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_depends_on_conditional_writes() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = vault(&s3, Limits::default()).await;
    let conditional = Arc::new(AtomicUsize::new(0));
    let count = conditional.clone();
    s3.inject(move |call| {
        // Of the marker the condition only spares replicas that start at a time from overwriting each other's.
        let is_marker = call.path.ends_with("/_replyvault/vault.json");
        count.fetch_add(usize::from(is_write(call) && call.conditional && !is_marker), Ordering::Relaxed);
        None
    });
    for number in 0..12 {
        let url =
            media.put(&format!("/{number}.mp4"), mp4(number % 2, [SMALL, LARGE][number as usize % 2]), "video/mp4");
        vault.callback(completed(number, &url)).await;
    }
    for number in 0..12 {
        let job = tokio::time::timeout(PATIENCE, vault.archived(&video_id(number))).await.unwrap();
        vault.assert_stored(&job, &mp4(number % 2, [SMALL, LARGE][number as usize % 2])).await;
    }
    assert_eq!(conditional.load(Ordering::Relaxed), 0, "a store that ignores conditions could overwrite");
    assert_eq!(vault.get("/api/v1/stats").await.1["objects"], json!(2));
    assert_eq!(vault.keys().await.iter().filter(|key| key.ends_with(".mp4")).count(), 2);
}
