//! A WebSocket client that sends and shows whole messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::raw;
use super::vault::PATIENCE;

/// The largest frame that is read.
const MAX_FRAME: usize = 1 << 20;

pub(crate) struct WebSocket {
    stream: BufReader<TcpStream>,
    read: BytesMut,
}

impl WebSocket {
    /// Opens one, or says the status and the body that it met instead.
    pub(crate) async fn open(address: SocketAddr, path: &str) -> Result<(Self, BTreeMap<String, String>), raw::Raw> {
        Self::open_with(address, path, "").await
    }

    /// The same with more lines in the request's head.
    pub(crate) async fn open_with(
        address: SocketAddr,
        path: &str,
        more: &str,
    ) -> Result<(Self, BTreeMap<String, String>), raw::Raw> {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{more}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        stream.write_all(head.as_bytes()).await.unwrap();
        let (status, headers) = tokio::time::timeout(PATIENCE, raw::head(&mut stream)).await.unwrap();
        if status == 101 {
            return Ok((Self { stream, read: BytesMut::new() }, headers));
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = Vec::new();
        (&mut stream).take(length).read_to_end(&mut body).await.unwrap();
        Err(raw::Raw { status, headers, body, whole: true })
    }

    pub(crate) async fn send(&mut self, opcode: OpCode, data: &[u8]) {
        let mut frame = BytesMut::new();
        Parser::write_message(&mut frame, data, opcode, true, true);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame; `None` when the connection is over.
    pub(crate) async fn receive(&mut self) -> Option<(OpCode, Bytes)> {
        loop {
            if let Some((_, opcode, data)) = Parser::parse(&mut self.read, false, MAX_FRAME).unwrap() {
                return Some((opcode, data.map(BytesMut::freeze).unwrap_or_default()));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await.unwrap();
            if read.ok()? == 0 {
                return None;
            }
        }
    }
}
