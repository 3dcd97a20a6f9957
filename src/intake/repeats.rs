//! Callbacks that come again byte for byte: they are counted, and not written again.
//!
//! So many a minute are counted as they come. Further ones are added up in memory and counted together a few seconds later, so
//! that a flood of them costs the journal next to nothing.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{Accepted, Intake, IntakeError, job_answer};
use crate::domain::{JobId, Target, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::ApplyOutcome;

/// How often callbacks of jobs were repeated and not counted yet.
#[derive(Debug, Default)]
pub(super) struct Uncounted {
    times: Mutex<HashMap<JobId, u32>>,
    /// Told of every addition.
    grew: Notify,
}

impl Uncounted {
    /// Of more, the repeats are counted as they come. An id has at most 512 bytes.
    const MAX_JOBS: usize = 10_000;

    /// False: there is no room for a further job.
    fn add(&self, job: &JobId, times: u32) -> bool {
        let mut counts = self.times.lock();
        let has_room = counts.len() < Self::MAX_JOBS;
        match counts.get_mut(job) {
            Some(count) => *count = count.saturating_add(times),
            None if has_room => {
                counts.insert(job.clone(), times);
            }
            None => return false,
        }
        self.grew.notify_one();
        true
    }

    fn jobs(&self) -> Vec<JobId> {
        self.times.lock().keys().cloned().collect()
    }

    fn take(&self, job: &JobId) -> Option<u32> {
        self.times.lock().remove(job)
    }
}

impl Intake {
    /// Counts a body that is in the journal already. `None`: its job is not known any more.
    pub(super) async fn repeat(&self, target: &Target, job: JobId) -> Result<Option<Accepted>, IntakeError> {
        if !self.inner.rate_limit.admit_repeat(target, &job) {
            let Some(known) = self.state().job_header(&job)? else { return Ok(None) };
            if self.inner.uncounted.add(&known.id, 1) {
                return Ok(Some(Accepted::Job {
                    is_final: known.outcome.is_some() || !known.unconfirmed.is_empty(),
                    job_id: known.id,
                    reply_ref: known.reply_ref,
                    state: known.state.as_str(),
                    over_budget: None,
                }));
            }
        }
        // Its bytes are on disk: the count alone may be lost with the power.
        let event = Event::Repeated { at: Timestamp::now(), job, times: 1 };
        match self.recorded(self.inner.log.record(event, Durability::Buffered)).await? {
            ApplyOutcome::Job { job, .. } => Ok(Some(job_answer(*job, None))),
            _ => Ok(None),
        }
    }

    /// Counts the repeats that were too many to be counted as they came, until it is dropped.
    pub async fn count_repeats(&self) {
        self.count_repeats_after(Duration::from_secs(5)).await;
    }

    /// The same: those of about this time are counted together.
    async fn count_repeats_after(&self, delay: Duration) {
        loop {
            self.inner.uncounted.grew.notified().await;
            sleep(delay).await;
            self.count_uncounted().await;
        }
    }

    /// Counts what is not counted yet, before the log is closed; what the disk does not take in soon is lost.
    pub async fn count_last_repeats(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let _ = timeout(PATIENCE, self.count_uncounted()).await;
    }

    async fn count_uncounted(&self) {
        for job in self.inner.uncounted.jobs() {
            let Some(times) = self.inner.uncounted.take(&job) else { continue };
            if matches!(self.state().job_header(&job), Ok(None)) {
                continue;
            }
            // However long it takes: given up, it could be recorded all the same, and be counted twice.
            let event = Event::Repeated { at: Timestamp::now(), job: job.clone(), times };
            match self.inner.log.record(event, Durability::Buffered).await {
                Ok(ApplyOutcome::Job { .. } | ApplyOutcome::Deferred) => {}
                // The disk refuses, or the shared log is away: later.
                Ok(_) | Err(_) => {
                    self.inner.uncounted.add(&job, times);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::SecretString;

    use super::*;
    use crate::intake::{Config, QuarantineLimits, ReplyKeys, ReplyUrls};
    use crate::journal::Journal;
    use crate::state::EventLog;

    fn intake_in(dir: &Path) -> Intake {
        let urls = ReplyUrls::new(
            "http://127.0.0.1".parse().unwrap(),
            ReplyKeys::new([&SecretString::from("secret")]).unwrap(),
        );
        let config = Config {
            max_callback_size: 1 << 20,
            body_time: Config::BODY_TIME,
            adopt_unknown_refs: true,
            sidecars: false,
            confirm: false,
            quarantine: QuarantineLimits::default(),
        };
        let journal = Journal::open(&dir.join("journal")).unwrap();
        let log = EventLog::open(journal, &dir.join("state"), Intake::parse_callback).unwrap();
        Intake::new(config, urls, log, &dir.join("spool"))
    }

    #[tokio::test]
    async fn a_flood_of_repeats_is_counted_whole_with_few_bytes() {
        const REPEATS: u32 = 2000;
        let dir = tempfile::tempdir().unwrap();
        let intake = intake_in(dir.path());
        intake.log().recovered().await.unwrap();
        let job: JobId = "user:1-minimax:2-video:3".parse().unwrap();
        let body = format!("{{\"videoId\":\"{job}\",\"status\":3}}");
        for _ in 0..=REPEATS {
            let accepted = intake.accept(Target::Channel, body.clone().into()).await.unwrap();
            assert!(matches!(accepted, Accepted::Job { is_final: true, .. }), "{accepted:?}");
        }
        let callbacks = || intake.log().state().job_header(&job).unwrap().unwrap().callbacks;
        let all = async {
            while callbacks() <= REPEATS {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = intake.count_repeats_after(Duration::from_millis(5)) => unreachable!("it has no end"),
            all = timeout(Duration::from_secs(60), all) => all.expect("some are not counted"),
        }
        assert_eq!(callbacks(), REPEATS + 1);
        assert_eq!(intake.log().state().counters().unwrap().callbacks, u64::from(REPEATS) + 1);
        // A record for each would be 2,000 of 100 bytes.
        let written = intake.log().journal().disk_bytes();
        assert!(written < 100_000, "{written}");
        intake.log().close();
    }

    #[test]
    fn what_there_is_no_room_for_is_not_added() {
        let uncounted = Uncounted::default();
        let job = |number: usize| -> JobId { format!("user:1-minimax:2-video:{number}").parse().unwrap() };
        assert!((0..Uncounted::MAX_JOBS).all(|number| uncounted.add(&job(number), 1)));
        assert!(!uncounted.add(&job(Uncounted::MAX_JOBS), 1));
        assert!(uncounted.add(&job(7), 2));
        assert_eq!((uncounted.take(&job(7)), uncounted.take(&job(7))), (Some(3), None));
        assert!(uncounted.add(&job(Uncounted::MAX_JOBS), 1));
    }
}
