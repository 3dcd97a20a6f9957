//! The clients that people use, pointed at the provider and then, with only the base URL changed, at the gateway.
//!
//! They need more than a Rust toolchain, so they run only with `REPLYVAULT_TEST_CLIENTS=1`; then a tool that is missing
//! is a failure.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::pair::{Pair, QUICK};
use crate::support::vault::TOKEN;

/// How long one session may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn are_asked_for() -> bool {
    let asked = std::env::var("REPLYVAULT_TEST_CLIENTS").is_ok_and(|value| value == "1");
    if !asked {
        eprintln!("not run: set REPLYVAULT_TEST_CLIENTS=1 where curl, python3 with requests, and node are");
    }
    asked
}

/// What a session printed.
async fn session(interpreter: &str, script: &str, base: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway/clients").join(script);
    let dir = tempfile::tempdir().unwrap();
    let running = Command::new(interpreter)
        .arg(&script)
        .args([base, TOKEN])
        .arg(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, running).await.expect("the session takes too long");
    let output = output.unwrap_or_else(|error| panic!("{interpreter} can't be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{interpreter} {}: {}: {said}", script.display(), output.status);
    String::from_utf8(output.stdout).unwrap()
}

async fn behaves_the_same(interpreter: &str, script: &str, calls: usize) {
    if !are_asked_for() {
        return;
    }
    let pair = Pair::start("", QUICK).await;
    let direct = session(interpreter, script, &pair.direct.base_url()).await;
    let through = session(interpreter, script, pair.vault.url("").as_str()).await;
    let of = |text: &str| text.split("\n== ").map(str::to_owned).collect::<Vec<_>>();
    let (direct, through) = (of(&direct), of(&through));
    for (direct, through) in direct.iter().zip(&through) {
        assert_eq!(through, direct);
    }
    assert_eq!((direct.len(), through.len()), (calls, calls));
    let refused = direct.iter().filter(|answer| !answer.lines().next().is_some_and(|line| line.contains(" 20")));
    assert_eq!(refused.count(), 2, "{direct:#?}");
    assert_eq!(pair.direct.uploads(), pair.behind.uploads());
    pair.assert_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_behaves_as_without_a_gateway() {
    behaves_the_same("sh", "session.sh", 25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_requests_behaves_as_without_a_gateway() {
    behaves_the_same("python3", "session.py", 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_fetch_behaves_as_without_a_gateway() {
    behaves_the_same("node", "session.mjs", 25).await;
}
