//! The commands that run the service itself.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::output::write;
use super::{Failure, print};
use crate::api;
use crate::app::{self, DemoOptions, Running, Settings, StartError, TlsError, TlsFiles};
use crate::bucket::OpenError;
use crate::config::{self, Config, Credentials, DataDir, Watermark};
use crate::domain::Target;
use crate::egress;
use crate::intake::ReplyUrls;
use crate::reconcile;
use crate::state::RecoveryError;
use crate::worker::{self, Confirmer};

/// How long requests and transfers may go on when a part that must run has ended.
const AFTER_DEFECT: Duration = Duration::from_secs(3);

/// Runs the service until it is asked to end.
pub(super) async fn serve(config: Config) -> Result<(), Failure> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let locked = DataDir::lock(&config.data.dir);
    let _held = locked.map_err(|error| Failure::usage(config.error("data.dir", error)))?;
    super::cluster::expect_no_replica(&config)?;
    let credentials = config.credentials().map_err(Failure::usage)?;
    let settings = settings(&config, &credentials)?;
    // The first process of a container is sent no signal that it does not listen to.
    let mut shutdown_signal = pin!(app::shutdown_signal());
    let running = Running::start(settings).await.map_err(|error| start_failure(&config, error))?;
    let urls = running.intake().urls();
    if credentials.made {
        announce(&config, urls)?;
    }
    tracing::info!(address = %running.address(), public_url = urls.public_url(), "serving");
    let ended = tokio::select! {
        () = &mut shutdown_signal => None,
        ended = running.ended() => Some(ended),
    };
    if let Some(ended) = ended {
        // What is durable stays so. Nothing is waited for that the missing part may have had to do.
        tracing::error!(%ended, "a part that must run has ended, so the service ends");
        let _ = timeout(AFTER_DEFECT, running.stop()).await;
        return Err(Failure::runtime(ended));
    }
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// Runs the whole of it on this machine.
pub(super) async fn demo(jobs: u32, keep: Option<PathBuf>, serve: bool) -> Result<(), Failure> {
    if let Some(dir) = &keep {
        DataDir::check(dir).map_err(|error| Failure::usage(format!("--keep: {error}")))?;
    }
    match app::demo(DemoOptions { jobs, keep, serve }, write).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::runtime("not everything that was made is in the bucket as it was made")),
        Err(error) => Err(Failure::runtime(error)),
    }
}

/// What the service of this configuration is made of.
pub(super) fn settings(config: &Config, credentials: &Credentials) -> Result<Settings, Failure> {
    let listen = config.server.listen.addresses();
    let tokens = credentials.api_tokens.iter().map(|token| api::Token {
        name: token.name.clone(),
        token: token.token.clone(),
        scope: match token.scope {
            config::Scope::Read => api::Scope::Read,
            config::Scope::Admin => api::Scope::Admin,
        },
    });
    let notify = config.notify(credentials.notify_keys.clone()).map_err(Failure::usage)?;
    let receivers = egress::Policy::new(notify.egress.clone());
    Ok(Settings {
        listen: listen.map_err(|error| Failure::usage(config.error("server.listen", error)))?,
        tls: tls_files(config),
        trusted_proxies: config.server.trusted_proxies.clone(),
        data_dir: config.data.dir.clone(),
        cluster: config.postgres().map_err(Failure::usage)?,
        journal_keys: credentials.journal_keys.clone(),
        reply_urls: credentials.reply_urls.clone(),
        has_public_url: !config.server.public_url.is_loopback(),
        intake: config.intake(),
        bucket: config.bucket(),
        fetch: config.fetch(),
        provider: config.provider(),
        reconcile: reconcile::Config { adopt_listed: config.gateway.adopt_listed, ..Default::default() },
        gateway: config.gateway(credentials),
        confirm_patience: Confirmer::PATIENCE,
        relay: config.relay(),
        notify,
        links: config.links(),
        worker: worker::Config {
            concurrency: config.fetch.concurrency,
            per_host: config.fetch.per_host,
            max_attempts: config.fetch.max_attempts,
            clean_only: config.fetch.watermark == Watermark::CleanOnly,
            key: config.storage.key.0.clone(),
        },
        api: api::Config {
            tokens: tokens.collect(),
            data_dir: config.data.dir.clone(),
            min_free_bytes: api::Config::MIN_FREE_BYTES,
            receivers,
        },
        idle_timeout: Settings::IDLE_TIMEOUT,
        longest_unread: Settings::LONGEST_UNREAD,
        journal_retention: config.data.journal_retention.0,
        shutdown_grace: config.server.shutdown_grace.0,
    })
}

/// The files for HTTPS; the configuration has both of them or none.
pub(super) fn tls_files(config: &Config) -> Option<TlsFiles> {
    let (certificate, key) = (config.server.tls_certificate.clone()?, config.server.tls_key.clone()?);
    Some(TlsFiles { certificate, key })
}

/// What is wrong with the files for HTTPS.
pub(super) fn tls_failure(config: &Config, error: &TlsError) -> Failure {
    let key = if matches!(error, TlsError::Key { .. }) { "server.tls_key" } else { "server.tls_certificate" };
    Failure::usage(config.error(key, error))
}

/// Says once what only whoever starts it for the first time can know.
fn announce(config: &Config, urls: &ReplyUrls) -> Result<(), Failure> {
    print(announcement(config, &urls.reply_url(&Target::UseApi)))
}

fn announcement(config: &Config, reply_url: &str) -> String {
    let secrets = config.data.dir.join("secrets.toml");
    let made = |key: &str| format!("{key} in {}", secrets.display());
    let (auth, notify) = (&config.auth, &config.notify);
    let has_tokens = !auth.api_tokens.is_empty() || !auth.tokens.is_empty();
    let api_token = if has_tokens { "as configured in [auth]".to_owned() } else { made("api_token") };
    let mut text = format!(
        "replyUrl to send along with a job (`replyvault reply-url` prints it again):\n  {reply_url}\n\
         API token: {api_token}\n"
    );
    if notify.secret.is_none() {
        text += &format!("What verifies events to the notifyUrl of a ref: {}\n", made("notify_secret"));
    }
    text
}

/// What keeps the service from starting is the configuration's to mend.
pub(super) fn start_failure(config: &Config, error: StartError) -> Failure {
    let key = match &error {
        StartError::Tls(error) => return tls_failure(config, error),
        StartError::Listen { .. } => "server.listen",
        StartError::Recovery(RecoveryError::Thread(_)) => return Failure::runtime(error),
        StartError::Recovery(_) => "data.dir",
        StartError::Cluster(_) => "data.dir",
        StartError::Bucket(OpenError::Endpoint(_)) => "storage.endpoint",
        StartError::Bucket(OpenError::PartSize) => "storage.part_size",
        StartError::Bucket(_) => "storage.url",
        StartError::NoProvider => "provider.api_token",
        StartError::Routes(_)
        | StartError::Fetch(_)
        | StartError::Search(_)
        | StartError::Http(_)
        | StartError::Cancelled(_) => return Failure::runtime(error),
    };
    Failure::usage(config.error(key, error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_start_names_a_file_only_for_what_was_made() {
        let said = |text: &str| {
            let config = Config::parse(text, "config.toml", Path::new("/etc/vault"), []).unwrap();
            announcement(&config, "https://v.io/reply/useapi/a")
        };
        let token = |text: &str| said(text).lines().nth(2).unwrap().to_owned();
        assert_eq!(token(""), "API token: api_token in /etc/vault/data/secrets.toml");
        for configured in ["api_tokens = [\"t\"]", "tokens = [{ name = \"a\", token = \"t\", scope = \"read\" }]"] {
            assert_eq!(token(&format!("[auth]\n{configured}")), "API token: as configured in [auth]");
        }
        assert!(said("").ends_with("of a ref: notify_secret in /etc/vault/data/secrets.toml\n"));
        let secret = "[notify]\nsecret = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"";
        assert!(!said(secret).contains("notify_secret"));
    }
}
