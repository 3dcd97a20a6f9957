//! Measures replyvault against what one would use instead, and against what the machine allows, in one run.
//!
//! Real programs, real sockets, a real disk. What is compared runs by turns, so that a noisy moment hits both.

mod against;
mod archive;
mod callback;
mod cluster;
mod disk;
mod events;
mod failure;
mod figures;
mod gateway;
mod growth;
mod history;
mod hostile;
mod intake;
mod load;
mod machine;
mod media;
mod peers;
mod postgres;
mod process;
mod replica;
mod servers;
mod table;
mod vault;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use self::failure::Failure;
use self::figures::Figure;
use self::process::find;

/// Measures replyvault against its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// A minute with what is installed: whether it runs, not how fast.
    #[arg(long)]
    smoke: bool,
    /// Keeps the sustained load up for ten minutes.
    #[arg(long, conflicts_with = "smoke")]
    long: bool,
    /// Puts the table into this page too, in the place of the one that is there.
    #[arg(long, value_name = "PAGE", conflicts_with = "smoke")]
    out: Option<PathBuf>,
    /// How long one sender does its worst, in seconds; two minutes by default.
    #[arg(long, value_name = "SECONDS")]
    hostile_seconds: Option<u64>,
    /// How many jobs there are where growth (a million by default) or a new replica (a hundred thousand) is measured.
    #[arg(long, value_name = "COUNT", conflicts_with = "smoke")]
    jobs: Option<u64>,
    /// Measures intake beside another build, whose program is in this folder, and nothing else.
    #[arg(long, value_name = "FOLDER")]
    against: Option<PathBuf>,
    /// How often each of the two builds is measured.
    #[arg(long, value_name = "COUNT", default_value_t = 5, requires = "against")]
    rounds: u32,
    /// What to measure; everything by default.
    #[arg(value_parser = ["intake", "archive", "growth", "gateway", "events", "hostile", "cluster", "replica"])]
    parts: Vec<String>,
}

/// How much is done, and where.
#[derive(Debug)]
struct Plan {
    smoke: bool,
    long: bool,
    /// A folder of its own on the disk that is measured.
    dir: PathBuf,
}

impl Plan {
    /// One number for the smoke test, another otherwise.
    fn pick<T>(&self, smoke: T, usual: T) -> T {
        if self.smoke { smoke } else { usual }
    }

    /// An empty folder for what is measured next.
    fn fresh(&self, name: &str) -> Result<PathBuf, Failure> {
        eprintln!("{name} …");
        let dir = self.dir.join(name);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => std::fs::create_dir_all(&dir)?,
        }
        Ok(dir)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whoever makes an HTTP client finds it; fails only where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match measure(&arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        // In a smoke test no figure means anything.
        Ok(_) if arguments.smoke => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("{missed} figures miss their limits");
            ExitCode::from(1)
        }
        Err(Failure(text)) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

/// Measures all that was asked for, prints it, and says how many figures miss their limits.
async fn measure(arguments: &Arguments) -> Result<usize, Failure> {
    let root = find("suite").and_then(|path| Some(path.parent()?.parent()?.join("bench/work")));
    let dir = root.ok_or_else(|| Failure("expected to be in cargo's target folder".into()))?;
    let plan = Plan { smoke: arguments.smoke, long: arguments.long, dir };
    let everything = arguments.parts.is_empty() && arguments.against.is_none();
    let wanted = |part: &str| everything || arguments.parts.iter().any(|wanted| wanted == part);
    let mut figures: Vec<Figure> = Vec::new();
    if let Some(other) = &arguments.against {
        figures.extend(against::measure(&plan, other, arguments.rounds).await?);
    }
    if wanted("intake") {
        figures.extend(intake::measure(&plan).await?);
    }
    if wanted("archive") {
        figures.extend(archive::measure(&plan).await?);
    }
    if wanted("growth") {
        figures.extend(growth::measure(&plan, arguments.jobs).await?);
    }
    if wanted("gateway") {
        figures.extend(gateway::measure(&plan).await?);
    }
    if wanted("events") {
        figures.extend(events::measure(&plan).await?);
    }
    if wanted("hostile") {
        figures.extend(hostile::measure(&plan, arguments.hostile_seconds).await?);
    }
    if wanted("cluster") {
        figures.extend(cluster::measure(&plan).await?);
    }
    if wanted("replica") {
        figures.extend(replica::measure(&plan, arguments.jobs).await?);
    }
    std::fs::remove_dir_all(&plan.dir)?;
    println!("{}\n{}", machine::describe().join("\n"), table::terminal(&figures));
    if let Some(page) = &arguments.out {
        table::put_into(page, &figures)?;
    }
    Ok(figures.iter().filter(|figure| figure.is_met() == Some(false)).count())
}
