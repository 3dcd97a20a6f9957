use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::iter;
use tokio::time::timeout;

use super::aside::aside;
use super::tokens::Streams;
use crate::domain::{JobId, RefId, ReplyRef};
use crate::egress::StatusCode;
use crate::egress::header::HeaderValue;
use crate::intake::{Intake, IntakeError, UnknownJobPolicy};
use crate::provider::{Answer, Api, CircuitBreaker, Created, Endpoint, made_by, parse_jobs};

/// Jobs of one answer that are looked up at a time.
const MAX_CONCURRENT_OBSERVATIONS: usize = 16;

/// Tells callers from one another: the SHA-256 of the token that a call came with; those that came without one are one
/// caller.
pub(super) type CallerKey = Option<[u8; 32]>;

/// On whose behalf a call goes on.
#[derive(Clone)]
pub(super) struct Caller {
    /// Who it is, where callers share something.
    pub(super) key: CallerKey,
    /// The API that is called.
    pub(super) api: Api,
    /// What the provider sees.
    pub(super) authorization: Option<HeaderValue>,
    /// Whether that is the vault's own token.
    pub(super) is_ours: bool,
    /// Whether the call is a HEAD.
    pub(super) is_head: bool,
}

/// What is known of a call that creates jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Creation {
    pub(super) owner: Owner,
    /// The provider's account, where the call names one.
    pub(super) account: Option<String>,
}

/// Whose the jobs of a call are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The ref's whose URL the call has; `made`: for this call.
    Ref { id: RefId, made: bool },
    /// Nobody's: the call has no URL of a ref's, and perhaps a reference.
    Nobody(Option<ReplyRef>),
}

impl Default for Owner {
    fn default() -> Self {
        Self::Nobody(None)
    }
}

impl Owner {
    /// What names a job that was made for it.
    pub(super) fn naming(&self, job: &JobId) -> Answer {
        match self {
            Self::Ref { .. } => Answer::naming(job, None),
            Self::Nobody(reply_ref) => Answer::naming(job, reply_ref.as_ref()),
        }
    }
}

/// Learns from what the provider says.
pub(super) struct Observer {
    pub(super) intake: Intake,
    pub(super) streams: Arc<Streams>,
    /// Whether jobs that nobody registered and only a list shows are archived.
    pub(super) adopt_listed: bool,
    /// What is known to keep the vault's own account from being used.
    pub(super) circuit_breaker: Option<CircuitBreaker>,
}

impl Observer {
    /// Takes in what an answer says of jobs, as if it were their callbacks. What cannot be recorded is lost to us and not to
    /// the caller, who gets the answer all the same, within [`Intake::PATIENCE`] however much it says.
    pub(super) async fn observe(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        creation: Option<&Creation>,
        status: StatusCode,
        body: &Bytes,
    ) {
        let taken_in = self.take_in(endpoint, caller, creation, status, body);
        if timeout(Intake::PATIENCE, taken_in).await.is_err() {
            tracing::warn!(?endpoint, "the journal does not answer: not all that is said of jobs may be recorded");
        }
    }

    async fn take_in(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
        creation: Option<&Creation>,
        status: StatusCode,
        body: &Bytes,
    ) {
        match (endpoint, creation) {
            (Endpoint::Create(created), creation) => {
                let creation = creation.cloned().unwrap_or_default();
                if caller.is_ours && caller.api.names_accounts() {
                    self.note(&creation, status);
                }
                self.observe_created(caller, created, &creation, status, body).await;
            }
            (Endpoint::SpeechToken, creation) if status.is_success() => {
                let account = creation.and_then(|creation| creation.account.clone());
                self.streams.observe_token(body, caller, account).await;
            }
            // A failed agent job is answered with the status it failed with.
            (Endpoint::Job, _) => self.observe_jobs(caller, jobs_in(body).await, UnknownJobPolicy::Configured).await,
            (Endpoint::List, _) if status.is_success() => {
                let unknown = if self.adopt_listed { UnknownJobPolicy::Adopt } else { UnknownJobPolicy::Skip };
                self.observe_jobs(caller, jobs_in(body).await, unknown).await;
            }
            _ => {}
        }
    }

    async fn observe_created(
        &self,
        caller: &Caller,
        created: Created,
        creation: &Creation,
        status: StatusCode,
        body: &Bytes,
    ) {
        let mut jobs = if created == Created::Job { jobs_in(body).await } else { Vec::new() };
        let (api, whole) = (caller.api, body.clone());
        let named = aside(body.len(), move || match status {
            status if status.is_success() => api.created(&whole),
            // A refusal may tell of the jobs that are in the way; what it is itself about was made.
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                made_by(&whole).into_iter().map(|made| made.job).collect()
            }
            _ => Vec::new(),
        });
        for named in named.await.unwrap_or_default() {
            if !jobs.iter().any(|job| job.observation.job == named) {
                jobs.push(creation.owner.naming(&named));
            }
        }
        if is_refusal(status)
            && jobs.is_empty()
            && let Owner::Ref { id, made: true } = &creation.owner
            // No job will ever call back over it.
            && let Err(error) = self.intake.remove_ref(id).await
        {
            tracing::warn!(reference = %id, %error, "a ref that no job was made for stays");
        }
        iter(jobs)
            .for_each_concurrent(MAX_CONCURRENT_OBSERVATIONS, |job| self.observe_own(caller, &creation.owner, job))
            .await;
    }

    /// A job that was made by a call.
    pub(super) async fn observe_own(&self, caller: &Caller, owner: &Owner, job: Answer) {
        let id = job.observation.job.clone();
        let recorded = match owner {
            Owner::Ref { id, .. } => self.intake.job_created(id.clone(), job.body, job.observation).await,
            // Whoever may call may have it archived.
            Owner::Nobody(_) => self.observe_job(caller, job, UnknownJobPolicy::Adopt).await,
        };
        if let Err(error) = recorded {
            unrecorded(&id, &error);
        }
    }

    pub(super) async fn observe_jobs(&self, caller: &Caller, jobs: Vec<Answer>, unknown: UnknownJobPolicy) {
        iter(jobs)
            .for_each_concurrent(MAX_CONCURRENT_OBSERVATIONS, |job| async move {
                let id = job.observation.job.clone();
                if let Err(error) = self.observe_job(caller, job, unknown).await {
                    unrecorded(&id, &error);
                }
            })
            .await;
    }

    async fn observe_job(&self, caller: &Caller, job: Answer, unknown: UnknownJobPolicy) -> Result<bool, IntakeError> {
        let Answer { observation, body } = job;
        match caller.is_ours {
            true => self.intake.observe(body, observation, unknown).await,
            false => self.intake.observe_foreign(body, observation, unknown).await,
        }
    }

    /// What the answer to a call that creates jobs says of the account.
    fn note(&self, creation: &Creation, status: StatusCode) {
        let Some(circuit_breaker) = &self.circuit_breaker else { return };
        let account = creation.account.as_deref();
        match status.as_u16() {
            596 => circuit_breaker.put_on_hold(account),
            412 => circuit_breaker.out_of_credits(account),
            200..300 => circuit_breaker.has_credits(account),
            _ => {}
        }
    }
}

/// The jobs that an answer shows, as [`parse_jobs`].
pub(super) async fn jobs_in(body: &Bytes) -> Vec<Answer> {
    let whole = body.clone();
    aside(body.len(), move || parse_jobs(&whole)).await.unwrap_or_default()
}

/// No job was made. After other errors of the provider's there may be one all the same: 408 says that waiting for it took too
/// long (<https://useapi.net/docs>).
fn is_refusal(status: StatusCode) -> bool {
    (status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT) || status.as_u16() == 596
}

fn unrecorded(job: &JobId, error: &IntakeError) {
    tracing::warn!(%job, %error, "what the provider says of it cannot be recorded");
}
