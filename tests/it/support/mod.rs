//! What more than one suite needs.

pub(crate) mod apis;
pub(crate) mod audit;
pub(crate) mod child;
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
use std::time::Duration;

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::HttpServer;
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use tokio::net::{TcpListener, TcpStream};

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
