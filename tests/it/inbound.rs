//! Senders that the service does well without: what they get, and what they cost.

mod bodies;
mod forms;
mod heads;
mod idle;
mod memory;
mod proxies;
mod slow;
mod tls;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::vault::{PATIENCE, Vault};

fn address(vault: &Vault) -> String {
    vault.running().address().to_string()
}

/// The path of a reply URL.
fn path(url: &str) -> &str {
    &url[url.find("/reply/").unwrap()..]
}

/// All that comes until the connection ends, however it ends.
async fn until_cut(mut from: impl AsyncRead + Unpin) -> String {
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    let end = async {
        while let Ok(length @ 1..) = from.read(&mut some).await {
            answer.extend_from_slice(&some[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("it was not cut");
    String::from_utf8(answer).unwrap()
}
