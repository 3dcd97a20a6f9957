//! What is damaged in the bucket is found, named and mended; and the state can be made anew.

mod rebuild;
mod tasks;
mod verify;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cli::Ended;
use crate::support::child::Program;
use crate::support::media::{MediaServer, mp4};
use crate::support::s3::S3Server;
use crate::support::vault::{Vault, completed, video_id, with_bucket};

/// Jobs that are archived, their service stopped.
struct Archive {
    vault: Vault,
    media: MediaServer,
    jobs: Vec<Value>,
}

impl Archive {
    async fn of(sizes: &[usize]) -> Self {
        Self::with(Vault::start().await, sizes).await
    }

    async fn with(mut vault: Vault, sizes: &[usize]) -> Self {
        let media = MediaServer::start();
        let mut jobs = Vec::new();
        for (number, size) in (0..).zip(sizes) {
            let url = media.put(&format!("/{number}.mp4"), mp4(number, *size), "video/mp4");
            vault.callback(completed(number, &url)).await;
        }
        for number in 0..sizes.len() {
            jobs.push(vault.archived(&video_id(number as u64)).await);
        }
        vault.stop().await;
        Self { vault, media, jobs }
    }

    fn key(&self, job: usize) -> &str {
        self.jobs[job]["assets"][0]["key"].as_str().unwrap()
    }

    fn manifest_key(&self, job: usize) -> &str {
        self.jobs[job]["manifestKey"].as_str().unwrap()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.vault.dir.path().join("bucket").join(key)
    }

    fn program(&self) -> Program {
        Program::new(self.vault.dir.path())
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        run(&self.program(), arguments).await
    }

    fn flip_a_byte(&self, job: usize) {
        let path = self.path(self.key(job));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    /// Puts `to` where `from` first stands in a job's manifest, and returns the text.
    fn change_manifest(&self, job: usize, from: &str, to: &str) -> String {
        let path = self.path(self.manifest_key(job));
        let written = std::fs::read_to_string(&path).unwrap();
        let changed = written.replacen(from, to, 1);
        assert_ne!(changed, written);
        std::fs::write(path, &changed).unwrap();
        changed
    }

    /// Has a job's manifest name its file's digest with another first digit.
    fn change_a_digit(&self, job: usize) {
        let sha256 = self.jobs[job]["assets"][0]["sha256"].as_str().unwrap();
        let digit = if sha256.starts_with('0') { '1' } else { '0' };
        self.change_manifest(job, sha256, &format!("{digit}{}", &sha256[1..]));
    }

    /// The lines that `verify` should print: kind, key and job.
    fn expected(&self, faults: &[(&str, &str, Option<usize>)]) -> BTreeSet<String> {
        let line = |(kind, key, job): &(&str, &str, Option<usize>)| {
            let job = job.map_or("-".to_owned(), |job| video_id(job as u64));
            format!("{kind} {key} {job}")
        };
        faults.iter().map(line).collect()
    }
}

fn command(program: &Program, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replyvault"));
    command.args(arguments).current_dir(&program.dir).env_clear().envs(program.settings.iter().cloned());
    command.env("FAILPOINTS", &program.failure_points);
    command
}

async fn run(program: &Program, arguments: &[&str]) -> Ended {
    let mut command = command(program, arguments);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await.unwrap().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What was found, without what follows the first colon after the key and the job.
fn findings(ended: &Ended) -> BTreeSet<String> {
    let lines = ended.stdout.lines().filter(|line| line.contains(": ") && line.contains('/'));
    lines.map(|line| line.split(": ").next().unwrap().to_owned()).collect()
}

fn is_line_about(ended: &Ended, start: &str, text: &str) -> bool {
    ended.stdout.lines().any(|line| line.starts_with(start) && line.contains(text))
}

async fn s3_archive(s3: &S3Server, sizes: &[usize]) -> (Archive, Program) {
    let archive = Archive::with(Vault::start_with(with_bucket(s3.config(""))).await, sizes).await;
    let mut program = archive.program();
    let storage = [
        ("URL", format!("s3://{}", s3.bucket)),
        ("ENDPOINT", s3.endpoint.clone()),
        ("ACCESS_KEY_ID", s3.access_key.clone()),
        ("SECRET_ACCESS_KEY", s3.secret_key.clone()),
        ("ALLOW_HTTP", "true".to_owned()),
    ];
    program.settings.retain(|(key, _)| !key.contains("STORAGE__"));
    program.settings.extend(storage.map(|(key, value)| (format!("REPLYVAULT_STORAGE__{key}"), value)));
    (archive, program)
}
