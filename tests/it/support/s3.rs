use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use replyvault::bucket::{Config, StorageUrl};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// An S3 server over HTTP on a free port of this machine, with one empty bucket. It checks signatures, and ends when
/// dropped; within its process nothing else is shared.
pub(crate) struct S3Server {
    pub(crate) endpoint: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) bucket: String,
    /// The bucket's objects are files in the directory of its name; the parts of unfinished uploads are beside it.
    pub(crate) root: TempDir,
    broken: Arc<AtomicU16>,
    faults: Arc<Mutex<Option<Faults>>>,
    accepting: JoinHandle<()>,
}

/// What a fault is decided by.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Whether it asks for more than to be done: `If-Match`, `If-None-Match`.
    pub(crate) conditional: bool,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Refused with this status and code, and how many seconds to wait.
    Refuse(u16, &'static str, Option<u32>),
    /// Never answered, nothing done.
    Stall,
    /// Done, and answered with this status.
    DoneThen(u16),
    /// Done, and never answered.
    DoneThenStall,
}

type Faults = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The simplest configuration for a store, without a working directory to be relative to.
pub(crate) fn config(url: &str) -> Config {
    let url = StorageUrl::parse(url, Path::new("/")).unwrap();
    Config { part_size: S3Server::PART_SIZE, ..Config::new(url) }
}

impl S3Server {
    /// The least that it and S3 take.
    pub(crate) const PART_SIZE: u64 = 5 << 20;

    /// What opens its bucket, below `prefix`; empty for all of it.
    pub(crate) fn config(&self, prefix: &str) -> Config {
        Config {
            endpoint: Some(self.endpoint.clone()),
            access_key_id: Some(self.access_key.clone().into()),
            secret_access_key: Some(self.secret_key.clone().into()),
            allow_http: true,
            ..config(&format!("s3://{}/{prefix}", self.bucket))
        }
    }

    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (access_key, secret_key, bucket) = ("AKTEST".to_owned(), "sk-test-secret".to_owned(), "media".to_owned());
        std::fs::create_dir(root.path().join(&bucket)).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(access_key.clone(), secret_key.clone()));
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let broken = Arc::new(AtomicU16::new(0));
        let faults = Arc::default();
        let service = service.build();
        let front =
            Front { service, root: root.path().to_owned(), broken: broken.clone(), faults: Arc::clone(&faults) };
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let socket = super::accept(&listener).await;
                let front = front.clone();
                connections.spawn(async move {
                    let answer = hyper::service::service_fn(move |request| {
                        // As with a real store, what was asked for is done whether or not the client is still there.
                        let answering = tokio::spawn(front.clone().answer(request));
                        async { answering.await.unwrap() }
                    });
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { endpoint, access_key, secret_key, bucket, root, broken, faults, accepting }
    }

    /// From now on every request gets this status; 0 mends it.
    pub(crate) fn break_with(&self, status: u16) {
        self.broken.store(status, Ordering::Relaxed);
    }

    /// From now on `fault` is asked about every request.
    pub(crate) fn inject(&self, fault: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        *self.faults.lock().unwrap() = Some(Box::new(fault));
    }

    /// The parts of unfinished uploads. An upload that was begun and not yet recorded when the process died has none, and
    /// costs nothing.
    pub(crate) fn unfinished_parts(&self) -> Vec<PathBuf> {
        let is_part = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(".upload_id");
        self.unfinished_uploads().into_iter().filter(is_part).collect()
    }

    /// The files of uploads that are neither complete nor aborted.
    pub(crate) fn unfinished_uploads(&self) -> Vec<PathBuf> {
        let unfinished = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(".upload")
        };
        std::fs::read_dir(self.root.path()).unwrap().map(|entry| entry.unwrap().path()).filter(unfinished).collect()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// s3s-fs as it is answers 403 for an unknown upload and 404 NoSuchKey for a missing bucket; S3 does not.
#[derive(Clone)]
struct Front {
    service: S3Service,
    root: PathBuf,
    broken: Arc<AtomicU16>,
    faults: Arc<Mutex<Option<Faults>>>,
}

impl Front {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
        let head = request.method() == Method::HEAD;
        match self.fault(&request) {
            Some(Fault::Refuse(status, code, retry_after)) => {
                let mut refused =
                    answer(StatusCode::from_u16(status).unwrap(), format!("<Error><Code>{code}</Code></Error>"));
                if let Some(seconds) = retry_after {
                    refused.headers_mut().insert("retry-after", seconds.into());
                }
                return Ok(refused);
            }
            Some(Fault::Stall) => return std::future::pending().await,
            Some(Fault::DoneThen(status)) => {
                self.service.call(request.map(Body::from)).await?;
                return Ok(answer(StatusCode::from_u16(status).unwrap(), String::new()));
            }
            Some(Fault::DoneThenStall) => {
                self.service.call(request.map(Body::from)).await?;
                return std::future::pending().await;
            }
            None => {}
        }
        match self.refusal(&request) {
            Some((status, _)) if head => Ok(answer(status, String::new())),
            Some((status, code)) => Ok(answer(status, format!("<Error><Code>{code}</Code></Error>"))),
            None => self.service.call(request.map(Body::from)).await,
        }
    }

    fn fault(&self, request: &Request<Incoming>) -> Option<Fault> {
        let call = Call {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            conditional: ["if-match", "if-none-match"].iter().any(|name| request.headers().contains_key(*name)),
        };
        self.faults.lock().unwrap().as_mut()?(&call)
    }

    fn refusal(&self, request: &Request<Incoming>) -> Option<(StatusCode, &'static str)> {
        if let Ok(status) = StatusCode::from_u16(self.broken.load(Ordering::Relaxed)) {
            return Some((status, "Broken"));
        }
        let bucket = request.uri().path().split('/').nth(1).unwrap_or_default();
        if !self.root.join(bucket).is_dir() {
            return Some((StatusCode::NOT_FOUND, "NoSuchBucket"));
        }
        let query = request.uri().query().unwrap_or_default();
        let upload = query.split('&').find_map(|pair| pair.strip_prefix("uploadId="))?;
        let known = Path::new(&self.root).join(format!(".upload-{upload}.json")).exists();
        (!known).then_some((StatusCode::NOT_FOUND, "NoSuchUpload"))
    }
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}
