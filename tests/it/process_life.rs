//! What must run and has ended takes the process with it.

use std::process::Stdio;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::support::child::Program;
use crate::support::vault::PATIENCE;

/// Every part that must run whatever the configuration.
const PARTS: &[&str] = &[
    "journal thread",
    "state thread",
    "worker",
    "confirmer",
    "relay",
    "notifier",
    "reconciler",
    "journal retention",
    "quarantine keeper",
    "repeat counter",
    "HTTP server",
    "HTTP acceptor",
    "search index",
];

/// How a service ends by itself: its exit code and what it says.
async fn ends(failure_points: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("PROVIDER__API_TOKEN", "token".to_owned());
    program.set("PROVIDER__BASE_URL", "http://127.0.0.1:9".to_owned());
    let mut command = tokio::process::Command::from(program.command(&["serve"]));
    command.env("FAILPOINTS", failure_points).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("it goes on without: {failure_points}")).unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_with_1_and_the_name_of_the_part_that_ended() {
    for part in PARTS {
        for (action, how) in [("return", "it returned"), ("panic(struck by lightning)", "it panicked")] {
            let (code, said) = ends(&format!("supervisor.{part}={action}")).await;
            assert_eq!(code, Some(1), "{part}: {said}");
            assert!(said.contains(&format!("the {part} has ended: {how}")), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_with_1_when_nobody_can_read_the_store_any_more() {
    let (code, said) = ends("state.hang_timeout=return;state.probe=sleep(3600000)").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the state's store has ended: sled goes on with nothing"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_with_1_when_a_part_of_the_notifier_ends() {
    for action in ["1*return", "1*panic(struck by lightning)"] {
        let (code, said) = ends(&format!("notify.part={action}")).await;
        assert_eq!(code, Some(1), "{action}: {said}");
        assert!(said.contains("the notifier has ended"), "{action}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_when_the_journals_thread_panics_over_a_callback() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.failure_points = "journal.write=panic(struck by lightning)".to_owned();
    let process = program.start().await;
    assert_eq!(process.touch("/healthz").await, Some(200));
    assert_ne!(process.post(&serde_json::json!({"videoId": "user:1-minimax:2-video:3"})).await, Some(200));
    let ended = async {
        while process.touch("/healthz").await.is_some() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it goes on without its journal");
    assert_eq!(process.exit_code().await, Some(1));
    assert!(process.log().contains("the journal thread has ended: it panicked"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_refused_a_thread_ends_with_1_and_says_so() {
    for part in ["journal thread", "state thread"] {
        let (code, said) = ends(&format!("thread.{part}=return")).await;
        assert_eq!(code, Some(1), "{part}: {said}");
        assert!(said.contains("a thread cannot be started"), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_where_the_service_starts_ends_the_process_with_1_and_a_line() {
    let (code, said) = ends("thread.search index=panic(struck by lightning)").await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("struck by lightning") && said.contains("replyvault: it panicked"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_the_disk_cannot_read_for_minutes_is_put_aside_and_made_anew_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    let process = program.start().await;
    let body = serde_json::json!({"videoId": "user:1-minimax:2-video:3", "status": 1});
    process.post_until_accepted(&body).await;
    assert_eq!(process.terminate().await, Some(0));
    let put_aside = || {
        let names = std::fs::read_dir(dir.path().join("data")).unwrap().map(|item| item.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("state.damaged-")).count()
    };
    // The start tries once, and then twice until it gives up one that cannot be read the next time either.
    for (tries, expected) in [(3, 0), (4, 1)] {
        program.failure_points = format!("state.store_attempts=return;state.open={tries}*return->off");
        let process = program.start().await;
        process.job_in("user:1-minimax:2-video:3", "running").await;
        assert_eq!(put_aside(), expected, "{}", process.log());
        assert_eq!(process.terminate().await, Some(0));
    }
}
