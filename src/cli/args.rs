use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{HttpUrl, Setting};
use crate::domain::{JobId, ReplyRef, Target};
use crate::reconcile::{Backfill, JobList, ListBackfill};
use crate::repair::Sample;
use crate::simulator::Faults;
use crate::telemetry::Format;

const EXAMPLES: &str = "\
Examples:
  replyvault demo                          see it work, with nothing to set up
  replyvault serve                         listen on 127.0.0.1:8080, keep media in data/bucket
  replyvault reply-url                     the replyUrl to send along with a job
  replyvault refs add --reply-ref boat-17  a replyUrl for one reference only
  REPLYVAULT_STORAGE__URL=s3://media/ai replyvault config check

Settings come from config.toml, then from the environment (REPLYVAULT_SERVER__LISTEN is server.listen).
REPLYVAULT_LOG says what is logged (info, replyvault=debug). Exit codes: 0 done, 1 it ran and found something
wrong, 2 bad usage or configuration.";

/// The replyUrl target that keeps AI media: callbacks in, watermark-free files in your bucket.
#[derive(Debug, Parser)]
#[command(name = "replyvault", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// The configuration file [default: config.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// What log lines look like
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
    /// Run the whole of it on this machine against a simulated provider, and check what was archived
    #[command(
        after_help = "Reads no configuration.\n\nExamples:\n  replyvault demo\n  replyvault demo --jobs 200 --keep /tmp/demo --serve"
    )]
    Demo {
        /// How many jobs to run
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        jobs: u32,
        /// Keep what is made, in this directory [default: a temporary one]
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// Go on serving when done, to look around
        #[arg(long)]
        serve: bool,
    },
    /// Run only the provider simulator, to try an integration without credits
    #[command(after_help = format!(
        "Examples:\n  replyvault simulate\n  replyvault simulate --faults drop=0.1,cdn-500=0.2,expire=10s --seed 7\n\n\
         Faults are a list as in the example.\n{}",
        Faults::TABLE
    ))]
    Simulate {
        /// Where to listen
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
        /// What goes wrong, and how often
        #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true)]
        faults: Faults,
        /// Decides what goes wrong where [default: random]
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
    /// Print a signed replyUrl for this configuration
    #[command(
        after_help = "Whoever has the URL can make callbacks: treat it as a secret.\n\nExample:\n  replyvault reply-url --config /etc/replyvault/config.toml"
    )]
    ReplyUrl {
        /// The provider's channel
        #[arg(long, value_name = "NAME", default_value = Target::CHANNEL)]
        channel: String,
    },
    /// Work with refs
    #[command(subcommand, arg_required_else_help = true)]
    Refs(RefsCommand),
    /// Read the bucket back: every manifest, object and index entry; exit with 1 if anything is wrong
    #[command(
        after_help = "Asks the running service for it where there is one. What was damaged and is repaired counts as found.\nNothing is ever deleted; a run that is stopped starts over.\n\nExamples:\n  replyvault verify\n  replyvault verify --sample 5% --repair"
    )]
    Verify {
        /// Of how many objects the bytes are hashed; each run takes others
        #[arg(long, value_name = "SHARE", default_value_t = Sample::ALL)]
        sample: Sample,
        /// Store again, from its source, what is missing or wrong, and write manifests again
        #[arg(long)]
        repair: bool,
    },
    /// Make the state anew from the journal; the service must be stopped
    #[command(after_help = "Example:\n  replyvault rebuild --config /etc/replyvault/config.toml")]
    Rebuild,
    /// Copy the data directory, so that it can be put back; the service may be running
    #[command(
        after_help = "Copies the journal and secrets.toml, reads them back, and leaves out the state, which is made anew from them.\nMedia stay where they are, in the bucket. Keep the copy as safe as secrets.toml itself.\n\nTo put it back: stop the service, remove journal and state from the data directory, copy DIR/. into it, start.\n\nExample:\n  replyvault backup /backup/replyvault-$(date +%F)"
    )]
    Backup {
        /// Where to copy it: a directory that is empty or not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Ask the provider about every job whose end it has not told
    #[command(
        after_help = "Needs provider.api_token. Asks the running service for it where there is one, which does the same by itself,\nspread over time; without one, what the provider tells of is archived before the command ends.\nJobs that nobody has heard of are found where they still run.\n\nExample:\n  replyvault reconcile"
    )]
    Reconcile,
    /// Import finished jobs from the provider's lists
    #[command(
        after_help = "Needs provider.api_token. Asks the running service for it where there is one; without one, what is imported\nis archived before the command ends. It can be stopped and run again. Where a whole page of the list is\nknown, it takes the rest for known too, unless --all is given. In what order a list is the provider does\nnot say: --all finds everything.\n\nSongs, speech and agent jobs are in no such list; `jobs` imports them, and any other, by id.\n\nExamples:\n  replyvault backfill videos\n  replyvault backfill images --all --limit 500\n  replyvault backfill jobs p551200-u1-a2-bot:minimax"
    )]
    Backfill {
        /// The provider's list, or the jobs whose ids follow
        #[arg(value_enum)]
        list: ListArgument,
        /// With `jobs`: the provider's ids of the jobs
        #[arg(value_name = "JOB", conflicts_with_all = ["limit", "all"], value_parser = JobId::from_str)]
        ids: Vec<JobId>,
        /// Import at most so many, those at the far end of the list first
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
        /// Walk the whole list
        #[arg(long)]
        all: bool,
    },
    /// Validate the settings, or print those in force
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Exit with 0 if the running service is ready (for a container's health check)
    #[command(after_help = "Examples:\n  replyvault health\n  replyvault health --url http://vault.internal:8080")]
    Health {
        /// The service's base URL [default: server.listen on this machine]
        #[arg(long, value_name = "URL", value_parser = HttpUrl::read)]
        url: Option<HttpUrl>,
    },
}

impl Command {
    /// Whether what it does shows in its log. The demo prints what it does.
    pub(super) fn is_watched_by_its_log(&self) -> bool {
        matches!(self, Self::Serve | Self::Simulate { .. })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ListArgument {
    Videos,
    Images,
    Jobs,
}

/// What `backfill` is to import.
///
/// # Errors
/// In one line, when the arguments do not go together.
pub(super) fn backfill(list: ListArgument, ids: Vec<JobId>, limit: Option<u32>, all: bool) -> Result<Backfill, String> {
    let list = match list {
        ListArgument::Videos => JobList::Videos,
        ListArgument::Images => JobList::Images,
        ListArgument::Jobs if (1..=Backfill::MAX_IDS).contains(&ids.len()) => return Ok(Backfill::Jobs(ids)),
        ListArgument::Jobs => return Err(format!("JOB: expected 1 to {} ids", Backfill::MAX_IDS)),
    };
    if !ids.is_empty() {
        return Err("JOB: expected only behind `jobs`".to_owned());
    }
    Ok(Backfill::List(ListBackfill { list, limit: limit.map(u64::from), all }))
}

#[derive(Debug, Subcommand)]
pub(super) enum RefsCommand {
    /// Register a ref and print it as JSON, with its replyUrl; the same again prints the same ref
    #[command(
        after_help = "Works with and without a running service.\n\nExample:\n  replyvault refs add --reply-ref boat-17 --label team=films --label scene=3"
    )]
    Add(NewRefArguments),
}

#[derive(Debug, Args)]
pub(super) struct NewRefArguments {
    /// Your own reference, of 1 to 1,024 characters
    #[arg(long, value_name = "R", value_parser = ReplyRef::new)]
    pub(super) reply_ref: ReplyRef,
    /// Where to tell what became of its jobs
    #[arg(long, value_name = "U", value_parser = HttpUrl::read)]
    pub(super) notify_url: Option<HttpUrl>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    pub(super) labels: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or("expected key=value")
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate everything that can be without starting: settings, directories, credentials
    Check,
    /// Print the settings in force and where each comes from, secrets masked
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
