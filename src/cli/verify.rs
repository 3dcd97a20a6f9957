use std::io::{self, IsTerminal};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::output::complain;
use super::{Failure, client, say};
use crate::app;
use crate::config::{Config, DataDir, DataDirError};
use crate::fetch::Fetcher;
use crate::intake::Intake;
use crate::provider;
use crate::repair::{Options, Progress, Report, Verifier, open_ledger};
use crate::telemetry::escaped;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);
/// How often a line says how far it is where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Reads the bucket back: by the running service, else in its stead. Prints each finding, then the report.
pub(super) async fn run(config: &Config, options: Options) -> Result<(), Failure> {
    match DataDir::lock(&config.data.dir) {
        Ok(held) => here(config, &held, options).await,
        Err(DataDirError::Held(_)) => in_service(config, options).await,
        Err(error) => Err(Failure::usage(config.error("data.dir", error))),
    }
}

async fn here(config: &Config, held: &DataDir, options: Options) -> Result<(), Failure> {
    let bucket = config.open_bucket().map_err(Failure::usage)?;
    let fetcher = Fetcher::new(&config.fetch()).map_err(Failure::usage)?;
    let opened = tokio::task::block_in_place(|| open_ledger(held.path(), &bucket, Intake::interpret));
    let ledger = opened.map_err(Failure::found)?;
    ledger.recovered().await;
    let verifier = Verifier::new(ledger.clone(), bucket, fetcher, provider::redacted);
    let shown = Shown::new();
    let tell = shown.clone();
    let progress = Progress::new(0, move |finding| tell.line(&finding.to_string()));
    let ended = {
        let (mut run, mut interrupted) = (pin!(verifier.run(options, &progress)), pin!(app::interrupted()));
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                ended = &mut run => break ended.map_err(|error| error.to_string()),
                () = &mut interrupted => break Err("stopped before the end".to_owned()),
                _ = tick.tick() => shown.at(progress.position()),
            }
        }
    };
    tokio::task::block_in_place(|| ledger.close());
    shown.end();
    conclude(&progress.report(), ended.err())
}

async fn in_service(config: &Config, options: Options) -> Result<(), Failure> {
    let credentials = config.credentials().map_err(Failure::usage)?;
    let body = json!({"sample": options.sample.to_string(), "repair": options.repair});
    let mut task = client::post(config, &credentials, "/api/v1/tasks/verify", &body).await?;
    let id = task["taskId"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/tasks/{id}");
    let (shown, mut told) = (Shown::new(), 0);
    let mut interrupted = pin!(app::interrupted());
    let error = loop {
        let report = report(&task)?;
        for finding in report.findings.iter().skip(told) {
            shown.line(&finding.to_string());
        }
        told = report.findings.len();
        let number = |name: &str| task["progress"][name].as_u64().unwrap_or_default();
        shown.at((number("done"), number("total")));
        if task["state"] != "running" {
            break task["error"].as_str().map(str::to_owned);
        }
        tokio::select! {
            () = &mut interrupted => break Some(format!("not waited for: {id} goes on in the service")),
            () = tokio::time::sleep(TICK) => {}
        }
        task = client::get(config, &credentials, &path).await?;
    };
    let report = report(&task)?;
    let more = (report.damage + report.unreadable).saturating_sub(told as u64);
    if more > 0 {
        shown.line(&format!("and {more} more, which the service has counted and not kept"));
    }
    shown.end();
    conclude(&report, error)
}

fn report(task: &Value) -> Result<Report, Failure> {
    serde_json::from_value(task["report"].clone()).map_err(|_| Failure::found("the service's answer is not a task"))
}

fn conclude(report: &Report, error: Option<String>) -> Result<(), Failure> {
    say(report.to_string())?;
    match error {
        Some(error) => Err(Failure::found(error)),
        None if report.damage > 0 => Err(Failure::found("damage was found")),
        None if report.unreadable > 0 => Err(Failure::found("not everything could be read")),
        None => Ok(()),
    }
}

/// How far it is: a bar on a terminal, a line now and then elsewhere. Findings are results and go to stdout.
#[derive(Clone)]
struct Shown {
    bar: ProgressBar,
    last_line: Arc<Mutex<Instant>>,
    terminal: bool,
}

impl Shown {
    fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} looked at, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, last_line: Arc::new(Mutex::new(Instant::now())), terminal }
    }

    fn at(&self, (done, total): (u64, u64)) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.terminal && last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            complain(&format!("{done}/{total} looked at"));
        }
    }

    fn line(&self, text: &str) {
        // Not being able to print is said with the report.
        let _ = self.bar.suspend(|| say(format!("{}\n", escaped(text))));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
