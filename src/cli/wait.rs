//! Waiting for jobs, and getting their files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::progress::ProgressDisplay;
use super::{Failure, client, print};
use crate::config::{Config, Credentials};
use crate::domain::{Digest, JobId, RefId};
use crate::provider;

/// How long one question waits for its answer.
const ASK_FOR: Duration = Duration::from_secs(20);
/// For how long a service that was there may be away.
const AWAY: Duration = Duration::from_secs(60);

/// Waits until a job, or all jobs of a ref, have ended, and says how.
pub(super) async fn wait(config: &Config, what: &str, timeout: Option<Duration>) -> Result<(), Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let jobs = ended(config, &credentials, what, timeout).await?;
    for job in &jobs {
        print(format!("{} {}\n", text(job, "jobId"), text(job, "state")))?;
    }
    verdict(&jobs)
}

/// The same, and downloads the files into `dir`. Each is whole and has its hash, or is not there.
pub(super) async fn get(config: &Config, what: &str, dir: &Path) -> Result<(), Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let jobs = ended(config, &credentials, what, None).await?;
    let stored = |job: &Value| {
        let assets = job["assets"].as_array().cloned().unwrap_or_default();
        assets.into_iter().filter(|asset| asset["links"]["content"].is_string()).collect::<Vec<_>>()
    };
    let total = jobs.iter().flat_map(stored).filter_map(|asset| asset["bytes"].as_u64()).sum();
    let (shown, mut done) = (ProgressDisplay::new(), 0);
    let mut lines = Vec::new();
    for job in &jobs {
        // One job's files have names of their own; those of several may be called alike.
        let dir = if jobs.len() == 1 { dir.to_owned() } else { dir.join(folder(job)) };
        for asset in stored(job) {
            let path = download(config, &credentials, &asset, &dir, &shown, (&mut done, total)).await?;
            lines.push(format!("{}\n", path.display()));
        }
    }
    shown.end();
    print(lines.concat())?;
    verdict(&jobs)
}

/// The jobs, once they have ended.
async fn ended(
    config: &Config,
    credentials: &Credentials,
    what: &str,
    timeout: Option<Duration>,
) -> Result<Vec<Value>, Failure> {
    let begun = Instant::now();
    let path = path_of(config, credentials, what).await?;
    let mut last_answer = None::<Instant>;
    loop {
        let left = timeout.map_or(ASK_FOR, |timeout| timeout.saturating_sub(begun.elapsed()).min(ASK_FOR));
        let asked = client::get(config, credentials, &format!("{path}?wait={}ms", left.as_millis())).await;
        let found = match asked {
            Ok(found) => found,
            // It may be starting anew.
            Err(_) if last_answer.is_some_and(|last| last.elapsed() < AWAY) => {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        last_answer = Some(Instant::now());
        let jobs = match found.get("jobs") {
            Some(jobs) => jobs.as_array().cloned().unwrap_or_default(),
            None => vec![found],
        };
        let has_ended = |job: &Value| matches!(text(job, "state"), "archived" | "failed" | "stuck");
        if !jobs.is_empty() && jobs.iter().all(has_ended) {
            return Ok(jobs);
        }
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let states: Vec<_> = jobs.iter().map(|job| text(job, "state")).collect();
            let state = if states.is_empty() { "no job yet".to_owned() } else { states.join(", ") };
            return Err(Failure::runtime(format!("{what}: it has not ended: {state}")));
        }
    }
}

/// Where the API has it: a job by its id, a ref by its id or its replyRef.
async fn path_of(config: &Config, credentials: &Credentials, what: &str) -> Result<String, Failure> {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    // A reference may look like the id of a job of an API that there is not.
    let is_known = |id: JobId| provider::names().any(|name| name == id.provider());
    if what.parse::<JobId>().is_ok_and(is_known) {
        return Ok(format!("/api/v1/jobs/{}", encoded(what)));
    }
    if RefId::parse(what).is_ok() {
        return Ok(format!("/api/v1/refs/{what}"));
    }
    let found = client::get(config, credentials, &format!("/api/v1/refs?replyRef={}", encoded(what))).await?;
    let id = found["items"][0]["refId"].as_str().and_then(|id| RefId::parse(id).ok());
    id.map(|id| format!("/api/v1/refs/{id}")).ok_or_else(|| Failure::runtime(format!("{what}: no such job or ref")))
}

/// Why it is not all as it should be, if it is not.
fn verdict(jobs: &[Value]) -> Result<(), Failure> {
    let Some(job) = jobs.iter().find(|job| text(job, "state") != "archived") else { return Ok(()) };
    let said = ["reason", "error", "message", "outcome"].map(|name| text(job, name));
    let state = text(job, "state");
    let why = said.into_iter().find(|text| !text.is_empty() && *text != state).unwrap_or("no reason given");
    Err(Failure::runtime(format!("{}: {}: {why}", text(job, "jobId"), state)))
}

async fn download(
    config: &Config,
    credentials: &Credentials,
    asset: &Value,
    dir: &Path,
    shown: &ProgressDisplay,
    (done, total): (&mut u64, u64),
) -> Result<PathBuf, Failure> {
    let name = Path::new(text(asset, "file")).file_name().and_then(|name| name.to_str()).unwrap_or("file");
    let path = dir.join(name);
    let fail = |error: std::io::Error| Failure::runtime(format!("{}: it cannot be written: {error}", path.display()));
    fs::create_dir_all(dir).await.map_err(fail)?;
    let partial = dir.join(format!(".{name}.{:08x}.part", rand::random::<u32>()));
    let received = async {
        let (mut response, url) = client::stream(config, credentials, text(&asset["links"], "content")).await?;
        let mut file = File::create(&partial).await.map_err(fail)?;
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| client::broke_off(&url, error))? {
            sha2::Digest::update(&mut hash, &chunk);
            file.write_all(&chunk).await.map_err(fail)?;
            *done += chunk.len() as u64;
            shown.at((*done, total), name);
        }
        file.sync_all().await.map_err(fail)?;
        let found = Digest::from_bytes(sha2::Digest::finalize(hash).into());
        if found.to_string() != text(asset, "sha256") {
            return Err(Failure::runtime(format!(
                "{name}: other bytes came than are stored: expected {}",
                text(asset, "sha256")
            )));
        }
        fs::rename(&partial, &path).await.map_err(fail)
    };
    if let Err(failure) = received.await {
        let _ = fs::remove_file(&partial).await;
        return Err(failure);
    }
    Ok(path)
}

/// A job's folder in the bucket; no two jobs have the same.
fn folder(job: &Value) -> String {
    let manifest = text(job, "manifestKey").rsplit('/').nth(1).map(str::to_owned);
    manifest.unwrap_or_else(|| text(job, "jobId").replace(|char: char| !char.is_ascii_alphanumeric(), "-"))
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}
