//! A media server whose files have ETags and ranges, that holds an answer back at a byte it is told, and counts what it
//! sends.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is under a path.
#[derive(Clone)]
pub(crate) struct Ranged {
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) etag: &'static str,
    /// Without, whole files are sent whatever is asked for.
    pub(crate) ranges: bool,
    /// Sends no byte from here on.
    pub(crate) stops_at: Option<usize>,
    /// For how many requests that is so.
    pub(crate) stops: usize,
    /// What then happens: the connection is cut, or kept until the client leaves.
    pub(crate) cuts: bool,
    pub(crate) status: u16,
}

impl Ranged {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Arc::new(bytes),
            etag: "\"v1\"",
            ranges: true,
            stops_at: None,
            stops: usize::MAX,
            cuts: false,
            status: 200,
        }
    }
}

/// Serves what was put under a path.
pub(crate) struct RangedServer {
    host: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, Ranged>>,
    /// Per request: the path and the byte it asked to begin at.
    requests: Mutex<Vec<(String, usize)>>,
    sent: Mutex<usize>,
}

impl RangedServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = serving.clone();
                // A client that has heard enough closes the connection, which is no failure of the server.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { host, shared }
    }

    pub(crate) fn put(&self, path: &str, file: Ranged) -> String {
        self.shared.files.lock().unwrap().insert(path.to_owned(), file);
        format!("http://{}{path}", self.host)
    }

    /// Where each request for `path` began.
    pub(crate) fn began_at(&self, path: &str) -> Vec<usize> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|(known, _)| known == path).map(|(_, from)| *from).collect()
    }

    /// Bytes of bodies sent.
    pub(crate) fn sent(&self) -> usize {
        *self.shared.sent.lock().unwrap()
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .map(|value| value.trim().to_owned())
        };
        let asked =
            header("range").map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        self.requests.lock().unwrap().push((path.clone(), asked.unwrap_or(0)));
        let file = {
            let mut files = self.files.lock().unwrap();
            let known = files.get_mut(&path).unwrap();
            let mut file = known.clone();
            file.stops_at = file.stops_at.filter(|_| known.stops > 0);
            known.stops = known.stops.saturating_sub(1);
            file
        };
        let same = header("if-range").is_none_or(|etag| etag == file.etag);
        let from = asked.filter(|_| file.ranges && same);
        let total = file.bytes.len();
        let first = from.unwrap_or(0);
        let (status, range) = match (file.status, from) {
            (200, Some(from)) => (206, format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1)),
            (status, _) => (status, String::new()),
        };
        let body = if file.status == 200 { &file.bytes[first..] } else { &[] };
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: video/mp4\r\nETag: {}\r\n{range}Connection: close\r\n\r\n",
            body.len(),
            file.etag
        )?;
        let until = file.stops_at.unwrap_or(total).max(first) - first;
        for piece in body[..until.min(body.len())].chunks(16 << 10) {
            stream.write_all(piece)?;
            *self.sent.lock().unwrap() += piece.len();
        }
        if until < body.len() && !file.cuts {
            // Until the client goes away.
            stream.set_read_timeout(Some(Duration::from_secs(120)))?;
            let _ = stream.read(&mut byte)?;
        }
        Ok(())
    }
}
