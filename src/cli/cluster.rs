//! What there is to do about replicas.

use std::path::Path;

use super::args::ClusterCommand;
use super::{Failure, print};
use crate::cluster::{self, Cluster, ClusterError, PostgresUrl};
use crate::config::{Config, DataDir, DataDirError};
use crate::intake::Intake;
use crate::journal::Journal;
use crate::repair::{Pace, Snapshot, Snapshots, open_journal};
use crate::state::{EventLog, State};

/// Runs a command about the cluster.
pub(super) async fn run(config: &Config, command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Status => status(&url(config)?).await,
        ClusterCommand::Import => import(config).await,
        ClusterCommand::Export => export(config).await,
        ClusterCommand::Digest => digest(config),
        ClusterCommand::Snapshot => snapshot(config).await,
    }
}

/// Commands that do a stopped service's work in its stead need a data directory of their own.
pub(super) fn expect_alone(config: &Config) -> Result<(), Failure> {
    if config.cluster.postgres.is_some() {
        let expected = "expected the service to run on this machine: with replicas nothing is done in its stead";
        return Err(Failure::usage(config.error("cluster.postgres", expected)));
    }
    expect_no_replica(config)
}

/// A replica's data directory is not to be written to without the others, nor what a replica has kept to be left behind.
pub(super) fn expect_no_replica(config: &Config) -> Result<(), Failure> {
    if config.cluster.postgres.is_some() {
        return Ok(());
    }
    if cluster::is_replica(&config.data.dir) {
        let expected =
            "this is the data directory of a replica: expected cluster.postgres, or `replyvault cluster export` first";
        return Err(Failure::usage(config.error("data.dir", expected)));
    }
    let kept = kept_callbacks(&config.data.dir)?;
    if kept > 0 {
        let expected = format!(
            "{kept} callbacks wait in its folder `outage` for the log of replicas: expected cluster.postgres until they \
             are in there (docs/cluster.md, \"Back\")"
        );
        return Err(Failure::usage(config.error("data.dir", expected)));
    }
    Ok(())
}

/// How many callbacks are in the data directory `data` that the log may not have.
fn kept_callbacks(data: &Path) -> Result<u64, Failure> {
    EventLog::kept_callbacks(&data.join("outage")).map_err(Failure::runtime)
}

fn url(config: &Config) -> Result<PostgresUrl, Failure> {
    let url = config.postgres().map_err(Failure::usage)?;
    url.ok_or_else(|| Failure::usage(config.error("cluster.postgres", "expected the URL of a PostgreSQL database")))
}

fn held(config: &Config) -> Result<DataDir, Failure> {
    DataDir::lock(&config.data.dir).map_err(|error| match error {
        DataDirError::Held(_) => Failure::usage(format!("{error}: this needs it stopped")),
        error => Failure::usage(config.error("data.dir", error)),
    })
}

fn failed(error: ClusterError) -> Failure {
    Failure::runtime(error)
}

async fn status(url: &PostgresUrl) -> Result<(), Failure> {
    let status = cluster::status(url).await.map_err(failed)?;
    let size = bytesize::ByteSize(status.bytes);
    let mut lines = vec![format!(
        "log: from {} to {}, {size} in PostgreSQL; shards without a replica: {}",
        status.oldest, status.position, status.free_shards
    )];
    for replica in &status.replicas {
        let lag = bytesize::ByteSize(status.position.saturating_sub(replica.applied));
        let is_member = if replica.is_member { "member" } else { "away" };
        lines.push(format!(
            "{} on {} ({}): {is_member}, epoch {}, shards {}, behind by {lag}, callbacks that wait there {}",
            &replica.id[..replica.id.len().min(8)],
            replica.host,
            replica.version,
            replica.epoch,
            replica.shards,
            replica.waiting
        ));
    }
    print(lines.iter().map(|line| format!("{}\n", crate::telemetry::escaped(line))).collect::<String>())?;
    if status.replicas.iter().any(|replica| replica.is_member) && status.free_shards == 0 {
        return Ok(());
    }
    Err(Failure::runtime("some of the work is no replica's right now"))
}

/// Moves the journal of this data directory into an empty log.
async fn import(config: &Config) -> Result<(), Failure> {
    let url = url(config)?;
    let held = held(config)?;
    if cluster::is_replica(held.path()) {
        return Err(Failure::usage(config.error("data.dir", "it is a replica's already")));
    }
    let journal = Journal::open_in(held.path()).map_err(Failure::runtime)?;
    let imported = cluster::import(&url, &journal).await.map_err(|error| match error {
        cluster::ImportError::Damaged(_) | cluster::ImportError::NotEmpty => Failure::usage(error),
        error => Failure::runtime(error),
    })?;
    print(format!(
        "{} entries of {} segments are in the log, up to position {}; this data directory is a replica's from its next \
         start on\n",
        imported.entries, imported.segments, imported.end
    ))
}

/// Makes this replica's data directory one that is used alone.
async fn export(config: &Config) -> Result<(), Failure> {
    let url = url(config)?;
    let held = held(config)?;
    let kept = kept_callbacks(held.path())?;
    if kept > 0 {
        return Err(Failure::usage(format!(
            "{kept} callbacks wait in {} to be put into the log: expected this replica to be started first, until \
             `replyvault cluster status` says that none waits there",
            held.path().join("outage").display()
        )));
    }
    let status = cluster::status(&url).await.map_err(failed)?;
    let alive: Vec<_> =
        status.replicas.iter().filter(|replica| replica.is_member).map(|known| known.host.as_str()).collect();
    if !alive.is_empty() {
        return Err(Failure::usage(format!(
            "replicas still run, on {}: expected all of them to be stopped",
            alive.join(", ")
        )));
    }
    if let Some(replica) = status.replicas.iter().find(|replica| replica.waiting > 0) {
        let (waiting, host) = (replica.waiting, &replica.host);
        return Err(Failure::usage(format!(
            "{waiting} callbacks wait on {host} to be put into the log: expected that replica to be started first"
        )));
    }
    let journal = Journal::open_in(held.path()).map_err(Failure::runtime)?;
    let end = cluster::export(&url, &journal, held.path()).await.map_err(Failure::runtime)?;
    // What a single machine had still to compare, replicas have archived since.
    journal.clear_baseline().map_err(Failure::runtime)?;
    print(format!(
        "this data directory has the whole log, up to position {end}; without cluster.postgres it can be used alone\n\
         PostgreSQL does not know what other replicas have kept since they last reached it: where `replyvault cluster \
         digest` says that callbacks wait, start that replica and this one, and then export again\n"
    ))
}

/// Makes a snapshot from the copy of the log here, also beside the running service.
async fn snapshot(config: &Config) -> Result<(), Failure> {
    let (url, data) = (url(config)?, &config.data.dir);
    if !cluster::is_replica(data) {
        let expected = "expected the data directory of a replica that has been started once";
        return Err(Failure::usage(config.error("data.dir", expected)));
    }
    let cluster = Cluster::new(url, data).map_err(failed)?;
    let keys = config.journal_keys().map_err(Failure::usage)?;
    let bucket = config.open_bucket().map_err(Failure::usage)?;
    let journal = open_journal(data, &bucket, keys.clone()).map_err(Failure::runtime)?;
    let snapshots = Snapshots::new(bucket, keys, cluster);
    let made = snapshots.make(data, &journal, Intake::parse_callback, Pace::Full).await.map_err(Failure::runtime)?;
    print(match made {
        Some(Snapshot { position, bytes }) => {
            format!("a snapshot of {} up to position {position} is in the bucket\n", bytesize::ByteSize(bytes))
        }
        None => "the newest snapshot in the bucket has all that the copy of the log here has\n".to_owned(),
    })
}

/// Says what the view holds, for comparing it with those of other replicas at the same position.
fn digest(config: &Config) -> Result<(), Failure> {
    let held = held(config)?;
    let (position, records, digest) = State::digest(&held.path().join("state")).map_err(Failure::runtime)?;
    let mut text = format!("position {position}, records {records}, sha256 {digest}\n");
    let kept = kept_callbacks(held.path())?;
    if kept > 0 {
        text += &format!("{kept} callbacks wait in {}\n", held.path().join("outage").display());
    }
    print(text)
}
