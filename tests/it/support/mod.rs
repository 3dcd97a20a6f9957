//! What more than one suite needs.

pub(crate) mod apis;
pub(crate) mod audit;
pub(crate) mod child;
pub(crate) mod frozen_disk;
pub(crate) mod media;
pub(crate) mod postgres;
pub(crate) mod ranged;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod s3;
pub(crate) mod slow;
pub(crate) mod vault;
pub(crate) mod web_socket;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::HttpServer;
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use replyvault::journal::{Durability, Entry, Journal, Writer};
use tokio::net::{TcpListener, TcpStream};

/// Makes a journal with these entries in `folder`. Nobody has it open: what this process locks, a process that another test
/// starts right now may hold for a moment longer, so the journal is a copy.
pub(crate) fn write_journal<'a>(folder: &Path, entries: impl IntoIterator<Item = &'a Entry>) {
    let made = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(Journal::open(made.path()).unwrap(), 0).unwrap();
    for entry in entries {
        writer.append([entry], Durability::Synced).unwrap();
    }
    drop(writer);
    std::fs::create_dir_all(folder).unwrap();
    for item in std::fs::read_dir(made.path()).unwrap() {
        let path = item.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

/// An address of this machine that nobody listens on, for who is to listen there later, or for nobody. The system gives it to
/// no listener or connection that leaves the port to it, and no test gets it twice.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u16 = 10_000;
    static PORTS: LazyLock<(u16, AtomicU16)> = LazyLock::new(|| {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let count = range.split_whitespace().next().unwrap().parse::<u16>().unwrap() - FIRST;
        (count, AtomicU16::new(rand::random_range(0..count)))
    });
    let (count, next) = &*PORTS;
    let next = || SocketAddr::from(([127, 0, 0, 1], FIRST + next.fetch_add(1, Ordering::Relaxed) % count));
    std::iter::repeat_with(next).find(|address| std::net::TcpListener::bind(address).is_ok()).unwrap()
}

/// A server that stands for somebody else's. It waits for a client on a busy machine however long that takes; by default it
/// would say 408 to one that needs five seconds for its request, and close what is not used for five seconds.
pub(crate) fn stand_in<F, I, S, B>(server: HttpServer<F, I, S, B>) -> HttpServer<F, I, S, B>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error>,
    S::InitError: Debug,
    S::Response: Into<Response<B>>,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let server = server.workers(1).disable_signals();
    server.client_request_timeout(Duration::ZERO).keep_alive(Duration::from_secs(120))
}

/// The next connection. What the system refuses right now, such as another descriptor while other tests of this process hold
/// thousands, is tried again: a server of a test must not end before its test.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
