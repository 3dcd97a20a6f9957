//! A small stand-in for the provider and its CDN, for `demo`, `simulate` and tests.
//!
//! It speaks the provider's APIs, that under `/v1/minimax` with all of its calls, calls back, and serves real, small media
//! under `/cdn/`. What goes wrong is decided by [`Faults`] and a seed: for one seed the n-th job, its callbacks and the n-th
//! request for one of its files fare alike in every run, however they interleave. It ends with [`Simulator::stop`], or with its
//! runtime.

mod account_data;
mod api;
mod apis;
mod bounded_list;
mod callbacks;
mod cdn;
mod clock;
mod expected;
mod faults;
mod job;
mod json_noise;
mod media;
mod payload;
mod seeded_rng;
mod shared;
mod stats;
mod store;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::NormalizePath;
use actix_web::{App, HttpServer, web};
use parking_lot::{Mutex, RwLock};
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::watch;

use replyvault_domain::Timestamp;

use account_data::Belongings;
pub use account_data::Upload;
pub use apis::CreateCall;
use cdn::SignedLinks;
use clock::Clock;
pub use expected::{Expected, ExpectedFile};
pub use faults::{Faults, FaultsError};
pub use job::{Outcome, Variant};
use seeded_rng::Dice;
use shared::Shared;
use stats::Counters;
pub use stats::Stats;
use store::Store;

/// How long the receiver of a callback may take to answer.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(30);
/// For longer than clients keep a connection that they do not use.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Settings of a [`Simulator`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What media URLs start with; by default [`Simulator::base_url`]. For receivers that see it under another name.
    pub public_url: Option<String>,
    /// What goes wrong.
    pub faults: Faults,
    /// About how long a job takes.
    pub pace: Duration,
    /// Decides what goes wrong where, and the jobs' ids: two runs with one seed make the same ids.
    pub seed: u64,
    /// How large every MP4 is made; by default as small as it is. A `size=20MiB` in a prompt goes first.
    pub video_bytes: Option<u64>,
    /// The API tokens that may call; none: any will do.
    pub tokens: Vec<SecretString>,
    /// The time that answers show, standing still; by default the system's. With it, the seed and one
    /// [`Config::public_url`], two simulators that are asked the same answer the same, byte for byte.
    pub clock: Option<Timestamp>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            public_url: None,
            faults: Faults::default(),
            pace: Duration::from_millis(50),
            seed: 1,
            video_bytes: None,
            tokens: Vec::new(),
            clock: None,
        }
    }
}

/// Why the simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not this machine's.
    #[error("can't listen on {address}")]
    Listen {
        /// The address of [`Config::listen`].
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The client for callbacks could not be made.
    #[error("can't make an HTTP client for callbacks")]
    Client(#[from] reqwest::Error),
}

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: ServerHandle,
}

impl Simulator {
    /// Starts listening. Runs on the runtime that this is called in, which has to have several threads.
    ///
    /// # Errors
    /// When the address can't be listened on, or no HTTP client can be made.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let listen = |source| Error::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        // Someone else may have installed one, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let dice = Dice::new(config.seed);
        let base = config.public_url.unwrap_or_else(|| base_url(address));
        let clock = Clock::new(config.clock);
        let shared = Arc::new(Shared {
            links: SignedLinks::new(base.trim_end_matches('/').into(), dice, config.faults.expire()),
            read_faults: RwLock::new(config.faults.clone()),
            faults: config.faults,
            pace: config.pace,
            video_bytes: config.video_bytes,
            tokens: config.tokens,
            clock,
            dice,
            store: Store::default(),
            belongings: Belongings::new(clock.started()),
            stats: Counters::default(),
            calls: AtomicU64::new(0),
            creates: AtomicU64::new(0),
            cdn_turns: Mutex::default(),
            reads: AtomicU64::new(0),
            client: client.timeout(CALLBACK_TIMEOUT).build()?,
            runtime: Handle::current(),
            tasks: Mutex::default(),
            outstanding: watch::Sender::new(0),
        });
        let data = web::Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || {
            // The provider's pages write some paths with a slash at the end.
            App::new()
                .wrap(NormalizePath::trim())
                .app_data(data.clone())
                .configure(api::configure)
                .configure(cdn::configure)
        });
        // Whoever comes from a busy machine may take longer for a request than a public server waits, and be idle for longer.
        let server = server.client_request_timeout(Duration::ZERO).keep_alive(KEEP_ALIVE);
        let server = server.workers(1).disable_signals().listen(listener).map_err(listen)?.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { shared, address, server: handle })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The provider's base URL for clients on this machine; the API is at `{base}/v1/minimax/…`.
    pub fn base_url(&self) -> String {
        base_url(self.address)
    }

    /// The calls that make jobs, of all APIs; those of the first that are older than its speech and music are not among them.
    pub fn creates() -> impl Iterator<Item = CreateCall> {
        apis::creates()
    }

    /// What has happened so far.
    pub fn stats(&self) -> Stats {
        self.shared.stats.snapshot()
    }

    /// What a perfect archive would hold of every job made so far, in the order in which they were made. The first call
    /// reads every file to hash it.
    pub fn truth(&self) -> Vec<Expected> {
        self.shared.store.all().iter().map(|job| expected::of(job, &self.shared.links)).collect()
    }

    /// What was uploaded so far, oldest first.
    pub fn uploads(&self) -> Vec<Upload> {
        self.shared.belongings.uploads.all()
    }

    /// From now on GET of a job or a list goes wrong as the `get-` and `list-` faults here say; nothing else changes.
    pub fn set_read_faults(&self, faults: Faults) {
        *self.shared.read_faults.write() = faults;
    }

    /// Resolves when every callback due was sent and answered.
    pub async fn idle(&self) {
        // The sender lives in `self`, so this can't fail.
        let _ = self.shared.outstanding.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Stops at once: open transfers are cut, callbacks not yet sent never are.
    pub async fn stop(self) {
        let mut tasks = std::mem::take(&mut *self.shared.tasks.lock());
        tasks.shutdown().await;
        self.server.stop(false).await;
    }
}

fn base_url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}
