//! The HTTP server: what goes around every request, and what bounds every connection.

use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_server::Server;
use actix_service::{ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::forwarded::TrustedProxies;
use super::handshake;
use super::idle_timeout::{IdleTimeoutStream, Limits, Transport};
use super::middleware::around;
use crate::api::{self, Api};
use crate::gateway::{self, Gateway};
use crate::intake::{self, Intake};
use crate::supervisor::Supervisor;

/// How long a connection may wait for the next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The same together with a head that begins to come at its end.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(80);
/// How long a client may leave what is sent to it unread.
pub(super) const LONGEST_UNREAD: Duration = Duration::from_secs(120);
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Descriptors for all that is no connection of a client: journal, state, downloads, uploads.
const OTHER_DESCRIPTORS: u64 = 1024;
/// The most connections, where the system would let there be more.
const MAX_CONNECTIONS: u64 = 50_000;

/// A server and what it needs.
pub(super) struct Http {
    pub(super) listeners: Vec<TcpListener>,
    /// With it, HTTPS is served.
    pub(super) tls: Option<ServerConfig>,
    pub(super) intake: Intake,
    pub(super) api: Api,
    pub(super) gateway: Option<Gateway>,
    pub(super) proxies: TrustedProxies,
    /// How long a connection may wait for a request.
    pub(super) idle_timeout: Duration,
    /// How long a client may leave what is sent to it unread.
    pub(super) longest_unread: Duration,
    pub(super) supervisor: Supervisor,
    pub(super) shutdown_grace: Duration,
}

/// A server that runs as soon as it is awaited.
pub(super) fn serve(http: Http) -> io::Result<Server> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut server = Server::build()
        .workers(threads)
        .max_concurrent_connections((most_connections() as usize / threads).max(1))
        .disable_signals()
        .shutdown_timeout(http.shutdown_grace.as_secs().max(1));
    let parts = Parts {
        intake: Data::new(http.intake),
        api: Data::new(http.api),
        gateway: http.gateway.map(Data::new),
        proxies: Data::new(http.proxies),
        limits: Limits {
            idle_timeout: http.idle_timeout,
            longest_unread: http.longest_unread,
            stop: server.graceful_shutdown_signal(),
            heads: Arc::default(),
        },
        supervisor: http.supervisor,
    };
    for listener in http.listeners {
        // Once more, because std::net has its own mind about the backlog.
        rustix::net::listen(&listener, BACKLOG)?;
        let parts = parts.clone();
        server = match http.tls.clone() {
            None => server.listen("http", listener, move || parts.connections())?,
            Some(mut config) => {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                let acceptor = TlsAcceptor::from(Arc::new(config));
                server.listen("https", listener, move || {
                    let acceptor = acceptor.clone();
                    // Who does not manage the handshake gets no answer, and no line in the log.
                    let secured = fn_service(move |stream| {
                        let secured = handshake::secure(acceptor.clone(), stream);
                        async move { secured.await.map_err(DispatchError::from) }
                    });
                    secured.map_init_err(|_: ()| ()).and_then(parts.connections())
                })?
            }
        };
    }
    Ok(server.run())
}

/// What every connection is served with.
#[derive(Clone)]
struct Parts {
    intake: Data<Intake>,
    api: Data<Api>,
    gateway: Option<Data<Gateway>>,
    proxies: Data<TrustedProxies>,
    limits: Limits,
    supervisor: Supervisor,
}

impl Parts {
    /// What serves the connections of one thread.
    fn connections<S: Transport>(
        &self,
    ) -> impl ServiceFactory<S, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<S> {
        let Self { intake, api, gateway, proxies, limits, supervisor } = self.clone();
        let app = actix_web::App::new()
            .app_data(intake)
            .app_data(api)
            .app_data(proxies)
            .wrap(from_fn(around))
            .configure(intake::routes)
            .configure(api::routes)
            // Last, since it has the most patterns to compare a path with.
            .configure(|app| {
                if let Some(gateway) = gateway {
                    app.app_data(gateway);
                    gateway::routes(app);
                }
            });
        let http = HttpService::build()
            // It counts how long this thread was held up, too: connections time heads by what there is to read.
            .client_request_timeout(Duration::ZERO)
            .keep_alive(KEEP_ALIVE)
            // Nothing is read of a connection that is to be closed; `unread` has already done so, within bounds.
            .client_disconnect_timeout(Duration::ZERO)
            .on_connect_ext(|connection: &IdleTimeoutStream<S>, data| connection.describe(data))
            // Where we are is told by `apply_forwarded_headers`.
            .finish(map_config(app, |()| AppConfig::default()));
        // Lives as long as the thread's services.
        let guard = Rc::new(supervisor.guard("HTTP worker"));
        let bounded = fn_service(move |stream: S| {
            let _ = &guard;
            let peer = stream.tcp().peer_addr().ok();
            ready(Ok::<_, DispatchError>((IdleTimeoutStream::new(stream, &limits), Protocol::Http1, peer)))
        });
        bounded.map_init_err(|_: ()| ()).and_then(http)
    }
}

/// How many connections there may be: all that there are descriptors for, as soon as the process has taken as many as
/// it may have.
fn most_connections() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let others = OTHER_DESCRIPTORS.min(descriptors / 2);
    (descriptors - others).min(MAX_CONNECTIONS)
}
