//! What a caller of the gateway has its callbacks sent to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::stand_in;
use super::vault::PATIENCE;

/// Keeps what it gets, and answers as it is told.
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<ServerHandle>,
}

/// A request: path and query, Content-Type, body.
pub(crate) type Got = (String, String, String);

/// The headers of Standard Webhooks: id, time, signatures.
pub(crate) type Signed = [String; 3];

#[derive(Default)]
struct Shared {
    got: Mutex<Vec<Got>>,
    signed: Mutex<Vec<Signed>>,
    answers: Mutex<Vec<u16>>,
    /// Paths that are refused: with which status, and for how many seconds.
    refused: Mutex<HashMap<String, (u16, u64)>>,
    hangs: Mutex<bool>,
    /// For how long it keeps a request before it answers.
    delay: Mutex<Duration>,
}

impl Receiver {
    /// One that answers 200.
    pub(crate) fn start() -> Self {
        let mut receiver = Self::start_down();
        receiver.up();
        receiver
    }

    /// One that nobody can connect to until [`Receiver::up`] is called.
    pub(crate) fn start_down() -> Self {
        let address = super::free_address();
        Self { address, shared: Arc::default(), server: None }
    }

    pub(crate) fn up(&mut self) {
        let data = web::Data::from(self.shared.clone());
        let app = move || App::new().app_data(data.clone()).default_service(web::to(take));
        let server = stand_in(HttpServer::new(app)).bind(self.address).unwrap().run();
        self.server = Some(server.handle());
        tokio::spawn(server);
    }

    pub(crate) async fn down(&mut self) {
        self.server.take().unwrap().stop(false).await;
    }

    /// Each of `statuses` once, in turn; then 200.
    pub(crate) fn answer(&self, statuses: &[u16]) {
        *self.shared.answers.lock().unwrap() = statuses.iter().rev().copied().collect();
    }

    /// From now on requests to `path` are answered with `status`, and with a Retry-After of so many seconds.
    pub(crate) fn refuse(&self, path: &str, status: u16, retry_after: u64) {
        self.shared.refused.lock().unwrap().insert(path.to_owned(), (status, retry_after));
    }

    /// How often `path` was asked for.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.got().iter().filter(|got| got.0 == path).count()
    }

    /// Waits until `path` was asked for so often.
    pub(crate) async fn hit(&self, path: &str, times: usize) {
        let hit = async {
            while self.hits(path) < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, hit).await.is_ok(), "expected {path}: {:#?}", self.got());
    }

    /// From now on it takes requests and never answers.
    pub(crate) fn hang(&self) {
        *self.shared.hangs.lock().unwrap() = true;
    }

    /// From now on it answers after so long.
    pub(crate) fn answer_after(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// The headers of Standard Webhooks of each.
    pub(crate) fn signed(&self) -> Vec<Signed> {
        self.shared.signed.lock().unwrap().clone()
    }

    /// The bodies, once there are `count` of them.
    pub(crate) async fn bodies(&self, count: usize) -> Vec<String> {
        let there = async {
            while self.got().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, there).await.is_ok(), "expected {count}: {:#?}", self.got());
        self.got().into_iter().map(|(_, _, body)| body).collect()
    }
}

async fn take(request: HttpRequest, body: String, shared: web::Data<Shared>) -> HttpResponse {
    let content_type = request.headers().get("content-type").map_or("", |value| value.to_str().unwrap());
    let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    shared.signed.lock().unwrap().push(["webhook-id", "webhook-timestamp", "webhook-signature"].map(header));
    shared.got.lock().unwrap().push((request.uri().to_string(), content_type.to_owned(), body));
    if *shared.hangs.lock().unwrap() {
        std::future::pending::<()>().await;
    }
    let delay = *shared.delay.lock().unwrap();
    tokio::time::sleep(delay).await;
    let refused = shared.refused.lock().unwrap().get(request.path()).copied();
    if let Some((status, retry_after)) = refused {
        let mut answer = HttpResponse::build(StatusCode::from_u16(status).unwrap());
        return answer.insert_header(("retry-after", retry_after.to_string())).finish();
    }
    let status = shared.answers.lock().unwrap().pop().unwrap_or(200);
    let mut answer = HttpResponse::build(StatusCode::from_u16(status).unwrap());
    if (300..400).contains(&status) {
        answer.insert_header(("location", "/elsewhere"));
    }
    answer.body("a".repeat(100_000))
}
