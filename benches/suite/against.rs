//! This build beside another one, by turns in one run: figures of different hours say nothing about each other.

use std::path::Path;

use crate::Plan;
use crate::callback::{Callback, ONE_REF};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::intake::post;
use crate::load::{Load, Until};
use crate::vault::Settings;

/// How many times the other build's time or memory this one may take.
const MAX_RATIO: f64 = 1.05;
/// How many times the other build's rate this one must reach.
const MIN_RATIO: f64 = 0.95;
/// Callbacks of a burst.
const BURST: u64 = 100_000;
/// Callbacks that are sent one after the other.
const SINGLE: u64 = 1_000;

/// What one round gives for one build.
struct Round {
    rate: f64,
    /// Milliseconds within which 99 of 100 callbacks of the burst are answered.
    p99: f64,
    /// Microseconds of processor time for each callback of the burst.
    cpu: f64,
    /// Milliseconds that a callback takes when it comes alone.
    single: f64,
    /// The most memory held, in MiB.
    memory: f64,
}

/// Measures the intake of this build and of the one in the folder `other`, such as `target/release` of another checkout.
pub(crate) async fn measure(plan: &Plan, other: &Path, rounds: u32) -> Result<Vec<Figure>, Failure> {
    let other = std::path::absolute(other.join("replyvault"))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..rounds {
        // Whoever comes first may find the machine in another state: each comes first in half of the rounds.
        for is_other in [number % 2 == 0, number % 2 != 0] {
            if is_other {
                theirs.push(round(plan, Some(&other)).await?);
            } else {
                ours.push(round(plan, None).await?);
            }
        }
    }
    let samples = |rounds: &[Round], value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Samples>();
    let figure = |what: String, unit, value: fn(&Round) -> f64, limit| Figure {
        what,
        unit,
        ours: samples(&ours, value),
        peer: Some(("the other build", samples(&theirs, value))),
        limit,
    };
    let callbacks = plan.pick(2_000, BURST);
    let (least, most) = (Limit::TimesAtLeast(MIN_RATIO), Limit::TimesAtMost(MAX_RATIO));
    Ok(vec![
        figure(format!("burst of {callbacks} callbacks"), Unit::PerSecond, |round| round.rate, least),
        figure("the same: 99 of 100 answered within".to_owned(), Unit::Milliseconds, |round| round.p99, Limit::None),
        figure("the same: processor time for each".to_owned(), Unit::Microseconds, |round| round.cpu, most),
        figure("one callback at a time".to_owned(), Unit::Milliseconds, |round| round.single, most),
        figure("most memory meanwhile".to_owned(), Unit::Mebibytes, |round| round.memory, most),
    ])
}

async fn round(plan: &Plan, program: Option<&Path>) -> Result<Round, Failure> {
    let mut settings = Settings::new(&plan.fresh("against")?)?;
    if let Some(program) = program {
        settings.use_program(program);
    }
    let vault = settings.serve().await?;
    let path = vault.reply_path()?;
    let (callbacks, single) = (plan.pick(2_000, BURST), plan.pick(20, SINGLE));
    let callback = Callback::progress(vault.address, &path, ONE_REF);
    let request = |number: u64, out: &mut Vec<u8>| callback.write(number, out);
    // Before the burst: what a burst leaves to be written and indexed would be measured, too.
    let alone =
        Load { address: vault.address, connections: 1, first: 1 << 40, until: Until::Count(single), request: &request };
    let single = alone.run()?.all_taken()?.percentile(0.5);
    let before = vault.process.cpu()?;
    let mut burst = post(vault.address, &path, 0, Until::Count(callbacks))?;
    let cpu = vault.process.cpu()? - before;
    let round = Round {
        rate: burst.rate(),
        p99: burst.percentile(0.99),
        cpu: cpu.as_secs_f64() * 1e6 / callbacks as f64,
        single,
        memory: vault.process.peak_memory()? as f64 / f64::from(1 << 20),
    };
    vault.process.stop()?;
    Ok(round)
}
