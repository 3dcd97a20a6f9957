//! What is told of one ref's jobs keeps what is told of another's waiting for a turn at most.

use futures_util::future::join_all;

use super::*;

/// A ref that is told nothing itself; its replyUrl.
async fn reference(bench: &Bench, name: &str) -> String {
    let (status, made) = bench.vault.send("POST", "/api/v1/refs", &json!({"replyRef": name})).await;
    assert_eq!(status, 201, "{made}");
    made["replyUrl"].as_str().unwrap().to_owned()
}

async fn failed(bench: &Bench, url: &str, number: u64) {
    let body = json!({"videoId": video_id(number), "status": 3});
    assert_eq!(bench.vault.post(url, body.to_string()).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failing_jobs_of_one_ref_do_not_delay_the_events_of_another() {
    const JOBS: u64 = 400;
    let receiver = Receiver::start();
    receiver.answer_after(Duration::from_millis(500));
    let bench = Bench::start(|settings| settings.notify.endpoints = vec![endpoint("a", &receiver.url("/"))]).await;
    let (busy, quiet) = (reference(&bench, "busy").await, reference(&bench, "quiet").await);
    for first in (1..=JOBS).step_by(50) {
        join_all((first..first + 50).map(|number| failed(&bench, &busy, number))).await;
    }
    let is_queued = async {
        while bench.counters().notified + bench.counters().notifications_pending < JOBS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_queued).await.expect("not all jobs failed");
    failed(&bench, &quiet, JOBS + 1).await;
    let sent_before = receiver.got().len();
    let id = format!("\"{}\"", video_id(JOBS + 1));
    let place = async {
        loop {
            if let Some(place) = receiver.got().iter().position(|(_, _, body)| body.contains(&id)) {
                return place;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let place = tokio::time::timeout(PATIENCE, place).await.expect("it is not told");
    // Eight are sent in half a second.
    assert!(place < sent_before + 100, "{place} were sent before it, of these {sent_before} before it came");
}
