//! What asks the provider: by the running service, else in its stead. In its stead, too, what the provider tells of is
//! archived before the command ends: links die within hours.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::progress::{ProgressDisplay, TICK};
use super::service::{settings, start_failure};
use super::{Failure, print, task};
use crate::app::{self, LocalRunner};
use crate::config::{Config, DataDir, DataDirError};
use crate::domain::JobState;
use crate::reconcile::{Progress, Reconciler, SyncError};
use crate::state::StateError;

/// Work of a kind that the provider is asked for.
pub(super) trait ProviderTask {
    /// What it comes to.
    type Report: Clone + Default + Display + DeserializeOwned + Send + Sync + 'static;
    /// Its name in the API.
    const KIND: &'static str;

    /// What it is asked for with in the API.
    fn body(&self) -> Value;
    /// Names what is counted.
    fn counted(report: &Self::Report) -> String;
    /// Why a report is no success although the work was done.
    fn failure_reason(report: &Self::Report) -> Option<&'static str>;
    /// Does it.
    fn run(
        &self,
        reconciler: Reconciler,
        progress: Arc<Progress<Self::Report>>,
    ) -> impl Future<Output = Result<(), SyncError>>;
}

/// What became of jobs here.
#[derive(Default)]
struct Archived {
    archived: u64,
    stuck: u64,
    /// Jobs that wait for their next attempt.
    waiting: u64,
}

/// Does the work and prints its report.
pub(super) async fn run<W: ProviderTask>(config: &Config, work: &W) -> Result<(), Failure> {
    if config.provider().is_none() {
        let expected = "expected a token for the provider's API: this command asks it";
        return Err(Failure::usage(config.error("provider.api_token", expected)));
    }
    let shown = ProgressDisplay::new();
    let (report, archived, error) = match DataDir::lock(&config.data.dir) {
        Ok(_held) => {
            super::cluster::expect_alone(config)?;
            run_locally(config, work, &shown).await?
        }
        Err(DataDirError::Held(_)) => {
            let counted = |task: &Value| Ok(W::counted(&task::report(task)?));
            let (task, error) = task::watch(config, W::KIND, &work.body(), &shown, counted).await?;
            (task::report(&task)?, None, error)
        }
        Err(error) => return Err(Failure::usage(config.error("data.dir", error))),
    };
    shown.end();
    print(report.to_string())?;
    let stuck = match archived {
        Some(Archived { archived, stuck, waiting }) => {
            print(format!("archived {archived}, stuck {stuck}, waiting for another attempt {waiting}\n"))?;
            stuck
        }
        None => 0,
    };
    match (error, W::failure_reason(&report)) {
        (Some(error), _) => Err(Failure::runtime(error)),
        (None, Some(failure_reason)) => Err(Failure::runtime(failure_reason)),
        (None, None) if stuck > 0 => Err(Failure::runtime("some files cannot be had")),
        (None, None) => Ok(()),
    }
}

type Done<W> = (<W as ProviderTask>::Report, Option<Archived>, Option<String>);

async fn run_locally<W: ProviderTask>(config: &Config, work: &W, shown: &ProgressDisplay) -> Result<Done<W>, Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let started = LocalRunner::start(settings(config, &credentials)?).await;
    let offline = started.map_err(|error| start_failure(config, error))?;
    let before = offline.counters().map_err(Failure::runtime)?;
    let progress = Arc::new(Progress::default());
    let mut shutdown_signal = pin!(app::shutdown_signal());
    let mut tick = tokio::time::interval(TICK);
    let done = {
        let mut run = pin!(work.run(offline.reconciler().clone(), progress.clone()));
        loop {
            tokio::select! {
                ended = &mut run => break Some(ended.map_err(|error| error.to_string())),
                () = &mut shutdown_signal => break None,
                ended = offline.ended() => return Err(Failure::runtime(ended)),
                _ = tick.tick() => shown.at(progress.position(), &W::counted(&progress.report())),
            }
        }
    };
    // What was imported until something went wrong is to be had as well, unless somebody wants an end.
    let ended = match done {
        None => Err("stopped before the end; run it again to go on".to_owned()),
        Some(ended) => tokio::select! {
            archived = archive(&offline, shown) => archived.map_err(Failure::runtime).map(|()| ended)?,
            ended = offline.ended() => return Err(Failure::runtime(ended)),
            () = &mut shutdown_signal => ended.and(Err("stopped before all was archived; the service goes on with it".to_owned())),
        },
    };
    let after = offline.counters().map_err(Failure::runtime)?;
    offline.stop().await;
    let more = |state: JobState| {
        let count = |jobs: &BTreeMap<JobState, u64>| jobs.get(&state).copied().unwrap_or_default();
        count(&after.jobs).saturating_sub(count(&before.jobs))
    };
    let archived = Archived { archived: more(JobState::Archived), stuck: more(JobState::Stuck), waiting: after.queued };
    Ok((progress.report(), Some(archived), ended.err()))
}

/// Waits until nothing is left to do soon.
async fn archive(offline: &LocalRunner, shown: &ProgressDisplay) -> Result<(), StateError> {
    let mut tick = tokio::time::interval(TICK);
    let mut most = 0;
    shown.restart();
    while let left @ 1.. = offline.unsettled()? {
        most = most.max(left);
        let down = offline.storage_failure().map(|error| format!(" (storage fails: {error})"));
        shown.at((most - left, most), &format!("archived{}", down.unwrap_or_default()));
        tick.tick().await;
    }
    Ok(())
}
