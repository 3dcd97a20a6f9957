//! Every step of passing on can fail once, or be the last before a crash.

use super::*;
use crate::support::child::Process;

/// The points of passing on.
pub(crate) const POINTS: &[&str] = &["relay.send", "relay.sent"];

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_any_step_of_relaying_loses_nothing_and_repeats_at_most_one() {
    for point in POINTS {
        run(point, "1*return", false).await;
        // It waits there until it is killed.
        run(point, "1*sleep(3600000)", true).await;
    }
}

async fn run(point: &str, action: &str, kill: bool) {
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let id = register(dir.path(), receiver.url("/")).await;
    let mut program = Program::new(dir.path());
    program.failure_points = format!("{point}={action}");
    let mut process = program.start().await;
    let mut sent = Vec::new();
    for percent in 1..=3 {
        sent.push(progress(1, percent));
        let url = process.reply_url(&Target::Ref(id.clone()));
        let answer = process.client.post(url).body(progress(1, percent)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    if kill {
        if *point == *"relay.sent" {
            receiver.bodies(1).await;
        }
        process.kill();
        program.failure_points.clear();
        process = program.start().await;
    }
    settled(&process).await;
    if point == "relay.sent" {
        sent.insert(0, sent[0].clone());
    }
    assert_eq!(receiver.bodies(sent.len()).await, sent, "{point}={action}");
    assert_eq!(process.terminate().await, Some(0));
}

/// Makes a ref where a program will find it.
async fn register(dir: &std::path::Path, forward_url: String) -> RefId {
    let bucket = replyvault::bucket::Bucket::open(&config(&format!("file:{}", dir.join("bucket").display()))).unwrap();
    let data = dir.join("data");
    let open =
        move || open_event_log(&data, &bucket, crate::support::vault::journal_keys(), None, Intake::parse_callback);
    let log = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
    log.recovered().await.unwrap();
    let intake = Intake::new(
        crate::support::vault::settings(dir).intake,
        reply_urls("http://vault"),
        log.clone(),
        &dir.join("spool"),
    );
    let made = intake.register_gateway(None, Some(forward_url)).await.unwrap();
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
    made.id
}

async fn settled(process: &Process) {
    let settled = async {
        while process.get("/api/v1/stats").await.is_none_or(|stats| stats["outboxDepth"] != 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, settled).await.is_ok(), "{}", process.log());
}
