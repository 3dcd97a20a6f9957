//! Jobs of all APIs, made at the simulator.

use std::collections::HashMap;
use std::path::Path;

use replyvault::domain::Digest;
use replyvault::simulator::{CreateCall, Expected, Outcome, Simulator, Variant};
use reqwest::Client;
use serde_json::{Value, json};

use super::child::Process;

/// Makes a job, or several, and has the callbacks sent to `reply_url`.
pub(crate) async fn create(client: &Client, simulator: &Simulator, call: &CreateCall, reply_url: &str, name: &str) {
    let mut body =
        json!({"prompt": "rain", "text": "It rains.", "async": true, "replyUrl": reply_url, "replyRef": name});
    if !call.choice.0.is_empty() {
        body[call.choice.0] = json!(call.choice.1);
    }
    let url = format!("{}{}/{}", simulator.base_url(), call.base, call.path);
    let answer = client.post(url).bearer_auth("token").json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{call:?}: {}", answer.text().await.unwrap());
}

/// An id as it stands in a path of the API.
pub(crate) fn encoded(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    id.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What is wrong with a job as the API shows it, if anything: it must have ended as the simulator says, and each of its files
/// must be stored with the right bytes and the right variant. `digest` says what is under a key.
pub(crate) fn fault(job: &Value, wanted: &Expected, digest: &mut dyn FnMut(&str) -> Option<Digest>) -> Option<String> {
    let state = if wanted.outcome == Outcome::Completed { "archived" } else { "failed" };
    if job["state"] != state {
        return Some(format!("{} is not {state}: {job:#}", wanted.job_id));
    }
    let assets: Vec<_> = job["assets"].as_array().unwrap().iter().filter(|asset| asset["role"] == "media").collect();
    if assets.len() != wanted.files.len() {
        return Some(format!("{} has other files: {job:#}", wanted.job_id));
    }
    for file in &wanted.files {
        let variant = match file.variant {
            Variant::Clean => "clean",
            Variant::Unknown => "unknown",
            Variant::Watermarked => "watermarked",
        };
        let is_it = |asset: &&&Value| asset["sha256"] == file.sha256.to_string() && asset["variant"] == variant;
        let Some(asset) = assets.iter().find(is_it) else {
            return Some(format!("{} lacks {variant} {}: {job:#}", wanted.job_id, file.sha256));
        };
        if asset["bytes"] != file.bytes || digest(asset["key"].as_str().unwrap()) != Some(file.sha256) {
            return Some(format!("{} has other bytes: {asset:#}", wanted.job_id));
        }
    }
    None
}

/// How many of the jobs whose end was acknowledged there are, and what is wrong with them in the bucket below `bucket`.
pub(crate) async fn faults(
    process: &Process,
    truth: &[Expected],
    bucket: &Path,
) -> (HashMap<String, usize>, Vec<String>) {
    let (mut counts, mut faults) = (HashMap::new(), Vec::new());
    let mut digest = |key: &str| std::fs::read(bucket.join(key)).ok().map(|bytes| Digest::of(&bytes));
    for wanted in truth.iter().filter(|wanted| wanted.heard) {
        *counts.entry(wanted.job_id.provider()).or_default() += 1;
        let job = process.get(&format!("/api/v1/jobs/{}", encoded(wanted.job_id.as_str()))).await;
        let found = match job {
            Some(job) => fault(&job, wanted, &mut digest),
            None => Some(format!("{} is lost", wanted.job_id)),
        };
        faults.extend(found);
    }
    (counts, faults)
}
