use super::queue::Queue;
use super::turns::Turn;
use super::{Reconciler, schedule};
use crate::domain::{Job, JobId, JobState, Kind, Timestamp};
use crate::intake::{IntakeError, UnknownJobPolicy};
use crate::provider::{self, Answer, ProviderError, account_of};
use crate::state::{JobChanged, JobFilter, JobRecord, Page, StateError};

/// Why a question led to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Refused(#[from] IntakeError),
}

/// What an answer told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// What was known.
    Nothing,
    /// Something that is recorded.
    Changed,
    /// That there is no such job any more; it has ended by that.
    Removed,
    /// Nothing of the job.
    NoAnswer,
}

impl Reconciler {
    /// Finds jobs that are to be asked about and not known to be waiting: of each state about `most`, from where the last scan
    /// ended. True when those were all there are.
    pub(super) async fn scan(&self, queue: &mut Queue, most: usize) -> Result<bool, StateError> {
        let mut has_all = true;
        for state in schedule::ASKED_ABOUT {
            let mut before = queue.scanned_to.remove(&state);
            has_all &= before.is_none();
            let mut seen = 0;
            loop {
                let page = self.page(state, before).await?;
                for record in &page.items {
                    self.on_job_changed(queue, record);
                }
                seen += page.items.len();
                before = page.next;
                if before.is_none() || seen >= most {
                    break;
                }
            }
            has_all &= before.is_none();
            queue.scanned_to.extend(before.map(|before| (state, before)));
        }
        Ok(has_all)
    }

    /// Jobs in a state, read on a thread that may block.
    pub(super) async fn page(&self, state: JobState, before: Option<u64>) -> Result<Page<JobRecord>, StateError> {
        const PAGE: usize = 256;
        let filter = JobFilter { state: Some(state), ..JobFilter::default() };
        let store = self.state().clone();
        let read = tokio::task::spawn_blocking(move || store.jobs(&filter, PAGE, before));
        // It fails only with the runtime, and then nobody is left to wait for it.
        read.await.unwrap_or(Err(StateError::Rebuilding))
    }

    /// A job changed. About one that waits, whoever asks for another try has the provider asked now.
    ///
    /// # Errors
    /// When it cannot be read how: then a scan finds it.
    pub(super) fn heard_of(&self, queue: &mut Queue, change: JobChanged) -> Result<(), StateError> {
        let JobChanged { sequence, state, is_retry, .. } = change;
        if !schedule::ASKED_ABOUT.contains(&state) {
            queue.remove(sequence);
        } else if (is_retry || !queue.has(sequence))
            && let Some(record) = self.state().job_at(sequence)?
        {
            if is_retry && self.next(&record.job, None).is_some() {
                queue.put(sequence, Timestamp::now(), Turn::of(&record.job));
            } else {
                self.on_job_changed(queue, &record);
            }
        }
        Ok(())
    }

    /// A job is like this. What waits goes on waiting: repeated callbacks must not make the provider be asked more often.
    pub(super) fn on_job_changed(&self, queue: &mut Queue, JobRecord { sequence, job }: &JobRecord) {
        let next = self.next(job, None).filter(|at| !queue.is_finished(*sequence, *at));
        match next {
            None => queue.remove(*sequence),
            Some(at) if !queue.has(*sequence) => queue.put(*sequence, at, Turn::of(job)),
            Some(_) => {}
        }
    }

    /// When a job is to be asked about, if it is. `asked` says when it was; else what was last heard of it counts.
    pub(super) fn next(&self, job: &Job, asked: Option<Timestamp>) -> Option<Timestamp> {
        // What waits to be confirmed is asked about for that.
        if !job.unconfirmed.is_empty() {
            return None;
        }
        let next = schedule::next(job, asked.unwrap_or(job.updated_at), self.inner.config.minute);
        // One that is first heard of when the provider may have forgotten it is asked about once.
        let is_late = next.is_none() && asked.is_none() && job.state == JobState::Running;
        if is_late { Some(job.updated_at) } else { next }
    }

    /// Asks about a job. Returns when to ask again.
    pub(super) async fn ask(&self, sequence: u64) -> Option<Timestamp> {
        self.ask_if_wanted(sequence).await.unwrap_or_else(|error| {
            tracing::debug!(sequence, %error, "whether a job is to be asked about cannot be read yet");
            Some(Timestamp::now().after(Self::SCAN_SOON))
        })
    }

    async fn ask_if_wanted(&self, sequence: u64) -> Result<Option<Timestamp>, StateError> {
        let Some(JobRecord { job, .. }) = self.state().job_at(sequence)? else { return Ok(None) };
        if self.next(&job, None).is_none() {
            return Ok(None);
        }
        let now = Timestamp::now();
        Ok(match self.asked(&job).await {
            Ok(_) => {
                let record = self.state().job_at(sequence)?;
                record.and_then(|record| self.next(&record.job, Some(now)))
            }
            Err(AskError::Provider(ProviderError::OnHold)) => {
                let rest = self.inner.client.circuit_breaker().hold_remaining(&account_of(&job.id));
                Some(now.after(rest.unwrap_or(Self::SCAN_EVERY)))
            }
            // What may fail for this job alone is asked again in its time; anything else is waited out.
            Err(AskError::Provider(
                ProviderError::Failed(_) | ProviderError::NoAnswer(_) | ProviderError::Forbidden,
            )) => self.next(&job, Some(now)),
            Err(AskError::Provider(_)) => Some(now),
            Err(error @ AskError::Refused(_)) => {
                tracing::warn!(job = %job.id, %error, "what the provider says cannot be recorded yet");
                Some(now.after(Self::SCAN_SOON))
            }
        })
    }

    async fn asked(&self, job: &Job) -> Result<Learned, AskError> {
        let answer = self.inner.client.job(&job.id).await;
        self.learn(job, answer).await
    }

    /// The same for somebody who waits for it.
    pub(super) async fn patiently_asked(&self, job: &Job) -> Result<Learned, AskError> {
        let answer = self.with_retry(|| self.inner.client.job(&job.id)).await;
        self.learn(job, answer).await
    }

    async fn learn(&self, job: &Job, answer: Result<Answer, ProviderError>) -> Result<Learned, AskError> {
        match answer {
            Ok(answer) => {
                let changed =
                    self.inner.intake.observe(answer.body, answer.observation, UnknownJobPolicy::Configured).await?;
                Ok(if changed { Learned::Changed } else { Learned::Nothing })
            }
            Err(ProviderError::Gone) => Ok(if self.removed(job).await? { Learned::Removed } else { Learned::NoAnswer }),
            Err(error @ (ProviderError::Rejected(_) | ProviderError::Unreadable(_))) => {
                tracing::warn!(job = %job.id, %error, "the provider does not say how far it is");
                Ok(Learned::NoAnswer)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The provider knows no such job. True when that ends it, or takes a completed one back.
    async fn removed(&self, job: &Job) -> Result<bool, IntakeError> {
        let is_open = matches!(job.state, JobState::Running | JobState::Archiving | JobState::Stuck);
        if !self.is_denial(job) || !is_open || job.withdrawn.is_some() {
            return Ok(false);
        }
        tracing::info!(job = %job.id, "the provider has removed it");
        self.inner.intake.removed(job.id.clone()).await?;
        Ok(true)
    }

    /// Whether "there is no such job" means that there is none any more. GET may not know yet a job that has only just been
    /// made; an agent job runs for up to 15 minutes and may be denied until then.
    fn is_denial(&self, job: &Job) -> bool {
        let minutes = match job.kind() {
            Kind::Video | Kind::Image => 1,
            Kind::Agent | Kind::Music | Kind::Speech | Kind::Other => 15,
        };
        if !provider::denies(&job.id) {
            return false;
        }
        let age = Timestamp::now().since(job.created_at.min(job.updated_at));
        age >= self.inner.config.minute.saturating_mul(minutes)
    }

    /// Asks for fresh links of a job. True when there are some, which are recorded then.
    pub async fn refresh(&self, job: &JobId) -> bool {
        if self.inner.client.circuit_breaker().paused_until().is_some() {
            return false;
        }
        let refreshed = async {
            match self.inner.client.job(job).await {
                Ok(answer) => {
                    let observed =
                        self.inner.intake.observe(answer.body, answer.observation, UnknownJobPolicy::Configured);
                    Ok::<_, AskError>(observed.await?)
                }
                Err(ProviderError::Gone) => match self.state().job(job).map_err(IntakeError::from)? {
                    Some(record) => self.removed(&record.job).await.map(|_| false).map_err(AskError::from),
                    None => Ok(false),
                },
                Err(error) => Err(error.into()),
            }
        };
        match refreshed.await {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%job, %error, "the provider names no fresh link");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::SecretString;

    use super::*;
    use crate::domain::Target;
    use crate::egress::{self, AllowedHosts};
    use crate::intake::{self, Intake, QuarantineLimits, ReplyKeys, ReplyUrls};
    use crate::journal::Journal;
    use crate::provider::{Client, ClientConfig};
    use crate::reconcile::Config;
    use crate::state::{ChangeNotice, EventLog};

    fn reconciler_of(log: &EventLog, dir: &Path) -> Reconciler {
        let secret = SecretString::from("secret");
        let urls = ReplyUrls::new("http://127.0.0.1".parse().unwrap(), ReplyKeys::new([&secret]).unwrap());
        let config = intake::Config {
            max_callback_size: 1 << 20,
            body_time: intake::Config::BODY_TIME,
            adopt_unknown_refs: true,
            sidecars: false,
            confirm: false,
            quarantine: QuarantineLimits::default(),
        };
        let allowed_hosts = AllowedHosts::Only(Vec::new());
        let egress = egress::Config { allowed_hosts, allow_http: true, allow_private_addresses: false };
        let client = ClientConfig { base_url: "http://127.0.0.1".parse().unwrap(), api_token: secret, egress };
        let intake = Intake::new(config, urls, log.clone(), &dir.join("spool"));
        Reconciler::new(Config::default(), intake, Client::new(&client).unwrap())
    }

    #[tokio::test]
    async fn a_job_whose_time_comes_while_the_state_cannot_be_read_is_asked_about_later() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, state) = (dir.path().join("journal"), dir.path().join("state"));
        // A link to itself cannot be opened: ELOOP.
        std::os::unix::fs::symlink(&state, &state).unwrap();
        let log = EventLog::open(Journal::open(&journal).unwrap(), &state, Intake::parse_callback).unwrap();
        let reconciler = reconciler_of(&log, dir.path());
        let change = JobChanged { sequence: 1, state: JobState::Running, number: 1, is_retry: false };
        let (now, mut queue) = (Timestamp::now(), Queue::default());
        assert!(reconciler.ask(1).await.is_some_and(|again| again > now));
        assert!(reconciler.heard_of(&mut queue, change).is_err());
        std::fs::remove_file(&state).unwrap();
        log.recovered().await.unwrap();
        assert_eq!(reconciler.ask(1).await, None, "there is no such job");
        assert!(reconciler.heard_of(&mut queue, change).is_ok() && !queue.has(1));
        log.close();
    }

    #[tokio::test]
    async fn a_job_that_waits_is_asked_about_now_after_a_retry_and_not_after_a_callback() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, state) = (dir.path().join("journal"), dir.path().join("state"));
        let log = EventLog::open(Journal::open(&journal).unwrap(), &state, Intake::parse_callback).unwrap();
        log.recovered().await.unwrap();
        let reconciler = reconciler_of(&log, dir.path());
        let intake = &reconciler.inner.intake;
        let (mut queue, mut changes) = (Queue::default(), log.state().changes());
        let mut taken_after_change = async || match changes.recv().await {
            Ok(ChangeNotice::Job(change)) => {
                reconciler.heard_of(&mut queue, change).unwrap();
                queue.take(Timestamp::now()).is_some()
            }
            other => panic!("{other:?}"),
        };
        for percent in [1, 2] {
            let body = format!(r#"{{"videoId": "user:1-minimax:2-video:1", "status": 1, "percent": {percent}}}"#);
            assert!(intake.accept(Target::Channel, body.into()).await.is_ok());
            assert!(!taken_after_change().await, "its first time is after two minutes");
        }
        intake.retry("user:1-minimax:2-video:1".parse().unwrap()).await.unwrap();
        assert!(taken_after_change().await);
        log.close();
    }

    #[tokio::test]
    async fn of_more_jobs_than_one_scan_reads_every_one_is_reached_by_some_scan() {
        const JOBS: usize = 600;
        let dir = tempfile::tempdir().unwrap();
        let (journal, state) = (dir.path().join("journal"), dir.path().join("state"));
        let log = EventLog::open(Journal::open(&journal).unwrap(), &state, Intake::parse_callback).unwrap();
        log.recovered().await.unwrap();
        let reconciler = reconciler_of(&log, dir.path());
        let accepted = (0..JOBS).map(|number| {
            let body = format!(r#"{{"videoId": "user:1-minimax:2-video:{number}", "status": 1}}"#);
            reconciler.inner.intake.accept(Target::Channel, body.into())
        });
        let accepted = futures_util::future::join_all(accepted).await;
        assert!(accepted.iter().all(Result::is_ok));
        let (mut queue, mut found) = (Queue::default(), Vec::new());
        for _ in 0..3 {
            // One page.
            let has_all = reconciler.scan(&mut queue, 1).await.unwrap();
            found.push((queue.len(), has_all));
        }
        assert_eq!(found, [(256, false), (512, false), (JOBS, false)]);
        assert!(queue.scanned_to.is_empty(), "the next scan begins with the newest");
        assert!(reconciler.scan(&mut queue, 2 * JOBS).await.unwrap());
        log.close();
    }
}
