//! Programs that are measured: started, watched through `/proc`, ended.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::failure::Failure;

/// How long a program may take to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Jiffies a second, as `/proc` counts: the same on every Linux that Rust's tier 1 knows.
const TICKS: f64 = 100.0;

/// A running program; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

/// What a program that has ended has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) wall: Duration,
    /// User and system time, its children's included.
    pub(crate) cpu: Duration,
}

impl Process {
    /// Starts `command`, all it says going to a file in `dir`.
    pub(crate) fn start(command: &mut Command, dir: &Path) -> Result<Self, Failure> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = dir.join(format!("{program}.log"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| Failure(format!("{program} cannot be started: {error}")))?;
        Ok(Self { child, name: program, log })
    }

    /// Waits until it takes connections at `address`.
    pub(crate) fn listening(mut self, address: SocketAddr) -> Result<Self, Failure> {
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if self.child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                return Err(Failure(format!("{} does not listen:\n{}", self.name, self.log())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(self)
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self, began: Instant) -> Result<Used, Failure> {
        // It stays in `/proc` until it is waited for.
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).map_err(io::Error::from)?;
        let used = Used { wall: began.elapsed(), cpu: cpu_of(self.child.id())? };
        if !self.child.wait()?.success() {
            return Err(Failure(format!("{} failed:\n{}", self.name, self.log())));
        }
        Ok(used)
    }

    /// Ends it as a supervisor would, and waits for that.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        kill_process(self.pid(), Signal::TERM).map_err(io::Error::from)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > PATIENCE {
                return Err(Failure(format!("{} does not end", self.name)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// User and system time so far, of itself and all below it.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        family(self.child.id()).into_iter().map(cpu_of).sum()
    }

    /// The most memory that it, and each of those below it, ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64, Failure> {
        family(self.child.id()).into_iter().map(|member| status(member, "VmHWM:")).sum()
    }

    /// The memory that it and those below it hold, in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        family(self.child.id()).into_iter().map(|member| status(member, "VmRSS:")).sum()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it has started goes first: it would outlive it.
        for child in family(self.child.id()).into_iter().skip(1) {
            let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process and all below it.
fn family(process: u32) -> Vec<u32> {
    let mut members = vec![process];
    let mut next = 0;
    while let Some(member) = members.get(next) {
        let children = fs::read_to_string(format!("/proc/{member}/task/{member}/children")).unwrap_or_default();
        members.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    members
}

/// A number of bytes from a process's status.
fn status(process: u32, field: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
    let kib: u64 = kib.ok_or_else(|| Failure(format!("nothing is said about {field}")))?;
    Ok(kib * 1024)
}

fn cpu_of(process: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; the state is the field behind it.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// An address on this machine that nobody listens at, and that was not given out before: whoever it was for may not listen yet.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    static GIVEN_OUT: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let mut given_out = GIVEN_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if given_out.insert(address) {
            return Ok(address);
        }
    }
}

/// Where a program is: beside this one, among the installed tools, or in the path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.to_owned();
    let tools = beside.parent()?.join("bench/tools");
    let mut folders = vec![beside, tools.join("bin"), tools.join("venv/bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.push("/usr/sbin".into());
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}
