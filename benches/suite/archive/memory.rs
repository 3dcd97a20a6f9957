//! Many large files due at once: what they may take up of memory, and what that bound costs.

use std::time::{Duration, Instant};

use super::Files;
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Unit};
use crate::process::Process;
use crate::servers::{Cdn, Garage};
use crate::vault::Settings;
use crate::{Plan, media};

/// How long after its work a service counts as idle.
const SETTLED: Duration = Duration::from_secs(10);

pub(super) async fn measure(plan: &Plan, cdn: &Cdn) -> Result<Vec<Figure>, Failure> {
    let (count, bytes) = plan.pick((4, 16 << 20), (32, 256 << 20));
    let names: Vec<_> = (0..count).map(|number| format!("due-{number}.mp4")).collect();
    for (seed, name) in (1..).zip(&names) {
        media::sparse(&cdn.root.join(name), seed, bytes)?;
    }
    let files = Files { plan, cdn, names, bytes, at_once: count };
    let dir = plan.fresh("garage")?;
    // Zeros are stored in no time, as they should be: it is not the store that is looked at.
    let start = || Garage::start(&dir, true)?.ok_or_else(|| Failure("garage is gone".into()));

    let garage = start()?;
    let mut settings = Settings::new(&dir.join("vault"))?;
    garage.configure(&mut settings);
    settings.set("FETCH__CONCURRENCY", count);
    settings.set("FETCH__PER_HOST", count);
    let vault = settings.serve().await?;
    std::thread::sleep(plan.pick(Duration::from_secs(1), SETTLED));
    let idle = vault.process.memory()?;
    let began = Instant::now();
    files.post(&vault).await?;
    vault.archived(count as u64).await?;
    let (ours, peak) = (began.elapsed(), vault.process.peak_memory()?);
    std::thread::sleep(plan.pick(Duration::from_secs(1), SETTLED));
    let idle_again = vault.process.memory()?;
    vault.process.stop()?;
    garage.process.stop()?;

    let dir = plan.fresh("garage")?;
    let garage = Garage::start(&dir, true)?.ok_or_else(|| Failure("garage is gone".into()))?;
    let mut command = files.bare(&garage)?;
    let bare = Process::start(command.current_dir(&dir), &dir)?.ended(Instant::now())?.wall;
    garage.process.stop()?;
    let what = format!("{count} files of {} MiB due at once", bytes >> 20);
    files.remove()?;

    let memory = |what: String, bytes: u64, most: f64| Figure {
        what,
        unit: Unit::Mebibytes,
        ours: (bytes as f64 / f64::from(1 << 20)).into(),
        peer: None,
        limit: Limit::AtMost(most),
    };
    Ok(vec![
        memory(format!("{what}: most memory"), peak, 192.0),
        Figure {
            what: format!("{what}: time"),
            unit: Unit::Seconds,
            ours: ours.as_secs_f64().into(),
            peer: Some(("the bare loop, which has no bound", bare.as_secs_f64().into())),
            limit: Limit::TimesAtMost(1.1),
        },
        memory("memory of one that has just started".to_owned(), idle, 25.0),
        memory("memory of one that has done that, ten seconds later".to_owned(), idle_again, 25.0),
    ])
}
