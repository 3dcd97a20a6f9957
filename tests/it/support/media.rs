//! A media server that does what a test tells it to.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures_util::StreamExt;

use super::stand_in;

/// Serves what was put under a path.
pub(crate) struct MediaServer {
    pub(crate) host: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, File>>,
    hits: Mutex<HashMap<String, usize>>,
}

#[derive(Clone)]
struct File {
    bytes: Bytes,
    content_type: &'static str,
    /// Statuses to answer before the file is served.
    first: Vec<u16>,
    delay: Duration,
}

impl MediaServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let data = web::Data::from(shared.clone());
        let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(serve)));
        tokio::spawn(stand_in(server).listen(listener).unwrap().run());
        Self { host, shared }
    }

    /// Serves `bytes` under `path` and returns the URL.
    pub(crate) fn put(&self, path: &str, bytes: impl Into<Bytes>, content_type: &'static str) -> String {
        self.put_after(path, &[], bytes, content_type)
    }

    /// The same, after answering each of `first` once.
    pub(crate) fn put_after(
        &self,
        path: &str,
        first: &[u16],
        bytes: impl Into<Bytes>,
        content_type: &'static str,
    ) -> String {
        let file = File { bytes: bytes.into(), content_type, first: first.to_vec(), delay: Duration::ZERO };
        self.shared.files.lock().unwrap().insert(path.to_owned(), file);
        self.url(path)
    }

    /// Every answer for `path` takes this long to begin.
    pub(crate) fn delay(&self, path: &str, delay: Duration) {
        self.shared.files.lock().unwrap().get_mut(path).unwrap().delay = delay;
    }

    /// The same from a CDN on a bad day; `query` tells links apart, and with `dead` in it there is nothing any more.
    pub(crate) fn rough(&self, seed: u64, size: usize, query: &str) -> String {
        self.url(&format!("/rough/{seed}/{size}?{query}"))
    }

    /// The URL of [`mp4`]`(seed, size)`, made when it is asked for.
    pub(crate) fn generated(&self, seed: u64, size: usize) -> String {
        self.url(&format!("/generated/{seed}/{size}"))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// How often `path` was asked for.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.shared.hits.lock().unwrap().get(path).copied().unwrap_or_default()
    }
}

async fn serve(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let path = request.path().to_owned();
    if let Some((seed, size)) = path.strip_prefix("/generated/").and_then(|rest| rest.split_once('/')) {
        return HttpResponse::Ok().content_type("video/mp4").body(mp4(seed.parse().unwrap(), size.parse().unwrap()));
    }
    if let Some((seed, size)) = path.strip_prefix("/rough/").and_then(|rest| rest.split_once('/')) {
        let turn = {
            let mut hits = shared.hits.lock().unwrap();
            let turn = hits.entry(format!("{path}?{}", request.query_string())).or_default();
            *turn += 1;
            *turn
        };
        let (seed, size): (u64, usize) = (seed.parse().unwrap(), size.parse().unwrap());
        return rough(seed, turn as u64, request.query_string().contains("dead"), mp4(seed, size));
    }
    *shared.hits.lock().unwrap().entry(path.clone()).or_default() += 1;
    let (file, status) = {
        let mut files = shared.files.lock().unwrap();
        let Some(file) = files.get_mut(&path) else { return HttpResponse::NotFound().finish() };
        let status = (!file.first.is_empty()).then(|| file.first.remove(0));
        (file.clone(), status)
    };
    tokio::time::sleep(file.delay).await;
    match status {
        Some(status) => HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish(),
        None => HttpResponse::Ok().content_type(file.content_type).body(file.bytes),
    }
}

/// What a CDN on a bad day answers; the third time it is asked it does as it should, unless the link is dead.
fn rough(seed: u64, turn: u64, dead: bool, bytes: Vec<u8>) -> HttpResponse {
    if dead {
        return HttpResponse::Forbidden().body("<Error><Code>AccessDenied</Code></Error>");
    }
    let dice = seed.wrapping_mul(31).wrapping_add(turn.wrapping_mul(17)) % 40;
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let first = futures_util::stream::once(async move { Ok::<_, std::io::Error>(half) });
    match if turn > 2 { 39 } else { dice } {
        0..4 => HttpResponse::ServiceUnavailable().insert_header(("retry-after", "1")).finish(),
        4 | 5 => HttpResponse::InternalServerError().finish(),
        6 | 7 => {
            let broken = futures_util::stream::once(async { Err(std::io::Error::other("reset")) });
            let body = SizedStream::new(bytes.len() as u64, first.chain(broken));
            HttpResponse::Ok().content_type("video/mp4").body(body)
        }
        8 => {
            let silent = futures_util::stream::pending();
            let body = SizedStream::new(bytes.len() as u64, first.chain(silent));
            HttpResponse::Ok().content_type("video/mp4").body(body)
        }
        9 => HttpResponse::Ok().content_type("text/html").body("<!doctype html><html><body>busy</body></html>"),
        _ => HttpResponse::Ok().content_type("video/mp4").body(bytes),
    }
}

/// A whole MP4 by its structure, unlike any other with another `seed`, of about `size` bytes.
pub(crate) fn mp4(seed: u64, size: usize) -> Vec<u8> {
    let boxed = |kind: &[u8; 4], body: &[u8]| {
        let mut bytes = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(body);
        bytes
    };
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let block: Vec<u8> = (0..size.min(4099))
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    let mut noise = block.repeat(size / block.len().max(1) + 1);
    noise.truncate(size);
    [boxed(b"ftyp", b"isom\0\0\x02\0isomiso2mp41"), boxed(b"moov", &[0; 32]), boxed(b"mdat", &noise)].concat()
}

/// The start of a PNG, its end, and one chunk of noise between.
pub(crate) fn png(seed: u64) -> Vec<u8> {
    png_of(&seed.to_be_bytes())
}

/// A PNG with these bytes for its picture.
pub(crate) fn png_of(picture: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], body: &[u8]| {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&[0; 4]);
        bytes
    };
    let header = [0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0];
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", picture), chunk(b"IEND", b"")].concat()
}
