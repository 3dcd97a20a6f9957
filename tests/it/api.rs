//! The API as its users see it: a real server over a real journal, state and bucket.

mod accepted;
mod access;
mod content;
mod events;
mod health;
mod jobs;
mod media;
mod quarantine;
mod refs;
mod surface;
mod zip;

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServerHandle;
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use bytes::Bytes;
use replyvault::api::{self, Api, Scope, Token};
use replyvault::bucket::{self, Bucket};
use replyvault::domain::{AssetId, Digest, FileName, MediaUrl, StoredFile, Target, Timestamp, Variant};
use replyvault::egress;
use replyvault::fetch::Fetcher;
use replyvault::intake::{self, Intake, ReplyKeys, ReplyUrls};
use replyvault::journal::Journal;
use replyvault::journal::{Durability, Event};
use replyvault::provider;
use replyvault::repair::Verifier;
use replyvault::search::Search;
use replyvault::state::EventLog;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::s3::{S3Server, config as storage};
use crate::support::stand_in;

const ADMIN: &str = "admin-token-5d0f";
const READ: &str = "read-token-77aa";

/// A running API. Stops when dropped.
struct Vault {
    base: String,
    client: reqwest::Client,
    intake: Intake,
    bucket: Bucket,
    server: ServerHandle,
    dir: TempDir,
}

struct Options {
    storage: bucket::Config,
    adopt: bool,
    public_url: &'static str,
    min_free_bytes: u64,
}

impl Options {
    fn new(storage: bucket::Config) -> Self {
        let public_url = "http://vault.example.com";
        Self { storage, adopt: true, public_url, min_free_bytes: api::Config::MIN_FREE_BYTES }
    }
}

impl Vault {
    async fn start() -> Self {
        Self::with(Options::new(storage("memory:"))).await
    }

    async fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal")).unwrap();
        let log = EventLog::open(journal, &dir.path().join("state"), Intake::parse_callback).unwrap();
        log.recovered().await.unwrap();
        let keys = ReplyKeys::new(&["reply-secret".into()]).unwrap();
        let urls = ReplyUrls::new(options.public_url.parse().unwrap(), keys);
        let config = intake::Config {
            max_callback_size: 32 << 20,
            body_time: intake::Config::BODY_TIME,
            adopt_unknown_refs: options.adopt,
            sidecars: false,
            confirm: false,
            quarantine: intake::QuarantineLimits::default(),
        };
        let intake = Intake::new(config, urls, log, &dir.path().join("spool"));
        let bucket = Bucket::open(&options.storage).unwrap();
        let token = |name: &str, token: &str, scope| Token { name: name.to_owned(), token: token.into(), scope };
        let receivers = egress::Policy::new(egress::Config {
            allowed_hosts: egress::AllowedHosts::Any,
            allow_http: false,
            allow_private_addresses: false,
        });
        let config = api::Config {
            tokens: vec![
                token("ops", ADMIN, Scope::Admin),
                token("dash", READ, Scope::Read),
                token("", "", Scope::Admin),
            ],
            data_dir: dir.path().to_owned(),
            min_free_bytes: options.min_free_bytes,
            receivers,
        };
        let fetch = crate::support::vault::settings(dir.path()).fetch;
        let fetcher = Fetcher::new(&fetch).unwrap();
        let verifier = Verifier::new(intake.log().clone(), bucket.clone(), fetcher, provider::redacted);
        let links = replyvault::bucket::Links::new(bucket.clone(), replyvault::bucket::LinkConfig::default());
        let search = Search::start(intake.log().state().clone(), intake.log().supervisor()).unwrap();
        let api = Data::new(Api::new(config, intake.clone(), search, links, bucket.clone(), verifier, None));
        let data = Data::new(intake.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(api.clone())
                .app_data(data.clone())
                .wrap(from_fn(|request: ServiceRequest, next: Next<BoxBody>| async move {
                    let mut response = next.call(request).await?;
                    api::observe(&mut response);
                    Ok::<_, actix_web::Error>(response)
                }))
                .configure(intake::routes)
                .configure(api::routes)
        });
        let server = stand_in(server).listen(listener).unwrap().run();
        let handle = server.handle();
        tokio::spawn(server);
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(Duration::from_secs(30)).build().unwrap();
        Self { base, client, intake, bucket, server: handle, dir }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// As an admin.
    async fn send(&self, method: Method, path: &str) -> Response {
        self.request(method, path).bearer_auth(ADMIN).send().await.unwrap()
    }

    /// What an admin gets, which has to be JSON and 200.
    async fn get(&self, path: &str) -> Value {
        let response = self.send(Method::GET, path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answer(self.request(Method::POST, path).bearer_auth(ADMIN).body(body).send().await.unwrap()).await
    }

    /// A callback over the channel's URL.
    async fn callback(&self, body: Value) -> (u16, Value) {
        self.callback_over(&Target::Channel, body.to_string()).await
    }

    async fn callback_over(&self, target: &Target, body: String) -> (u16, Value) {
        let url = self.intake.urls().reply_url(target);
        let path = url.strip_prefix("http://vault.example.com").unwrap();
        answer(self.request(Method::POST, path).body(body).send().await.unwrap()).await
    }

    /// Job `number`, completed; its file is still to be had.
    async fn completed(&self, number: u32) {
        let url = format!("https://cdn.hailuoai.video/{number}.mp4?sig=cdn-secret");
        let body = json!({"videoId": id(number), "status": 2, "videoURL": url, "replyRef": "boat"});
        assert_eq!(self.callback(body).await.0, 200);
    }

    /// Job `number`, completed, its file stored.
    async fn stored(&self, number: u32, content: &[u8], content_type: &str) -> Digest {
        self.completed(number).await;
        let (sha256, key) = (Digest::of(content), format!("video/2026/11/20/video-{number}/video.mp4"));
        let chunks = vec![Bytes::copy_from_slice(content)];
        self.bucket.put(&key.parse().unwrap(), chunks, content_type).await.unwrap();
        self.indexed(number, sha256, content.len() as u64, content_type, &key).await;
        sha256
    }

    /// The index says that `key` holds the file of job `number`.
    async fn indexed(&self, number: u32, sha256: Digest, bytes: u64, content_type: &str, key: &str) {
        let known = self.intake.log().state().media(&sha256).unwrap();
        let file = StoredFile {
            file: FileName::clean("video.mp4"),
            sha256,
            bytes,
            content_type: content_type.to_owned(),
            key: known.as_ref().map_or(key.to_owned(), |known| known.key.clone()),
            deduplicated: known.is_some(),
            url: MediaUrl::parse("https://cdn.hailuoai.video/x.mp4?sig=cdn-secret").unwrap(),
            variant: Variant::Clean,
            at: Timestamp::now(),
        };
        let event = Event::Stored { job: id(number).parse().unwrap(), slot: AssetId::media(), file };
        self.intake.log().record(event, Durability::Synced).await.unwrap();
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        drop(self.server.stop(false));
        self.intake.log().close();
    }
}

fn id(number: u32) -> String {
    format!("user:1-minimax:2-video:{number}")
}

async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (status, body)
}

/// Status and code of an error, which has to have the one form that errors have.
async fn refusal(response: Response) -> (u16, String) {
    let (status, body) = answer(response).await;
    let error = body["error"].as_object().unwrap_or_else(|| panic!("{body}"));
    assert!(error.len() == 2 && body.as_object().unwrap().len() == 1, "{body}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    (status, error["code"].as_str().unwrap().to_owned())
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}
