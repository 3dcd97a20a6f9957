//! Waiting for jobs, and getting their files.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::client::{self, FindError};
use super::progress::ProgressDisplay;
use super::{Failure, print};
use crate::config::{Config, Credentials, DataDir};
use crate::domain::{Digest, JobId, RefId};
use crate::provider;

/// How long one question waits for its answer.
const ASK_FOR: Duration = Duration::from_secs(20);
/// After how long it asks again for what is not known yet.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// After how long it asks again, at the earliest, where it got no answer.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long a service that was there may be away, where there is no other limit.
const AWAY: Duration = Duration::from_secs(60);

/// Waits until a job, or all jobs of a ref, have ended, and says how.
pub(super) async fn wait(config: &Config, what: &str, timeout: Option<Duration>) -> Result<(), Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let jobs = Poller::new(config, &credentials, timeout).ended(what).await?;
    for job in &jobs {
        print(format!("{} {}\n", text(job, "jobId"), text(job, "state")))?;
    }
    verdict(&jobs)
}

/// The same, and downloads the files into `dir`. Each is whole and has its hash, or is not there.
pub(super) async fn get(config: &Config, what: &str, dir: &Path) -> Result<(), Failure> {
    // Said before it waits for hours.
    DataDir::check(dir).map_err(|error| Failure::usage(format!("--output: {error}")))?;
    let credentials = config.credentials().map_err(Failure::usage)?;
    let jobs = Poller::new(config, &credentials, None).ended(what).await?;
    let stored = |job: &Value| {
        let assets = job["assets"].as_array().cloned().unwrap_or_default();
        assets.into_iter().filter(|asset| asset["links"]["content"].is_string()).collect::<Vec<_>>()
    };
    let total = jobs.iter().flat_map(stored).filter_map(|asset| asset["bytes"].as_u64()).sum();
    let (shown, mut done) = (ProgressDisplay::new(), 0);
    let mut lines = Vec::new();
    for (job, folder) in jobs.iter().zip(folders(&jobs)) {
        // One job's files have names of their own; those of several may be called alike.
        let dir = if jobs.len() == 1 { dir.to_owned() } else { dir.join(folder) };
        for asset in stored(job) {
            let path = download(config, &credentials, &asset, &dir, &shown, (&mut done, total)).await?;
            lines.push(format!("{}\n", path.display()));
        }
    }
    shown.end();
    print(lines.concat())?;
    verdict(&jobs)
}

/// Asks the running service until what it is asked for has ended.
struct Poller<'a> {
    config: &'a Config,
    credentials: &'a Credentials,
    timeout: Option<Duration>,
    begun: Instant,
    last_answer: Option<Instant>,
}

impl<'a> Poller<'a> {
    fn new(config: &'a Config, credentials: &'a Credentials, timeout: Option<Duration>) -> Self {
        Self { config, credentials, timeout, begun: Instant::now(), last_answer: None }
    }

    /// The jobs, once they have ended.
    async fn ended(&mut self, what: &str) -> Result<Vec<Value>, Failure> {
        let mut path: Option<String> = None;
        loop {
            let found = match &path {
                Some(path) => self.look(path).await?,
                None => match self.locate(what).await? {
                    Some((known, found)) => {
                        path = Some(known);
                        Some(found)
                    }
                    None => None,
                },
            };
            let Some(found) = found else {
                if self.timeout.is_none() || self.is_late() {
                    return Err(Failure::runtime(format!("{what}: no such job or ref")));
                }
                sleep(ASK_AGAIN.min(self.left())).await;
                continue;
            };
            let jobs = if found["moreJobs"] == true {
                self.all_jobs(&found).await?
            } else {
                match found.get("jobs") {
                    Some(jobs) => jobs.as_array().cloned().unwrap_or_default(),
                    None => vec![found],
                }
            };
            if !jobs.is_empty() && jobs.iter().all(has_ended) {
                return Ok(jobs);
            }
            if self.is_late() {
                let running = jobs.iter().filter(|job| !has_ended(job));
                let states: BTreeSet<_> = running.map(|job| text(job, "state")).collect();
                let states: Vec<_> = states.into_iter().collect();
                let state = if states.is_empty() { "no job yet".to_owned() } else { states.join(", ") };
                return Err(Failure::runtime(format!("{what}: it has not ended: {state}")));
            }
            // The answer about a ref waits for the newest of its jobs only.
            for job in jobs.iter().filter(|job| !has_ended(job)) {
                self.wait_for(job).await?;
            }
        }
    }

    /// What there is, and where: a job or a ref by its id, else a ref by its replyRef, which may look like an id.
    async fn locate(&mut self, what: &str) -> Result<Option<(String, Value)>, Failure> {
        if let Some(path) = path_of_id(what)
            && let Some(found) = self.look(&path).await?
        {
            return Ok(Some((path, found)));
        }
        let Some(id) = self.ref_named(what).await? else { return Ok(None) };
        let path = ref_path(&id);
        let found = self.look(&path).await?;
        Ok(found.map(|found| (path, found)))
    }

    /// The ref that answers to a replyRef. Whoever may call through the gateway can repeat it: of the refs of such calls the
    /// newest counts, and only where there is no other.
    async fn ref_named(&mut self, reply_ref: &str) -> Result<Option<RefId>, Failure> {
        let list = format!("/api/v1/refs?replyRef={}", encoded(reply_ref));
        let (mut path, mut newest) = (list.clone(), None);
        loop {
            let page = self.find(&path).await?.unwrap_or_default();
            for of in page["items"].as_array().into_iter().flatten() {
                let Ok(id) = RefId::parse(text(of, "refId")) else { continue };
                if text(of, "origin") != "gateway" {
                    return Ok(Some(id));
                }
                newest.get_or_insert(id);
            }
            match page["nextCursor"].as_str() {
                Some(next) => path = format!("{list}&cursor={next}"),
                None => return Ok(newest),
            }
        }
    }

    /// All jobs of a ref, each with what is used here alone: there may be very many.
    async fn all_jobs(&mut self, of: &Value) -> Result<Vec<Value>, Failure> {
        let list = format!("/api/v1/jobs?replyRef={}&limit=200", encoded(text(of, "replyRef")));
        // The list may be a moment behind what the ref shows.
        let mut jobs: Vec<_> = of["jobs"].as_array().into_iter().flatten().cloned().map(reduced).collect();
        let mut known: HashSet<_> = jobs.iter().map(|job| text(job, "jobId").to_owned()).collect();
        let mut cursor = String::new();
        loop {
            let page = self.find(&format!("{list}&cursor={cursor}")).await?;
            let mut page = page.ok_or_else(|| Failure::runtime("the service lists no jobs"))?;
            let items = page.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            for job in items {
                // Another ref of the same replyRef has jobs of its own.
                if text(&job, "refId") == text(of, "refId") && known.insert(text(&job, "jobId").to_owned()) {
                    jobs.push(reduced(job));
                }
            }
            match page["nextCursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return Ok(jobs),
            }
        }
    }

    /// Waits until a job has ended or the time is over.
    async fn wait_for(&mut self, job: &Value) -> Result<(), Failure> {
        let path = job_path(text(job, "jobId"));
        while !self.is_late() {
            if self.look(&path).await?.is_none_or(|job| has_ended(&job)) {
                break;
            }
        }
        Ok(())
    }

    /// What is at `path`, as soon as it has ended, or after a while.
    async fn look(&mut self, path: &str) -> Result<Option<Value>, Failure> {
        let wait = self.left().as_millis();
        self.find(&format!("{path}?wait={wait}ms")).await
    }

    async fn find(&mut self, path: &str) -> Result<Option<Value>, Failure> {
        loop {
            let (failure, pause) = match client::find(self.config, self.credentials, path).await {
                Ok(found) => {
                    self.last_answer = Some(Instant::now());
                    return Ok(found);
                }
                Err(FindError::Busy(failure, delay)) => {
                    self.last_answer = Some(Instant::now());
                    (failure, delay.unwrap_or(ASK_AGAIN).max(PAUSE))
                }
                Err(FindError::Away(failure)) if self.may_be_away() => (failure, PAUSE),
                Err(FindError::Away(failure) | FindError::Refused(failure)) => return Err(failure),
            };
            if self.is_late() {
                return Err(failure);
            }
            sleep(pause.min(self.left())).await;
        }
    }

    /// Whether the service may come back.
    fn may_be_away(&self) -> bool {
        self.timeout.is_some() || self.last_answer.is_some_and(|last| last.elapsed() < AWAY)
    }

    fn left(&self) -> Duration {
        self.timeout.map_or(ASK_FOR, |timeout| timeout.saturating_sub(self.begun.elapsed()).min(ASK_FOR))
    }

    fn is_late(&self) -> bool {
        self.timeout.is_some_and(|timeout| self.begun.elapsed() >= timeout)
    }
}

/// Where the API has what has the form of an id.
fn path_of_id(what: &str) -> Option<String> {
    // A reference may look like the id of a job of an API that there is not.
    let is_known = |id: JobId| provider::names().any(|name| name == id.provider());
    if what.parse::<JobId>().is_ok_and(is_known) {
        return Some(job_path(what));
    }
    RefId::parse(what).ok().map(|id| ref_path(&id))
}

fn job_path(id: &str) -> String {
    format!("/api/v1/jobs/{}", encoded(id))
}

fn ref_path(id: &RefId) -> String {
    format!("/api/v1/refs/{id}")
}

/// As it may stand in a path or a query: a plus sign is a space in queries alone.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

fn has_ended(job: &Value) -> bool {
    matches!(text(job, "state"), "archived" | "failed" | "stuck")
}

/// A job without what is not used here, such as its prompt.
fn reduced(mut job: Value) -> Value {
    const OF_JOB: [&str; 8] = ["jobId", "state", "reason", "error", "message", "outcome", "manifestKey", "assets"];
    const OF_ASSET: [&str; 4] = ["file", "bytes", "sha256", "links"];
    let keep = |value: &mut Value, names: &[&str]| {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|name, _| names.contains(&name.as_str()));
        }
    };
    keep(&mut job, &OF_JOB);
    for asset in job.get_mut("assets").and_then(Value::as_array_mut).into_iter().flatten() {
        keep(asset, &OF_ASSET);
    }
    job
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

/// The folder of each job: its own in the bucket, without what leads there where no other job's is called alike.
fn folders(jobs: &[Value]) -> Vec<PathBuf> {
    let whole = jobs.iter().map(|job| match text(job, "manifestKey").rsplit_once('/') {
        Some((folder, _)) => folder.to_owned(),
        None => encoded(text(job, "jobId")),
    });
    let whole: Vec<String> = whole.collect();
    let mut named: HashMap<&str, usize> = HashMap::new();
    for folder in &whole {
        *named.entry(last_part(folder)).or_default() += 1;
    }
    let chosen = |folder: &String| {
        let short = last_part(folder);
        inner(if named.get(short) == Some(&1) { short } else { folder })
    };
    whole.iter().map(chosen).collect()
}

fn last_part(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

/// A path that leads nowhere but further down.
fn inner(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_two_jobs_have_one_folder() {
        let expected = |keys: &[&str], expected: &[&str]| {
            let jobs: Vec<_> = keys.iter().map(|key| json!({"jobId": "kling:a b", "manifestKey": key})).collect();
            assert_eq!(folders(&jobs), expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{keys:?}");
        };
        expected(&["v/01/video-1/manifest.json", "v/01/video-2/manifest.json"], &["video-1", "video-2"]);
        expected(
            &["v/01/video-1/manifest.json", "v/02/video-1/manifest.json", "v/02/video-3/manifest.json"],
            &["v/01/video-1", "v/02/video-1", "video-3"],
        );
        expected(&["a/x/manifest.json", "b/x/manifest.json", "x/manifest.json"], &["a/x", "b/x", "x"]);
        expected(&["../x/manifest.json", "/a/x/manifest.json", "../manifest.json"], &["x", "a/x", ""]);
        expected(&["manifest.json"], &["kling%3Aa%20b"]);
    }
}
