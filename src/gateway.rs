//! A drop-in for the provider: a call below the base of any of its APIs, such as `ANY /v1/minimax/{path…}`, goes on to the
//! provider, and every job made through here calls back here. What a call is, the table of its API says.
//!
//! Bodies stream both ways. Only what has to be understood is held, within bounds: the bodies of calls that create jobs
//! (of multipart forms only the fields of the callback) and answers that are JSON, which may tell of jobs and may show
//! the replyUrl that was put in here. Of no answer does the signature of a reply URL reach a caller, however it is written;
//! an answer in which it could not be seen is refused.

mod access;
mod answer;
mod aside;
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

use actix_web::http::Method;
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use secrecy::SecretString;
use url::Url;

use self::access::{Access, Admission};
use self::answer::Answers;
use self::ask::Questions;
use self::forward::{Onward, Upstream};
use self::observe::{Caller, CallerKey, Observer};
use self::tokens::Streams;
use crate::egress::{self, ClientSetupError, header};
use crate::http::ApiError;
use crate::intake::{Intake, Memory};
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

/// Who may pass, and the parts that a call goes through.
struct Inner {
    access: Access,
    intake: Intake,
    streams: Arc<Streams>,
    upstream: Arc<Upstream>,
    questions: Arc<Questions>,
    answers: Answers,
    /// For bodies that are held until they are sent on.
    memory: Arc<Memory<CallerKey>>,
}

impl Gateway {
    /// A gateway that hands what it learns to `intake`, and of the provider's accounts to `trouble`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        config: Config,
        intake: Intake,
        circuit_breaker: Option<CircuitBreaker>,
    ) -> Result<Self, ClientSetupError> {
        let access = Access::new(&config.api_tokens, config.provider_token, &config.provider_tokens);
        let streams = Arc::new(Streams::new(intake.clone(), access.provider().cloned()));
        let upstream = Arc::new(Upstream::new(&config.base_url, config.egress)?);
        let observer = Arc::new(Observer {
            intake: intake.clone(),
            streams: Arc::clone(&streams),
            adopt_listed: config.adopt_listed,
            circuit_breaker,
        });
        let questions = Arc::new(Questions::new(Arc::clone(&upstream), Arc::clone(&observer)));
        let answers = Answers::new(intake.clone(), observer, Arc::clone(&questions));
        let memory = Arc::new(Memory::new(body::MAX_HELD_BYTES));
        Ok(Self { inner: Arc::new(Inner { access, intake, streams, upstream, questions, answers, memory }) })
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
            key: access::token_digest(request),
            api,
            authorization: headers.get(header::AUTHORIZATION).cloned(),
            is_ours: admission.is_ours(),
            is_head: request.method() == Method::HEAD,
        };
        tracing::debug!(method = %request.method(), ?api, ?endpoint, as_provider = !caller.is_ours, "passed on");
        let method = egress::Method::from_bytes(request.method().as_str().as_bytes());
        let method = method.map_err(|_| ApiError::invalid("the method: expected one of HTTP's"))?;
        let onward = Onward { method, url: self.inner.upstream.url(api, &path, request.uri().query())?, headers };
        match endpoint {
            Endpoint::WebSocket => self.proxy_websocket(request, payload, onward, &caller).await,
            Endpoint::Create(_) | Endpoint::SpeechToken => {
                self.create(request, payload, onward, &caller, endpoint).await
            }
            Endpoint::Job | Endpoint::List | Endpoint::MentionsJobs | Endpoint::Other => {
                let exchange = self.inner.upstream.forward(onward, body::forward_body(request, payload)).await?;
                self.inner.answers.answer(endpoint, &caller, None, exchange).await
            }
        }
    }

    fn admit(&self, request: &HttpRequest, api: Api, endpoint: Endpoint) -> Result<Admission, ApiError> {
        if let Some(known) = self.inner.access.admit(request) {
            return Ok(known);
        }
        let has_stream = endpoint == Endpoint::WebSocket && self.inner.streams.stream_of(api, request)?.is_some();
        has_stream.then_some(Admission::Stream).ok_or_else(access::unauthorized)
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("base", &self.inner.upstream.base).finish_non_exhaustive()
    }
}
