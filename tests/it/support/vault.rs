//! The real service on a free port, and what a user does with it.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use replyvault::api::{self, Scope, Token};
use replyvault::app::{Running, Settings};
use replyvault::bucket::{self, KeyTemplate, ObjectKey};
use replyvault::domain::{Digest, Target};
use replyvault::egress::{self, AllowedHosts};
use replyvault::fetch;
use replyvault::intake::{self, ReplyKeys, ReplyUrls};
use replyvault::notify;
use replyvault::reconcile;
use replyvault::relay;
use replyvault::repair::ArchiveKeys;
use replyvault::worker;
use reqwest::{Client, Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::s3::config;

/// How long anything may take before a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A service with a data directory of its own.
pub(crate) struct Vault {
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
    running: Option<Running>,
    pub(crate) client: Client,
}

impl Vault {
    /// A service that keeps objects in a directory beside its data.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same after a change to its settings.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        change(&mut settings);
        let running = Running::start(settings.clone()).await.unwrap();
        running.ready().await;
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let vault = Self { dir, settings, running: Some(running), client };
        vault.searchable().await;
        vault
    }

    /// Waits until the jobs it finds at its start are indexed.
    async fn searchable(&self) {
        let client = Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let is_indexing = async || {
            let sent = client.get(self.url("/api/v1/jobs?q=any")).bearer_auth(TOKEN).send().await;
            sent.is_ok_and(|answer| answer.status() == StatusCode::SERVICE_UNAVAILABLE)
        };
        let indexed = async {
            while is_indexing().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, indexed).await.expect("its jobs cannot be searched");
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    /// Stops, as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Starts again after [`Vault::stop`].
    pub(crate) async fn start_again(&mut self) {
        let running = Running::start(self.settings.clone()).await.unwrap();
        running.ready().await;
        self.running = Some(running);
        self.searchable().await;
    }

    /// The same while the state may not be there yet.
    pub(crate) async fn start_without_waiting(&mut self) {
        self.running = Some(Running::start(self.settings.clone()).await.unwrap());
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running().address())
    }

    pub(crate) fn channel_url(&self) -> String {
        self.running().intake().urls().reply_url(&Target::Channel)
    }

    pub(crate) async fn post(&self, url: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        answer(self.client.post(url).body(body).send().await.unwrap()).await
    }

    /// Posts a callback over the channel's URL and expects it to be understood.
    pub(crate) async fn callback(&self, body: Value) -> Value {
        let (status, answer) = self.post(&self.channel_url(), body.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.client.get(self.url(path)).bearer_auth(TOKEN).send().await.unwrap()).await
    }

    /// Calls the API with a method and, unless it is null, a body.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.client.request(method.parse().unwrap(), self.url(path)).bearer_auth(TOKEN);
        let request = if body.is_null() { request } else { request.json(body) };
        answer(request.send().await.unwrap()).await
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        let (status, job) = self.get(&format!("/api/v1/jobs/{}", id.replace(':', "%3A"))).await;
        assert_eq!(status, 200, "{job}");
        job
    }

    /// The job once it is known and in one of `states`.
    pub(crate) async fn job_in(&self, id: &str, states: &[&str]) -> Value {
        let wait = async {
            loop {
                let (_, job) = self.get(&format!("/api/v1/jobs/{}", id.replace(':', "%3A"))).await;
                if job["state"].as_str().is_some_and(|state| states.contains(&state)) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(job) => job,
            Err(_) => panic!("expected {states:?}: {:#}", self.job(id).await),
        }
    }

    pub(crate) async fn archived(&self, id: &str) -> Value {
        self.job_in(id, &["archived"]).await
    }

    /// The bytes under a key.
    pub(crate) async fn object(&self, key: &str) -> Vec<u8> {
        let key: ObjectKey = key.parse().unwrap();
        let chunks: Vec<_> = self.running().bucket().read(&key, None).await.unwrap().try_collect().await.unwrap();
        chunks.concat()
    }

    pub(crate) async fn manifest(&self, job: &Value) -> Value {
        serde_json::from_slice(&self.object(job["manifestKey"].as_str().unwrap()).await).unwrap()
    }

    /// All keys in the bucket, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let objects: Vec<_> = self.running().bucket().list(None).try_collect().await.unwrap();
        let mut keys: Vec<_> = objects.into_iter().map(|(key, _)| key.as_str().to_owned()).collect();
        keys.sort();
        keys
    }

    /// Checks that the object of a job's only file has the given bytes and that everything says so.
    pub(crate) async fn assert_stored(&self, job: &Value, bytes: &[u8]) {
        let asset = &job["assets"][0];
        assert_eq!(asset["state"], "stored", "{job:#}");
        assert_eq!(asset["sha256"], Digest::of(bytes).to_string());
        assert_eq!(asset["bytes"], bytes.len());
        assert!(self.object(asset["key"].as_str().unwrap()).await == bytes, "other bytes");
    }
}

/// What signs events to a ref's notifyUrl.
pub(crate) const NOTIFY_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) const TOKEN: &str = "test-token-0123456789";

/// What every test starts from: small parts, few attempts, loopback allowed.
pub(crate) fn settings(dir: &Path) -> Settings {
    let secret: SecretString = "test-reply-secret".into();
    let mut bucket = config(&format!("file:{}", dir.join("bucket").display()));
    bucket.part_size = 1 << 20;
    Settings {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        tls: None,
        trusted_proxies: Vec::new(),
        data_dir: dir.join("data"),
        cluster: None,
        journal_keys: journal_keys(),
        reply_urls: ReplyUrls::new("http://127.0.0.1".parse().unwrap(), ReplyKeys::new([&secret]).unwrap()),
        has_public_url: false,
        intake: intake::Config {
            max_callback_size: 32 << 20,
            body_time: intake::Config::BODY_TIME,
            adopt_unknown_refs: true,
            sidecars: false,
            confirm: false,
            quarantine: intake::QuarantineLimits::default(),
        },
        bucket,
        fetch: fetch::Config {
            egress: egress::Config {
                allowed_hosts: AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]),
                allow_http: true,
                allow_private_addresses: true,
            },
            max_size: 4 << 30,
            idle_timeout: Duration::from_secs(10),
            min_speed: 0,
        },
        provider: None,
        gateway: None,
        reconcile: reconcile::Config::default(),
        confirm_patience: worker::Confirmer::PATIENCE,
        relay: relay::Config {
            egress: egress::Config {
                allowed_hosts: AllowedHosts::Any,
                allow_http: true,
                allow_private_addresses: true,
            },
            patience: relay::Config::PATIENCE,
        },
        notify: notify::Config {
            egress: egress::Config {
                allowed_hosts: AllowedHosts::Any,
                allow_http: true,
                allow_private_addresses: true,
            },
            endpoints: Vec::new(),
            ref_keys: notify::SigningKeys::read([&NOTIFY_SECRET.into()]).unwrap(),
            patience: notify::Config::PATIENCE,
        },
        links: bucket::LinkConfig::default(),
        worker: worker::Config {
            concurrency: 16,
            per_host: 8,
            max_attempts: 3,
            clean_only: false,
            key: KeyTemplate::default(),
        },
        api: api::Config {
            tokens: vec![Token { name: "test".to_owned(), token: TOKEN.into(), scope: Scope::Admin }],
            data_dir: dir.to_owned(),
            min_free_bytes: 0,
            receivers: egress::Policy::new(egress::Config {
                allowed_hosts: AllowedHosts::Any,
                allow_http: true,
                allow_private_addresses: true,
            }),
        },
        idle_timeout: Settings::IDLE_TIMEOUT,
        longest_unread: Settings::LONGEST_UNREAD,
        journal_retention: Duration::from_secs(86_400),
        shutdown_grace: Duration::from_secs(5),
    }
}

/// What archived segments are encrypted with.
pub(crate) fn journal_keys() -> ArchiveKeys {
    ArchiveKeys::new([&"test-journal-key-0123456789".into()]).unwrap()
}

/// The same with another bucket.
pub(crate) fn with_bucket(bucket: bucket::Config) -> impl FnOnce(&mut Settings) {
    move |settings| settings.bucket = bucket
}

async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
    (status, value)
}

/// A job's id.
pub(crate) fn video_id(number: u64) -> String {
    format!("user:1-minimax:2-video:{number}")
}

/// A completed video whose clean file is at `url`.
pub(crate) fn completed(number: u64, url: &str) -> Value {
    json!({"videoId": video_id(number), "status": 2, "statusLabel": "completed", "statusFinal": true, "percent": 100,
        "downloadURL": url, "replyRef": format!("ref-{number}")})
}
