//! Every job whose end is not known, asked about now.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::ask::{AskError, Learned};
use super::progress::{Progress, ReconcileReport, SyncError};
use super::queue::Queue;
use super::turns::Turn;
use super::{Reconciler, schedule};
use crate::domain::{Job, JobState, Timestamp};
use crate::provider::ProviderError;

impl Reconciler {
    /// Asks about every job that runs, waits to be confirmed, or is stuck for want of a result, and about what runs and
    /// nobody has heard of. Can be dropped at any time.
    ///
    /// # Errors
    /// When it ends early.
    pub async fn reconcile(&self, progress: &Progress<ReconcileReport>) -> Result<(), SyncError> {
        self.inner.intake.log().recovered().await;
        let mut now = Timestamp::now();
        let (mut queue, mut wanted) = (Queue::default(), 0);
        for state in schedule::ASKED_ABOUT {
            let mut before = None;
            loop {
                let page = self.page(state, before).await?;
                for record in page.items.iter().filter(|record| schedule::awaits_result(&record.job)) {
                    wanted += usize::from(!queue.has(record.sequence));
                    queue.put(record.sequence, now, Turn::of(&record.job));
                }
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
        }
        // What there is no room for is asked about on schedule.
        let has_all = queue.len() == wanted;
        progress.expect(queue.len() as u64);
        let mut asking = FuturesUnordered::new();
        loop {
            while asking.len() < Self::AT_ONCE
                && let Some(sequence) = queue.take(now)
            {
                asking.push(async move { (sequence, self.ask_now(sequence, progress).await) });
            }
            if let Some((sequence, asked)) = asking.next().await {
                progress.step();
                asked?;
                queue.asked(sequence, None, now);
            } else if let Some(next) = queue.next() {
                // What was put off need not wait for its time.
                now = next;
            } else {
                break;
            }
        }
        let apis = self.apis_in_use().await.map_err(SyncError::from)?;
        let discovered = self.discover(&apis).await.map_err(SyncError::from)?;
        progress.complete(|report| {
            report.discovered = discovered;
            report.complete = has_all;
        });
        Ok(())
    }

    async fn ask_now(&self, sequence: u64, progress: &Progress<ReconcileReport>) -> Result<(), SyncError> {
        let Some(job) = self.wanting_an_end(sequence)? else { return Ok(()) };
        match self.patiently_asked(&job).await {
            Ok(learned) => progress.count(|report| {
                report.asked += 1;
                match learned {
                    Learned::Nothing => {}
                    Learned::Changed => report.changed += 1,
                    Learned::Removed => report.removed += 1,
                    Learned::NoAnswer => report.unanswered += 1,
                }
            }),
            Err(AskError::Provider(ProviderError::OnHold)) => {
                progress.count(|report| report.on_hold += 1);
                return Ok(());
            }
            Err(AskError::Provider(
                ProviderError::Failed(_) | ProviderError::NoAnswer(_) | ProviderError::Forbidden,
            )) => progress.count(|report| {
                report.asked += 1;
                report.unanswered += 1;
            }),
            Err(error) => return Err(error.into()),
        }
        if self.wanting_an_end(sequence)?.is_some_and(|job| job.state == JobState::Running) {
            progress.count(|report| report.running += 1);
        }
        Ok(())
    }

    fn wanting_an_end(&self, sequence: u64) -> Result<Option<Job>, SyncError> {
        let record = self.state().job_at(sequence)?;
        Ok(record.map(|record| record.job).filter(schedule::awaits_result))
    }
}

impl From<AskError> for SyncError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Provider(error) => error.into(),
            AskError::Refused(error) => error.into(),
        }
    }
}
