use std::time::Duration;

use tokio::task::JoinHandle;

use super::services::Services;
use super::{Settings, StartError, endless};
use crate::domain::Timestamp;
use crate::intake::Intake;
use crate::notify;
use crate::reconcile::Reconciler;
use crate::state::{Counters, StateError};
use crate::supervisor::Ended;
use crate::worker::Worker;

/// The service without its doors, for a command that does its work while it does not run: what is imported is archived,
/// and nobody is listened to. Whoever starts it holds the data directory.
#[derive(Debug)]
pub struct LocalRunner {
    intake: Intake,
    reconciler: Reconciler,
    worker: Worker,
    worker_task: JoinHandle<()>,
}

impl LocalRunner {
    /// A file that waits longer for its next attempt is left to the service.
    const SOON: Duration = Duration::from_secs(60);

    /// Starts archiving what is due; of what comes of it the next service tells whom the settings name. Needs a tokio runtime
    /// of several threads.
    ///
    /// # Errors
    /// When a part of it cannot be started, or there is no token for the provider.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let Services { intake, reconciler, worker, .. } = Services::open(&settings).await?;
        let reconciler = reconciler.ok_or(StartError::NoProvider)?;
        intake.log().recovered().await;
        notify::correct_routes(&settings.notify, intake.log()).await.map_err(StartError::Routes)?;
        let (running, grace) = (worker.clone(), settings.shutdown_grace);
        let working = endless(async move { running.run(grace).await });
        let worker_task = tokio::spawn(intake.log().supervisor().watch("worker", working));
        Ok(Self { intake, reconciler, worker, worker_task })
    }

    /// Resolves when a part has ended that must run.
    pub async fn ended(&self) -> Ended {
        self.intake.log().supervisor().ended().await
    }

    /// Asks the provider.
    pub fn reconciler(&self) -> &Reconciler {
        &self.reconciler
    }

    /// The numbers of the state.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn counters(&self) -> Result<Counters, StateError> {
        self.intake.log().state().counters()
    }

    /// How many jobs are worked on, or will be within a minute.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn unsettled(&self) -> Result<u64, StateError> {
        self.intake.log().state().due_by(Timestamp::now().after(Self::SOON))
    }

    /// What storage fails with, if it fails: nothing is archived meanwhile.
    pub fn storage_failure(&self) -> Option<String> {
        self.worker.storage_failure()
    }

    /// Lets transfers finish within the grace of the settings, and closes the journal.
    pub async fn stop(self) {
        self.worker.stop();
        if let Err(error) = self.worker_task.await {
            tracing::error!(%error, "the worker ended with a defect");
        }
        let log = self.intake.log().clone();
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
    }
}
