use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use reqwest::Method;
use tokio::time::timeout;

use super::*;
use crate::support::accept;
use crate::support::vault::PATIENCE;

async fn ready(vault: &Vault) -> (u16, Value) {
    answer(vault.request(Method::GET, "/readyz").send().await.unwrap()).await
}

fn problem(check: &str, what: &str) -> Value {
    let mut checks = json!({"journal": "ok", "state": "ok", "storage": "ok", "disk": "ok"});
    checks[check] = what.into();
    json!({"status": "unavailable", "checks": checks})
}

#[tokio::test]
async fn a_vault_in_order_is_alive_and_ready() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::with(Options::new(storage(&format!("file:{}", directory.path().display())))).await;
    let alive = vault.request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!(answer(alive).await, (200, json!({"status": "ok"})));
    let checks = json!({"journal": "ok", "state": "ok", "storage": "ok", "disk": "ok"});
    assert_eq!(ready(&vault).await, (200, json!({"status": "ok", "checks": checks})));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it writes nothing");
    let head = vault.request(Method::HEAD, "/readyz").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "cache-control")), (200, "no-store"));
}

#[tokio::test]
async fn a_bucket_that_vanished_is_said_without_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::with(Options::new(storage(&format!("file:{}/bucket", directory.path().display())))).await;
    std::fs::remove_dir(directory.path().join("bucket")).unwrap();
    assert_eq!(ready(&vault).await, (503, problem("storage", "not reachable")));
    assert_eq!(vault.request(Method::GET, "/healthz").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn too_little_room_is_said() {
    let vault = Vault::with(Options { min_free_bytes: u64::MAX, ..Options::new(storage("memory:")) }).await;
    assert_eq!(ready(&vault).await, (503, problem("disk", "too little room left")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_out_of_order_is_said_for_a_while_and_then_asked_again() {
    let server = S3Server::start().await;
    let vault = Vault::with(Options::new(server.config(""))).await;
    std::fs::remove_dir(server.root.path().join(&server.bucket)).unwrap();
    assert_eq!(ready(&vault).await, (503, problem("storage", "not reachable")));
    std::fs::create_dir(server.root.path().join(&server.bucket)).unwrap();
    let start = Instant::now();
    while ready(&vault).await.0 == 503 {
        assert!(start.elapsed() < Duration::from_secs(15), "asked again within 15 seconds");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_journal_that_fails_is_said_until_it_works() {
    let vault = Vault::start().await;
    let journal = vault.dir.path().join("journal");
    std::fs::remove_dir_all(&journal).unwrap();
    let (status, _) = vault.callback(json!({"videoId": id(1), "status": 1})).await;
    assert_eq!(status, 503);
    assert_eq!(ready(&vault).await, (503, problem("journal", "the last write failed")));
    let text = vault.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("\nreplyvault_journal_ok 0\n"), "{text}");
    std::fs::create_dir(&journal).unwrap();
    vault.completed(1).await;
    assert_eq!(ready(&vault).await.0, 200);
}

/// Behind a load balancer nobody sends anything while it is not ready.
#[tokio::test]
async fn a_journal_that_works_again_is_said_though_nothing_is_sent() {
    let vault = Vault::start().await;
    let journal = vault.dir.path().join("journal");
    std::fs::remove_dir_all(&journal).unwrap();
    let (status, _) = vault.callback(json!({"videoId": id(1), "status": 1})).await;
    assert_eq!(status, 503);
    std::fs::create_dir(&journal).unwrap();
    let recovered = async {
        while ready(&vault).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, recovered).await.expect("it stays unready");
    vault.completed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_hangs_is_asked_once_and_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU32::new(0));
    let counted = connections.clone();
    let hanging = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(accept(&listener).await);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let hung = bucket::Config {
        endpoint: Some(endpoint),
        access_key_id: Some("a".into()),
        secret_access_key: Some("b".into()),
        allow_http: true,
        ..storage("s3://media/")
    };
    let vault = Vault::with(Options::new(hung)).await;
    let start = Instant::now();
    // That it takes two seconds is tested where time is a test's own, in `cached_check.rs`. Here the storage never answers.
    let answers = timeout(PATIENCE, join_all((0..10).map(|_| ready(&vault)))).await.expect("it waits for the storage");
    for (status, body) in answers.into_iter().chain([ready(&vault).await]) {
        assert_eq!((status, &body["checks"]["storage"]), (503, &json!("no answer within 2 s")), "{body}");
    }
    // It is given up after five seconds, and what was found then is good for ten.
    let most = 1 + start.elapsed().as_secs() / 15;
    let asked = u64::from(connections.load(Ordering::Relaxed));
    assert!((1..=most).contains(&asked), "{asked} of {most}");
    hanging.abort();
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_said() {
    let vault = Vault::start().await;
    vault.completed(1).await;
    vault.intake.log().close();
    let (status, body) = ready(&vault).await;
    assert_eq!((status, body), (503, problem("state", "being rebuilt from the journal")));
    for path in ["/api/v1/stats", "/api/v1/jobs", "/api/v1/refs", "/api/v1/media", "/api/v1/quarantine"] {
        assert_eq!(refusal(vault.send(Method::GET, path).await).await, (503, "unavailable".to_owned()), "{path}");
    }
    let text = vault.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("replyvault_state_ok 0\n") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(refusal(vault.send(Method::POST, "/api/v1/refs").await).await, (503, "unavailable".to_owned()));
}

#[tokio::test]
async fn stats_and_metrics_count_the_same() {
    let vault = Vault::start().await;
    vault.stored(1, b"0123456789", "video/mp4").await;
    vault.stored(2, b"0123456789", "video/mp4").await;
    vault.callback(json!({"videoId": id(3), "status": 1})).await;
    vault.callback(json!({"odd": true})).await;
    let mut stats = vault.get("/api/v1/stats").await;
    let per_minute = stats.as_object_mut().unwrap().remove("callbacksPerMinute").unwrap();
    assert_eq!(per_minute.as_array().unwrap().len(), 60);
    let (due, journal) = (stats["oldestDue"].clone(), stats["journalBytes"].clone());
    assert!(Timestamp::parse_rfc3339(due.as_str().unwrap()).is_some() && journal.as_u64().unwrap() > 0);
    let expected = json!({
        "jobs": {"running": 1, "archiving": 2, "archived": 0, "failed": 0, "stuck": 0},
        "refs": 1, "quarantined": 1, "callbacks": 3, "objects": 1, "bytesStored": 10, "bytesDeduplicated": 10,
        "queueDepth": 2, "expiringWithinHour": 0, "fetching": 0, "outboxDepth": 0, "notificationsPending": 0, "notificationsDead": 0, "waiting": 0, "archiveConflicts": 0, "olderCopy": false, "oldestDue": due, "journalBytes": journal,
    });
    assert_eq!(stats, expected);

    let response = vault.request(Method::GET, "/metrics").send().await.unwrap();
    assert!(header(&response, "content-type").starts_with("application/openmetrics-text"));
    let text = response.text().await.unwrap();
    for line in [
        "replyvault_jobs{state=\"running\"} 1",
        "replyvault_jobs{state=\"archiving\"} 2",
        "replyvault_jobs{state=\"stuck\"} 0",
        "replyvault_queue_depth 2",
        "replyvault_queue_expiring_within_hour 0",
        "replyvault_fetching 0",
        "replyvault_objects 1",
        "replyvault_stored_bytes 10",
        "replyvault_deduplicated_bytes 10",
        "replyvault_quarantined 1",
        "replyvault_quarantined_bytes 12",
        "replyvault_journal_segments_unreadable 0",
        "replyvault_refs 1",
        "replyvault_callbacks_total 3",
        "replyvault_journal_ok 1",
        "replyvault_state_ok 1",
        &format!("replyvault_journal_bytes {journal}"),
        &format!("replyvault_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        // Four callbacks and the stats.
        "replyvault_http_answers_total{class=\"2xx\"} 5",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("\nreplyvault_oldest_due_age_seconds "), "{text}");
}
