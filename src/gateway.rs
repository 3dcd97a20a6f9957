//! A drop-in for the provider: a call below the base of any of its APIs, such as `ANY /v1/minimax/{path…}`, goes on to the
//! provider, and every job made through here calls back here. What a call is, the table of its API says.
//!
//! Bodies stream both ways. Only what has to be understood is held, within bounds: the bodies of calls that create jobs
//! (of multipart forms only the fields of the callback) and answers that are JSON, which may tell of jobs and may show
//! the replyUrl that was put in here. Of no answer does the signature of a reply URL reach a caller, however it is written;
//! an answer in which it could not be seen is refused.

mod access;
mod answer;
mod ask;
mod body;
mod cors;
mod create;
mod events;
mod forward;
mod frames;
mod headers;
mod observe;
mod path;
mod restore_callback;
mod rewrite;
mod tokens;
mod veil;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use url::Url;

use self::access::{Access, Admission};
use self::forward::Onward;
use self::observe::Caller;
use self::tokens::StreamOwners;
use crate::domain::MediaUrl;
use crate::egress::{self, ClientSetupError, Policy, header};
use crate::http::ApiError;
use crate::intake::Intake;
use crate::provider::{Api, CircuitBreaker, Endpoint};

pub use restore_callback::relayed;
pub use veil::{Unclear, Veil};

/// How the gateway works.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the provider's URLs start with, without the APIs' own paths, such as `/v1/minimax`.
    pub base_url: Url,
    /// The outbound policy; it should allow the host of the base URL alone.
    pub egress: egress::Config,
    /// replyvault's own tokens that may pass: those that may do everything.
    pub api_tokens: Vec<SecretString>,
    /// What is sent on for these. Without one they may not pass.
    pub provider_token: Option<SecretString>,
    /// Provider tokens that may pass, and are sent on as they are.
    pub provider_tokens: Vec<SecretString>,
    /// Whether jobs that nobody registered and only a list shows are archived.
    pub adopt_listed: bool,
}

/// The provider's API as it is seen through here. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    /// Without a slash at its end.
    base: String,
    http: egress::Client,
    access: Access,
    intake: Intake,
    adopt_listed: bool,
    stream_owners: StreamOwners,
    /// How many large answers may be held.
    large_answers: Arc<Semaphore>,
    /// Questions of our own.
    asked: Semaphore,
    /// What is known to keep the vault's own account from being used.
    circuit_breaker: Option<CircuitBreaker>,
}

impl Gateway {
    /// For a connection to the provider.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// The longest that the provider may keep silent, with the whole request sent: an agent job is waited for 15 minutes.
    const SILENCE: Duration = Duration::from_secs(20 * 60);
    /// The longest that sending a request may take with all that: 5 GB over 4 Mbit/s, and some more.
    const LONGEST_UPLOAD: Duration = Duration::from_secs(4 * 60 * 60);

    /// A gateway that hands what it learns to `intake`, and of the provider's accounts to `trouble`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        config: Config,
        intake: Intake,
        circuit_breaker: Option<CircuitBreaker>,
    ) -> Result<Self, ClientSetupError> {
        let http = egress::ClientConfig {
            connect_timeout: Self::CONNECT_TIMEOUT,
            head_timeout: Self::LONGEST_UPLOAD,
            idle_timeout: Self::SILENCE,
            // WebSockets need a connection of their own.
            allow_http2: false,
            // A second call might make a second job.
            may_repeat: false,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                base: config.base_url.as_str().trim_end_matches('/').to_owned(),
                http: egress::Client::new(Policy::new(config.egress), http)?,
                access: Access::new(&config.api_tokens, config.provider_token, &config.provider_tokens),
                intake,
                adopt_listed: config.adopt_listed,
                stream_owners: StreamOwners::default(),
                large_answers: Arc::new(Semaphore::new(answer::MAX_LARGE_BUFFERED)),
                asked: Semaphore::new(ask::ASKED_AT_ONCE),
                circuit_breaker,
            }),
        })
    }
}

/// Adds `ANY /v1/minimax/{path…}`, and the same for every other API. It needs `Data<Gateway>`.
pub fn routes(config: &mut ServiceConfig) {
    for base in Api::all().map(Api::base) {
        config
            .service(web::resource(format!("/{base}")).default_service(web::to(any)))
            .service(web::resource(format!("/{base}/{{path:.*}}")).default_service(web::to(any)));
    }
}

async fn any(request: HttpRequest, payload: Payload, gateway: Data<Gateway>) -> HttpResponse {
    if let Some(answer) = cors::preflight(&request) {
        return answer;
    }
    let answered = gateway.pass(&request, payload).await;
    let mut answer = answered.unwrap_or_else(|problem| problem.error_response());
    cors::allow(&request, answer.headers_mut());
    answer
}

impl Gateway {
    async fn pass(&self, request: &HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
        let (api, path) = path::normal(request.uri().path())?;
        let endpoint = api.endpoint(request.method().as_str(), &path, websocket::is_upgrade(request));
        let admission = self.admit(request, api, endpoint)?;
        let mut headers = headers::forwarded(request);
        admission.authorize(&mut headers);
        let caller = Caller {
            api,
            authorization: headers.get(header::AUTHORIZATION).cloned(),
            is_ours: admission.is_ours(),
            is_head: request.method() == Method::HEAD,
        };
        tracing::debug!(method = %request.method(), ?api, ?endpoint, as_provider = !caller.is_ours, "passed on");
        let method = egress::Method::from_bytes(request.method().as_str().as_bytes());
        let method = method.map_err(|_| ApiError::invalid("the method: expected one of HTTP's"))?;
        let onward = Onward { method, url: self.url(api, &path, request.uri().query())?, headers };
        match endpoint {
            Endpoint::WebSocket => self.proxy_websocket(request, payload, onward, &caller).await,
            Endpoint::Create(_) | Endpoint::SpeechToken => {
                self.create(request, payload, onward, &caller, endpoint).await
            }
            Endpoint::Job | Endpoint::List | Endpoint::MentionsJobs | Endpoint::Other => {
                let exchange = self.forward(onward, body::forward_body(request, payload)).await?;
                self.answer(endpoint, &caller, None, exchange).await
            }
        }
    }

    fn admit(&self, request: &HttpRequest, api: Api, endpoint: Endpoint) -> Result<Admission, ApiError> {
        if let Some(known) = self.inner.access.admit(request) {
            return Ok(known);
        }
        let has_stream = endpoint == Endpoint::WebSocket && self.stream_of(api, request)?.is_some();
        has_stream.then_some(Admission::Stream).ok_or_else(access::unauthorized)
    }

    fn intake(&self) -> &Intake {
        &self.inner.intake
    }

    /// The URL at the provider for a path of an API, in normal form.
    fn url(&self, api: Api, path: &str, query: Option<&str>) -> Result<MediaUrl, ApiError> {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = MediaUrl::parse(&format!("{}/{}{}{query}", self.inner.base, api.base(), api.sent_path(path)));
        url.map_err(|error| ApiError::invalid(format!("the path: {error}")))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("base", &self.inner.base).finish_non_exhaustive()
    }
}
