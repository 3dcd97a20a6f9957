//! What the provider's GET endpoints say, within bounds: one request at a time for each of its accounts, answers of a
//! bounded size, each within a bounded time, to the host of the base URL and no other.

mod account_locks;
mod circuit_breaker;
mod error;
mod lists;

use std::time::Duration;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use url::Url;

use account_locks::AccountLocks;
pub use circuit_breaker::CircuitBreaker;
pub use error::ProviderError;
pub use lists::{JobList, ListPage};

use super::Parsed;
use crate::domain::{JobId, Kind, MediaUrl, Observation, ReplyRef};
use crate::egress::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use crate::egress::{self, ClientSetupError, Method, Policy};
use crate::http::{BodyError, read_body};

/// How the provider is reached.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What its URLs start with, without the API's own `/v1/minimax`.
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
        let field = match job.kind() {
            Kind::Video => "videoId",
            Kind::Image => "imageId",
            Kind::Agent => "jobId",
            Kind::Music => "musicId",
            Kind::Speech => "audio_id",
        };
        let mut body = serde_json::json!({field: job.as_str()});
        if let Some(reply_ref) = reply_ref {
            body["replyRef"] = reply_ref.as_str().into();
        }
        let observation = Observation { reply_ref: reply_ref.cloned(), ..Observation::naming(job.clone()) };
        Self { observation: Box::new(observation), body: body.to_string().into() }
    }
}

impl Client {
    /// The largest answer taken, in bytes.
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
        let mut token = HeaderValue::from_str(&format!("Bearer {}", config.api_token.expose_secret()))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        token.set_sensitive(true);
        Ok(Self {
            http: egress::Client::new(Policy::new(config.egress.clone()), timeouts)?,
            base: format!("{}/v1/minimax", config.base_url.as_str().trim_end_matches('/')),
            token,
            account_locks: AccountLocks::default(),
            circuit_breaker: CircuitBreaker::default(),
        })
    }

    /// What the provider says of a job, final or not. Waits while the job's account is being asked already.
    ///
    /// # Errors
    /// When it says nothing of this job, or nothing at all.
    pub async fn job(&self, id: &JobId) -> Result<Answer, ProviderError> {
        let list = match id.kind() {
            Kind::Video => "videos",
            Kind::Image => "images",
            Kind::Agent => "agent",
            Kind::Music => "music",
            Kind::Speech => "audio",
        };
        self.ask(id.account(), &format!("{list}/{id}"), |status, body| {
            let answer = match super::read(&body) {
                // A failed agent job is answered with the status it failed with.
                Ok(Parsed::Job(observation)) if observation.job == *id => Ok(Answer { observation, body }),
                Ok(Parsed::Job(_)) => Err("it is about another job"),
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
        })
        .await
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
        let _turn = self.account_locks.turn(account).await;
        if self.circuit_breaker.hold_remaining(account).is_some() {
            return Err(ProviderError::OnHold);
        }
        let sent = Instant::now();
        let answer = match self.get(path).await {
            Ok((status, body)) => read(status, body),
            Err(error) => Err(error),
        };
        self.circuit_breaker.record_outcome(account, path, sent, answer.as_ref().err());
        answer
    }

    /// The body of an answer and what its status says; an error is what kept it from being read at all.
    async fn get(&self, path: &str) -> Result<(Result<(), ProviderError>, Bytes), ProviderError> {
        let url = MediaUrl::parse(&format!("{}/{path}", self.base));
        let url = url.map_err(|error| ProviderError::Unreachable(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let answered = timeout(Self::ANSWER_TIMEOUT, async {
            // No redirect is followed: the token goes to the configured host alone.
            let response = self.http.send(Method::GET, &url, headers, None).await?;
            let status = ProviderError::of_status(response.status(), response.headers());
            match read_body(response.into_stream(), Self::MAX_ANSWER).await {
                Ok(body) => Ok((status, body)),
                Err(BodyError::TooLarge(_)) => Err(ProviderError::Unreadable("it is too large")),
                Err(BodyError::Broken(error)) => Err(error.into()),
            }
        });
        answered.await.unwrap_or_else(|_| Err(ProviderError::NoAnswer("the answer took too long".to_owned())))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}
