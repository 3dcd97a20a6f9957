//! A million archived jobs: what they cost those that come, those that look, and those that start.

use std::fs;
use std::path::Path;
use std::time::Instant;

use crate::Plan;
use crate::callback::job_id;
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::history::{History, digest};
use crate::intake::post;
use crate::load::{Load, Until};
use crate::process::Process;
use crate::vault::{Settings, Vault};

/// What a history costs.
struct Cost {
    settings: Settings,
    /// Seconds that making its state anew takes.
    rebuild: f64,
    start: Samples,
    /// Seconds from then on until jobs can be searched by words, when nothing else happens.
    indexed: Samples,
}

/// How often what is quick is done.
const STARTS: usize = 3;

/// Measures what a long history costs.
pub(crate) async fn measure(plan: &Plan, jobs: Option<u64>) -> Result<Vec<Figure>, Failure> {
    let jobs = jobs.unwrap_or_else(|| plan.pick(2_000, 1_000_000));
    let tenth = Cost::of(plan, "tenth", History { jobs: jobs / 10, progress: 0 }).await?;
    let mostly = History { jobs: jobs / 20, progress: 19 };
    let progress = Cost::of(plan, "progress", mostly).await?;
    let history = History { jobs, progress: 0 };
    let whole = Cost::of(plan, "whole", history).await?;
    let per_second = |history: u64, cost: &Cost| Samples::from(history as f64 / cost.rebuild);
    let mut figures = vec![
        Figure {
            what: format!("rebuild from the journal: jobs, of {jobs}"),
            unit: Unit::PerSecond,
            ours: per_second(jobs, &whole),
            peer: Some(("of a tenth", per_second(jobs / 10, &tenth))),
            limit: Limit::AtLeast(8_000.0),
        },
        Figure {
            what: "rebuild from the journal: callbacks, 19 of 20 of them progress".to_owned(),
            unit: Unit::PerSecond,
            ours: per_second(mostly.callbacks(), &progress),
            peer: None,
            limit: Limit::AtLeast(30_000.0),
        },
        Figure {
            what: format!("start after a clean stop, with {jobs} jobs"),
            unit: Unit::Seconds,
            ours: whole.start.clone(),
            peer: Some(("with a tenth", tenth.start.clone())),
            limit: Limit::AtMost(3.0),
        },
        Figure {
            what: "from then on until words are searched".to_owned(),
            unit: Unit::Seconds,
            ours: whole.indexed.clone(),
            peer: Some(("with a tenth", tenth.indexed.clone())),
            limit: Limit::None,
        },
    ];
    for (what, folder) in [("state", "state"), ("journal", "journal")] {
        figures.push(Figure {
            what: format!("disk for each job: {what}"),
            unit: Unit::Bytes,
            ours: (disk_bytes(&whole.settings.data().join(folder))? as f64 / jobs as f64).into(),
            peer: None,
            limit: Limit::None,
        });
    }
    figures.extend(look_ups(plan, &tenth.settings, &whole.settings, jobs).await?);
    Ok(figures)
}

impl Cost {
    async fn of(plan: &Plan, name: &str, history: History) -> Result<Self, Failure> {
        let dir = plan.fresh(name)?;
        let settings = Settings::new(&dir)?;
        fs::create_dir_all(dir.join("bucket"))?;
        // An empty bucket is taken for one that is not mounted, since the history says that objects were stored.
        fs::write(dir.join("bucket/object"), "")?;
        history.write(&settings.data())?;
        let began = Instant::now();
        let rebuilt = Process::start(settings.command()?.arg("rebuild"), &dir)?.ended(began)?;
        let (mut start, mut indexed) = (Samples::default(), Samples::default());
        for _ in 0..STARTS {
            let began = Instant::now();
            let vault = settings.serve().await?;
            start.push(began.elapsed().as_secs_f64());
            let began = Instant::now();
            let is_indexed = async |vault: &Vault| Ok(vault.get("/api/v1/jobs?q=boat").await.is_ok());
            vault.until("all jobs are indexed", is_indexed).await?;
            indexed.push(began.elapsed().as_secs_f64());
            vault.process.stop()?;
        }
        Ok(Self { settings, rebuild: rebuilt.wall.as_secs_f64(), start, indexed })
    }
}

/// Look-ups and callbacks, held against a tenth of the jobs and against none.
async fn look_ups(plan: &Plan, tenth: &Settings, whole: &Settings, jobs: u64) -> Result<Vec<Figure>, Failure> {
    let mut found = [const { Vec::new() }; 2];
    for (found, (settings, jobs)) in found.iter_mut().zip([(tenth, jobs / 10), (whole, jobs)]) {
        let vault = settings.serve().await?;
        let job = |number: u64| format!("/api/v1/jobs/{}", job_id(scatter(number) % jobs));
        let media = |number: u64| format!("/api/v1/media/{}", digest(scatter(number) % jobs));
        found.push(slowest(plan, &vault, &job)?);
        found.push(slowest(plan, &vault, &media)?);
        found.push(pages(plan, &vault).await?);
        vault.process.stop()?;
    }
    let [of_tenth, of_whole] = found;
    let what = ["look-up of a job: 99 of 100 within", "look-up of a hash: 99 of 100 within", "a page of 100 jobs"];
    let mut figures: Vec<_> = what
        .into_iter()
        .zip([5.0, 5.0, 20.0])
        .zip(of_whole.into_iter().zip(of_tenth))
        .map(|((what, most), (ours, tenth))| Figure {
            what: what.to_owned(),
            unit: Unit::Milliseconds,
            ours,
            peer: Some(("with a tenth", tenth)),
            limit: Limit::AtMost(most),
        })
        .collect();
    figures.extend(intake(plan, whole, jobs).await?);
    Ok(figures)
}

/// The time that 99 of 100 look-ups take at most, some at a time, in milliseconds.
fn slowest(plan: &Plan, vault: &Vault, path: &(dyn Fn(u64) -> String + Sync)) -> Result<Samples, Failure> {
    let request = |number: u64, out: &mut Vec<u8>| vault.request(&path(number), out);
    let count = plan.pick(200, 20_000);
    let once = |run: u64| {
        let (first, until) = (run * count, Until::Count(count));
        let load = Load { address: vault.address, connections: 4, first, until, request: &request };
        Ok(load.run()?.all_taken()?.percentile(0.99))
    };
    (0..3).map(once).collect()
}

/// What a page takes, in milliseconds, one after the other from the newest on.
async fn pages(plan: &Plan, vault: &Vault) -> Result<Samples, Failure> {
    let (mut taken, mut cursor) = (Samples::default(), String::new());
    for _ in 0..plan.pick(5, 50) {
        let began = Instant::now();
        let page = vault.get(&format!("/api/v1/jobs?limit=100{cursor}")).await?;
        taken.push(began.elapsed().as_secs_f64() * 1000.0);
        cursor = format!("&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
    }
    Ok(taken)
}

/// Bursts of callbacks into it and into one that knows nothing yet, by turns.
async fn intake(plan: &Plan, whole: &Settings, jobs: u64) -> Result<[Figure; 2], Failure> {
    let callbacks = plan.pick(1_000, 100_000);
    let (mut ours, mut empty) = (Samples::default(), Samples::default());
    let full = whole.serve().await?;
    for run in 0..plan.pick(1, 3) {
        let new = Settings::new(&plan.fresh("empty")?)?.serve().await?;
        let first = jobs + 1 + run * callbacks;
        ours.push(post(full.address, &full.reply_path()?, first, Until::Count(callbacks))?.rate());
        empty.push(post(new.address, &new.reply_path()?, first, Until::Count(callbacks))?.rate());
        new.process.stop()?;
    }
    let memory = full.process.peak_memory()? as f64 / f64::from(1 << 20);
    full.process.stop()?;
    Ok([
        Figure {
            what: format!("burst of {callbacks} callbacks, with {jobs} jobs"),
            unit: Unit::PerSecond,
            ours,
            peer: Some(("with none", empty)),
            limit: Limit::TimesAtLeast(0.8),
        },
        Figure {
            what: "most memory meanwhile".to_owned(),
            unit: Unit::Mebibytes,
            ours: memory.into(),
            peer: None,
            limit: Limit::AtMost(300.0),
        },
    ])
}

/// Numbers that follow each other become ones that do not.
fn scatter(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

/// What a folder takes up.
fn disk_bytes(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for item in fs::read_dir(folder)? {
        let item = item?;
        let metadata = item.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&item.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
