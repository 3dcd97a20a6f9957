use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::header::{self, HeaderMap, HeaderName};
use reqwest::{Body, Method, StatusCode, Upgraded, redirect};
use tokio::time::timeout;

use super::cookies::Cookies;
use super::resolver::{Lookup, VettingResolver, system_lookup};
use super::{Policy, Refusal};
use crate::domain::MediaUrl;

/// The most redirects followed for one request: what Go's and curl's users are used to, and half of what browsers allow.
pub const MAX_REDIRECTS: usize = 10;

/// How many idle connections are kept for each host.
const IDLE_CONNECTIONS_PER_HOST: usize = 8;

/// What would hand a secret to the host a redirect leads to.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

/// How long the network may keep the client waiting.
#[derive(Debug, Clone, Copy)]
pub struct ClientConfig {
    /// For a connection: name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For a response's head after the request was begun: its body has to be sent within that, too.
    pub head_timeout: Duration,
    /// For each further chunk of a response's body.
    pub idle_timeout: Duration,
    /// Whether connections may be shared by requests, as HTTP/2 does it. An upgrade to another protocol needs one that
    /// is not.
    pub allow_http2: bool,
    /// Whether every request may be sent twice. Without it only those that change nothing may, as GET.
    pub may_repeat: bool,
}

impl ClientConfig {
    /// For a head as for a chunk, and with HTTP/2 where a server speaks it.
    pub const fn new(connect_timeout: Duration, idle_timeout: Duration) -> Self {
        Self { connect_timeout, head_timeout: idle_timeout, idle_timeout, allow_http2: true, may_repeat: false }
    }
}

/// The HTTP client could not be set up, most likely because the system has no trusted certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the HTTP client could not be set up: {0}")]
pub struct ClientSetupError(String);

/// Why there is no response, or no more of it. No message holds a URL's query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The policy forbids it. Permanent; every other variant may pass.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No connection: the name does not resolve, nobody answers, or TLS failed.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The server kept silent for longer than [`ClientConfig`] allows.
    #[error("the server kept silent for too long")]
    TimedOut,
    /// The connection broke, or what came over it was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl EgressError {
    /// The stable name, for records and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.name(),
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Broken(_) => "broken",
        }
    }
}

impl From<reqwest::Error> for EgressError {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let root = root_cause(&error);
        if let Some(refusal) = root.downcast_ref::<Refusal>() {
            Self::Refused(refusal.clone())
        } else if error.is_timeout() {
            Self::TimedOut
        } else if error.is_connect() {
            Self::Unreachable(root.to_string())
        } else {
            Self::Broken(root.to_string())
        }
    }
}

/// reqwest's own messages only say in which phase something happened.
fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

/// Why a request has got no response.
enum Failure {
    /// The connection was closed before any of it.
    Closed(EgressError),
    Other(EgressError),
}

/// Whether a connection that had come about was closed before any answer.
fn closed_before_answer(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if error.is_connect() || error.is_timeout() {
        return false;
    }
    let root = root_cause(error);
    match root.downcast_ref::<std::io::Error>() {
        Some(io) => matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof),
        None => root.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message),
    }
}

/// The one HTTP client: every request it sends, and every redirect it follows, is within the [`Policy`].
///
/// It keeps no cookies beyond a chain of redirects, sends no referer, knows no proxy and decompresses nothing. Clones share
/// their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// The same with a new connection for each request.
    fresh: reqwest::Client,
    may_repeat: bool,
    policy: Arc<Policy>,
    head_timeout: Duration,
    idle_timeout: Duration,
}

impl Client {
    /// A client that resolves names as the system does.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(policy: Policy, config: ClientConfig) -> Result<Self, ClientSetupError> {
        Self::with_lookup(policy, config, system_lookup())
    }

    fn with_lookup(policy: Policy, config: ClientConfig, lookup: Lookup) -> Result<Self, ClientSetupError> {
        // Fails only where a provider is installed already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let client = |idle_connections| {
            let builder = reqwest::Client::builder();
            let builder = if config.allow_http2 { builder } else { builder.http1_only() };
            builder
                .dns_resolver(VettingResolver { policy: Arc::clone(&policy), lookup: lookup.clone() })
                .redirect(redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .no_gzip()
                .no_brotli()
                .no_zstd()
                .no_deflate()
                .tcp_nodelay(true)
                // Heads as some CDNs send them: browsers read them without a word.
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http1_ignore_invalid_headers_in_responses(true)
                .connect_timeout(config.connect_timeout)
                .pool_max_idle_per_host(idle_connections)
                .user_agent(concat!("replyvault/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| ClientSetupError(root_cause(&error).to_string()))
        };
        let (http, fresh) = (client(IDLE_CONNECTIONS_PER_HOST)?, client(0)?);
        let ClientConfig { head_timeout, idle_timeout, may_repeat, .. } = config;
        Ok(Self { http, fresh, may_repeat, policy, head_timeout, idle_timeout })
    }

    /// Sends one request and follows no redirect: a 3xx answer is returned like any other.
    ///
    /// A server may close a kept connection at the moment it is used again. What can be repeated is then sent once more
    /// over a new one.
    ///
    /// # Errors
    /// When the policy refuses the URL or one of its host's addresses, or when no response comes.
    pub async fn send(
        &self,
        method: Method,
        url: &MediaUrl,
        headers: HeaderMap,
        body: Option<Body>,
    ) -> Result<Response, EgressError> {
        self.policy.check_url(url)?;
        let mut request = self.http.request(method, url.expose().clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let request = request.build()?;
        let may_repeat = self.may_repeat || matches!(*request.method(), Method::GET | Method::HEAD);
        let again = request.try_clone().filter(|_| may_repeat);
        let sent = match (self.execute(&self.http, request).await, again) {
            (Err(Failure::Closed(_)), Some(again)) => self.execute(&self.fresh, again).await,
            (sent, _) => sent,
        };
        let inner = sent.map_err(|failure| match failure {
            Failure::Closed(error) | Failure::Other(error) => error,
        })?;
        Ok(Response { url: url.clone(), inner, idle_timeout: self.idle_timeout })
    }

    async fn execute(&self, http: &reqwest::Client, request: reqwest::Request) -> Result<reqwest::Response, Failure> {
        match timeout(self.head_timeout, http.execute(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if closed_before_answer(&error) => Err(Failure::Closed(error.into())),
            Ok(Err(error)) => Err(Failure::Other(error.into())),
            Err(_) => Err(Failure::Other(EgressError::TimedOut)),
        }
    }

    /// Gets a URL and follows up to [`MAX_REDIRECTS`] redirects, each of which must pass the policy too. Credentials
    /// among `headers` do not go along to another origin; a cookie that a redirect sets goes back to its own, since some
    /// servers redirect until they see it.
    ///
    /// # Errors
    /// As for [`Self::send`], and when a redirect leads from https to http, nowhere, or on for too long.
    pub async fn get(&self, url: &MediaUrl, mut headers: HeaderMap) -> Result<Response, EgressError> {
        let mut url = url.clone();
        let mut cookies = Cookies::default();
        for _ in 0..=MAX_REDIRECTS {
            let mut own = headers.clone();
            cookies.add_to(&mut own, &url);
            let response = self.send(Method::GET, &url, own, None).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            cookies.learn(response.headers(), response.url());
            let next = response.location().ok_or(Refusal::RedirectInvalid)?;
            self.policy.check_redirect(&url, &next)?;
            if url.expose().origin() != next.expose().origin() {
                for name in &CREDENTIALS {
                    headers.remove(name);
                }
            }
            url = next;
        }
        Err(Refusal::TooManyRedirects.into())
    }
}

/// The head of a response, and its body as it comes.
#[derive(Debug)]
pub struct Response {
    url: MediaUrl,
    inner: reqwest::Response,
    idle_timeout: Duration,
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// The URL that answered, after all redirects.
    pub fn url(&self) -> &MediaUrl {
        &self.url
    }

    /// The length of the body in bytes, as far as the head tells it.
    pub fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// The next piece of the body as it came from the wire; `None` at the end. A body shorter than the declared length
    /// is an error.
    ///
    /// The timeout runs while this is waited for and at no other time. (reqwest's own `read_timeout` also runs between
    /// two calls, so a slow consumer, such as an upload under back-pressure, would fail a healthy download.)
    ///
    /// # Errors
    /// When the connection breaks or stays silent for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, EgressError> {
        Ok(timeout(self.idle_timeout, self.inner.chunk()).await.map_err(|_| EgressError::TimedOut)??)
    }

    /// The body piece by piece, as [`Self::chunk`] gives it, up to the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, EgressError>> {
        unfold(Some(self), |response| async {
            let mut response = response?;
            match response.chunk().await.transpose()? {
                Ok(chunk) => Some((Ok(chunk), Some(response))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The connection itself, once a 101 has made it another protocol's.
    ///
    /// # Errors
    /// When the response is no such one.
    pub async fn upgraded(self) -> Result<Upgraded, EgressError> {
        Ok(self.inner.upgrade().await?)
    }

    fn location(&self) -> Option<MediaUrl> {
        let location = std::str::from_utf8(self.headers().get(header::LOCATION)?.as_bytes()).ok()?;
        MediaUrl::from_url(self.url.expose().join(location).ok()?).ok()
    }
}

#[cfg(test)]
mod tests;
