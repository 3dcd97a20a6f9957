//! The main job on this machine: the service, a simulated provider, real small media, and a look at what was kept.

mod table;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{Running, Settings, StartError};
use crate::api::{self, Scope, Token};
use crate::bucket::{self, BucketError, KeyTemplate, StorageUrl};
use crate::config::{Secrets, SecretsError, Wanted};
use crate::domain::{JobState, Target};
use crate::egress::{self, AllowedHosts, HostPattern};
use crate::fetch;
use crate::intake::{self, ReplyKeys, ReplyUrls};
use crate::notify::{self, SigningKeys};
use crate::provider::ClientConfig;
use crate::reconcile;
use crate::relay;
use crate::repair::ArchiveKeys;
use crate::simulator::{self, CreateCall, Expected, Simulator};
use crate::state::{JobRecord, StateError};
use crate::worker::{self, Confirmer};

/// What a demo is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Create calls to make: in turn a video, a batch of images, an agent job and another video of the first API, then a call
    /// of each API there is.
    pub jobs: u32,
    /// Where to leave journal, state and bucket; `None`: in a temporary folder that is removed.
    pub keep: Option<PathBuf>,
    /// Whether to go on serving afterwards, until interrupted.
    pub serve: bool,
}

/// Why a demo could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The service could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The simulated provider could not be started.
    #[error("the simulated provider cannot be started: {0}")]
    Simulator(#[from] simulator::Error),
    /// The simulated provider did not take a job.
    #[error("the simulated provider did not take a job: {0}")]
    Create(String),
    /// The folder cannot be used.
    #[error("{path} cannot be used: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Where objects are to go is no valid place.
    #[error(transparent)]
    Storage(#[from] bucket::StorageUrlError),
    /// There is no key for the journal.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The result could not be looked at.
    #[error(transparent)]
    State(#[from] StateError),
    /// An object could not be read back.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What it has to say could not be printed.
    #[error("the result cannot be printed: {0}")]
    Print(std::io::Error),
}

/// How long the demo waits for its jobs to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the simulated provider takes for its user's token: it takes any.
const PROVIDER_TOKEN: &str = "demo";
/// From a create call to its final callback.
const PACE: Duration = Duration::from_millis(1500);

/// Runs the demo, and prints with `print` what comes of it. True when every object was read back and matched its hash, and
/// nothing is missing.
///
/// # Errors
/// When it could not be run to its end.
pub async fn demo(options: Options, print: impl Fn(&str) -> std::io::Result<()>) -> Result<bool, DemoError> {
    let say = |line: String| print(&format!("{line}\n")).map_err(DemoError::Print);
    let temporary = tempfile::Builder::new().prefix("replyvault-demo-").tempdir();
    let temporary = temporary.map_err(|source| DemoError::Folder { path: std::env::temp_dir(), source })?;
    let dir = options.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).map_err(|source| DemoError::Folder { path: dir.clone(), source })?;
    let dir = dir.canonicalize().map_err(|source| DemoError::Folder { path: dir.clone(), source })?;

    let simulator =
        Simulator::start(simulator::Config { pace: PACE, seed: rand::random(), ..Default::default() }).await?;
    let token: SecretString = hex::encode(rand::random::<[u8; 16]>()).into();
    let running = Running::start(settings(&dir, &token, &simulator)?).await?;
    running.ready().await;
    let (provider, address) = (simulator.base_url(), running.address());
    say(format!("A simulated provider listens on {provider}, replyvault on http://{address}."))?;
    say("Each job is created with a replyUrl that points at replyvault.\n".to_owned())?;

    let before = ended_jobs(&running)?;
    let expected = create_jobs(&simulator, &running, options.jobs).await?;
    wait(&running, before, expected, say).await?;
    simulator.idle().await;

    let truth = simulator.truth();
    let jobs = jobs_of(&running, &truth)?;
    let rows = table::read_back(&running, &truth, &jobs).await?;
    say(table::render(&rows))?;
    let files = rows.len();
    let good = rows.iter().filter(|row| row.verified).count();
    let archived = jobs.iter().filter(|record| record.job.state == JobState::Archived).count() as u64;
    say(format!(
        "\n{archived} of {expected} jobs archived; {good} of {files} files read back from the bucket and matching their hash."
    ))?;
    say(format!("Objects are in {}", dir.join("bucket").display()))?;
    if options.keep.is_none() && !options.serve {
        say("and will now be removed; --keep DIR leaves them there, --serve goes on serving.".to_owned())?;
    }
    if options.serve {
        say(format!("\nServing on http://{address} until interrupted. API token: {}", token.expose_secret()))?;
        super::shutdown_signal().await;
    }
    running.stop().await;
    simulator.stop().await;
    Ok(archived == expected && good == files && files > 0)
}

fn settings(dir: &std::path::Path, token: &SecretString, simulator: &Simulator) -> Result<Settings, DemoError> {
    let wanted = Wanted { journal_keys: true, ..Wanted::NOTHING };
    let secrets = Secrets::load_or_create(&dir.join("data"), wanted)?;
    let journal_keys = ArchiveKeys::new(&secrets.journal_keys).unwrap_or_else(|| unreachable!("one was made"));
    let secret: SecretString = hex::encode(rand::random::<[u8; 32]>()).into();
    let keys = ReplyKeys::new([&secret]).unwrap_or_else(|| unreachable!("one secret makes one key"));
    let base = Url::parse("http://127.0.0.1").unwrap_or_else(|_| unreachable!("it is a URL"));
    let host: HostPattern = "127.0.0.1".parse().unwrap_or_else(|_| unreachable!("an address is a host pattern"));
    let egress = egress::Config {
        allowed_hosts: AllowedHosts::Only(vec![host]),
        allow_http: true,
        allow_private_addresses: true,
    };
    // Some APIs' files are to be had with the token alone.
    let provider = ClientConfig {
        base_url: Url::parse(&simulator.base_url()).unwrap_or_else(|_| unreachable!("it is a URL")),
        api_token: PROVIDER_TOKEN.into(),
        egress: egress.clone(),
    };
    Ok(Settings {
        cluster: None,
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        tls: None,
        trusted_proxies: Vec::new(),
        data_dir: dir.join("data"),
        journal_keys,
        reply_urls: ReplyUrls::new(base, keys),
        has_public_url: false,
        intake: intake::Config {
            max_callback_size: 32 << 20,
            body_time: intake::Config::BODY_TIME,
            adopt_unknown_refs: true,
            sidecars: false,
            confirm: false,
            quarantine: intake::QuarantineLimits::default(),
        },
        bucket: bucket::Config::new(StorageUrl::parse("file:bucket", dir)?),
        fetch: fetch::Config { egress, max_size: 4 << 30, idle_timeout: Duration::from_secs(30), min_speed: 16 << 10 },
        provider: Some(provider),
        gateway: None,
        reconcile: reconcile::Config::default(),
        confirm_patience: Confirmer::PATIENCE,
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
            ref_keys: SigningKeys::read([&SigningKeys::generate()])
                .unwrap_or_else(|_| unreachable!("what is made can be read")),
            patience: notify::Config::PATIENCE,
        },
        links: bucket::LinkConfig::default(),
        worker: worker::Config {
            concurrency: 16,
            per_host: 8,
            max_attempts: 12,
            clean_only: false,
            key: KeyTemplate::default(),
        },
        api: api::Config {
            tokens: vec![Token { name: "demo".to_owned(), token: token.clone(), scope: Scope::Admin }],
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
    })
}

/// The calls of all APIs, one of each.
fn one_of_each() -> Vec<CreateCall> {
    let mut calls: Vec<CreateCall> = Simulator::creates().collect();
    calls.dedup_by_key(|call| call.provider);
    calls
}

/// Makes the create calls. Returns how many jobs the provider made of them.
async fn create_jobs(simulator: &Simulator, running: &Running, calls: u32) -> Result<u64, DemoError> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| DemoError::Create(error.to_string()))?;
    let reply_url = running.intake().urls().reply_url(&Target::UseApi);
    let mut jobs = 0;
    let others = one_of_each();
    let turns = 4 + others.len();
    for number in 0..calls as usize {
        let round = number / turns + 1;
        let (path, mut body) = match number % turns {
            0 => (
                "/v1/minimax/videos/create".to_owned(),
                json!({"prompt": "a paper boat crosses a flooded street", "replyRef": format!("boat-{round}")}),
            ),
            1 => (
                "/v1/minimax/images/create".to_owned(),
                json!({"prompt": "product shot of a green kettle", "quantity": 4, "replyRef": format!("kettle-batch-{round}")}),
            ),
            2 => (
                "/v1/minimax/agent".to_owned(),
                json!({"prompt": "rain on glass: a video, a still and a song", "models": "hailuo-2.3,nano-banana-2,minimax-music-2.0",
                    "async": "true", "replyRef": format!("rain-kit-{round}")}),
            ),
            3 => (
                "/v1/minimax/videos/create".to_owned(),
                json!({"prompt": "a lighthouse in fog", "replyRef": format!("lighthouse-{round}")}),
            ),
            turn => {
                let call = &others[turn - 4];
                let reply_ref = format!("{}-{round}", call.provider);
                (
                    format!("{}/{}", call.base, call.path),
                    json!({"prompt": "rain on glass", "text": "It rains.", "async": true, "replyRef": reply_ref}),
                )
            }
        };
        body["replyUrl"] = reply_url.clone().into();
        let url = format!("{}{path}", simulator.base_url());
        let failed = |error: reqwest::Error| DemoError::Create(error.without_url().to_string());
        let response = client.post(url).bearer_auth(PROVIDER_TOKEN).json(&body).send().await.map_err(failed)?;
        let answer: Value = response.error_for_status().map_err(failed)?.json().await.map_err(failed)?;
        let lists = ["imageIds", "jobs", "success_ids"];
        let made = lists.iter().find_map(|name| answer[name].as_array());
        jobs += made.map_or(1, |ids| ids.len() as u64);
    }
    Ok(jobs)
}

/// Waits until all jobs have ended, or patience does. Says how far it is where there is no terminal for a progress bar.
async fn wait(
    running: &Running,
    before: u64,
    expected: u64,
    say: impl Fn(String) -> Result<(), DemoError>,
) -> Result<(), DemoError> {
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new(expected) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs ended  {msg}") {
        bar.set_style(style);
    }
    let started = Instant::now();
    let mut shown = None;
    loop {
        let counters = running.intake().log().state().counters()?;
        let ended = ended_jobs(running)?.saturating_sub(before);
        bar.set_position(ended);
        bar.set_message(format!("{} callbacks", counters.callbacks));
        if !terminal && shown != Some(ended) {
            say(format!("{ended}/{expected} jobs ended, {} callbacks", counters.callbacks))?;
            shown = Some(ended);
        }
        if ended >= expected || started.elapsed() > PATIENCE {
            bar.finish_and_clear();
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn ended_jobs(running: &Running) -> Result<u64, StateError> {
    let jobs = running.intake().log().state().counters()?.jobs;
    let count = |state| jobs.get(&state).copied().unwrap_or_default();
    Ok(count(JobState::Archived) + count(JobState::Failed) + count(JobState::Stuck))
}

/// What replyvault knows of the jobs that were made.
fn jobs_of(running: &Running, made: &[Expected]) -> Result<Vec<JobRecord>, StateError> {
    let state = running.intake().log().state();
    let jobs = made.iter().map(|job| state.job(&job.job_id));
    Ok(jobs.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}
