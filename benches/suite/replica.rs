//! A new replica: how long until it has what the others have, with a snapshot and without.

use std::path::Path;
use std::time::Instant;

use crate::Plan;
use crate::cluster::{NOTIFY_SECRET, folder};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Unit};
use crate::history::History;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::servers::Garage;
use crate::vault::{Settings, Vault};

/// Measures the start of new replicas of a cluster with so many archived jobs. Nothing where PostgreSQL or garage is missing.
pub(crate) async fn measure(plan: &Plan, jobs: Option<u64>) -> Result<Vec<Figure>, Failure> {
    let jobs = jobs.unwrap_or_else(|| plan.pick(1_000, 100_000));
    let dir = plan.fresh("replica")?;
    let Some(garage) = Garage::start(&folder(&dir, "garage")?, false)? else { return Ok(Vec::new()) };
    let Some(postgres) = Postgres::start(&folder(&dir, "postgres")?)? else { return Ok(Vec::new()) };
    let first = settings(&dir, "first", &garage, None)?;
    // The first start marks the bucket, which is later not to be taken for one that lost its objects.
    first.serve().await?.process.stop()?;
    History { jobs, progress: 0 }.write(&first.data())?;
    let first = settings(&dir, "first", &garage, Some(&postgres))?;
    eprintln!("import …");
    run(&first, &dir, "import")?;
    let mut folded = Vec::new();
    // One at a time, and each stopped when it has all: a minute later it would make a snapshot by itself.
    for settings in [&first, &settings(&dir, "second", &garage, Some(&postgres))?] {
        eprintln!("by folding …");
        folded.push(start(settings, jobs).await?.0);
    }
    eprintln!("a snapshot …");
    let made = run(&first, &dir, "snapshot")?;
    let mut begun = Vec::new();
    let mut memory = Vec::new();
    for name in ["third", "fourth", "fifth"] {
        eprintln!("with the snapshot …");
        let (took, peak) = start(&settings(&dir, name, &garage, Some(&postgres))?, jobs).await?;
        begun.push(took);
        memory.push(peak);
    }
    let figure = |what: String, unit, ours: Vec<f64>, peer: Option<Vec<f64>>, limit| Figure {
        what,
        unit,
        ours: ours.into_iter().collect(),
        peer: peer.map(|peer| ("by folding the log", peer.into_iter().collect())),
        limit,
    };
    let mebibytes = memory.into_iter().map(|bytes| bytes as f64 / f64::from(1 << 20)).collect();
    Ok(vec![
        figure(
            format!("a new replica has all of {jobs} jobs, with a snapshot"),
            Unit::Seconds,
            begun,
            Some(folded),
            Limit::AtMost(60.0),
        ),
        figure("most memory meanwhile".to_owned(), Unit::Mebibytes, mebibytes, None, Limit::AtMost(300.0)),
        figure(format!("making a snapshot of {jobs} jobs, the first"), Unit::Seconds, vec![made], None, Limit::None),
    ])
}

fn settings(dir: &Path, name: &str, garage: &Garage, postgres: Option<&Postgres>) -> Result<Settings, Failure> {
    let mut settings = Settings::new(&folder(dir, name)?)?;
    garage.configure(&mut settings);
    settings.set("NOTIFY__SECRET", NOTIFY_SECRET);
    if let Some(postgres) = postgres {
        settings.set("CLUSTER__POSTGRES", postgres.url());
    }
    Ok(settings)
}

/// How many seconds a command about the cluster takes.
fn run(settings: &Settings, dir: &Path, command: &str) -> Result<f64, Failure> {
    let began = Instant::now();
    let used = Process::start(settings.command()?.args(["cluster", command]), dir)?.ended(began)?;
    Ok(used.wall.as_secs_f64())
}

/// Starts a replica, waits until it has all jobs, and stops it. Returns the seconds, and the most bytes of memory.
async fn start(settings: &Settings, jobs: u64) -> Result<(f64, u64), Failure> {
    let began = Instant::now();
    let vault = settings.serve().await?;
    has_all(&vault, jobs).await?;
    let took = began.elapsed().as_secs_f64();
    let memory = vault.process.peak_memory()?;
    vault.process.stop()?;
    Ok((took, memory))
}

async fn has_all(vault: &Vault, jobs: u64) -> Result<(), Failure> {
    // While it folds much at once, it answers 503.
    let archived = async |vault: &Vault| Some(vault.get("/api/v1/stats").await.ok()?["jobs"]["archived"].clone());
    vault
        .until("it has all jobs", async |vault| Ok(archived(vault).await.is_some_and(|archived| archived == jobs)))
        .await
}
