//! The HTTP server: what goes around every request, and what bounds every connection.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::HttpServer;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{access_log, unread};
use crate::api::{self, Api};
use crate::intake::{self, Intake};

/// How long a client may take for the head of its first request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may wait for the next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Descriptors for all that is no connection of a client: journal, state, downloads, uploads.
const OTHER_DESCRIPTORS: u64 = 1024;
/// The most connections, where the system would let there be more.
const MAX_CONNECTIONS: u64 = 50_000;

/// A server that runs as soon as it is awaited.
pub(super) fn serve(
    listeners: Vec<TcpListener>,
    intake: &Intake,
    api: &Data<Api>,
    shutdown_grace: Duration,
) -> std::io::Result<Server> {
    let (intake, api) = (Data::new(intake.clone()), api.clone());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(intake.clone())
            .app_data(api.clone())
            .wrap(from_fn(access_log::log))
            .wrap(from_fn(api::observe))
            .wrap(from_fn(unread::bound))
            .configure(intake::routes)
            .configure(api::routes)
    })
    .workers(threads)
    .max_connections((connections() as usize / threads).max(1))
    .client_request_timeout(HEAD_TIME)
    .keep_alive(KEEP_ALIVE)
    // Nothing is read of a connection that is to be closed; `unread` has already done so, within bounds.
    .client_disconnect_timeout(Duration::ZERO)
    .disable_signals()
    .shutdown_timeout(shutdown_grace.as_secs().max(1));
    for listener in listeners {
        // Once more, because std::net has its own mind about the backlog.
        rustix::net::listen(&listener, BACKLOG)?;
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

/// How many connections there may be: all that there are descriptors for, as soon as the process has taken as many as
/// it may have.
fn connections() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let others = OTHER_DESCRIPTORS.min(descriptors / 2);
    (descriptors - others).min(MAX_CONNECTIONS)
}
