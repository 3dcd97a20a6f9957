//! Callbacks: many at once, for long, and one at a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::callback::{Callback, ONE_REF, job_id};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::load::{CONNECTIONS, Load, Outcome, Until};
use crate::vault::{Settings, Vault};
use crate::{Plan, disk, peers, wrk};

/// Callbacks of a burst.
const BURST: u64 = 100_000;

/// Measures the taking of callbacks.
pub(crate) async fn measure(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let (mut figures, answers) = burst(plan).await?;
    figures.extend(sustained(plan, answers).await?);
    figures.extend(instead(plan, &figures[0].ours)?);
    figures.push(one_at_a_time(plan).await?);
    Ok(figures)
}

/// Posts callbacks of so many jobs of their own, from number `first` on.
pub(crate) fn post(address: SocketAddr, path: &str, first: u64, until: Until) -> Result<Outcome, Failure> {
    let callback = Callback::progress(address, path, ONE_REF);
    let request = |number: u64, out: &mut Vec<u8>| callback.write(number, out);
    Load { address, connections: CONNECTIONS, first, until, request: &request }.run()?.all_taken()
}

/// A burst into a replyvault that knows nothing yet, and into a server that only answers; also what the latter manages a
/// second.
async fn burst(plan: &Plan) -> Result<(Vec<Figure>, Samples), Failure> {
    let callbacks = plan.pick(2_000, BURST);
    let peer = peers::answer(&plan.fresh("answer")?)?;
    let mut wrk = Samples::default();
    let (mut rates, mut slowest) = ([Samples::default(), Samples::default()], [Samples::default(), Samples::default()]);
    for run in 0..plan.pick(1, 5) {
        let vault = Settings::new(&plan.fresh(&format!("burst-{run}"))?)?.serve().await?;
        let path = vault.reply_path()?;
        let outcomes = [
            post(vault.address, &path, 0, Until::Count(callbacks))?,
            post(peer.address, peers::PATH, 0, Until::Count(callbacks))?,
        ];
        for (who, mut outcome) in outcomes.into_iter().enumerate() {
            rates[who].push(outcome.rate());
            slowest[who].push(outcome.percentile(0.99));
        }
        vault.process.stop()?;
        wrk.extend(wrk::rate(plan, peer.address)?);
    }
    let [ours, theirs] = rates;
    let [our_slowest, their_slowest] = slowest;
    let mut figures = vec![
        Figure {
            what: format!("burst of {callbacks} callbacks over {CONNECTIONS} connections"),
            unit: Unit::PerSecond,
            ours,
            peer: Some(("only answers", theirs.clone())),
            limit: Limit::TimesAtLeast(0.35),
        },
        Figure {
            what: "the same: 99 of 100 answered within".to_owned(),
            unit: Unit::Milliseconds,
            ours: our_slowest,
            peer: Some(("only answers", their_slowest)),
            limit: Limit::TimesAtMost(5.0),
        },
    ];
    if !wrk.is_empty() {
        figures.push(Figure {
            what: "what the suite's client gets out of the server that only answers".to_owned(),
            unit: Unit::PerSecond,
            ours: theirs.clone(),
            peer: Some(("wrk", wrk)),
            limit: Limit::None,
        });
    }
    Ok((figures, theirs))
}

/// The same for long, while someone looks whether what was answered can be read.
async fn sustained(plan: &Plan, answers: Samples) -> Result<Vec<Figure>, Failure> {
    let seconds = if plan.long { 600 } else { plan.pick(3, 60) };
    let vault = Settings::new(&plan.fresh("sustained")?)?.serve().await?;
    let (path, address) = (vault.reply_path()?, vault.address);
    let over = AtomicBool::new(false);
    let (unseen, looked) = (AtomicU64::new(0), AtomicU64::new(0));
    let half = Duration::from_secs(seconds) / 2;
    let (outcomes, memory) = std::thread::scope(|scope| {
        let (over, unseen, looked, path) = (&over, &unseen, &looked, path.as_str());
        let vault = &vault;
        let watcher = scope.spawn(move || look(vault, path, over, unseen, looked));
        let posting = || {
            let first = post(address, path, 0, Until::Elapsed(half))?;
            let memory = vault.process.memory()?;
            let second = post(address, path, 1 << 40, Until::Elapsed(half))?;
            Ok(([first, second], [memory, vault.process.memory()?]))
        };
        let posted: Result<_, Failure> = posting();
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap_or(Err(Failure("it panicked".into())))?;
        posted
    })?;
    let taken: u64 = outcomes.iter().map(Outcome::answered).sum();
    let elapsed: f64 = outcomes.iter().map(|outcome| outcome.elapsed.as_secs_f64()).sum();
    let peak = vault.process.peak_memory()?;
    vault.process.stop()?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let figure = |what: String, unit, ours: f64, limit| Figure { what, unit, ours: ours.into(), peer: None, limit };
    Ok(vec![
        Figure {
            what: format!("kept up for {seconds} s"),
            unit: Unit::PerSecond,
            ours: (taken as f64 / elapsed).into(),
            peer: Some(("only answers", answers)),
            limit: Limit::TimesAtLeast(0.12),
        },
        figure(
            format!("of {} GETs right after a 200, those that did not see the callback", looked.into_inner()),
            Unit::Count,
            unseen.into_inner() as f64,
            Limit::AtMost(0.0),
        ),
        figure("most memory meanwhile".to_owned(), Unit::Mebibytes, mebibytes(peak), Limit::AtMost(300.0)),
        Figure {
            what: format!("memory after {taken} callbacks, held against half of them"),
            unit: Unit::Mebibytes,
            ours: mebibytes(memory[1]).into(),
            peer: Some(("half-way", mebibytes(memory[0]).into())),
            limit: Limit::None,
        },
    ])
}

/// Posts callbacks one after the other and asks for each job as soon as its callback is answered.
fn look(vault: &Vault, path: &str, over: &AtomicBool, unseen: &AtomicU64, looked: &AtomicU64) -> Result<(), Failure> {
    let callback = Callback::progress(vault.address, path, ONE_REF);
    let once = |first: u64, request: &(dyn Fn(u64, &mut Vec<u8>) + Sync)| {
        Load { address: vault.address, connections: 1, first, until: Until::Count(1), request }.run()
    };
    let mut number = 2 << 40;
    while !over.load(Ordering::Relaxed) {
        once(number, &|number, out| callback.write(number, out))?.all_taken()?;
        let seen = once(number, &|number, out| vault.request(&format!("/api/v1/jobs/{}", job_id(number)), out))?;
        unseen.fetch_add(seen.refused, Ordering::Relaxed);
        looked.fetch_add(1, Ordering::Relaxed);
        number += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What one would use instead, as far as it is installed: the same burst, since who answers before he has done anything
/// gets slower only as his work piles up.
fn instead(plan: &Plan, ours: &Samples) -> Result<Vec<Figure>, Failure> {
    let callbacks = plan.pick(200, BURST);
    let mut figures = Vec::new();
    let candidates = [
        ("FastAPI and SQLite", peers::receiver(&plan.fresh("receiver")?)?, 15.0),
        ("webhook, which keeps nothing", peers::webhook(&plan.fresh("webhook")?)?, 5.0),
    ];
    for (name, peer, times) in candidates {
        let Some(peer) = peer else { continue };
        let mut rates = Samples::default();
        for run in 0..plan.pick(1, 3) {
            rates.push(post(peer.address, peers::PATH, run * callbacks, Until::Count(callbacks))?.rate());
        }
        drop(peer.process);
        figures.push(Figure {
            what: "the burst, held against another receiver".to_owned(),
            unit: Unit::PerSecond,
            ours: ours.clone(),
            peer: Some((name, rates)),
            limit: Limit::TimesAtLeast(times),
        });
    }
    Ok(figures)
}

/// One callback after the other, by turns with as many bytes appended to a file and synced.
async fn one_at_a_time(plan: &Plan) -> Result<Figure, Failure> {
    let (dir, times) = (plan.fresh("single")?, plan.pick(20, 100));
    let vault = Settings::new(&dir)?.serve().await?;
    let callback = Callback::progress(vault.address, &vault.reply_path()?, ONE_REF);
    let request = |number: u64, out: &mut Vec<u8>| callback.write(number, out);
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for run in 0..plan.pick(1, 10) {
        let (first, until) = (run * times, Until::Count(times));
        let load = Load { address: vault.address, connections: 1, first, until, request: &request };
        ours.push(load.run()?.all_taken()?.percentile(0.5));
        let synced = disk::synced_appends(&dir, callback.body_length(), times as usize)?;
        theirs.push(synced.iter().map(|taken| taken.as_secs_f64() * 1000.0).collect::<Samples>().median());
    }
    vault.process.stop()?;
    Ok(Figure {
        what: "one callback at a time".to_owned(),
        unit: Unit::Milliseconds,
        ours,
        peer: Some(("append and fdatasync", theirs)),
        limit: Limit::TimesAtMost(1.5),
    })
}
