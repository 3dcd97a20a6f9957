//! A PostgreSQL server of its own, on a free port of this machine, that ends and is removed when dropped.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::vault::PATIENCE;

pub(crate) struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    /// Whom it runs as, where this process is root, which it refuses.
    user: Option<(u32, u32)>,
    server: Mutex<Option<Child>>,
}

impl Postgres {
    /// `None` where PostgreSQL is not installed, which is an error where `REPLYVAULT_TEST_CLIENTS` says that it must be.
    pub(crate) async fn start() -> Option<Self> {
        let Some(bin) = binaries() else {
            assert!(std::env::var_os("REPLYVAULT_TEST_CLIENTS").is_none(), "PostgreSQL is not installed");
            eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let user = rustix::process::getuid().is_root().then(|| someone().expect("a user that is not root"));
        let data = dir.path().join("data");
        if let Some((user, group)) = user {
            chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        let port = super::free_address().port();
        let postgres = Self { dir, bin, port, user, server: Mutex::new(None) };
        let made = postgres
            .command("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres.begin().await;
        Some(postgres)
    }

    fn command(&self, name: &str) -> Command {
        self.as_user(Command::new(self.bin.join(name)))
    }

    fn as_user(&self, mut command: Command) -> Command {
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it again.
    pub(crate) async fn begin(&self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.dir.path().join("data"));
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k"]).arg(self.dir.path());
        command.args(["-c", "shared_buffers=32MB", "-c", "max_connections=60"]);
        let server = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.server.lock().unwrap() = Some(server);
        let ready = async {
            while self.try_run("SELECT 1").await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("PostgreSQL does not start");
    }

    /// Ends it: as after a crash, or so that it finishes nothing but what it has to.
    pub(crate) fn end(&self, signal: Signal) {
        let Some(mut server) = self.server.lock().unwrap().take() else { return };
        let pid = Pid::from_child(&server);
        let _ = kill_process(pid, signal);
        // One that is paused would never hear of it.
        for process in children(pid).into_iter().chain([pid]) {
            let _ = kill_process(process, Signal::CONT);
        }
        server.wait().unwrap();
    }

    /// Stops all of its processes where they are: connections stay, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets them go on.
    pub(crate) fn go_on(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let server = self.server.lock().unwrap();
        let pid = Pid::from_child(server.as_ref().expect("it runs"));
        // The first makes the others: it must make none meanwhile.
        let _ = kill_process(pid, signal);
        for child in children(pid) {
            let _ = kill_process(child, signal);
        }
    }

    /// Has it refuse what is appended to the log, with the code of a full disk.
    pub(crate) async fn fill_disk(&self) {
        self.run(
            "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
             CREATE OR REPLACE TRIGGER full_disk BEFORE INSERT ON replyvault_journal EXECUTE FUNCTION full_disk()",
        )
        .await;
    }

    /// How often it has refused something because of that.
    pub(crate) fn refusals(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        log.matches("ERROR:  could not extend file").count()
    }

    /// Takes that back.
    pub(crate) async fn empty_disk(&self) {
        self.run("DROP TRIGGER full_disk ON replyvault_journal").await;
    }

    /// Copies what it has, while it does not run, for [`Postgres::put_back`].
    pub(crate) fn save(&self) {
        self.copy("data", "saved");
    }

    /// Puts the copy in the place of what it has, while it does not run.
    pub(crate) fn put_back(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
        self.copy("saved", "data");
    }

    fn copy(&self, from: &str, to: &str) {
        let place = self.dir.path();
        let copied = Command::new("cp").arg("-a").args([place.join(from), place.join(to)]).status().unwrap();
        assert!(copied.success());
    }

    /// Has it show this certificate, from now on.
    pub(crate) async fn use_tls(&self, certificate: &str, key: &str) {
        let data = self.dir.path().join("data");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = self.user {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        self.run("ALTER SYSTEM SET ssl = on").await;
        self.run("SELECT pg_reload_conf()").await;
        let on = async {
            while self.run("SHOW ssl").await != ["on"] {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, on).await.expect("PostgreSQL uses no TLS");
    }

    /// A pool in front of it that listens at `port` for as long as this lives.
    pub(crate) fn pool(&self, port: u16) -> impl Drop + use<> {
        struct Pool(Child);
        impl Drop for Pool {
            fn drop(&mut self) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }
        let place = self.dir.path().join("pool.ini");
        // With `any`, everybody is who the database's line says.
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n",
            self.port
        );
        std::fs::write(&place, settings).unwrap();
        let mut command = self.as_user(Command::new(pgbouncer().expect("it was looked for")));
        Pool(command.arg(place).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs statements on a connection of their own; the first column of the rows, as text.
    pub(crate) async fn try_run(&self, statements: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        let connection = tokio::spawn(connection);
        let said = client.simple_query(statements).await;
        drop(client);
        let _ = connection.await;
        let rows = said?.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// The same when nothing can go wrong.
    pub(crate) async fn run(&self, statements: &str) -> Vec<String> {
        self.try_run(statements).await.unwrap()
    }

    /// The same while it may not have what is asked for yet: nothing then.
    pub(crate) async fn ask(&self, statements: &str) -> Vec<String> {
        self.try_run(statements).await.unwrap_or_default()
    }

    /// Cuts all connections of replicas.
    pub(crate) async fn cut(&self) {
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'replyvault'").await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
    }
}

/// Where its programs are: in the path, or where Debian puts those of the newest version.
fn binaries() -> Option<PathBuf> {
    let has = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|dir| has(dir));
    let installed = || {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut found: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        found.sort();
        found.into_iter().rev().find(|dir| has(dir))
    };
    in_path.or_else(installed)
}

/// Where PgBouncer is: in the path, or where Debian puts it.
pub(crate) fn pgbouncer() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join("pgbouncer"));
    found.find(|program| program.is_file())
}

/// The processes that a process has begun.
fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let is_child = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state, then the parent.
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(parent.as_str())
    };
    let names = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_child(name)).filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// The ids of a user and group to run as.
fn someone() -> Option<(u32, u32)> {
    let known = std::fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let line = known.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody"))
}
