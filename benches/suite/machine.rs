//! Where it was measured, and with what.

use std::fs;
use std::process::Command;

use crate::process::find;

/// Lines that say what machine this is and which versions were compared.
pub(crate) fn describe() -> Vec<String> {
    let mut lines = vec![hardware()];
    let programs: [(&str, &[&str]); 9] = [
        ("replyvault", &["--version"]),
        ("rustc", &["--version"]),
        ("garage", &["--version"]),
        ("rclone", &["version"]),
        ("nginx", &["-v"]),
        ("webhook", &["-version"]),
        ("uvicorn", &["--version"]),
        ("python3", &["--version"]),
        ("wrk", &["--version"]),
    ];
    for (name, arguments) in programs {
        lines.push(match find(name).and_then(|path| first_line(Command::new(path).args(arguments))) {
            Some(version) if version.starts_with(name) => version,
            Some(version) => format!("{name}: {version}"),
            None => format!("{name}: not installed"),
        });
    }
    lines
}

fn hardware() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().trim_start_matches(':').trim().to_owned()))
    };
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib = field("/proc/meminfo", "MemTotal:").and_then(|text| text.strip_suffix(" kB")?.parse::<u64>().ok());
    let memory = kib.unwrap_or_default() / 1024;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {cpu}, {memory} MiB of memory, Linux {}", kernel.trim())
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}
