//! Files from the CDN into the bucket: one that is large, many that are not, many that are large at once.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::callback::{Callback, ONE_REF};
use crate::failure::Failure;
use crate::figures::{Figure, Limit, Samples, Unit};
use crate::process::{Process, Used, find};
use crate::servers::{BUCKET, Cdn, Garage};
use crate::vault::{Settings, Vault};
use crate::{Plan, media};

mod latency;
mod memory;

/// Files that are to be archived, on a CDN.
struct Files<'a> {
    plan: &'a Plan,
    cdn: &'a Cdn,
    names: Vec<String>,
    bytes: u64,
    /// How many at a time.
    at_once: usize,
}

/// What was needed for all of them, run by run.
#[derive(Default)]
struct Cost {
    speed: Samples,
    cpu: Samples,
}

/// Measures the archiving of files. Without nginx and garage there is nothing to measure.
pub(crate) async fn measure(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let cdn = Cdn::start(&plan.fresh("cdn")?)?;
    let Some(cdn) = cdn.filter(|_| find("garage").is_some()) else { return Ok(Vec::new()) };
    let mut figures = Vec::new();
    let large = Files::make(plan, &cdn, "large", 1, plan.pick(16 << 20, 1 << 30), 1)?;
    figures.extend(compare(&large, plan.pick(1, 3), [1.7, 0.5]).await?);
    let many = Files::make(plan, &cdn, "many", plan.pick(8, 200), 5_000_000, 8)?;
    figures.extend(compare(&many, plan.pick(1, 3), [2.8, 0.25]).await?);
    figures.push(latency::measure(&many).await?);
    large.remove()?;
    many.remove()?;
    figures.extend(memory::measure(plan, &cdn).await?);
    Ok(figures)
}

/// Archives the same with replyvault, rclone and the bare loop by turns, each into a garage that has nothing yet: it would
/// know what it has been given before.
async fn compare(files: &Files<'_>, runs: usize, [faster, cheaper]: [f64; 2]) -> Result<Vec<Figure>, Failure> {
    let (mut ours, mut rclone, mut bare) = (Cost::default(), Cost::default(), Cost::default());
    for _ in 0..runs {
        ours.add(files.archived().await?, files);
        if find("rclone").is_some() {
            rclone.add(files.copied(|garage| files.rclone(garage))?, files);
        }
        bare.add(files.copied(|garage| files.bare(garage))?, files);
    }
    let figure = |what: String, unit, ours: &Samples, peer, theirs: &Samples, limit| Figure {
        what,
        unit,
        ours: ours.clone(),
        peer: Some((peer, theirs.clone())),
        limit,
    };
    let what = files.describe();
    let (speed, cpu) = (Unit::MegabytesPerSecond, Unit::Seconds);
    let mut figures = Vec::new();
    if !rclone.speed.is_empty() {
        let name = "rclone copyurl";
        figures.push(figure(what.clone(), speed, &ours.speed, name, &rclone.speed, Limit::TimesAtLeast(faster)));
        let what = format!("{what}: CPU time");
        figures.push(figure(what, cpu, &ours.cpu, name, &rclone.cpu, Limit::TimesAtMost(cheaper)));
    }
    let name = "reqwest, SHA-256, object_store";
    figures.push(figure(what.clone(), speed, &ours.speed, name, &bare.speed, Limit::TimesAtLeast(0.87)));
    figures.push(figure(format!("{what}: CPU time"), cpu, &ours.cpu, name, &bare.cpu, Limit::None));
    Ok(figures)
}

impl<'a> Files<'a> {
    fn make(
        plan: &'a Plan,
        cdn: &'a Cdn,
        name: &str,
        count: usize,
        bytes: u64,
        at_once: usize,
    ) -> Result<Self, Failure> {
        let names: Vec<_> = (0..count).map(|number| format!("{name}-{number}.mp4")).collect();
        for (seed, name) in (1..).zip(&names) {
            media::noise(&cdn.root.join(name), seed, bytes)?;
        }
        Ok(Self { plan, cdn, names, bytes, at_once })
    }

    fn describe(&self) -> String {
        let size = match self.bytes {
            bytes if bytes % (1 << 30) == 0 => format!("{} GiB", bytes >> 30),
            bytes if bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
            bytes => format!("{} MB", bytes / 1_000_000),
        };
        match self.names.len() {
            1 => format!("archive {size}"),
            count => format!("archive {count} × {size}"),
        }
    }

    fn remove(self) -> Result<(), Failure> {
        self.names.iter().try_for_each(|name| Ok(std::fs::remove_file(self.cdn.root.join(name))?))
    }

    fn garage(&self) -> Result<(Garage, PathBuf), Failure> {
        let dir = self.plan.fresh("garage")?;
        let garage = Garage::start(&dir, false)?.ok_or_else(|| Failure("garage is gone".into()))?;
        Ok((garage, dir))
    }

    /// From the first callback to the last manifest.
    async fn archived(&self) -> Result<Used, Failure> {
        let (garage, dir) = self.garage()?;
        let mut settings = Settings::new(&dir.join("vault"))?;
        garage.configure(&mut settings);
        let vault = settings.serve().await?;
        let (began, before) = (Instant::now(), vault.process.cpu()?);
        self.post(&vault).await?;
        vault.archived(self.names.len() as u64).await?;
        let used = Used { wall: began.elapsed(), cpu: vault.process.cpu()? - before };
        vault.process.stop()?;
        garage.process.stop()?;
        Ok(used)
    }

    async fn post(&self, vault: &Vault) -> Result<(), Failure> {
        for (number, name) in (0..).zip(&self.names) {
            let callback = Callback::completed(vault.address, &vault.reply_path()?, ONE_REF, &self.cdn.url(name));
            vault.post(callback.body(number)).await?;
        }
        Ok(())
    }

    /// What a command needs that does the same.
    fn copied(&self, command: impl Fn(&Garage) -> Result<Command, Failure>) -> Result<Used, Failure> {
        let (garage, dir) = self.garage()?;
        let began = Instant::now();
        let used = Process::start(command(&garage)?.current_dir(&dir), &dir)?.ended(began)?;
        garage.process.stop()?;
        Ok(used)
    }

    /// rclone copies one URL at a call; `xargs` makes so many calls at a time.
    fn rclone(&self, garage: &Garage) -> Result<Command, Failure> {
        let list = self.list("urls", |name| format!("{} garage:{BUCKET}/rclone/{name}\n", self.cdn.url(name)))?;
        let mut command = Command::new("xargs");
        command.arg("-a").arg(list).args(["-P", &self.at_once.to_string(), "-n", "2", "rclone", "copyurl"]);
        garage.configure_rclone(&mut command);
        Ok(command)
    }

    fn bare(&self, garage: &Garage) -> Result<Command, Failure> {
        let list = self.list("keys", |name| format!("{} bare/{name}\n", self.cdn.url(name)))?;
        let mut command = Command::new(find("bare").ok_or_else(|| Failure("the peer `bare` is not built".into()))?);
        command.arg(self.at_once.to_string()).arg(list);
        garage.configure_bare(&mut command);
        Ok(command)
    }

    fn list(&self, name: &str, line: impl Fn(&String) -> String) -> Result<PathBuf, Failure> {
        let path = self.plan.dir.join(name);
        std::fs::write(&path, self.names.iter().map(line).collect::<String>())?;
        Ok(path)
    }
}

impl Cost {
    fn add(&mut self, used: Used, files: &Files<'_>) {
        let bytes = files.bytes * files.names.len() as u64;
        self.speed.push(bytes as f64 / 1e6 / used.wall.as_secs_f64());
        self.cpu.push(used.cpu.max(Duration::from_millis(1)).as_secs_f64());
    }
}
