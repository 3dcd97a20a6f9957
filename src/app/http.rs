//! The HTTP server: what goes around every request, and what bounds every connection.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;

use super::connections::{self, Connections};
use super::proxies::{self, TrustedProxies};
use super::{access_log, unread};
use crate::api::{self, Api};
use crate::intake::{self, Intake};

/// How long a client may take for the head of its first request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may wait for the next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The same together with a head that begins to come at its end.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(80);
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
    pub(super) proxies: TrustedProxies,
    pub(super) connections: Connections,
    pub(super) shutdown_grace: Duration,
}

/// A server that runs as soon as it is awaited.
pub(super) fn serve(http: Http) -> std::io::Result<Server> {
    let Http { listeners, tls, intake, api, proxies, connections, shutdown_grace } = http;
    let (intake, api, proxies) = (Data::new(intake), Data::new(api), Data::new(proxies));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(intake.clone())
            .app_data(api.clone())
            .app_data(proxies.clone())
            .wrap(from_fn(access_log::log))
            .wrap(from_fn(api::observe))
            .wrap(from_fn(unread::bound))
            .wrap(from_fn(connections::note))
            .wrap(from_fn(proxies::sift))
            .configure(intake::routes)
            .configure(api::routes)
    })
    .workers(threads)
    .on_connect(move |stream, data| connections.add(stream, data))
    .max_connections((most_connections() as usize / threads).max(1))
    .client_request_timeout(HEAD_TIME)
    .tls_handshake_timeout(HEAD_TIME)
    .keep_alive(KEEP_ALIVE)
    // Nothing is read of a connection that is to be closed; `unread` has already done so, within bounds.
    .client_disconnect_timeout(Duration::ZERO)
    .disable_signals()
    .shutdown_timeout(shutdown_grace.as_secs().max(1));
    for listener in listeners {
        // Once more, because std::net has its own mind about the backlog.
        rustix::net::listen(&listener, BACKLOG)?;
        server = match &tls {
            Some(config) => server.listen_rustls_0_23(listener, config.clone())?,
            None => server.listen(listener)?,
        };
    }
    Ok(server.run())
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
    // Each takes two: see `connections`.
    ((descriptors - others) / 2).min(MAX_CONNECTIONS)
}
