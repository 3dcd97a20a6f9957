//! A media server that takes its time: one thread for each connection, on an address of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::media::mp4;

/// `/hang…` is never answered. `/drip/{bytes per second}/…` is 100 MB that never end. `/crumbs/{length}` comes in chunks of
/// one byte.
pub(crate) struct SlowServer {
    host: String,
    requests: Arc<AtomicUsize>,
}

impl SlowServer {
    /// On a loopback address other than 127.0.0.1, so that it is another host.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = count.clone();
                // A client that has heard enough closes the connection, which is no failure of the server.
                std::thread::spawn(move || drop(serve(stream, &count)));
            }
        });
        Self { host, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Resolves when so many requests have come.
    pub(crate) async fn asked(&self, times: usize) {
        let asked = async {
            while self.requests() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(super::vault::PATIENCE, asked).await.expect("it is not asked");
    }
}

fn serve(mut stream: TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    count.fetch_add(1, Ordering::Relaxed);
    let head = String::from_utf8(head).unwrap();
    let path: Vec<_> = head.split(' ').nth(1).unwrap().split('/').collect();
    match path[1] {
        "drip" => {
            let speed: usize = path[2].parse().unwrap();
            let bytes = mp4(1, 100 << 20);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
            for piece in bytes.chunks(speed / 10) {
                stream.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        "crumbs" => {
            let bytes = mp4(1, path[2].parse().unwrap());
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in bytes.chunks(1000) {
                let chunks: Vec<u8> = piece.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).collect();
                stream.write_all(&chunks)?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
        _ => drop(stream.read(&mut byte)?),
    }
    Ok(())
}
