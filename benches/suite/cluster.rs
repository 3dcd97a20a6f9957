//! Callbacks where replicas share a log in PostgreSQL.

use std::net::SocketAddr;
use std::path::Path;

use crate::Plan;
use crate::callback::{Callback, ONE_REF};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::load::{CONNECTIONS, Load, Outcome, Until};
use crate::peers;
use crate::postgres::Postgres;
use crate::servers::Garage;
use crate::vault::{Settings, Vault};

/// Callbacks of a burst.
const BURST: u64 = 50_000;
/// What each replica must have alike.
pub(crate) const NOTIFY_SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// What one burst gave.
#[derive(Default)]
struct Series {
    rates: Samples,
    slowest: Samples,
}

/// Measures the taking of callbacks by one replica and by three. Nothing where PostgreSQL or garage is missing.
pub(crate) async fn measure(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let callbacks = plan.pick(1_000, BURST);
    let (mut one, mut three, mut alone) = (Series::default(), Series::default(), Series::default());
    let (mut bare, mut memory, mut row) = (Samples::default(), Samples::default(), Samples::default());
    for run in 0..plan.pick(1, 3) {
        let dir = plan.fresh(&format!("cluster-{run}"))?;
        let Some(garage) = Garage::start(&folder(&dir, "garage")?, false)? else { return Ok(Vec::new()) };
        for (replicas, series) in [(1, &mut one), (3, &mut three)] {
            let place = folder(&dir, &format!("of-{replicas}"))?;
            let Some(postgres) = Postgres::start(&folder(&place, "postgres")?)? else { return Ok(Vec::new()) };
            let vaults = start(&place, &postgres, &garage, replicas).await?;
            let mut outcome = burst(&vaults, callbacks)?;
            series.rates.push(outcome.rate());
            series.slowest.push(outcome.percentile(0.99));
            if replicas == 3 {
                for vault in &vaults {
                    memory.push(vault.process.peak_memory()? as f64 / f64::from(1 << 20));
                }
                let (bytes, rows) = postgres.log_size().await?;
                row.push(bytes as f64 / rows as f64);
            }
            for vault in vaults {
                vault.process.stop()?;
            }
            if replicas == 1 {
                // As many in a transaction as callers can be waiting for one.
                bare.push(postgres.inserts(callbacks, CONNECTIONS, 700).await?);
            }
            drop(postgres);
        }
        let vault = Settings::new(&folder(&dir, "alone")?)?.serve().await?;
        let mut outcome = burst(std::slice::from_ref(&vault), callbacks)?;
        alone.rates.push(outcome.rate());
        alone.slowest.push(outcome.percentile(0.99));
        vault.process.stop()?;
    }
    let mut figures = figures(callbacks, &one, &three, &alone, &bare);
    let figure = |what: &str, unit, ours| Figure { what: what.to_owned(), unit, ours, peer: None, limit: Limit::None };
    figures.push(figure("most memory of one of three replicas", Unit::Mebibytes, memory));
    figures.push(figure("a callback in PostgreSQL's table, its index included", Unit::Bytes, row));
    figures.extend(instead(plan, callbacks, &three.rates)?);
    Ok(figures)
}

fn figures(callbacks: u64, one: &Series, three: &Series, alone: &Series, bare: &Samples) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (who, series, least) in [("one replica", one, 5_000.0), ("three replicas", three, 8_000.0)] {
        let rate = |peer: Option<(&'static str, Samples)>, limit| Figure {
            what: format!("burst of {callbacks} callbacks into {who}"),
            unit: Unit::PerSecond,
            ours: series.rates.clone(),
            peer,
            limit,
        };
        figures.push(rate(Some(("bare inserts by the batch", bare.clone())), Limit::AtLeast(least)));
        figures.push(rate(Some(("one machine without PostgreSQL", alone.rates.clone())), Limit::None));
        figures.push(Figure {
            what: format!("{who}: 99 of 100 answered within"),
            unit: Unit::Milliseconds,
            ours: series.slowest.clone(),
            peer: Some(("one machine without PostgreSQL", alone.slowest.clone())),
            limit: Limit::AtMost(50.0),
        });
    }
    figures
}

/// A queue that others have made, in the same database, behind a web server that puts each callback into it.
fn instead(plan: &Plan, callbacks: u64, ours: &Samples) -> Result<Option<Figure>, Failure> {
    let dir = plan.fresh("queue")?;
    let Some(postgres) = Postgres::start(&folder(&dir, "postgres")?)? else { return Ok(None) };
    let Some(peer) = peers::queue(&folder(&dir, "queue")?, &postgres.url())? else { return Ok(None) };
    let mut rates = Samples::default();
    for run in 0..plan.pick(1, 3) {
        let callback = Callback::progress(peer.address, peers::PATH, ONE_REF);
        let request = |number: u64, out: &mut Vec<u8>| callback.write(number, out);
        let until = Until::Count(callbacks / 10);
        let load = Load { address: peer.address, connections: CONNECTIONS, first: run << 40, until, request: &request };
        rates.push(load.run()?.all_taken()?.rate());
    }
    Ok(Some(Figure {
        what: "callbacks into three replicas, held against a queue in PostgreSQL".to_owned(),
        unit: Unit::PerSecond,
        ours: ours.clone(),
        peer: Some(("FastAPI and procrastinate", rates)),
        limit: Limit::None,
    }))
}

async fn start(dir: &Path, postgres: &Postgres, garage: &Garage, replicas: usize) -> Result<Vec<Vault>, Failure> {
    let mut vaults = Vec::new();
    for number in 0..replicas {
        let mut settings = Settings::new(&folder(dir, &format!("replica-{number}"))?)?;
        garage.configure(&mut settings);
        settings.set("CLUSTER__POSTGRES", postgres.url());
        settings.set("NOTIFY__SECRET", NOTIFY_SECRET);
        vaults.push(settings.serve().await?);
    }
    Ok(vaults)
}

/// Callbacks of so many jobs of their own, spread over the replicas as by a proxy.
fn burst(vaults: &[Vault], callbacks: u64) -> Result<Outcome, Failure> {
    let share = vaults.len() as u64;
    let post = |number: u64, address: SocketAddr, path: &str| {
        let callback = Callback::progress(address, path, ONE_REF);
        let request = |number: u64, out: &mut Vec<u8>| callback.write(number, out);
        let (connections, first) = (CONNECTIONS / vaults.len(), number << 40);
        Load { address, connections, first, until: Until::Count(callbacks / share), request: &request }
            .run()?
            .all_taken()
    };
    let outcomes: Result<Vec<Outcome>, Failure> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..)
            .zip(vaults)
            .map(|(number, vault)| scope.spawn(move || post(number, vault.address, &vault.reply_path()?)))
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap_or(Err(Failure("it panicked".into())))).collect()
    });
    Ok(Outcome::together(outcomes?))
}

pub(crate) fn folder(dir: &Path, name: &str) -> Result<std::path::PathBuf, Failure> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
