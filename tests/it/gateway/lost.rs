//! Callers that make jobs through the gateway and never look again, while the provider tells nothing, or too late.

use std::time::Duration;

use replyvault::provider::ClientConfig;
use replyvault::simulator::{Config, Simulator};
use serde_json::json;

use super::provider::{gateway, loopback};
use crate::support::vault::{TOKEN, Vault};

/// Makes jobs of every kind that can call back, and waits until the vault has all that they made.
async fn all_end_archived(faults: &str) {
    let simulator = Simulator::start(Config { faults: faults.parse().unwrap(), ..Config::default() }).await.unwrap();
    let base_url = simulator.base_url();
    let vault = Vault::start_with(|settings| {
        settings.reconcile.minute = Duration::from_millis(20);
        let client = ClientConfig { base_url: base_url.parse().unwrap(), api_token: "t".into(), egress: loopback() };
        settings.provider = Some(client);
        settings.gateway = Some(gateway(&base_url));
    });
    let vault = vault.await;
    for (path, body) in [
        ("videos/create", json!({"prompt": "a boat"})),
        ("videos/create", json!({"prompt": "a boat", "replyRef": "boat"})),
        ("videos/agent-create", json!({"templateId": "610000000000000001"})),
        ("images/create", json!({"prompt": "a kettle", "quantity": 3})),
        ("agent", json!({"prompt": "rain", "models": "hailuo-2.3,kolors,speech-2.5-hd-preview", "async": true})),
        ("agent", json!({"prompt": "rain", "models": "kolors"})),
        ("audio/create-mp3", json!({"text": "hello", "voice_id": "1"})),
    ] {
        let call = vault.client.post(vault.url(&format!("/v1/minimax/{path}"))).bearer_auth(TOKEN).json(&body);
        let answer = call.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.bytes().await.unwrap();
    }
    let truth = simulator.truth();
    assert_eq!(truth.len(), 9);
    for expected in truth {
        let job = vault.archived(expected.job_id.as_str()).await;
        let digests: Vec<_> = job["assets"].as_array().unwrap().iter().map(|asset| asset["sha256"].clone()).collect();
        let expected: Vec<_> = expected.files.iter().map(|file| json!(file.sha256.to_string())).collect();
        assert_eq!(digests, expected, "{job:#}");
    }
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_callback_dropped_all_jobs_end_archived() {
    all_end_archived("drop=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_links_that_expired_before_the_first_download_all_jobs_end_archived() {
    all_end_archived("stale=1,expire=1h").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_callbacks_lost_repeated_and_late_and_odd_answers_all_jobs_end_archived() {
    all_end_archived("drop=0.5,repeat=0.5,disorder=0.5,odd=1,get-500=0.2,cdn-500=0.1,list-order=shuffled").await;
}
