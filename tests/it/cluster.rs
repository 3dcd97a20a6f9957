//! Replicas that share one log: real processes, a real PostgreSQL, a real S3 server.

mod copies;
mod faults;
mod moves;
mod snapshots;
mod ways;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use replyvault::domain::{Target, Timestamp};
use replyvault::journal::{CallbackEntry, Entry};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::child::{Process, Program, TOKEN};
use crate::support::media::MediaServer;
use crate::support::postgres::Postgres;
use crate::support::s3::S3Server;
use crate::support::vault::video_id;

/// Some replicas and all that they need.
pub(crate) struct Replicas {
    pub(crate) postgres: Postgres,
    pub(crate) s3: S3Server,
    pub(crate) media: MediaServer,
    pub(crate) programs: Vec<Program>,
    dir: TempDir,
}

impl Replicas {
    /// None of them runs yet.
    pub(crate) async fn prepare(count: usize) -> Option<Self> {
        let postgres = Postgres::start().await?;
        let (s3, media, dir) = (S3Server::start().await, MediaServer::start(), tempfile::tempdir().unwrap());
        let mut replicas = Self { postgres, s3, media, programs: Vec::new(), dir };
        for _ in 0..count {
            replicas.add();
        }
        Some(replicas)
    }

    /// One more, on a machine of its own.
    pub(crate) fn add(&mut self) -> &mut Program {
        let place = self.dir.path().join(format!("replica-{}", self.programs.len()));
        std::fs::create_dir(&place).unwrap();
        let mut program = Program::new(&place);
        program.store_in(&self.s3);
        program.set("CLUSTER__POSTGRES", self.postgres.url());
        program.set("NOTIFY__SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz".to_owned());
        self.programs.push(program);
        self.programs.last_mut().unwrap()
    }

    /// Starts all of them, and waits until they are members and nothing is kept but in the log.
    pub(crate) async fn start(&self) -> Vec<Process> {
        let mut processes = Vec::new();
        for program in &self.programs {
            processes.push(program.start().await);
        }
        for process in &processes {
            nothing_waits(process).await;
        }
        processes
    }

    /// The objects in the bucket, without the service's own.
    pub(crate) fn objects(&self) -> BTreeMap<PathBuf, u64> {
        let root = self.s3.root.path().join(&self.s3.bucket);
        let (mut found, mut folders) = (BTreeMap::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                let name = path.strip_prefix(&root).unwrap().to_owned();
                if name.starts_with("_journal") || name.starts_with("_replyvault") {
                    continue;
                }
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(found.insert(name, std::fs::metadata(&path).unwrap().len())),
                }
            }
        }
        found
    }

    /// All replicas, each of them stopped, hold the same: what one of them has written after another stopped, that one reads
    /// first.
    pub(crate) async fn assert_alike(&self) {
        let mut said = self.digests();
        for _ in 0..5 {
            let newest = said.iter().map(|(position, _)| *position).max();
            let behind = said.iter().zip(&self.programs).filter(|((position, _), _)| Some(*position) < newest);
            let behind: Vec<&Program> = behind.map(|(_, program)| program).collect();
            for program in &behind {
                let process = program.start().await;
                caught_up(&process).await;
                assert_eq!(process.terminate().await, Some(0), "{}", process.log());
            }
            if behind.is_empty() {
                break;
            }
            said = self.digests();
        }
        assert!(said.iter().all(|digest| *digest == said[0]), "{said:#?}");
    }

    /// The position of each replica, and what `cluster digest` says of it.
    fn digests(&self) -> Vec<(u64, String)> {
        let digest = |program: &Program| {
            let said = program.command(&["cluster", "digest"]).output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            let said = String::from_utf8(said.stdout).unwrap();
            let position = said.strip_prefix("position ").and_then(|said| said.split(',').next());
            (position.and_then(|position| position.parse().ok()).unwrap(), said)
        };
        self.programs.iter().map(digest).collect()
    }
}

/// Waits for as long as it takes until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(180), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Waits until a replica can append to the log, and all that it has answered for is there.
pub(crate) async fn nothing_waits(process: &Process) {
    until("nothing waits", || async { cluster_check(process).await.as_deref() == Some("ok") }).await;
}

/// Waits until a replica has read all that is in the log now.
pub(crate) async fn caught_up(process: &Process) {
    until("it has read all of the log", || async { is_stale(process).await == Some(false) }).await;
}

/// Whether what a replica answers may be stale, or `None` when it does not answer.
pub(crate) async fn is_stale(process: &Process) -> Option<bool> {
    let sent = process.client.get(format!("{}/api/v1/stats", process.base)).bearer_auth(TOKEN).send().await.ok()?;
    sent.status().is_success().then(|| sent.headers().contains_key("replyvault-stale"))
}

/// A job as one replica shows it right after another has answered for it: at once, unless the log was too slow for one of them,
/// which is said.
pub(crate) async fn seen(by: &Process, answered: &Process, number: u64) -> Value {
    let path = format!("/api/v1/jobs/{}", video_id(number));
    if let Some(job) = by.get(&path).await {
        return job;
    }
    let logs = [answered.log(), by.log()];
    assert!(logs.iter().any(|log| log.contains("the shared log is away")), "job {number} is not seen: {logs:#?}");
    nothing_waits(answered).await;
    by.get_when(&path, |_| true).await
}

/// A callback as a journal has it.
pub(crate) fn callback(body: &Value) -> Entry {
    Entry::Callback(CallbackEntry {
        at: Timestamp::now(),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body: body.to_string().into(),
    })
}

/// What `/readyz` says of the cluster.
pub(crate) async fn cluster_check(process: &Process) -> Option<String> {
    let sent = process.client.get(format!("{}/readyz", process.base)).send().await.ok()?;
    let body: Value = sent.json().await.ok()?;
    Some(body["checks"]["cluster"].as_str()?.to_owned())
}
