use std::pin::pin;

use serde_json::json;

use super::progress::{ProgressDisplay, TICK};
use super::{Failure, print, task};
use crate::app;
use crate::config::{Config, DataDir, DataDirError};
use crate::fetch::Fetcher;
use crate::intake::Intake;
use crate::provider;
use crate::repair::{Options, Progress, Report, Verifier, open_event_log};

/// What is counted.
const LOOKED_AT: &str = "looked at";

/// Reads the bucket back: by the running service, else in its stead. Prints each finding, then the report.
pub(super) async fn run(config: &Config, options: Options) -> Result<(), Failure> {
    match DataDir::lock(&config.data.dir) {
        Ok(held) => {
            super::cluster::expect_alone(config)?;
            run_locally(config, &held, options).await
        }
        Err(DataDirError::Held(_)) => in_service(config, options).await,
        Err(error) => Err(Failure::usage(config.error("data.dir", error))),
    }
}

async fn run_locally(config: &Config, held: &DataDir, options: Options) -> Result<(), Failure> {
    let bucket = config.open_bucket().map_err(Failure::usage)?;
    let keys = config.journal_keys().map_err(Failure::usage)?;
    let fetcher = Fetcher::new(&config.fetch()).map_err(Failure::usage)?;
    let opened =
        tokio::task::block_in_place(|| open_event_log(held.path(), &bucket, keys, None, Intake::parse_callback));
    let log = opened.map_err(Failure::runtime)?;
    log.recovered().await;
    let verifier = Verifier::new(log.clone(), bucket, fetcher, provider::redacted);
    let shown = ProgressDisplay::new();
    let tell = shown.clone();
    let progress = Progress::new(0, move |finding| tell.line(&finding.to_string()));
    let ended = {
        let (mut run, mut shutdown_signal) = (pin!(verifier.run(options, &progress)), pin!(app::shutdown_signal()));
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                ended = &mut run => break ended.map_err(|error| error.to_string()),
                () = &mut shutdown_signal => break Err("stopped before the end".to_owned()),
                _ = tick.tick() => shown.at(progress.position(), LOOKED_AT),
            }
        }
    };
    tokio::task::block_in_place(|| log.close());
    shown.end();
    conclude(&progress.report(), ended.err())
}

async fn in_service(config: &Config, options: Options) -> Result<(), Failure> {
    let body = json!({"sample": options.sample.to_string(), "repair": options.repair});
    let (shown, mut told) = (ProgressDisplay::new(), 0);
    let (task, error) = task::watch(config, "verify", &body, &shown, |task| {
        let report: Report = task::report(task)?;
        for finding in report.findings.iter().skip(told) {
            shown.line(&finding.to_string());
        }
        told = report.findings.len();
        Ok(LOOKED_AT.to_owned())
    })
    .await?;
    let report: Report = task::report(&task)?;
    let more = (report.damage + report.unreadable).saturating_sub(told as u64);
    if more > 0 {
        shown.line(&format!("and {more} more, which the service has counted and not kept"));
    }
    shown.end();
    conclude(&report, error)
}

fn conclude(report: &Report, error: Option<String>) -> Result<(), Failure> {
    print(report.to_string())?;
    match error {
        Some(error) => Err(Failure::runtime(error)),
        None if report.damage > 0 => Err(Failure::runtime("damage was found")),
        None if report.unreadable > 0 => Err(Failure::runtime("not everything could be read")),
        None => Ok(()),
    }
}
