//! The one door for observations: check the signature, journal, apply, answer.
//!
//! A 2xx means that the body's bytes are in the journal and synced. What else is decided here, before anything is
//! written, is what a later replay could not decide the same way: whether the URL was ours, whether the body is JSON,
//! whether it is one of too many, and what the configuration says about unknown refs.

mod api_error;
mod bodies;
mod coding;
mod http;
mod memory;
mod pace;
mod provider_answer;
mod quarantine;
mod rate_limit;
mod refs;
mod repeats;
mod reply_url;
mod slots;
mod spool;
mod within;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

pub use coding::Decoder;
pub use http::{
    __path_reply, CallbackAnswer, QuarantineAnswer, accepted_response, parse_quarantine_id, quarantine_id, reply,
    routes,
};
pub(crate) use memory::{Held, Memory, bytes_holding};
pub(crate) use pace::Pace;
pub use provider_answer::UnknownJobPolicy;
pub use quarantine::{QuarantineFilter, QuarantineLimits};
pub use refs::{NewRef, RegisterError};
pub use reply_url::{ReplyKeys, ReplyUrls};
pub(crate) use slots::{Slot, Slots, TooMany};

use self::bodies::{Bodies, Received};
use self::memory::SMALL_BYTES;
use self::rate_limit::{RateLimit, SeenAs};
use self::repeats::Uncounted;
use crate::domain::{
    Change, Digest, JobId, Notification, NotificationId, Outcome, QuarantineReason, ReplyRef, Target, Timestamp,
};
use crate::journal::{CallbackEntry, Durability, Entry, Event, JournalError};
use crate::provider::{self, NotJson, Parsed, Unrecognised};
use crate::state::{ApplyOutcome, EventLog, JobRecord, JobSummary, ParsedCallback, RecordError, State, StateError};

/// How callbacks are taken.
#[derive(Clone, Debug)]
pub struct Config {
    /// The largest body taken, in bytes.
    pub max_callback_size: usize,
    /// How long a sender may take for a whole body; [`Config::BODY_TIME`] is a good time.
    pub body_time: Duration,
    /// Whether a replyRef nobody registered makes a ref; otherwise its callback is quarantined.
    pub adopt_unknown_refs: bool,
    /// Whether posters, thumbnails and subtitles are archived too.
    pub sidecars: bool,
    /// Whether the provider is asked before a final callback is believed.
    pub confirm: bool,
    /// How much may be in quarantine.
    pub quarantine: QuarantineLimits,
}

impl Config {
    /// Time for a body of a mebibyte over a slow line, and still an end. What is larger has four times as long.
    pub const BODY_TIME: Duration = Duration::from_secs(30);
}

/// Takes callbacks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Intake {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    urls: ReplyUrls,
    log: EventLog,
    rate_limit: RateLimit,
    uncounted: Uncounted,
    bodies: Bodies,
    /// Who holds it may have a large body from quarantine in memory.
    large_reads: Semaphore,
    /// Told when a body went into quarantine.
    quarantine_grew: Notify,
}

/// A callback that is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// Understood.
    Job {
        /// Its job.
        job_id: JobId,
        /// The job's reference.
        reply_ref: Option<ReplyRef>,
        /// The job's state now.
        state: &'static str,
        /// True once the provider has called the job final.
        is_final: bool,
        /// Where in quarantine it is as well, because the job has no room for all that it names.
        over_budget: Option<u64>,
    },
    /// Kept aside.
    Quarantined {
        /// Its id.
        position: u64,
        /// Why.
        reason: &'static str,
    },
}

/// A callback that is not kept.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Wrong signature or unknown target, alike.
    #[error("the signature does not match, or nothing is known by this name")]
    BadSignature,
    /// Not JSON.
    #[error(transparent)]
    InvalidJson(#[from] NotJson),
    /// Larger than configured.
    #[error("the body has more than {0} bytes")]
    TooLarge(usize),
    /// Too many progress callbacks for one job over one URL.
    #[error("more than {} progress callbacks a minute for one job", rate_limit::PER_MINUTE)]
    TooMany,
    /// It could not be made durable, or its ref cannot be looked up yet.
    #[error("it cannot be kept right now: {0}")]
    Unavailable(&'static str),
    /// It is compressed, and damaged.
    #[error("the body cannot be unpacked: {0}")]
    Undecodable(String),
    /// The sender did not finish the body.
    #[error("the body did not arrive whole: {0}")]
    Incomplete(String),
}

impl From<RecordError> for IntakeError {
    fn from(error: RecordError) -> Self {
        // Which file and what the system said is for the log, not for strangers.
        match error {
            RecordError::Journal(_) => Self::Unavailable("the journal cannot be written"),
            RecordError::Stopping => Self::Unavailable("the service is stopping"),
            RecordError::Away => Self::Unavailable("the shared log cannot be reached"),
            RecordError::Fenced => Self::Unavailable("another replica has taken this over"),
        }
    }
}

impl From<StateError> for IntakeError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Rebuilding | StateError::Incomplete => Self::Unavailable("the state is being rebuilt"),
            error => {
                tracing::error!(%error, "the state cannot be read");
                Self::Unavailable("the state cannot be read")
            }
        }
    }
}

impl From<JournalError> for IntakeError {
    fn from(error: JournalError) -> Self {
        tracing::error!(%error, "the journal cannot be read");
        Self::Unavailable("the journal cannot be read")
    }
}

impl Intake {
    /// How long a caller waits for the journal and the state. What is recorded later than that is recorded all the same.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// Takes callbacks for the URLs in `urls` into `log`. Large ones are put on disk in `spool` as they come; nobody else may
    /// use that folder, which is made when it is needed.
    pub fn new(config: Config, urls: ReplyUrls, log: EventLog, spool: &Path) -> Self {
        let bodies = Bodies::new(config.max_callback_size, config.body_time, spool);
        let inner = Inner {
            config,
            urls,
            log,
            rate_limit: RateLimit::new(),
            uncounted: Uncounted::default(),
            bodies,
            large_reads: Semaphore::new(1),
            quarantine_grew: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What reads a body: the same for new callbacks and for replay.
    pub fn parse_callback(body: &[u8]) -> ParsedCallback {
        match provider::read(body) {
            Ok(reading) => parsed(reading),
            // Only what was JSON has been journalled; a version with other ideas of JSON keeps it aside.
            Err(_) => ParsedCallback::Unrecognised(QuarantineReason::UnknownShape),
        }
    }

    /// Makes and checks reply URLs.
    pub fn urls(&self) -> &ReplyUrls {
        &self.inner.urls
    }

    /// Where callbacks go.
    pub fn log(&self) -> &EventLog {
        &self.inner.log
    }

    fn state(&self) -> &State {
        self.inner.log.state()
    }

    /// Whose URL this is.
    ///
    /// # Errors
    /// When it is nobody's; when it is a ref's and refs cannot be looked up.
    pub async fn authenticate(&self, target: &str, signature: &str) -> Result<Target, IntakeError> {
        let target = self.inner.urls.verify(target, signature).ok_or(IntakeError::BadSignature)?;
        if let Target::Ref(id) = &target
            && !self.may_be_ref(id).await?
        {
            return Err(IntakeError::BadSignature);
        }
        Ok(target)
    }

    /// Keeps a body that came over `target`'s URL. It is durable and visible to readers when this returns.
    ///
    /// # Errors
    /// When it is not kept.
    pub async fn accept(&self, target: Target, body: Bytes) -> Result<Accepted, IntakeError> {
        let parsed = parsed(provider::read(&body)?);
        self.accept_parsed(target, body, parsed, None).await
    }

    /// The same for a body that came in whole.
    async fn accept_received(&self, target: Target, received: Received) -> Result<Accepted, IntakeError> {
        match received {
            Received::AtHand(body, held) if body.len() <= SMALL_BYTES => self.accept_small(target, body, held).await,
            large => self.accept_large(target, large).await,
        }
    }

    /// One that names many files is as large as a large one when it is parsed, and is parsed again when there is room for that.
    async fn accept_small(&self, target: Target, body: Vec<u8>, held: Held<Target>) -> Result<Accepted, IntakeError> {
        let parsed = parsed(provider::read(&body)?);
        if body.len() + parsed.bytes() > SMALL_BYTES {
            drop(parsed);
            return self.accept_large(target, Received::AtHand(body, held)).await;
        }
        self.accept_parsed(target, bytes_holding(body, held), parsed, None).await
    }

    /// What costs time with a large body is not done where others wait.
    async fn accept_large(&self, target: Target, received: Received) -> Result<Accepted, IntakeError> {
        let over = target.clone();
        let see = move |body: &Bytes| (provider::read(body), RateLimit::fingerprint(&over, body));
        let bodies = &self.inner.bodies;
        let (body, (read, fingerprint)) = match received {
            Received::AtHand(body, held) => bodies.look_at(&target, body, held, see).await?,
            Received::OnDisk(body) => bodies.load(&target, body, see).await?,
        };
        self.accept_parsed(target, body, parsed(read?), Some(fingerprint)).await
    }

    async fn accept_parsed(
        &self,
        target: Target,
        body: Bytes,
        parsed: ParsedCallback,
        fingerprint: Option<Digest>,
    ) -> Result<Accepted, IntakeError> {
        let progress_of = match &parsed {
            ParsedCallback::Job(observation) if observation.outcome.is_none() => Some(&observation.job),
            _ => None,
        };
        if progress_of.is_some_and(|job| !self.inner.rate_limit.admit_progress(&target, job)) {
            return Err(IntakeError::TooMany);
        }
        let fingerprint = fingerprint.unwrap_or_else(|| RateLimit::fingerprint(&target, &body));
        match self.inner.rate_limit.known(&fingerprint) {
            Some(SeenAs::Job(job)) => {
                if let Some(accepted) = self.repeat(&target, job).await? {
                    return Ok(accepted);
                }
            }
            Some(SeenAs::Held(job, position)) => {
                if self.still_counts(&job, position)?
                    && let Some(accepted) = self.repeat(&target, job).await?
                {
                    return Ok(accepted);
                }
            }
            // It may have been deleted since.
            Some(SeenAs::Unrecognised(position, reason)) if self.state().quarantined(position)?.is_some() => {
                return Ok(Accepted::Quarantined { position, reason: reason.as_str() });
            }
            Some(SeenAs::Unrecognised(..)) | None => {}
        }
        let fallback = self.provisional_answer(&parsed);
        let applied = self.record(target, body, parsed, None).await?;
        if let ApplyOutcome::Quarantined { .. } | ApplyOutcome::Job { over_budget: Some(_), .. } = &applied {
            self.inner.quarantine_grew.notify_one();
        }
        match &applied {
            ApplyOutcome::Job { job, change: Some(Change::Held), .. } => {
                // Once refuted it may be true all the same when it comes again: a failure can be foretold.
                let known = job.last_unconfirmed.map(|position| SeenAs::Held(job.id.clone(), position));
                known.into_iter().for_each(|known| self.inner.rate_limit.remember(fingerprint, known));
            }
            ApplyOutcome::Job { job, .. } => self.inner.rate_limit.remember(fingerprint, SeenAs::Job(job.id.clone())),
            // What else is in quarantine may be welcome a moment later, when its ref is registered.
            ApplyOutcome::Quarantined {
                position,
                reason: reason @ (QuarantineReason::UnknownShape | QuarantineReason::UnknownId),
            } => {
                self.inner.rate_limit.remember(fingerprint, SeenAs::Unrecognised(*position, *reason));
            }
            _ => {}
        }
        answer(applied, fallback)
    }

    /// Makes a job's stuck files due again. `None`: there is no such job.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn retry(&self, job: JobId) -> Result<Option<JobRecord>, IntakeError> {
        let event = Event::Retried { at: Timestamp::now(), job };
        match self.recorded(self.inner.log.record(event, Durability::Synced)).await? {
            ApplyOutcome::Job { job, .. } => Ok(self.state().job_at(job.sequence)?),
            ApplyOutcome::Unknown => Ok(None),
            _ => Err(IntakeError::Unavailable("the state is being rebuilt")),
        }
    }

    /// Makes an event due again that nobody took, and one that is on its way due now. `None`: it is not known.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn retry_notification(&self, id: NotificationId) -> Result<Option<Notification>, IntakeError> {
        let event = Event::NotificationRetried { at: Timestamp::now(), id };
        self.recorded(self.inner.log.record(event, Durability::Synced)).await?;
        Ok(self.state().notification(&id)?)
    }

    async fn record(
        &self,
        target: Target,
        body: Bytes,
        parsed: ParsedCallback,
        replay_of: Option<u64>,
    ) -> Result<ApplyOutcome, IntakeError> {
        let Config { adopt_unknown_refs: adopt, sidecars, confirm, .. } = self.inner.config;
        let at = Timestamp::now();
        let entry =
            CallbackEntry { at, target, adopt, sidecars, confirm, asked: false, foreign: false, replay_of, body };
        self.recorded(self.inner.log.record_callback(Entry::Callback(entry), parsed)).await
    }

    /// What comes of a recording, within [`Intake::PATIENCE`].
    async fn recorded<T>(&self, recording: impl Future<Output = Result<T, RecordError>>) -> Result<T, IntakeError> {
        match timeout(Self::PATIENCE, recording).await {
            Ok(recorded) => Ok(recorded?),
            Err(_) => Err(IntakeError::Unavailable("the journal or the state does not answer")),
        }
    }

    /// True while the final callback recorded at `position` waits to be confirmed, and when it decided its job's outcome.
    fn still_counts(&self, job: &JobId, position: u64) -> Result<bool, StateError> {
        let Some(job) = self.state().job_header(job)? else { return Ok(false) };
        let waits = job.unconfirmed.iter().any(|callback| callback.position == position);
        Ok(waits || job.final_callback == Some(position))
    }

    /// What to answer when the body is durable and the state is being rebuilt: what the body itself says.
    fn provisional_answer(&self, parsed: &ParsedCallback) -> Option<Accepted> {
        let ParsedCallback::Job(observation) = parsed else { return None };
        let outcome: Option<Outcome> = observation.outcome;
        let believed = outcome.is_some() && !self.inner.config.confirm;
        Some(Accepted::Job {
            job_id: observation.job.clone(),
            reply_ref: observation.reply_ref.clone(),
            state: if believed { "archiving" } else { "running" },
            is_final: outcome.is_some(),
            over_budget: None,
        })
    }
}

fn parsed(reading: Parsed) -> ParsedCallback {
    match reading {
        Parsed::Job(observation) => ParsedCallback::Job(observation),
        Parsed::Unrecognised(Unrecognised::UnknownShape) => {
            ParsedCallback::Unrecognised(QuarantineReason::UnknownShape)
        }
        Parsed::Unrecognised(Unrecognised::UnknownId) => ParsedCallback::Unrecognised(QuarantineReason::UnknownId),
        Parsed::Unrecognised(Unrecognised::InvalidReplyRef) => {
            ParsedCallback::Unrecognised(QuarantineReason::InvalidReplyRef)
        }
    }
}

fn job_answer(job: JobSummary, over_budget: Option<u64>) -> Accepted {
    let JobSummary { id: job_id, reply_ref, state, is_final, .. } = job;
    Accepted::Job { job_id, reply_ref, state: state.as_str(), is_final, over_budget }
}

fn answer(applied: ApplyOutcome, deferred: Option<Accepted>) -> Result<Accepted, IntakeError> {
    match (applied, deferred) {
        (ApplyOutcome::Job { job, over_budget, .. }, _) => Ok(job_answer(*job, over_budget)),
        (ApplyOutcome::Quarantined { position, reason }, _) => {
            Ok(Accepted::Quarantined { position, reason: reason.as_str() })
        }
        (_, Some(accepted)) => Ok(accepted),
        (_, None) => Err(IntakeError::Unavailable("the state is being rebuilt")),
    }
}
