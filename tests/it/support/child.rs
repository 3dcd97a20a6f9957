//! The real program as a process of its own, so that it can be killed and its failure points set.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use replyvault::domain::Target;
use replyvault::intake::{ReplyKeys, ReplyUrls};
use reqwest::Client;
use secrecy::SecretString;
use serde_json::Value;

use super::s3::S3Server;
use super::vault::PATIENCE;

pub(crate) const TOKEN: &str = "child-token-0123456789";
const SECRET: &str = "child-reply-secret";

/// What a process is started with; it can be started again with the same.
pub(crate) struct Program {
    pub(crate) dir: PathBuf,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) failure_points: String,
    /// How many files it may have open, hard and soft; as many as this process where it is `None`.
    pub(crate) open_files: Option<usize>,
}

/// A running process.
pub(crate) struct Process {
    child: Mutex<Child>,
    log: PathBuf,
    pub(crate) base: String,
    pub(crate) client: Client,
}

impl Program {
    /// One that keeps everything below `dir` and may fetch from this machine.
    pub(crate) fn new(dir: &Path) -> Self {
        let settings = [
            ("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
            ("DATA__DIR", dir.join("data").display().to_string()),
            ("STORAGE__URL", format!("file:{}", dir.join("bucket").display())),
            ("STORAGE__PART_SIZE", "64KiB".to_owned()),
            ("FETCH__MAX_SIZE", "100MiB".to_owned()),
            ("FETCH__ALLOWED_HOSTS", r#"["127.0.0.1"]"#.to_owned()),
            ("FETCH__ALLOW_HTTP", "true".to_owned()),
            ("FETCH__ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
            ("AUTH__API_TOKENS", format!("[{TOKEN:?}]")),
            ("AUTH__REPLY_SECRETS", format!("[{SECRET:?}]")),
        ];
        let settings = settings.map(|(key, value)| (format!("REPLYVAULT_{key}"), value)).to_vec();
        Self { dir: dir.to_owned(), settings, failure_points: String::new(), open_files: None }
    }

    /// Changes a setting: its key as in the environment, without the prefix.
    pub(crate) fn set(&mut self, key: &str, value: String) {
        let key = format!("REPLYVAULT_{key}");
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value));
    }

    /// Keeps objects in an S3 server's bucket.
    pub(crate) fn store_in(&mut self, s3: &S3Server) {
        for (key, value) in [
            ("STORAGE__URL", format!("s3://{}", s3.bucket)),
            ("STORAGE__ENDPOINT", s3.endpoint.clone()),
            ("STORAGE__ALLOW_HTTP", "true".to_owned()),
            ("STORAGE__ACCESS_KEY_ID", s3.access_key.clone()),
            ("STORAGE__SECRET_ACCESS_KEY", s3.secret_key.clone()),
            ("STORAGE__PART_SIZE", "5MiB".to_owned()),
        ] {
            self.set(key, value);
        }
    }

    /// Another command with the same settings, to be run in the same place.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replyvault"));
        command.args(arguments).current_dir(&self.dir).envs(self.settings.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it listens, its state can be read and its jobs be searched.
    pub(crate) async fn start(&self) -> Process {
        let process = self.listen().await;
        let searchable = async {
            while process.touch("/api/v1/jobs?q=any").await == Some(503) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let searched = tokio::time::timeout(PATIENCE, searchable).await;
        searched.unwrap_or_else(|_| panic!("its jobs cannot be searched:\n{}", process.log()));
        process
    }

    /// Starts it and waits until it listens: its state may not be readable yet, or never.
    pub(crate) async fn listen(&self) -> Process {
        let log = self.dir.join("log.json");
        let file = std::fs::File::create(&log).unwrap();
        let limit = self.open_files.map_or_else(String::new, |limit| format!("ulimit -n {limit} && "));
        let child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_replyvault")])
            .args(["serve", "--log-format", "json"])
            .current_dir(&self.dir)
            .envs(self.settings.iter().cloned())
            .env("FAILPOINTS", &self.failure_points)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut process = Process { child: Mutex::new(child), log, base: String::new(), client };
        let listening = async {
            loop {
                if let Some(address) = address(&process.log()) {
                    return address;
                }
                assert!(process.child.get_mut().unwrap().try_wait().unwrap().is_none(), "it ended:\n{}", process.log());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let address = tokio::time::timeout(PATIENCE, listening).await.expect("it does not listen");
        process.base = format!("http://{address}");
        process
    }
}

impl Process {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn channel_url(&self) -> String {
        self.reply_url(&Target::Channel)
    }

    pub(crate) fn reply_url(&self, target: &Target) -> String {
        reply_urls(&self.base).reply_url(target)
    }

    /// Posts a callback; the status, or `None` when there was no answer.
    pub(crate) async fn post(&self, body: &Value) -> Option<u16> {
        let sent = self.client.post(self.channel_url()).body(body.to_string()).send().await;
        Some(sent.ok()?.status().as_u16())
    }

    /// Posts a callback until it is accepted, as a caller would who gets 503.
    pub(crate) async fn post_until_accepted(&self, body: &Value) {
        let accepted = async {
            while self.post(body).await != Some(200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, accepted).await.unwrap_or_else(|_| panic!("not accepted:\n{}", self.log()));
    }

    /// What the API answers, or `None` when it does not.
    pub(crate) async fn get(&self, path: &str) -> Option<Value> {
        let sent = self.client.get(format!("{}{path}", self.base)).bearer_auth(TOKEN).send().await.ok()?;
        if !sent.status().is_success() {
            return None;
        }
        sent.json().await.ok()
    }

    /// The job once it is in `state`.
    pub(crate) async fn job_in(&self, id: &str, state: &str) -> Value {
        self.get_when(&format!("/api/v1/jobs/{id}"), |job| job["state"] == state).await
    }

    /// What the API answers, once it does and that is `expected`.
    pub(crate) async fn get_when(&self, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
        let reached = async {
            loop {
                match self.get(path).await {
                    Some(answer) if expected(&answer) => return answer,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(answer) => answer,
            Err(_) => panic!("{:#?}\n{}", self.get(path).await, self.log()),
        }
    }

    /// Bytes of memory it holds, and how many files and sockets.
    pub(crate) fn holds(&self) -> (u64, usize) {
        let process = format!("/proc/{}", self.child.lock().unwrap().id());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        (kib * 1024, std::fs::read_dir(format!("{process}/fd")).unwrap().count())
    }

    /// The most memory it ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.lock().unwrap().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Gets what may be anything but JSON; its status.
    pub(crate) async fn touch(&self, path: &str) -> Option<u16> {
        let sent = self.client.get(format!("{}{path}", self.base)).bearer_auth(TOKEN).send().await.ok()?;
        let status = sent.status().as_u16();
        sent.bytes().await.ok()?;
        Some(status)
    }

    /// Listens to the events until they end, and waits `pause` after each piece.
    pub(crate) async fn listen(&self, pause: Duration) {
        let sent = self.client.get(format!("{}/api/v1/events", self.base)).bearer_auth(TOKEN).send().await;
        let Ok(mut events) = sent else { return };
        while let Ok(Some(_)) = events.chunk().await {
            tokio::time::sleep(pause).await;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child.lock().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM; its exit code.
    pub(crate) async fn terminate(&self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child.lock().unwrap());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.exit_code().await
    }

    /// Its exit code, once it has ended.
    pub(crate) async fn exit_code(&self) -> Option<i32> {
        let ended = async {
            loop {
                let status = self.child.lock().unwrap().try_wait().unwrap();
                match status {
                    Some(status) => return status.code(),
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("it does not end")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The URLs of a program of this kind.
pub(crate) fn reply_urls(base: &str) -> ReplyUrls {
    let secret: SecretString = SECRET.into();
    ReplyUrls::new(base.parse().unwrap(), ReplyKeys::new([&secret]).unwrap())
}

fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("\"serving\""))?;
    let line: Value = serde_json::from_str(line).ok()?;
    [&line["address"], &line["fields"]["address"]].into_iter().find_map(|address| Some(address.as_str()?.to_owned()))
}
