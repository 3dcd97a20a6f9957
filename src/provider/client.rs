//! What the provider's GET endpoints say, within bounds: one request at a time for each of its accounts, answers of a
//! bounded size, each within a bounded time, to the host of the base URL and no other.

mod account_default;
mod account_locks;
mod circuit_breaker;
mod error;
mod lists;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use url::Url;

pub use account_default::{AccountDefault, AccountError};
use account_locks::AccountLocks;
pub use circuit_breaker::CircuitBreaker;
pub use error::ProviderError;
pub use lists::ListPage;

use super::{Parsed, apis};
use crate::domain::{JobId, MediaUrl, Observation, ReplyRef};
use crate::egress::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use crate::egress::{self, ClientSetupError, Method, Policy};
use crate::http::{BodyError, read_body};

/// How the provider is reached.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What its URLs start with, without an API's own path.
    pub base_url: Url,
    /// Our token there: visible ASCII.
    pub api_token: SecretString,
    /// The outbound policy; it should allow the host of the base URL alone.
    pub egress: egress::Config,
}

/// Asks the provider. Cheap to clone; clones share the connections, the order of requests, and what keeps it from being
/// asked.
#[derive(Clone)]
pub struct Client {
    http: egress::Client,
    base: String,
    token: HeaderValue,
    account_locks: AccountLocks,
    circuit_breaker: CircuitBreaker,
    /// Who holds it may have an answer in memory that has files in it.
    large_answers: Arc<Semaphore>,
}

/// What the provider says of one job.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// As a callback with this body would be read.
    pub observation: Box<Observation>,
    /// The body as it came.
    pub body: Bytes,
}

impl Answer {
    /// What says of a job that there is one and, where it is known, the caller's reference; nothing else.
    pub fn naming(job: &JobId, reply_ref: Option<&ReplyRef>) -> Self {
        let mut body = apis::of(job).map_or_else(|| serde_json::json!({}), |api| api.naming(job));
        if let Some(reply_ref) = reply_ref {
            body["replyRef"] = reply_ref.as_str().into();
        }
        let body = body.to_string();
        let read = match super::read(body.as_bytes()) {
            Ok(Parsed::Job(observation)) => *observation,
            _ => Observation::naming(job.clone()),
        };
        let observation = Observation { reply_ref: reply_ref.cloned(), outcome: None, ..read };
        Self { observation: Box::new(observation), body: body.into() }
    }
}

impl ClientConfig {
    /// What carries the token; `None` when it is no header's value.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let mut token = HeaderValue::from_str(&format!("Bearer {}", self.api_token.expose_secret())).ok()?;
        token.set_sensitive(true);
        Some(token)
    }
}

impl Client {
    /// The largest answer taken, in bytes, but for those about jobs whose API puts files in them.
    const MAX_ANSWER: usize = 4 << 20;
    /// For a connection.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// For the head of an answer, and for each further piece of it.
    const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
    /// For a whole answer.
    const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

    /// A client for one of the provider's users.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: &ClientConfig) -> Result<Self, ClientSetupError> {
        let timeouts = egress::ClientConfig::new(Self::CONNECT_TIMEOUT, Self::IDLE_TIMEOUT);
        // What is no header's value makes requests without a token, and those are refused.
        let token = config.authorization().unwrap_or_else(|| HeaderValue::from_static("Bearer"));
        Ok(Self {
            http: egress::Client::new(Policy::new(config.egress.clone()), timeouts)?,
            base: config.base_url.as_str().trim_end_matches('/').to_owned(),
            token,
            account_locks: AccountLocks::default(),
            circuit_breaker: CircuitBreaker::default(),
            large_answers: Arc::new(Semaphore::new(1)),
        })
    }

    /// What the provider says of a job, final or not. Waits while the job's account is being asked already.
    ///
    /// # Errors
    /// When it says nothing of this job, or nothing at all.
    pub async fn job(&self, id: &JobId) -> Result<Answer, ProviderError> {
        let api = apis::of(id).ok_or(ProviderError::Unreadable("its API is not known"))?;
        let path = api.job_path(id).ok_or(ProviderError::Unreadable("its API cannot be asked about it"))?;
        let large_answers = self.large_answers.clone();
        let turn = match api.max_answer() {
            bytes if bytes > Self::MAX_ANSWER => large_answers.acquire_owned().await.ok(),
            _ => None,
        };
        let (account, max_bytes) = (account_of(id), api.max_answer().max(Self::MAX_ANSWER));
        let answer = self.ask_up_to(max_bytes, &account, &path, |status, body| {
            let answer = match super::read(&body) {
                // A failed agent job is answered with the status it failed with.
                Ok(Parsed::Job(observation)) if observation.job == *id => Ok(Answer { observation, body }),
                Ok(Parsed::Job(_)) if api.answers_by_alias(id) => under_its_name(id, &body),
                Ok(Parsed::Job(_)) => Err("it is about another job"),
                Ok(Parsed::Unrecognised(_)) if api.answers_by_alias(id) => under_its_name(id, &body),
                Ok(Parsed::Unrecognised(unclear)) => Err(unclear.as_str()),
                Err(_) => Err("it is not JSON"),
            };
            match (status, answer) {
                (Ok(()), Err(problem)) => Err(ProviderError::Unreadable(problem)),
                (Ok(()), Ok(answer)) => Ok(answer),
                (Err(error), Ok(answer)) if error.may_carry_a_job() && answer.observation.outcome.is_some() => {
                    Ok(answer)
                }
                (Err(error), _) => Err(error),
            }
        });
        let answer = answer.await?;
        // Whoever holds the body has the turn.
        let body = match turn {
            Some(turn) if answer.body.len() > Self::MAX_ANSWER => {
                Bytes::from_owner(LargeAnswer { body: answer.body, _turn: turn })
            }
            _ => answer.body,
        };
        Ok(Answer { body, ..answer })
    }

    /// Where the provider says that a file of `job` is which its bodies name no link of. Of `place`, path and query count.
    ///
    /// # Errors
    /// When it names none.
    pub async fn media_link(&self, job: &JobId, place: &MediaUrl) -> Result<MediaUrl, ProviderError> {
        const FIELDS: [&str; 2] = ["cdnUrl", "url"];
        self.ask(&account_of(job), below_base(place), |status, body| {
            status?;
            let answer = super::json::parse_object(&body).ok().flatten().unwrap_or_default();
            let link = FIELDS.iter().find_map(|field| answer.text(field));
            link.and_then(|link| MediaUrl::parse(&link).ok()).ok_or(ProviderError::Unreadable("it names no link"))
        })
        .await
    }

    /// Where a file is that is to be had from the provider itself. Of `place`, path and query count.
    pub fn media_url(&self, place: &MediaUrl) -> Option<MediaUrl> {
        MediaUrl::parse(&format!("{}/{}", self.base, below_base(place))).ok()
    }

    /// What keeps the provider from being asked.
    pub fn circuit_breaker(&self) -> &CircuitBreaker {
        &self.circuit_breaker
    }

    /// Asks in the account's turn, unless it is on hold, and takes note of what the answer means for the next question.
    /// What is about no account is asked as if it were about one of its own.
    async fn ask<T>(
        &self,
        account: &str,
        path: &str,
        read: impl FnOnce(Result<(), ProviderError>, Bytes) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        self.ask_up_to(Self::MAX_ANSWER, account, path, read).await
    }

    /// The same where the answer may have so many bytes.
    async fn ask_up_to<T>(
        &self,
        max_bytes: usize,
        account: &str,
        path: &str,
        read: impl FnOnce(Result<(), ProviderError>, Bytes) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let _turn = self.account_locks.turn(account).await;
        if self.circuit_breaker.hold_remaining(account).is_some() {
            return Err(ProviderError::OnHold);
        }
        let sent = Instant::now();
        let answer = match self.get(path, max_bytes).await {
            Ok((status, body)) => read(status, body),
            Err(error) => Err(error),
        };
        self.circuit_breaker.record_outcome(account, path, sent, answer.as_ref().err());
        answer
    }

    /// The body of an answer and what its status says; an error is what kept it from being read at all.
    async fn get(&self, path: &str, max_bytes: usize) -> Result<(Result<(), ProviderError>, Bytes), ProviderError> {
        let url = MediaUrl::parse(&format!("{}/{path}", self.base));
        let url = url.map_err(|error| ProviderError::Unreachable(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answered = timeout(Self::ANSWER_TIMEOUT, async {
            // No redirect is followed: the token goes to the configured host alone.
            let response = self.http.send(Method::GET, &url, headers, None).await?;
            let status = ProviderError::of_status(response.status(), response.headers());
            match read_body(response.into_stream(), max_bytes).await {
                Ok(body) => Ok((status, body)),
                Err(BodyError::TooLarge(_)) => Err(ProviderError::Unreadable("it is too large")),
                Err(BodyError::Broken(error)) => Err(error.into()),
            }
        });
        answered.await.unwrap_or_else(|_| Err(ProviderError::NoAnswer("the answer took too long".to_owned())))
    }
}

/// An answer that has files in it.
struct LargeAnswer {
    body: Bytes,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for LargeAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Path and query, without the slash in front.
fn below_base(place: &MediaUrl) -> &str {
    place.expose()[url::Position::BeforePath..url::Position::AfterQuery].trim_start_matches('/')
}

/// The account of a job as the order of requests and the circuit breaker know it: of two APIs they are two.
pub(crate) fn account_of(id: &JobId) -> String {
    match id.provider() {
        provider if provider == JobId::FIRST_API => id.account().to_owned(),
        provider => format!("{provider}/{}", id.account()),
    }
}

/// An answer about a job that has another of its ids, or none, with the id that was asked for in front: that one counts.
fn under_its_name(id: &JobId, body: &[u8]) -> Result<Answer, &'static str> {
    let named = apis::of(id).map(|api| api.naming(id).to_string()).unwrap_or_default();
    let (Some(named), Some(start)) = (named.strip_suffix('}'), body.iter().position(|byte| *byte == b'{')) else {
        return Err("it is no object");
    };
    let rest = &body[start + 1..];
    let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let body = [named.as_bytes(), if is_empty { b"" } else { b"," }, rest].concat();
    match super::read(&body) {
        Ok(Parsed::Job(observation)) if observation.job == *id => Ok(Answer { observation, body: body.into() }),
        _ => Err("it is about another job"),
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}
