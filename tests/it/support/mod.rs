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

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

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
