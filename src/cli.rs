//! The commands: read the arguments and the configuration, start what does the work, say how it went.
//!
//! Results go to stdout, everything else to stderr; a failure is one line there. Exit codes: 0 done, 1 it ran and found
//! something wrong, 2 bad usage or configuration.

mod args;
mod backfill;
mod backup;
mod check;
mod client;
mod cluster;
mod connect;
mod failure;
mod notify;
mod output;
mod pinned;
mod progress;
mod provider_task;
mod rebuild;
mod reconcile;
mod refs;
mod service;
mod simulate;
mod task;
mod verify;
mod wait;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use tokio::runtime::Runtime;

use self::args::{Arguments, Command, ConfigCommand, NotifyCommand, RefsCommand};
use self::failure::Failure;
use self::output::{print, print_error};
use crate::config::Config;
use crate::domain::Target;
use crate::repair::Options;
use crate::telemetry;

/// Runs the command that this process was started for.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let runtime = match guarded(start_runtime) {
        Ok(runtime) => runtime,
        Err(failure) => return exit(Err(failure)),
    };
    // Whoever makes an HTTP client finds it; fails only where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Reads the variable FAILPOINTS where named failure points are compiled in, which is in tests alone.
    let _failure_points = fail::has_failpoints().then(fail::FailScenario::setup);
    let result = guarded(|| runtime.block_on(run(arguments)));
    // A blocked name look-up must not hold the process up; what has to be finished was waited for.
    runtime.shutdown_background();
    exit(result)
}

fn start_runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::runtime(format!("the runtime cannot be started: {error}")))
}

/// What comes of `work`. The runtime panics when the system refuses it a thread.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::runtime("it panicked, as said above: a defect, or a thread that the system refused"))
    })
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    // What takes a moment has nothing to tell but what is wrong.
    let filter = if arguments.command.is_long_running() { "info,actix_server=warn,actix_http=off" } else { "warn" };
    telemetry::init(arguments.log_format, filter).map_err(Failure::usage)?;
    let config = || Config::load(arguments.config.as_deref(), std::env::vars_os()).map_err(Failure::usage);
    match arguments.command {
        Command::Serve => service::serve(config()?).await,
        Command::Demo { jobs, keep, serve } => service::demo(jobs, keep, serve).await,
        Command::Simulate { listen, faults, seed } => simulate::run(listen, faults, seed).await,
        Command::ReplyUrl { channel } => reply_url(&config()?, &channel),
        Command::Connect { yes, show, clear } => {
            let what = match (show, clear) {
                (true, _) => connect::What::Show,
                (false, true) => connect::What::Clear,
                (false, false) => connect::What::Connect,
            };
            connect::run(&config()?, what, yes).await
        }
        Command::Refs(RefsCommand::Add(new)) => refs::add(&config()?, new).await,
        Command::Verify { sample, repair } => verify::run(&config()?, Options { sample, repair }).await,
        Command::Reconcile => reconcile::run(&config()?).await,
        Command::Backfill { list, ids, provider, limit, all } => {
            let what = args::backfill(list.as_deref(), ids, &provider, limit, all).map_err(Failure::usage)?;
            backfill::run(&config()?, what).await
        }
        Command::Rebuild => rebuild::run(&config()?).await,
        Command::Backup { dir } => backup::run(&config()?, dir).await,
        Command::Notify(NotifyCommand::Test { endpoint }) => notify::test(&config()?, endpoint.as_deref()).await,
        Command::Wait { what, timeout } => wait::wait(&config()?, &what, timeout).await,
        Command::Get { what, output } => wait::get(&config()?, &what, &output).await,
        Command::Config(ConfigCommand::Check) => check::run(&config()?),
        Command::Config(ConfigCommand::Show) => print(config()?.show()),
        Command::Cluster(command) => cluster::run(&config()?, command).await,
        Command::Health { url: Some(url) } => client::health(url.as_str()).await,
        Command::Health { url: None } => client::local_health(&config()?).await,
    }
}

fn reply_url(config: &Config, channel: &str) -> Result<(), Failure> {
    let Some(target) = Target::parse(channel).ok().filter(Target::is_channel) else {
        let names = format!("{} or {}", Target::USEAPI, Target::CHANNEL);
        return Err(Failure::usage(format!("--channel: expected {names}, found {channel:?}")));
    };
    let urls = config.reply_urls().map_err(Failure::usage)?;
    print(format!("{}\n", urls.reply_url(&target)))
}

fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print_error(&failure.to_string());
            failure.code()
        }
    }
}

/// Help goes where it was asked for; what is wrong with the arguments becomes one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::usage("").code()
        }
        _ => {
            let text = error.to_string();
            let first = text.split("\n\n").next().unwrap_or_default();
            let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
            exit(Err(Failure::usage(format!("{} (see --help)", line.trim_start_matches("error: ")))))
        }
    }
}
