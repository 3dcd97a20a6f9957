//! Whether somebody still listens.
//!
//! The thread that accepts connections is not ours, and nobody is told when it ends. Its sockets go with it, though, and then
//! the system refuses connections.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How often a connection is made.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long it may take; connections may have to wait for others to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to `addresses` again and again.
///
/// # Errors
/// When an address that could be reached refuses connections.
pub(super) async fn watch(addresses: Vec<SocketAddr>) -> Result<(), String> {
    // A firewall may keep some from here.
    let mut reached = Vec::new();
    loop {
        for address in &addresses {
            match timeout(PATIENCE, TcpStream::connect(near(*address))).await {
                Ok(Ok(_)) if !reached.contains(address) => reached.push(*address),
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused && reached.contains(address) => {
                    return Err(format!("nobody listens on {address} any more"));
                }
                _ => {}
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Where whoever listens on `address` is reached from here.
fn near(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_listening_any_more_is_noticed_and_never_reached_is_not() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let kept = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (gone_at, kept_at) = (gone.local_addr().unwrap(), kept.local_addr().unwrap());
        let watching = tokio::spawn(watch(vec![closed, kept_at, gone_at]));
        let accepting = tokio::task::spawn_blocking(move || gone.accept());
        accepting.await.unwrap().unwrap();
        let ended = timeout(Duration::from_secs(60), watching).await.expect("not noticed").unwrap();
        assert_eq!(ended, Err(format!("nobody listens on {gone_at} any more")));
    }
}
