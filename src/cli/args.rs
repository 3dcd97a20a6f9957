use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{HttpUrl, Setting};
use crate::domain::{JobId, ReplyRef, Target, parse_duration};
use crate::reconcile::{Backfill, ListBackfill};
use crate::repair::Sample;
use crate::simulator::Faults;
use crate::telemetry::Format;

const EXAMPLES: &str = "\
Examples:
  replyvault demo                          see it work, with nothing to set up
  replyvault serve                         listen on 127.0.0.1:8080, keep media in data/bucket
  replyvault reply-url                     print the replyUrl to send along with a job
  replyvault refs add --reply-ref boat-17  make a replyUrl for one reference only
  REPLYVAULT_STORAGE__URL=s3://media/ai replyvault config check

Settings come from config.toml; environment variables override them (REPLYVAULT_SERVER__LISTEN is server.listen).
REPLYVAULT_LOG sets the log level (info, replyvault=debug).
Exit codes: 0 done; 1 it ran and found something wrong; 2 bad usage or configuration.";

/// The replyUrl target for AI media: callbacks in, watermark-free files in your bucket.
#[derive(Debug, Parser)]
#[command(name = "replyvault", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// Configuration file [default: config.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Format of log lines
    #[arg(long, global = true, value_enum, value_name = "human|json", default_value_t, hide_possible_values = true)]
    pub(super) log_format: Format,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the service; logs go to stderr
    #[command(
        after_help = "Examples:\n  replyvault serve\n  REPLYVAULT_SERVER__LISTEN=0.0.0.0:8080 replyvault serve --log-format json"
    )]
    Serve,
    /// Run everything on this machine against a simulated provider, all of its APIs, and check what was archived
    #[command(
        after_help = "Reads no configuration.\n\nExamples:\n  replyvault demo\n  replyvault demo --jobs 200 --keep /tmp/demo --serve"
    )]
    Demo {
        /// Number of calls that create jobs; a call for images creates several
        #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        jobs: u32,
        /// Keep data and media in this directory [default: a temporary one, removed at the end]
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// Keep the service running afterwards, to look around
        #[arg(long)]
        serve: bool,
    },
    /// Run the provider simulator alone, to try an integration without credits
    #[command(after_help = format!(
        "Examples:\n  replyvault simulate\n  replyvault simulate --faults drop=0.1,cdn-500=0.2,expire=10s --seed 7\n\n\
         --faults takes a list of NAME=VALUE, as in the example.\n{}",
        Faults::TABLE
    ))]
    Simulate {
        /// Address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
        /// What goes wrong, and how often [default: nothing]
        #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true)]
        faults: Faults,
        /// Seed: with the same seed, the same things go wrong [default: random]
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
    /// Print a signed replyUrl for this configuration
    #[command(
        after_help = "Treat the URL as a secret: whoever has it can send callbacks.\n\nExample:\n  replyvault reply-url --config /etc/replyvault/config.toml"
    )]
    ReplyUrl {
        /// Channel: useapi, for all of the provider's APIs, or minimax, which takes the same
        #[arg(long, value_name = "NAME", default_value = Target::USEAPI)]
        channel: String,
    },
    /// Make our replyUrl the default of the provider's account
    #[command(
        after_help = "Needs provider.api_token. Shows what stood there before and asks; then every call that gives no replyUrl of its own\ncalls back here. Which APIs use the default, it says.\n\nExamples:\n  replyvault connect\n  replyvault connect --show\n  replyvault connect --clear --yes"
    )]
    Connect {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only say what the default is
        #[arg(long, conflicts_with_all = ["clear", "yes"])]
        show: bool,
        /// Have no default
        #[arg(long)]
        clear: bool,
    },
    /// Manage refs
    #[command(subcommand, arg_required_else_help = true)]
    Refs(RefsCommand),
    /// Read the bucket back and check every manifest, object and index entry
    #[command(
        after_help = "Prints a line for each finding. Exits with 1 if anything is damaged, also when it was repaired.\nIf the service is running, it does the work. Nothing is ever deleted. A run that is stopped starts over.\n\nExamples:\n  replyvault verify\n  replyvault verify --sample 5% --repair"
    )]
    Verify {
        /// Share of the objects whose bytes are hashed; each run takes others
        #[arg(long, value_name = "SHARE", default_value_t = Sample::ALL)]
        sample: Sample,
        /// Download missing or damaged objects again, and write manifests again
        #[arg(long)]
        repair: bool,
    },
    /// Rebuild the state from journal and bucket; the service must be stopped
    #[command(after_help = "Example:\n  replyvault rebuild --config /etc/replyvault/config.toml")]
    Rebuild,
    /// Back up the data directory; the service may be running
    #[command(
        after_help = "Copies the journal and secrets.toml, and reads the copy back. The state is left out: it is rebuilt from the journal.\nMedia stay in the bucket. Keep the copy as safe as secrets.toml itself.\n\nTo restore: stop the service, remove journal and state from the data directory, copy DIR/. into it, start.\n\nExample:\n  replyvault backup /backup/replyvault-$(date +%F)"
    )]
    Backup {
        /// Directory to copy to: empty, or not existing yet
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Ask the provider about every job without a final callback
    #[command(
        after_help = "Needs provider.api_token. If the service is running, it does the work; it also does so by itself, spread over time.\nOtherwise the command archives what the provider reports, and then ends.\nUnknown jobs are found as long as they run.\n\nExample:\n  replyvault reconcile"
    )]
    Reconcile,
    /// Import finished jobs from the provider's lists
    #[command(
        after_help = "Needs provider.api_token. If the service is running, it does the work; otherwise the command archives what it\nimports, and then ends. It can be stopped and run again.\n\nThe import stops at the first page on which everything is known. The provider does not document the order of its\nlists, so only --all is sure to find everything.\n\nOther APIs have lists, too: tasks of kling and runwayml; videos, images, music and speech of pixverse; songs and\ninstrumentals of tempolor; swaps of faceswap. Agent jobs, and those of the remaining APIs, are in no list: import them, or any\nother job, by id with `jobs`.\n\nExamples:\n  replyvault backfill\n  replyvault backfill videos\n  replyvault backfill --provider kling --all\n  replyvault backfill images --all --limit 500\n  replyvault backfill jobs p551200-u1-a2-bot:minimax"
    )]
    Backfill {
        /// The list to import: videos, images or speech, or another one with --provider; or `jobs` followed by ids [default:
        /// every list of the API]
        #[arg(value_name = "LIST")]
        list: Option<String>,
        /// The provider's job ids, with `jobs` only
        #[arg(value_name = "JOB", conflicts_with_all = ["limit", "all"], value_parser = JobId::from_str)]
        ids: Vec<JobId>,
        /// The API whose lists to import, as in jobs' provider
        #[arg(long, value_name = "NAME", default_value = JobId::FIRST_API, conflicts_with = "ids")]
        provider: String,
        /// Import at most N jobs, from the far end of the list
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Read the whole list
        #[arg(long)]
        all: bool,
    },
    /// Work with the endpoints that receive events
    #[command(subcommand, arg_required_else_help = true)]
    Notify(NotifyCommand),
    /// Wait until a job, or every job of a ref, has ended; exit with 1 if one has no media
    #[command(
        after_help = "Asks the running service. When the exit code is 1, stderr says why.\n\nWhat is not known ends it at once with 1. With --timeout it waits for that, too: a reference that nobody registered is\nknown from its first callback on.\n\nExamples:\n  replyvault wait boat-17 --timeout 20m\n  replyvault wait user:1-minimax:2-video:3"
    )]
    Wait {
        /// A job's id, or a ref's id or replyRef
        #[arg(value_name = "REF|JOB")]
        what: String,
        /// Give up after this time, with exit code 1 [default: never]
        #[arg(long, value_name = "D", value_parser = parse_duration)]
        timeout: Option<Duration>,
    },
    /// Wait, download the files through the running service, and check their hashes
    #[command(
        after_help = "Prints the path of each file. The files of several jobs go into a folder for each.\n\nWhat is not known ends it at once with 1; `wait` with --timeout waits for that, too.\n\nExamples:\n  replyvault get boat-17 -o media\n  replyvault wait boat-17 --timeout 20m && replyvault get boat-17 -o media"
    )]
    Get {
        /// A job's id, or a ref's id or replyRef
        #[arg(value_name = "REF|JOB")]
        what: String,
        /// Where the files go
        #[arg(short, long, value_name = "DIR", default_value = ".")]
        output: PathBuf,
    },
    /// Check or show the settings
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Look after replicas that share one log in PostgreSQL
    #[command(subcommand, arg_required_else_help = true)]
    Cluster(ClusterCommand),
    /// Exit with 0 if the running service is ready, for a container's health check
    #[command(after_help = "Examples:\n  replyvault health\n  replyvault health --url http://vault.internal:8080")]
    Health {
        /// Base URL of the service [default: server.listen on this machine]
        #[arg(long, value_name = "URL", value_parser = HttpUrl::read)]
        url: Option<HttpUrl>,
    },
}

impl Command {
    /// True for commands that run until they are stopped and report through their log. The demo prints its progress.
    pub(super) fn is_long_running(&self) -> bool {
        matches!(self, Self::Serve | Self::Simulate { .. })
    }
}

/// Combines the arguments of `backfill`.
///
/// # Errors
/// One line, when the arguments contradict each other.
pub(super) fn backfill(
    list: Option<&str>,
    ids: Vec<JobId>,
    provider: &str,
    limit: Option<u32>,
    all: bool,
) -> Result<Backfill, String> {
    match list {
        Some(Backfill::BY_ID) if (1..=Backfill::MAX_IDS).contains(&ids.len()) => return Ok(Backfill::Jobs(ids)),
        Some(Backfill::BY_ID) => return Err(format!("JOB: expected 1 to {} ids", Backfill::MAX_IDS)),
        _ if !ids.is_empty() => return Err("JOB: expected only behind `jobs`".to_owned()),
        _ => {}
    }
    let lists = Backfill::lists(Some(provider), list)?;
    Ok(Backfill::List(ListBackfill { lists, limit: limit.map(u64::from), all }))
}

#[derive(Debug, Subcommand)]
pub(super) enum NotifyCommand {
    /// Send a test event and say what came back
    #[command(
        after_help = "Sends to every endpoint of the configuration unless one is named. Needs no running service.\n\nExample:\n  replyvault notify test --endpoint pipeline"
    )]
    Test {
        /// The endpoint's name [default: all]
        #[arg(long, value_name = "NAME")]
        endpoint: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum RefsCommand {
    /// Register a ref and print it as JSON, with its replyUrl
    #[command(
        after_help = "Registering the same reference again, with the same content, prints the same ref.\nWorks with and without a running service.\n\nExample:\n  replyvault refs add --reply-ref boat-17 --label team=films --label scene=3"
    )]
    Add(NewRefArguments),
}

#[derive(Debug, Args)]
pub(super) struct NewRefArguments {
    /// Your own reference, 1 to 1,024 characters
    #[arg(long, value_name = "R", value_parser = ReplyRef::new)]
    pub(super) reply_ref: ReplyRef,
    /// URL to notify of changes to its jobs
    #[arg(long, value_name = "U", value_parser = notify_url)]
    pub(super) notify_url: Option<String>,
    /// Label; can be given several times
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub(super) labels: Vec<(String, String)>,
}

/// The URL as it is written: a ref is registered again only with the same text.
fn notify_url(text: &str) -> Result<String, String> {
    HttpUrl::read(text).map(|_| text.to_owned())
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or("expected key=value")
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Print the replicas: members, shards, how far behind, what waits; exit with 1 if some work is no replica's
    #[command(after_help = "Asks PostgreSQL, not the service.\n\nExample:\n  replyvault cluster status")]
    Status,
    /// Move the journal of a data directory that was used alone into an empty database; the service must be stopped
    #[command(
        after_help = "Run it once, on the machine with the data directory; that machine becomes the first replica. A run that was cut off\ncan be run again. Give the other replicas the journal_keys of its secrets.toml, so that they can read what it archived.\n\nExample:\n  replyvault cluster import"
    )]
    Import,
    /// Make this replica's data directory one that is used alone; all replicas must be stopped
    #[command(
        after_help = "Remove cluster.postgres from the configuration afterwards, and start the service on this machine only.\n\nExample:\n  replyvault cluster export"
    )]
    Export,
    /// Print the position and a hash of this replica's view; the service must be stopped
    #[command(
        after_help = "At the same position, all replicas print the same.\n\nExample:\n  replyvault cluster digest"
    )]
    Digest,
    /// Put a snapshot of this replica's view into the bucket, so that a new replica starts fast
    #[command(
        after_help = "The service makes snapshots by itself as the log grows. This makes one now, with the service running or stopped.\n\nExample:\n  replyvault cluster snapshot"
    )]
    Snapshot,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check everything that can be checked without starting: settings, directories, credentials
    Check,
    /// Print the effective settings and where each comes from, with secrets masked
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn labels_are_pairs() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a="), Ok(("a".to_owned(), String::new())));
        assert!(label("a").is_err() && label("=b").is_err());
    }
}
