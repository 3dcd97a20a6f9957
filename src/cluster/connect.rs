//! Where PostgreSQL is, and a connection to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use super::ClusterError;

/// What is wrong with a URL for PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct UrlError(String);

/// Where PostgreSQL is and who asks. Its password is not shown.
#[derive(Clone)]
pub struct PostgresUrl {
    config: Config,
    tls: Option<Arc<ClientConfig>>,
}

impl PostgresUrl {
    /// How long connecting may take, in seconds.
    const CONNECT: Duration = Duration::from_secs(5);

    /// Reads `postgres://user:password@host:port/database?option=…`. A password that it does not have is looked for in
    /// `PGPASSWORD`, then in the file that `PGPASSFILE` names or `~/.pgpass`, as libpq does (documentation of PostgreSQL
    /// 15, sections 34.15 and 34.16).
    ///
    /// TLS is used and the certificate checked unless the host is this machine or `sslmode` says `disable` or `prefer`;
    /// `sslrootcert` names a file with the authorities to trust in place of the system's.
    ///
    /// # Errors
    /// When it cannot be read, or names what is not known here.
    pub fn parse(url: &SecretString, variable: impl Fn(&str) -> Option<String>) -> Result<Self, UrlError> {
        let expected = |what: &str| UrlError(what.to_owned());
        let mut url = Url::parse(url.expose_secret())
            .map_err(|_| expected("a URL such as postgres://user@host:5432/database"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(expected("a URL that begins with postgres://"));
        }
        let mut root = None;
        let mut mode = None;
        let options: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.set_query(None);
        for (name, value) in options {
            match name.as_str() {
                "sslrootcert" => root = Some(PathBuf::from(value)),
                "sslmode" => mode = Some(value),
                _ => drop(url.query_pairs_mut().append_pair(&name, &value)),
            }
        }
        let mut config: Config = url.as_str().parse().map_err(|error: tokio_postgres::Error| {
            UrlError(format!("a URL that can be read: {}", describe(&error)))
        })?;
        if config.get_hosts().is_empty() {
            return Err(expected("a host in the URL"));
        }
        let is_here = config.get_hosts().iter().all(is_this_machine);
        let ssl = match mode.as_deref() {
            None if is_here => SslMode::Disable,
            // The certificate is always checked, with its name.
            None | Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
            Some("prefer") => SslMode::Prefer,
            Some("disable") => SslMode::Disable,
            Some(_) => return Err(expected("sslmode to be disable, prefer, require, verify-ca or verify-full")),
        };
        config.ssl_mode(ssl);
        let tls = (ssl != SslMode::Disable).then(|| client_config(root.as_deref())).transpose()?;
        if config.get_user().is_none() {
            config.user(variable("PGUSER").or_else(|| variable("USER")).unwrap_or_else(|| "postgres".to_owned()));
        }
        if config.get_password().is_none()
            && let Some(password) = variable("PGPASSWORD").or_else(|| password_from_file(&config, &variable))
        {
            config.password(password);
        }
        config
            .application_name("replyvault")
            .connect_timeout(Self::CONNECT)
            .tcp_user_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        Ok(Self { config, tls })
    }

    /// Connects. To be called in a runtime, which the connection then lives in.
    ///
    /// # Errors
    /// When that fails.
    pub async fn connect(&self) -> Result<Connection, ClusterError> {
        let connecting = async {
            match &self.tls {
                Some(tls) => {
                    let tls = MakeRustlsConnect::new(ClientConfig::clone(tls));
                    let (client, connection) = self.config.connect(tls).await?;
                    Ok((client, tokio::spawn(async move { drop(connection.await) }).abort_handle()))
                }
                None => {
                    let (client, connection) = self.config.connect(tokio_postgres::NoTls).await?;
                    Ok((client, tokio::spawn(async move { drop(connection.await) }).abort_handle()))
                }
            }
        };
        let connected = timeout(Self::CONNECT, connecting).await.map_err(|_| ClusterError::TimedOut(Self::CONNECT))?;
        let (client, task) = connected.map_err(|error: tokio_postgres::Error| ClusterError::Lost(describe(&error)))?;
        Ok(Connection { client, task, tls: self.tls.clone(), patience: Connection::STATEMENT })
    }
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresUrl").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

/// A connection, which ends when this is dropped.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    task: AbortHandle,
    tls: Option<Arc<ClientConfig>>,
    /// How long a statement may take.
    patience: Duration,
}

/// A value and its type.
pub(super) type Parameter<'a> = (&'a (dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type);

impl Connection {
    /// How long a statement may take where nobody waits for it.
    const STATEMENT: Duration = Duration::from_secs(10);

    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Runs one statement, which is a transaction of its own. One that takes too long is cancelled: it may wait for a lock, and
    /// must not do so for ever while one after the other joins it.
    pub(super) async fn query(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, ClusterError> {
        let asked = self.ask(self.patience, statement, parameters).await;
        if matches!(asked, Err(ClusterError::TimedOut(_))) {
            self.cancel();
        }
        asked
    }

    /// The same, without cancelling: an append that is committed and waits for a standby would count as done when cancelled.
    pub(super) async fn ask(
        &self,
        patience: Duration,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, ClusterError> {
        let asked = timeout(patience, self.client.query_typed(statement, parameters)).await;
        asked.map_err(|_| ClusterError::TimedOut(patience))?.map_err(|error| failed(&error))
    }

    /// Whether the server was there when it was last heard of.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    fn cancel(&self) {
        let (token, tls) = (self.client.cancel_token(), self.tls.clone());
        tokio::spawn(timeout(PostgresUrl::CONNECT, async move {
            match tls {
                Some(tls) => token.cancel_query(MakeRustlsConnect::new(ClientConfig::clone(&tls))).await,
                None => token.cancel_query(tokio_postgres::NoTls).await,
            }
        }));
    }

    /// Runs statements without parameters.
    pub(super) async fn batch(&self, statements: &str) -> Result<(), ClusterError> {
        /// Somebody else may just be making the tables.
        const PATIENCE: Duration = Duration::from_secs(60);
        let asked = timeout(PATIENCE, self.client.batch_execute(statements)).await;
        asked.map_err(|_| ClusterError::TimedOut(PATIENCE))?.map_err(|error| failed(&error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(error: &tokio_postgres::Error) -> ClusterError {
    use tokio_postgres::error::SqlState;
    let text = describe(error);
    match error.code() {
        // The server is going down: it may have committed, and not said so.
        Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN) => ClusterError::Lost(text),
        Some(code) if code.code().starts_with("08") => ClusterError::Lost(text),
        Some(_) => ClusterError::Refused(text),
        None => ClusterError::Lost(text),
    }
}

/// The library's own text leaves out what the server said.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} ({})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
    }
}

fn client_config(root: Option<&Path>) -> Result<Arc<ClientConfig>, UrlError> {
    let found = match root {
        Some(path) => rustls_native_certs::load_certs_from_paths(Some(path), None),
        None => rustls_native_certs::load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let whose = root.map_or("the system".to_owned(), |path| path.display().to_string());
        return Err(UrlError(format!("certificates of authorities from {whose}, found none")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| UrlError(format!("TLS that can be set up: {error}")))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// The password in the file of passwords, of the first line that fits.
fn password_from_file(config: &Config, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let path = match variable("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(variable("HOME")?).join(".pgpass"),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // libpq ignores it then, too.
        if std::fs::metadata(&path).ok()?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "the file of passwords is open to others and is not read");
            return None;
        }
    }
    let text = std::fs::read_to_string(path).ok()?;
    let host = match config.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        Host::Unix(_) => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user()?;
    let wanted = [host.as_str(), &port, config.get_dbname().unwrap_or(user), user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let (password, asked) = fields.split_last()?;
        let fits = asked.len() == 4 && asked.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
        fits.then(|| password.clone())
    })
}

/// The fields of a line, between colons that no backslash stands before.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ':' => {
                fields.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            letter => letter,
        };
        fields.last_mut().into_iter().for_each(|field| field.push(letter));
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read(url: &str, variables: &[(&str, &str)]) -> Result<PostgresUrl, String> {
        let known: HashMap<_, _> = variables.iter().copied().collect();
        PostgresUrl::parse(&url.into(), |name| known.get(name).map(ToString::to_string))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_password_comes_from_the_url_the_environment_or_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgpass");
        std::fs::write(&file, "# all\nelse:*:*:*:no\n127.0.0.1:5433:d\\:b:u:a\\:b\\\\c\n*:*:*:*:last\n").unwrap();
        let path = file.display().to_string();
        let variables = [("PGPASSFILE", path.as_str())];
        let password = |url: &str, variables: &[(&str, &str)]| {
            read(url, variables).unwrap().config.get_password().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(password("postgres://u:p@127.0.0.1/db", &[("PGPASSWORD", "e")]).as_deref(), Some("p"));
        assert_eq!(password("postgres://u@127.0.0.1/db", &[("PGPASSWORD", "e")]).as_deref(), Some("e"));
        assert_eq!(password("postgres://u@127.0.0.1/db", &[]), None);
        assert_eq!(password("postgres://u@127.0.0.1/db", &variables), None, "open to others");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password("postgres://u@127.0.0.1:5433/d%3Ab", &variables).as_deref(), Some("a:b\\c"));
        assert_eq!(password("postgres://u@127.0.0.1/db", &variables).as_deref(), Some("last"));
    }

    #[test]
    fn tls_is_used_where_the_way_leads_off_this_machine() {
        let mode = |url: &str| read(url, &[]).unwrap().config.get_ssl_mode();
        assert_eq!(mode("postgres://u@localhost/db"), SslMode::Disable);
        assert_eq!(mode("postgres://u@[::1]/db"), SslMode::Disable);
        assert_eq!(mode("postgres://u@db.example.com/db?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://u@db.example.com/db"), SslMode::Require);
        assert_eq!(mode("postgres://u@localhost/db?sslmode=verify-full"), SslMode::Require);
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_no_password_is_shown() {
        let problems = [
            ("mysql://u@h/db", "begins with postgres://"),
            ("nothing", "a URL such as"),
            ("postgres://u@h/db?sslmode=maybe", "sslmode to be"),
            ("postgres://u@h/db?sslrootcert=/nowhere", "certificates of authorities from /nowhere"),
        ];
        for (url, problem) in problems {
            let said = read(url, &[]).unwrap_err();
            assert!(said.contains(problem), "{said}");
        }
        let shown = format!("{:?}", read("postgres://u:hunter2@localhost/db", &[]).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
