//! Asks the provider about final callbacks before anything follows from them.
//!
//! What waits is recorded with its job, and so is what becomes of it: a crash between any two steps only makes the
//! provider be asked again. A question without an answer is asked again ever more rarely, and holds up no other. A provider
//! that cannot be connected to uses nothing up and writes nothing: one question at a time looks whether it is back.

mod compare;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fail::fail_point;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::compare::Verdict;
use crate::cluster::Share;
use crate::domain::{Job, JobId, Timestamp};
use crate::journal::{Durability, Event};
use crate::provider::{Client, ProviderError};
use crate::state::{ApplyOutcome, EventLog, JobRecord, RecordError, State, StateError};

/// Confirms or refutes final callbacks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Confirmer {
    inner: Arc<Inner>,
    log: EventLog,
}

#[derive(Debug)]
struct Inner {
    client: Option<Client>,
    patience: Duration,
    /// Since when the provider has been asked about a job in this run and does not know of its end.
    open_since: Mutex<HashMap<u64, Instant>>,
    stop: watch::Sender<bool>,
}

/// Why a question led to nothing.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Provider(ProviderError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    State(#[from] StateError),
    /// It is in the journal, and will be known when the state is.
    #[error("the state is being rebuilt")]
    Deferred,
}

type AskResult = Result<(), AskError>;

/// Questions being asked.
#[derive(Default)]
struct InFlight {
    tasks: JoinSet<AskResult>,
    jobs: HashMap<Id, u64>,
    /// Until when nothing is asked because what was said could not be recorded.
    backoff_until: Option<Instant>,
}

impl Confirmer {
    /// How long the provider may take to know of a callback's end of a job; longer, and it is refuted.
    pub const PATIENCE: Duration = Duration::from_secs(300);
    /// Questions at a time.
    const AT_ONCE: usize = 4;
    /// Of what is due, so much is looked at for what is this replica's.
    const LOOKED_AT: usize = 4096;
    /// Between two questions about one job that the provider does not know the end of.
    const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);
    /// The same when the answer cannot be read.
    const LONG_PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(3600);
    /// The same when there is none.
    const UNANSWERED_PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(600);
    /// No question is put off for longer: an account on hold is left alone for two hours.
    const LONGEST_PAUSE: Duration = Duration::from_secs(3 * 3600);

    /// Asks `client`. Without one whatever waits is believed: it came while the provider was to be asked, and now it is
    /// not to be any more.
    pub fn new(log: EventLog, client: Option<Client>, patience: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let open_since = Mutex::default();
        Self { inner: Arc::new(Inner { client, patience, open_since, stop }), log }
    }

    /// The same for whoever acts in an epoch of the cluster: see [`EventLog::fenced`].
    fn fenced(&self, fence: Option<u64>) -> Self {
        Self { inner: self.inner.clone(), log: self.log.fenced(fence) }
    }

    /// Asks nothing from now on; [`Confirmer::run`] returns at once.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    fn state(&self) -> &State {
        self.log.state()
    }

    /// Works until [`Confirmer::stop`] is called. A question that is cut off is asked again after the next start.
    pub async fn run(&self) {
        let mut stop = self.inner.stop.subscribe();
        tokio::select! {
            _ = self.log.recovered() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut asking = InFlight::default();
        let mut shares = self.log.cluster().map(|cluster| cluster.shares().changes());
        while !*stop.borrow_and_update() {
            let at_once = if self.is_unreachable() { 1 } else { Self::AT_ONCE };
            let backoff_until = asking.backoff_until.filter(|until| *until > Instant::now());
            let paused = backoff_until.max(self.paused_until());
            let next = paused.or_else(|| self.dispatch(&mut asking, at_once));
            let has_room = paused.is_none() && asking.tasks.len() < at_once;
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = asking.tasks.join_next_with_id(), if !asking.tasks.is_empty() => {
                    self.ended(&mut asking, ended).await;
                }
                () = self.state().confirmations_changed(), if has_room => {}
                () = super::shards::changed(&mut shares) => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        asking.tasks.shutdown().await;
    }

    fn paused_until(&self) -> Option<Instant> {
        self.inner.client.as_ref()?.circuit_breaker().paused_until()
    }

    fn is_unreachable(&self) -> bool {
        self.inner.client.as_ref().is_some_and(|client| client.circuit_breaker().is_unreachable())
    }

    /// Asks what is due and has room. Returns when to look again, if that is known.
    fn dispatch(&self, asking: &mut InFlight, at_once: usize) -> Option<Instant> {
        let now = Timestamp::now();
        // Of what is due, some is other replicas'.
        let most = if self.log.cluster().is_some() { Self::LOOKED_AT } else { 2 * Self::AT_ONCE };
        let (due, next) = match self.state().confirmations_due(now, Self::LONGEST_PAUSE, most) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "what waits to be confirmed cannot be read yet");
                return Some(Instant::now() + *Self::PAUSES.start());
            }
        };
        for sequence in due {
            if asking.tasks.len() >= at_once {
                return None;
            }
            if asking.jobs.values().any(|asked| *asked == sequence) {
                continue;
            }
            let Some(share) = self.state().share(sequence) else { continue };
            let confirmer = self.fenced(share.as_ref().map(Share::fence));
            let task = asking.tasks.spawn(async move {
                let _share = share;
                confirmer.ask(sequence).await
            });
            asking.jobs.insert(task.id(), sequence);
        }
        next.map(|at| Instant::now() + at.since(now))
    }

    async fn ended(&self, asking: &mut InFlight, ended: Result<(Id, AskResult), JoinError>) {
        let (id, asked) = match ended {
            Ok((id, asked)) => (id, Some(asked)),
            Err(error) => (error.id(), None),
        };
        let sequence = asking.jobs.remove(&id);
        match asked {
            // The client knows how long it is to be left alone.
            Some(Ok(()) | Err(AskError::Provider(_))) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "what the provider says cannot be recorded yet");
                asking.backoff_until = Some(Instant::now() + *Self::PAUSES.start());
            }
            None => {
                tracing::error!(sequence, "a defect cut a question to the provider off");
                if let Some(Ok(Some(record))) = sequence.map(|sequence| self.state().job_at(sequence)) {
                    // It would strike again at once.
                    let _ = self.ask_later(&record.job, *Self::LONG_PAUSES.end()).await;
                }
            }
        }
    }

    /// Asks about all that waits of one job.
    async fn ask(&self, sequence: u64) -> AskResult {
        let Some(JobRecord { job, .. }) = self.state().job_at(sequence)? else { return Ok(()) };
        let Some(client) = &self.inner.client else { return self.accept_unconfirmed(&job).await };
        let answer = match client.job(&job.id).await {
            Ok(answer) => Ok(answer.observation),
            Err(error @ (ProviderError::Gone | ProviderError::Rejected(_))) => Err(error.to_string()),
            Err(ProviderError::OnHold) => {
                let rest = client.circuit_breaker().hold_remaining(&crate::provider::account_of(&job.id));
                return self.ask_later(&job, rest.unwrap_or(*Self::LONG_PAUSES.end())).await;
            }
            Err(error @ ProviderError::Unreadable(_)) => {
                tracing::warn!(job = %job.id, %error, "a final callback cannot be confirmed yet");
                return self.ask_later(&job, pause(&job, &Self::LONG_PAUSES)).await;
            }
            Err(error @ (ProviderError::Failed(_) | ProviderError::NoAnswer(_) | ProviderError::Forbidden)) => {
                tracing::warn!(job = %job.id, %error, "a final callback cannot be confirmed yet");
                return self.ask_later(&job, pause(&job, &Self::UNANSWERED_PAUSES)).await;
            }
            Err(error) => return Err(AskError::Provider(error)),
        };
        let open_for = self.open_for(sequence);
        let mut is_open = false;
        for callback in &job.unconfirmed {
            let verdict = match &answer {
                Ok(answer) => compare::compare(callback, answer),
                Err(error) => Verdict::NotYet(error.clone()),
            };
            match verdict {
                Verdict::Same => self.confirm(&job.id, callback.position).await?,
                Verdict::NotYet(_) if !self.is_over(callback.at, open_for) => is_open = true,
                Verdict::NotYet(difference) | Verdict::Different(difference) => {
                    self.refute(&job.id, callback.position, difference).await?;
                }
            }
        }
        if is_open {
            return self.ask_later(&job, pause(&job, &Self::PAUSES).min(self.inner.patience)).await;
        }
        self.open_since().remove(&sequence);
        Ok(())
    }

    fn open_since(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.inner.open_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the provider has been asked about a job in this run.
    fn open_for(&self, sequence: u64) -> Duration {
        /// More are not remembered, and wait for longer.
        const MAX_FAILURE_TIMES: usize = 100_000;
        let mut since = self.open_since();
        if since.len() >= MAX_FAILURE_TIMES {
            since.clear();
        }
        since.entry(sequence).or_insert_with(Instant::now).elapsed()
    }

    /// Whether the provider has had the time to know of a callback that came at `at`. The clock, which may be wrong, must
    /// say so, and so must the time that has passed in this run.
    fn is_over(&self, at: Timestamp, open_for: Duration) -> bool {
        let (now, patience) = (Timestamp::now(), self.inner.patience);
        (at > now || now.since(at) >= patience) && open_for >= patience
    }

    async fn accept_unconfirmed(&self, job: &Job) -> AskResult {
        for callback in &job.unconfirmed {
            tracing::warn!(job = %job.id, "a final callback is believed unasked: provider.confirm was switched off");
            self.confirm(&job.id, callback.position).await?;
        }
        Ok(())
    }

    async fn confirm(&self, job: &JobId, position: u64) -> AskResult {
        fail_point!("worker.confirm", |_| Err(AskError::Deferred));
        let event = Event::Confirmed { at: Timestamp::now(), job: job.clone(), position };
        self.record(event).await?;
        fail_point!("worker.confirm.done", |_| Err(AskError::Deferred));
        Ok(())
    }

    async fn refute(&self, job: &JobId, position: u64, difference: String) -> AskResult {
        tracing::warn!(%job, difference, "a final callback is not confirmed and goes to quarantine");
        fail_point!("worker.refute", |_| Err(AskError::Deferred));
        let event = Event::Refuted { at: Timestamp::now(), job: job.clone(), position, difference };
        self.record(event).await?;
        fail_point!("worker.refute.done", |_| Err(AskError::Deferred));
        Ok(())
    }

    async fn ask_later(&self, job: &Job, pause: Duration) -> AskResult {
        let at = Timestamp::now();
        let event = Event::Unanswered { at, job: job.id.clone(), due: at.after(pause) };
        self.record(event).await
    }

    async fn record(&self, event: Event) -> AskResult {
        match self.log.record(event, Durability::Buffered).await? {
            ApplyOutcome::Deferred => Err(AskError::Deferred),
            _ => Ok(()),
        }
    }
}

/// As long as the last callback has waited, so that questions become rare.
fn pause(job: &Job, bounds: &std::ops::RangeInclusive<Duration>) -> Duration {
    let waited = job.unconfirmed.last().map(|callback| Timestamp::now().since(callback.at)).unwrap_or_default();
    waited.clamp(*bounds.start(), *bounds.end())
}
