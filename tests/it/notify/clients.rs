//! The public libraries for Standard Webhooks verify what we send.
//!
//! They need more than a Rust toolchain, so they run only with `REPLYVAULT_TEST_CLIENTS=1`; then a tool that is missing
//! is a failure.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Sends an event of each kind with the secret that comes and the one that goes, and has both verified.
async fn verified_by(interpreter: &str, script: &str) {
    if std::env::var("REPLYVAULT_TEST_CLIENTS").is_ok_and(|value| value == "1") {
        verify(interpreter, script).await;
    } else {
        eprintln!("not run: set REPLYVAULT_TEST_CLIENTS=1 where {interpreter} has standardwebhooks");
    }
}

async fn verify(interpreter: &str, script: &str) {
    let receiver = Receiver::start();
    let bench = Bench::start(|settings| {
        let mut endpoint = endpoint("a", &receiver.url("/"));
        endpoint.keys = SigningKeys::read([&SECRET.into(), &NOTIFY_SECRET.into()]).unwrap();
        settings.notify.endpoints = vec![endpoint];
    })
    .await;
    let mut video = bench.video(1);
    video["prompt"] = "wörds “and” \u{1f6a2}".into();
    bench.vault.callback(video).await;
    bench.vault.callback(json!({"videoId": video_id(2), "status": 3, "error": "no\nway"})).await;
    let bodies = receiver.bodies(2).await;
    let mut lines = String::new();
    for (body, [id, time, signature]) in bodies.iter().zip(receiver.signed()) {
        for secret in [SECRET, NOTIFY_SECRET] {
            let headers = json!({"webhook-id": id, "webhook-timestamp": time, "webhook-signature": signature});
            lines += &format!("{}\n", json!({"secret": secret, "headers": headers, "body": body}));
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/notify/clients").join(script);
    let mut command = Command::new(interpreter);
    command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut running = command.spawn().expect("it can be run");
        running.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        running.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{interpreter} {}: {said}", script.display());
    let types = String::from_utf8(output.stdout).unwrap();
    assert_eq!((types.lines().count(), types.matches("job.archived").count()), (4, 2), "{types}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_for_python_verifies_events() {
    verified_by("python3", "verify.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_for_javascript_verifies_events() {
    verified_by("node", "verify.cjs").await;
}
