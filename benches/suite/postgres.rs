//! PostgreSQL with Debian's settings, and what it does when it is asked for nothing but inserts.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tokio_postgres::{Client, NoTls};

use crate::failure::Failure;
use crate::process::{Process, find, free_address};

/// A running server with an empty database.
pub(crate) struct Postgres {
    _process: Process,
    address: SocketAddr,
}

impl Postgres {
    /// Starts one in `dir`. `None` where it is not installed.
    pub(crate) fn start(dir: &Path) -> Result<Option<Self>, Failure> {
        let Some(folder) = programs() else { return Ok(None) };
        // It refuses to be run by root.
        let user = rustix::process::getuid().is_root().then(ordinary_user).flatten();
        let data = dir.join("data");
        if let Some((user, group)) = user {
            chown(dir, Some(user), Some(group))?;
        }
        let command = |name: &str| {
            let mut command = Command::new(folder.join(name));
            command.current_dir(dir);
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        };
        let mut initdb = command("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "-D"]).arg(&data);
        let made = initdb.output()?;
        if !made.status.success() {
            return Err(Failure(format!("initdb: {}", String::from_utf8_lossy(&made.stderr))));
        }
        let address = free_address()?;
        let mut server = command("postgres");
        server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-k"]).arg(dir);
        let process = Process::start(&mut server, dir)?.listening(address)?;
        Ok(Some(Self { _process: process, address }))
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address)
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Rows of `bytes` that it takes a second, over one connection, `batch` in each transaction.
    pub(crate) async fn inserts(&self, rows: u64, batch: usize, bytes: usize) -> Result<f64, Failure> {
        let client = self.connect().await?;
        client.batch_execute("CREATE TABLE bare (position bigint PRIMARY KEY, payload bytea NOT NULL)").await?;
        let statement = "INSERT INTO bare SELECT $1 + number, payload FROM unnest($2::bytea[]) WITH ORDINALITY AS row (payload, number)";
        let statement = client.prepare(statement).await?;
        let payloads = vec![vec![b'x'; bytes]; batch];
        let began = Instant::now();
        for number in 0..rows.div_ceil(batch as u64) {
            let first = i64::try_from(number * batch as u64)?;
            client.execute(&statement, &[&first, &payloads]).await?;
        }
        let took = began.elapsed();
        client.batch_execute("DROP TABLE bare").await?;
        Ok(rows as f64 / took.as_secs_f64())
    }

    /// Bytes that replyvault's tables take up, and the rows of its log.
    pub(crate) async fn log_size(&self) -> Result<(u64, u64), Failure> {
        let statement =
            "SELECT pg_total_relation_size('replyvault_journal'), (SELECT count(*) FROM replyvault_journal)";
        let row = self.connect().await?.query_one(statement, &[]).await?;
        Ok((u64::try_from(row.get::<_, i64>(0))?, u64::try_from(row.get::<_, i64>(1))?))
    }
}

/// Where its programs are: in the path, or where Debian puts those of the newest version.
fn programs() -> Option<PathBuf> {
    if let Some(initdb) = find("initdb") {
        return initdb.parent().map(Path::to_owned);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<PathBuf> = versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).collect();
    found.sort();
    found.into_iter().rev().find(|folder| folder.join("postgres").is_file())
}

/// The ids of a user and group to run as.
fn ordinary_user() -> Option<(u32, u32)> {
    let known = fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let line = known.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}
