use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::iter;

use super::Gateway;
use super::call::{Call, Created};
use crate::domain::{JobId, RefId};
use crate::egress::StatusCode;
use crate::intake::{Refused, Unknown};
use crate::provider::{Answer, read_all, told_of};

/// Jobs of one list that are looked up at a time.
const AT_ONCE: usize = 16;

impl Gateway {
    /// Takes in what an answer says of jobs, as if it were their callbacks. What cannot be recorded is lost to us and not to
    /// the caller, who gets the answer all the same.
    pub(super) async fn learn(&self, call: Call, status: StatusCode, reference: Option<&RefId>, body: &Bytes) {
        match (call, reference) {
            (Call::Create(created), Some(reference)) => self.learn_created(created, status, reference, body).await,
            (Call::SpeechToken, _) if status.is_success() => self.inner.tokens.learn(body),
            // A failed agent job is answered with the status it failed with.
            (Call::Job | Call::Create(Created::Job), _) => self.learn_jobs(read_all(body), Unknown::Configured).await,
            (Call::List, _) if status.is_success() => {
                let unknown = if self.inner.adopt_listed { Unknown::Adopt } else { Unknown::Skip };
                self.learn_jobs(read_all(body), unknown).await;
            }
            _ => {}
        }
    }

    async fn learn_created(&self, created: Created, status: StatusCode, reference: &RefId, body: &Bytes) {
        let jobs = match created {
            Created::Job => read_all(body),
            // A refusal may tell of the jobs that are in the way.
            Created::Ids | Created::Events if !status.is_success() => Vec::new(),
            Created::Ids | Created::Events => {
                told_of(body).into_iter().map(|told| Answer::naming(&told.job, None)).collect()
            }
        };
        if status.is_client_error() && jobs.is_empty() {
            // No job will ever call back over it.
            if let Err(error) = self.intake().remove_ref(reference).await {
                tracing::warn!(%reference, %error, "a ref that no job was made for stays");
            }
        }
        for job in jobs {
            self.learn_own(reference, job).await;
        }
    }

    /// A job that was made over the given ref.
    pub(super) async fn learn_own(&self, reference: &RefId, job: Answer) {
        let id = job.observation.job.clone();
        if let Err(error) = self.intake().job_created(reference.clone(), job.body, job.observation).await {
            unrecorded(&id, &error);
        }
    }

    async fn learn_jobs(&self, jobs: Vec<Answer>, unknown: Unknown) {
        iter(jobs)
            .for_each_concurrent(AT_ONCE, |job| async move {
                let id = job.observation.job.clone();
                if let Err(error) = self.intake().observe(job.body, job.observation, unknown).await {
                    unrecorded(&id, &error);
                }
            })
            .await;
    }
}

fn unrecorded(job: &JobId, error: &Refused) {
    tracing::warn!(%job, %error, "what the provider says of it cannot be recorded");
}
