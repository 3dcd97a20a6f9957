//! Wires the modules, starts them in order and drains them.
//!
//! Start: listen (so that a port in use ends it before anything is touched), journal and state, bucket, worker, HTTP.
//! Stop: no new connections, nothing new for the worker or to pass on; requests and transfers finish within the grace; then the
//! journal is closed. Whatever is cut off is recorded and taken up again.

mod access_log;
mod background;
mod body_drain;
mod demo;
mod forwarded;
mod handshake;
mod http;
mod idle_timeout;
mod listening;
mod local_runner;
mod middleware;
mod services;
mod tls;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio::task::JoinHandle;
use url::Url;

use crate::api::{self, Api};
use crate::bucket::{self, Bucket, Links};
use crate::cluster::{ClusterError, PostgresUrl};
use crate::config::Network;
use crate::egress::ClientSetupError;
use crate::fetch;
use crate::gateway::{self, Gateway};
use crate::intake::{self, Intake, ReplyUrls};
use crate::notify::{self, Notifier};
use crate::provider;
use crate::reconcile;
use crate::relay::{self, Relay};
use crate::repair::{ArchiveKeys, Verifier};
use crate::search::Search;
use crate::state::{RecordError, RecoveryError};
use crate::supervisor::{Ended, Supervisor};
use crate::worker::{self, Confirmer, Worker};

pub use demo::{DemoError, Options as DemoOptions, demo};
pub use local_runner::LocalRunner;
pub use tls::{TlsError, TlsFiles, own_certificate};

use self::background::Background;
use self::forwarded::TrustedProxies;
use self::http::Http;
use self::services::Services;
use self::tls::Certificate;

/// All that a running service is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen: one address at least. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// With it, HTTPS is served and nothing else.
    pub tls: Option<TlsFiles>,
    /// Proxies whose word on the client is taken.
    pub trusted_proxies: Vec<Network>,
    /// The folder for journal and state.
    pub data_dir: PathBuf,
    /// Where the log is shared with other replicas, if it is.
    pub cluster: Option<PostgresUrl>,
    /// How long a segment of the journal stays there after all it tells of is over.
    pub journal_retention: Duration,
    /// What archived segments of the journal are encrypted with.
    pub journal_keys: ArchiveKeys,
    /// Makes and checks reply URLs.
    pub reply_urls: ReplyUrls,
    /// Whether they start with what others than this machine reach. If not, and a free port was taken, they start with the
    /// address listened on.
    pub has_public_url: bool,
    /// How callbacks are taken.
    pub intake: intake::Config,
    /// Where objects go.
    pub bucket: bucket::Config,
    /// How files are fetched.
    pub fetch: fetch::Config,
    /// How the provider is asked, where there is a token for it. Taking callbacks may need it.
    pub provider: Option<provider::ClientConfig>,
    /// How often it is asked about jobs it has not told the end of.
    pub reconcile: reconcile::Config,
    /// How calls pass through to the provider, where they may.
    pub gateway: Option<gateway::Config>,
    /// How long the provider may take to confirm a final callback; [`Confirmer::PATIENCE`] is a good time.
    pub confirm_patience: Duration,
    /// How callbacks are passed on to receivers of callers' own.
    pub relay: relay::Config,
    /// How it is told what becomes of jobs.
    pub notify: notify::Config,
    /// How links to stored files are made.
    pub links: bucket::LinkConfig,
    /// How the worker works.
    pub worker: worker::Config,
    /// Who may use the API.
    pub api: api::Config,
    /// How long a connection may be open without a request; [`Settings::IDLE_TIMEOUT`] is a good time.
    pub idle_timeout: Duration,
    /// How long a client may leave what is sent to it unread; [`Settings::LONGEST_UNREAD`] is a good time.
    pub longest_unread: Duration,
    /// How long a stop lets requests and transfers finish.
    pub shutdown_grace: Duration,
}

impl Settings {
    /// A little more than keep-alive, which ends most connections by itself.
    pub const IDLE_TIMEOUT: Duration = http::IDLE_TIMEOUT;
    /// Enough for a slow line, whose buffers may hold some megabytes.
    pub const LONGEST_UNREAD: Duration = http::LONGEST_UNREAD;
}

/// Why the service could not be started. One line, naming what was expected.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Journal or state cannot be opened.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// This replica cannot be named.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The bucket cannot be opened.
    #[error(transparent)]
    Bucket(#[from] bucket::OpenError),
    /// There is no HTTPS with this certificate and key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Callbacks are to be confirmed, and there is no token to ask the provider with.
    #[error("final callbacks cannot be confirmed without a token for the provider")]
    NoProvider,
    /// Whom to tell of what is done cannot be recorded.
    #[error("the endpoints to notify cannot be recorded: {0}")]
    Routes(RecordError),
    /// No HTTP client can be made.
    #[error(transparent)]
    Fetch(#[from] ClientSetupError),
    /// A defect in opening journal and state.
    #[error("journal and state cannot be opened: {0}")]
    Cancelled(tokio::task::JoinError),
    /// The system has no thread for the index.
    #[error("the search index cannot be started: {0}")]
    Search(std::io::Error),
    /// The HTTP server could not be started.
    #[error("the HTTP server cannot be started: {0}")]
    Http(std::io::Error),
}

/// A running service.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    intake: Intake,
    api: Api,
    search: Search,
    bucket: Bucket,
    worker: Worker,
    http: ServerHandle,
    http_task: JoinHandle<()>,
    worker_task: JoinHandle<()>,
    confirmer: Confirmer,
    confirmer_task: JoinHandle<()>,
    relay: Relay,
    relay_task: JoinHandle<()>,
    notifier: Notifier,
    notifier_task: JoinHandle<()>,
    background: Background,
}

impl Running {
    /// Starts a service. Needs a tokio runtime of several threads.
    ///
    /// # Errors
    /// When any part of it cannot be started; then none is running.
    pub async fn start(mut settings: Settings) -> Result<Self, StartError> {
        let took_free_port = settings.listen.iter().any(|address| address.port() == 0);
        let mut listeners = Vec::new();
        for address in &settings.listen {
            listeners.push(bind(*address)?);
        }
        let Some((_, address)) = listeners.first() else {
            return Err(StartError::Http(ErrorKind::InvalidInput.into()));
        };
        let address = *address;
        let certificate = settings.tls.clone().map(Certificate::read).transpose()?;
        let tls = certificate.as_ref().map(Certificate::server_config).transpose()?;
        let confirms = settings.intake.confirm;
        if confirms && settings.provider.is_none() {
            return Err(StartError::NoProvider);
        }
        if took_free_port && !settings.has_public_url {
            settings.reply_urls = settings.reply_urls.with_public_url(url_of(address, tls.is_some()));
        }
        let Services { bucket, fetcher, log, client, intake, reconciler, worker } = Services::open(&settings).await?;
        let shutdown_grace = settings.shutdown_grace;
        let circuit_breaker = client.as_ref().map(|client| client.circuit_breaker().clone());
        let gateway =
            settings.gateway.map(|config| Gateway::new(config, intake.clone(), circuit_breaker)).transpose()?;
        let verifier = Verifier::new(log.clone(), bucket.clone(), fetcher, provider::redacted);
        let confirmer = Confirmer::new(log.clone(), client.filter(|_| confirms), settings.confirm_patience);
        let urls = intake.urls().clone();
        let rewrite: relay::Rewrite = Arc::new(move |record, body| gateway::relayed(&urls, record, body));
        let relay = Relay::new(settings.relay, log.clone(), rewrite)?;
        let links = Links::new(bucket.clone(), settings.links);
        let notifier = Notifier::new(settings.notify, log.clone(), links.clone())?;
        let search = Search::start(log.state().clone(), log.supervisor()).map_err(StartError::Search)?;
        let api =
            Api::new(settings.api, intake.clone(), search.clone(), links, bucket.clone(), verifier, reconciler.clone());
        notifier.record_routes().await;
        let (listeners, addresses): (_, Vec<_>) = listeners.into_iter().unzip();
        let supervisor = log.supervisor().clone();
        let (idle_timeout, longest_unread) = (settings.idle_timeout, settings.longest_unread);
        let mut background = Background::new(log.clone());
        if let Some(certificate) = certificate {
            background.spawn("certificate watcher", certificate.watch());
        }
        background.keep_journal(&bucket, settings.journal_retention);
        background.share_log(&bucket, &settings.journal_keys, &settings.data_dir);
        background.bound_quarantine(&intake);
        background.count_repeats(&intake);
        if let Some(reconciler) = reconciler {
            background.reconcile(reconciler);
        }
        let proxies = TrustedProxies::new(settings.trusted_proxies);
        let http = Http {
            listeners,
            tls,
            intake: intake.clone(),
            api: api.clone(),
            gateway,
            proxies,
            idle_timeout,
            longest_unread,
            supervisor: supervisor.clone(),
            shutdown_grace,
        };
        let server = http::serve(http).map_err(StartError::Http)?;
        let http = server.handle();
        let http_task = tokio::spawn(supervisor.watch("HTTP server", server));
        background.watch_listeners(addresses);
        let worker_task = {
            let worker = worker.clone();
            spawn_watched(&supervisor, "worker", async move { worker.run(shutdown_grace).await })
        };
        let confirmer_task = {
            let confirmer = confirmer.clone();
            spawn_watched(&supervisor, "confirmer", async move { confirmer.run().await })
        };
        let relay_task = {
            let relay = relay.clone();
            spawn_watched(&supervisor, "relay", async move { relay.run(shutdown_grace).await })
        };
        let notifier_task = {
            let notifier = notifier.clone();
            spawn_watched(&supervisor, "notifier", async move { notifier.run(shutdown_grace).await })
        };
        Ok(Self {
            address,
            intake,
            api,
            search,
            bucket,
            worker,
            http,
            http_task,
            worker_task,
            confirmer,
            confirmer_task,
            relay,
            relay_task,
            notifier,
            notifier_task,
            background,
        })
    }

    /// The address listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the state is up to date with the journal. Callbacks are taken before that.
    pub async fn ready(&self) {
        self.intake.log().recovered().await;
    }

    /// Resolves when a part has ended that must run: then the service is of no use any more.
    pub async fn ended(&self) -> Ended {
        self.intake.log().supervisor().ended().await
    }

    /// Takes callbacks, and makes reply URLs.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Where objects are.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Stops: see the module's head. Returns when all is recorded.
    pub async fn stop(self) {
        let Self { intake, api, worker, http, http_task, worker_task, confirmer, confirmer_task, .. } = self;
        let Self { relay, relay_task, notifier, notifier_task, background, search, .. } = self;
        worker.stop();
        confirmer.stop();
        relay.stop();
        notifier.stop();
        api.stop();
        // Event streams would otherwise hold the stop up for the whole grace.
        intake.log().state().end_changes();
        drop(background);
        let (_, worker_ended, confirmer_ended, relay_ended, notifier_ended) =
            tokio::join!(http.stop(true), worker_task, confirmer_task, relay_task, notifier_task);
        if let Err(error) = worker_ended.and(confirmer_ended).and(relay_ended).and(notifier_ended) {
            tracing::error!(%error, "the work ended with a defect");
        }
        if let Err(error) = http_task.await {
            tracing::error!(%error, "the HTTP server ended with a defect");
        }
        intake.count_last_repeats().await;
        let log = intake.log().clone();
        let _ = tokio::task::spawn_blocking(move || log.close_after(move || search.save())).await;
    }
}

/// Starts work that the service cannot do without.
fn spawn_watched(
    supervisor: &Supervisor,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(supervisor.watch(name, endless(work)))
}

/// Work that has nothing to say when it ends.
async fn endless(work: impl Future<Output = ()>) -> Result<(), Infallible> {
    work.await;
    Ok(())
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    Ok((listener, address))
}

/// The base URL for a client on this machine.
fn url_of(address: SocketAddr, tls: bool) -> Url {
    let scheme = if tls { "https" } else { "http" };
    let host = match address.ip() {
        IpAddr::V4(all) if all.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(all) if all.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    let address = SocketAddr::new(host, address.port());
    let parsed = Url::parse(&format!("{scheme}://{address}"));
    parsed.unwrap_or_else(|_| unreachable!("an address and a port make a URL"))
}

/// Resolves when the process is asked to end, from this call on: by SIGTERM, or from its terminal. Has to be called within a
/// runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        match signals {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be listened to; the process can only be killed");
                std::future::pending().await
            }
        }
    }
}
