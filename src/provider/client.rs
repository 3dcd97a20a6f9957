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

use super::{Parsed, apis, json, json_patch};
use crate::domain::{JobId, MediaUrl, Observation, ReplyRef};
use crate::egress::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use crate::egress::{self, ClientSetupError, Method, Policy, StatusCode};
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
        let (whose, account) = (turn_of(id), account_of(id));
        let max_bytes = api.max_answer().max(Self::MAX_ANSWER);
        let answer = self.ask_up_to(max_bytes, &whose, &account, &path, |status, body| {
            let status = status.map_err(ProviderError::about_a_job);
            let answer = match (super::read(&body), api.names_of(id)) {
                // A failed agent job is answered with the status it failed with.
                (Ok(Parsed::Job(observation)), _) if observation.job == *id => Ok(Answer { observation, body }),
                (Ok(Parsed::Job(_)), Some(names)) => under_its_name(id, names, &body),
                (Ok(Parsed::Job(_)), None) => Err("it is about another job"),
                (Ok(Parsed::Unrecognised(_)), Some(names)) => match under_its_name(id, names, &body) {
                    // An error without an id is about a job only if it says how far that is.
                    Ok(answer) if status.is_err() && answer.observation.status_label.is_none() => {
                        Err("it is about no job")
                    }
                    answer => answer,
                },
                (Ok(Parsed::Unrecognised(unclear)), None) => Err(unclear.as_str()),
                (Err(_), _) => Err("it is not JSON"),
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
        self.ask_up_to(Self::MAX_ANSWER, &turn_of(job), &account_of(job), below_base(place), |status, body| {
            status?;
            let answer = json::parse_object(&body).ok().flatten().unwrap_or_default();
            let link = FIELDS.iter().find_map(|field| answer.text(field));
            link.and_then(|link| MediaUrl::parse(&link).ok()).ok_or(ProviderError::Unreadable("it names no link"))
        })
        .await
    }

    /// Where a file of `job` is that is to be had from the provider itself. Of `place`, path and query count.
    ///
    /// # Errors
    /// When the job's account is on hold: then its files are not asked for, either.
    pub fn media_url(&self, job: &JobId, place: &MediaUrl) -> Result<MediaUrl, ProviderError> {
        if self.circuit_breaker.hold_remaining(&account_of(job)).is_some() {
            return Err(ProviderError::OnHold);
        }
        let url = MediaUrl::parse(&format!("{}/{}", self.base, below_base(place)));
        url.map_err(|_| ProviderError::Unreadable("its place is no URL"))
    }

    /// What the status means that came instead of such a file, if that is about the token, the account or the provider, and not
    /// about the file. A hold is taken note of; that files are refused or come too fast says nothing of questions about jobs.
    pub fn media_refused(
        &self,
        job: &JobId,
        status: StatusCode,
        retry_after: Option<Duration>,
    ) -> Option<ProviderError> {
        let error = ProviderError::of_status(status, retry_after).err()?;
        if !matches!(error, ProviderError::TokenRefused | ProviderError::OnHold | ProviderError::Busy { .. }) {
            return None;
        }
        if error == ProviderError::OnHold {
            self.circuit_breaker.put_on_hold(Some(&account_of(job)));
        }
        Some(error)
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
        self.ask_up_to(Self::MAX_ANSWER, account, account, path, read).await
    }

    /// The same where the answer may have so many bytes, in a turn that may be shared by more than one account.
    async fn ask_up_to<T>(
        &self,
        max_bytes: usize,
        turn: &str,
        account: &str,
        path: &str,
        read: impl FnOnce(Result<(), ProviderError>, Bytes) -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let _turn = self.account_locks.turn(turn).await;
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
            let status = ProviderError::of_answer(response.status(), response.headers());
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

/// In whose turn the provider is asked about a job: its account's, and of two APIs they are two. Jobs whose ids name no account
/// share a turn of their API's.
pub(crate) fn turn_of(id: &JobId) -> String {
    let account = apis::of(id).map_or_else(|| id.account(), |api| api.account(id));
    match id.provider() {
        provider if provider == JobId::FIRST_API => account.to_owned(),
        provider => format!("{provider}/{account}"),
    }
}

/// The account of a job as the circuit breaker knows it. A job whose id names none stands for itself: whose hold its answer
/// tells of is not known, so no other job is held.
pub(crate) fn account_of(id: &JobId) -> String {
    let turn = turn_of(id);
    if turn.is_empty() || turn.ends_with('/') { id.as_str().to_owned() } else { turn }
}

/// An answer about a job that has another of its ids, or none, with the id that was asked for under the first of `names`,
/// which counts. The other one is kept under the second.
fn under_its_name(id: &JobId, names: [&str; 2], body: &[u8]) -> Result<Answer, &'static str> {
    let object = json::parse_object(body).ok().flatten().unwrap_or_default();
    let other = names.into_iter().filter_map(|name| object.text(name)).find(|other| other != id.as_sent());
    let mut ids = vec![(names[0], id.as_sent())];
    ids.extend(other.as_deref().map(|other| (names[1], other)));
    let body = json_patch::json_text(body).and_then(|text| json_patch::with_members(text, &ids));
    let body = body.ok_or("it is no object")?;
    match super::read(body.as_bytes()) {
        Ok(Parsed::Job(observation)) if observation.job == *id => Ok(Answer { observation, body: body.into() }),
        _ => Err("it is about another job"),
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}
