//! replyvault itself: the program as it is shipped, with its own folder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use replyvault::domain::Target;
use replyvault::intake::{ReplyKeys, ReplyUrls};
use reqwest::Client;
use secrecy::SecretString;
use serde_json::Value;

use crate::failure::Failure;
use crate::process::{Process, find, free_address};

pub(crate) const TOKEN: &str = "bench-token-0123456789";
const SECRET: &str = "bench-reply-secret";
/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often it is asked.
const POLL: Duration = Duration::from_millis(2);

/// A running replyvault.
pub(crate) struct Vault {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    client: Client,
}

/// What it is started with.
pub(crate) struct Settings {
    dir: PathBuf,
    environment: Vec<(String, String)>,
    /// `None`: the program beside the suite.
    program: Option<PathBuf>,
}

impl Settings {
    /// All of it below `dir`; it may fetch from this machine.
    pub(crate) fn new(dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        let mut settings = Self { dir: dir.to_owned(), environment: Vec::new(), program: None };
        settings.set("DATA__DIR", dir.join("data").display());
        settings.set("STORAGE__URL", format!("file:{}", dir.join("bucket").display()));
        settings.set("FETCH__ALLOWED_HOSTS", r#"["127.0.0.1"]"#);
        settings.set("FETCH__ALLOW_HTTP", true);
        settings.set("FETCH__ALLOW_PRIVATE_ADDRESSES", true);
        settings.set("AUTH__API_TOKENS", format!("[{TOKEN:?}]"));
        settings.set("AUTH__REPLY_SECRETS", format!("[{SECRET:?}]"));
        Ok(settings)
    }

    /// Changes a setting, named as in the environment, without the prefix.
    pub(crate) fn set(&mut self, key: &str, value: impl ToString) {
        self.environment.push((format!("REPLYVAULT_{key}"), value.to_string()));
    }

    /// Takes another build of the program.
    pub(crate) fn use_program(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// The folder of journal and state.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The program with these settings.
    pub(crate) fn command(&self) -> Result<Command, Failure> {
        let program = self.program.clone().or_else(|| find("replyvault"));
        let program = program.ok_or_else(|| Failure("replyvault is not built: see benches/run".into()))?;
        let mut command = Command::new(program);
        command.current_dir(&self.dir).envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// Starts the service and waits until it is ready.
    pub(crate) async fn serve(&self) -> Result<Vault, Failure> {
        let address = free_address()?;
        let mut command = self.command()?;
        command.arg("serve").env("REPLYVAULT_SERVER__LISTEN", address.to_string());
        let process = Process::start(&mut command, &self.dir)?.listening(address)?;
        let vault = Vault { process, address, client: Client::builder().no_proxy().build()? };
        vault.until("it is ready", async |vault| Ok(vault.status("/readyz").await? == 200)).await?;
        Ok(vault)
    }
}

impl Vault {
    /// The path of its reply URL.
    pub(crate) fn reply_path(&self) -> Result<String, Failure> {
        let secret: SecretString = SECRET.into();
        let keys = ReplyKeys::new([&secret]).ok_or_else(|| Failure("no key".into()))?;
        let base = format!("http://{}", self.address).parse().map_err(|_| Failure("no URL".into()))?;
        let url = ReplyUrls::new(base, keys).reply_url(&Target::Channel);
        let path = url.find("/reply/").map(|at| url[at..].to_owned());
        path.ok_or_else(|| Failure("no path in the reply URL".into()))
    }

    /// What the API answers.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let sent = self.client.get(format!("http://{}{path}", self.address)).bearer_auth(TOKEN).send().await?;
        Ok(sent.error_for_status()?.json().await?)
    }

    /// The status of an answer.
    pub(crate) async fn status(&self, path: &str) -> Result<u16, Failure> {
        let sent = self.client.get(format!("http://{}{path}", self.address)).bearer_auth(TOKEN).send().await?;
        Ok(sent.status().as_u16())
    }

    /// Posts a callback.
    pub(crate) async fn post(&self, body: Vec<u8>) -> Result<(), Failure> {
        self.post_to(&self.reply_path()?, body).await
    }

    /// Posts a callback to the path of a reply URL.
    pub(crate) async fn post_to(&self, path: &str, body: Vec<u8>) -> Result<(), Failure> {
        self.client.post(self.url(path)).body(body).send().await?.error_for_status()?;
        Ok(())
    }

    /// Registers a ref. Returns the path of its reply URL.
    pub(crate) async fn register(&self, reply_ref: &str) -> Result<String, Failure> {
        let call = self.client.post(self.url("/api/v1/refs")).bearer_auth(TOKEN);
        let answer = call.json(&serde_json::json!({"replyRef": reply_ref})).send().await?.error_for_status()?;
        let answer: Value = answer.json().await?;
        let url = answer["replyUrl"].as_str().unwrap_or_default();
        let path = url.find("/reply/").map(|at| url[at..].to_owned());
        path.ok_or_else(|| Failure("no path in the reply URL".into()))
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until so many jobs are archived.
    pub(crate) async fn archived(&self, jobs: u64) -> Result<(), Failure> {
        let check = async |vault: &Self| Ok(vault.get("/api/v1/stats").await?["jobs"]["archived"] == jobs);
        self.until("the jobs are archived", check).await
    }

    /// Waits until a job is in `state`.
    pub(crate) async fn job_in(&self, id: &str, state: &str) -> Result<(), Failure> {
        let path = format!("/api/v1/jobs/{id}");
        let check = async |vault: &Self| Ok(vault.get(&path).await?["state"] == state);
        self.until("a job ends", check).await
    }

    /// A request of its API as [`crate::load`] sends it.
    pub(crate) fn request(&self, path: &str, out: &mut Vec<u8>) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n", self.address);
        out.extend_from_slice(head.as_bytes());
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        check: impl AsyncFn(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        while !check(self).await? {
            if began.elapsed() > PATIENCE {
                return Err(Failure(format!("waited in vain until {what}:\n{}", self.process.log())));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}
