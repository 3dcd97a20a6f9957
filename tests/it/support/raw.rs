//! HTTP as bytes on a socket, for comparing what was answered without a client in between that tidies it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::vault::PATIENCE;

/// One answer, its body without the framing.
#[derive(Debug, PartialEq)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    /// By lower-case name; the last of several.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end in order.
    pub(crate) whole: bool,
}

impl Raw {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The same with the other's date, to compare the rest.
    pub(crate) fn without_date(mut self, other: &Self) -> Self {
        self.headers.insert("date".into(), other.headers["date"].clone());
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Sends a request with exactly these headers besides `Host`, `Connection: close` and the body's length.
pub(crate) async fn call(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
    tokio::time::timeout(PATIENCE, exchange(address, method, path, headers, body)).await.unwrap()
}

async fn exchange(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Raw {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || method == "POST" {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[(head + "\r\n").as_bytes(), body].concat()).await.unwrap();
    read(&mut BufReader::new(stream)).await
}

/// Reads a head.
pub(crate) async fn head(stream: &mut BufReader<TcpStream>) -> (u16, BTreeMap<String, String>) {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("0").parse().unwrap();
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(':'));
    (status, headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect())
}

async fn read(stream: &mut BufReader<TcpStream>) -> Raw {
    let (status, headers) = head(stream).await;
    let mut body = Vec::new();
    let whole = if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        chunks(stream, &mut body).await
    } else if let Some(length) = headers.get("content-length") {
        let length: u64 = length.parse().unwrap();
        let _ = stream.take(length).read_to_end(&mut body).await;
        body.len() as u64 == length
    } else {
        stream.read_to_end(&mut body).await.is_ok()
    };
    Raw { status, headers, body, whole }
}

async fn chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> bool {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.is_err() {
            return false;
        }
        let Ok(length) = u64::from_str_radix(line.trim(), 16) else { return false };
        let before = body.len() as u64;
        let _ = (&mut *stream).take(length).read_to_end(body).await;
        if body.len() as u64 - before < length || stream.read_line(&mut line).await.is_err() {
            return false;
        }
        if length == 0 {
            return true;
        }
    }
}
