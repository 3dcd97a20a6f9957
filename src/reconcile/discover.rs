//! Jobs that run and that nobody has heard of.

use super::{AskError, Reconciler};
use crate::intake::Unknown;
use crate::provider::{ProviderError, ToldOf};

/// Asked about each time: far more than the provider lets run at once.
const MOST: usize = 200;

impl Reconciler {
    /// Asks what runs, and about each job of it that is not known. How many were taken in.
    pub(super) async fn discover(&self) -> Result<u64, AskError> {
        let client = &self.inner.client;
        let mut told = or_none(self.patiently(|| client.scheduler()).await)?;
        told.extend(or_none(self.patiently(|| client.agent_jobs()).await)?);
        let (mut asked, mut discovered) = (0, 0);
        for ToldOf { job, .. } in told {
            if asked == MOST {
                break;
            }
            if self.state().job(&job).map_err(crate::intake::Refused::from)?.is_some() {
                continue;
            }
            asked += 1;
            match self.patiently(|| client.job(&job)).await {
                Ok(answer) => {
                    let is_new =
                        self.inner.intake.observe(answer.body, answer.observation, Unknown::Configured).await?;
                    if is_new {
                        tracing::info!(%job, "the provider tells of a job that nobody has heard of");
                    }
                    discovered += u64::from(is_new);
                }
                // Of one it will be asked again next time.
                Err(
                    ProviderError::Gone
                    | ProviderError::OnHold
                    | ProviderError::NotTaken(_)
                    | ProviderError::Unreadable(_)
                    | ProviderError::Failed(_),
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(discovered)
    }
}

/// Some of the provider's users have no such list.
fn or_none(told: Result<Vec<ToldOf>, ProviderError>) -> Result<Vec<ToldOf>, ProviderError> {
    match told {
        Err(ProviderError::Gone | ProviderError::NotTaken(_) | ProviderError::Unreadable(_)) => Ok(Vec::new()),
        told => told,
    }
}
