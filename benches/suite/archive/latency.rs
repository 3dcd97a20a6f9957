//! One small file, from its callback to its manifest, with nothing else going on.

use std::fs;

use super::Files;
use crate::callback::{Callback, ONE_REF, job_id};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::process::Process;
use crate::vault::Settings;

/// How many one after the other.
const FILES: usize = 30;

pub(super) async fn measure(files: &Files<'_>) -> Result<Figure, Failure> {
    let files = Files { names: files.names.iter().take(FILES).cloned().collect(), at_once: 1, ..*files };
    let bare = one_by_one(&files)?;
    let (garage, dir) = files.garage()?;
    let mut settings = Settings::new(&dir.join("vault"))?;
    garage.configure(&mut settings);
    let vault = settings.serve().await?;
    let mut ours = Samples::default();
    for (number, name) in (0..).zip(&files.names) {
        let callback = Callback::completed(vault.address, &vault.reply_path()?, ONE_REF, &files.cdn.url(name));
        let began = std::time::Instant::now();
        vault.post(callback.body(number)).await?;
        vault.job_in(&job_id(number), "archived").await?;
        ours.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    vault.process.stop()?;
    garage.process.stop()?;
    Ok(Figure {
        what: "5 MB from callback to manifest, each alone".to_owned(),
        unit: Unit::Milliseconds,
        ours,
        peer: Some(("download and PUT", bare)),
        limit: Limit::TimesAtMost(3.0),
    })
}

/// What the bare loop needs for each.
fn one_by_one(files: &Files<'_>) -> Result<Samples, Failure> {
    let (garage, dir) = files.garage()?;
    let mut command = files.bare(&garage)?;
    Process::start(&mut command, &dir)?.ended(std::time::Instant::now())?;
    garage.process.stop()?;
    let printed = fs::read_to_string(dir.join("bare.log"))?;
    Ok(printed.lines().filter_map(|line| line.parse::<f64>().ok()).collect())
}
