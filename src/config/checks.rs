//! What no single type can say: bounds, keys that belong together.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::data_dir::is_ours;
use super::sections::Secrets;
use super::units::{DurationSetting, Size};
use super::{Config, Error, Secret};
use crate::bucket::MAX_PARTS;
use crate::domain::{MediaUrl, Route};
use crate::egress::Policy;
use crate::notify::SigningKeys;

/// A reply URL adds up to 81 characters to it, and the provider takes 1,024.
const MAX_PUBLIC_URL: usize = 900;

/// The old and the new, and room for a mistake.
const MAX_SIGNING_KEYS: usize = 4;

/// Shorter ones can be guessed.
const SHORT_SECRET: usize = 16;

/// Finds the first thing that is wrong.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    notify(config)?;
    server(config)?;
    auth(config)?;
    storage(config)?;
    bucket_apart(config)?;
    cluster(config)?;
    let expected = |key: &str, what: &str| Err(config.error(key, format!("expected {what}")));
    let fetch = &config.fetch;
    if fetch.idle_timeout.0.is_zero() {
        return expected("fetch.idle_timeout", "more than 0s");
    }
    let most = Size(config.storage.part_size.0.saturating_mul(MAX_PARTS as u64));
    if fetch.max_size > most && config.sources.place("fetch.max_size").is_none() {
        let least = Size(fetch.max_size.0.div_ceil(MAX_PARTS as u64));
        let what = format!(
            "at least {least}, since a file of {} (fetch.max_size) has {MAX_PARTS} parts at most",
            fetch.max_size
        );
        return expected("storage.part_size", &what);
    }
    if fetch.max_size.0 == 0 || fetch.max_size > most {
        let what = format!("1B to {most} ({MAX_PARTS} times storage.part_size), found {}", fetch.max_size);
        return expected("fetch.max_size", &what);
    }
    if config.provider.confirm && config.provider.api_token.is_none() {
        return expected("provider.api_token", "a token to ask with, since provider.confirm is true");
    }
    if config.provider.base_url.url().query().is_some() {
        return expected("provider.base_url", "a URL without a query");
    }
    let gateway = &config.gateway;
    if gateway.enabled && config.provider.api_token.is_none() && gateway.provider_tokens.is_empty() {
        return expected("gateway.enabled", "provider.api_token, gateway.provider_tokens or both with it");
    }
    visible("provider.api_token", config, config.provider.api_token.iter())?;
    visible("gateway.provider_tokens", config, config.gateway.provider_tokens.iter())
}

fn notify(config: &Config) -> Result<(), Error> {
    let read = |key: &str, secrets: &Secrets| match SigningKeys::read(secrets.0.iter().map(|secret| &secret.0)) {
        Ok(_) if secrets.0.len() <= MAX_SIGNING_KEYS => Ok(()),
        Ok(_) => Err(config.error(key, format!("expected at most {MAX_SIGNING_KEYS} secrets"))),
        Err(error) => Err(config.error(key, error)),
    };
    if let Some(secrets) = &config.notify.secret {
        read("notify.secret", secrets)?;
    }
    let endpoints = &config.notify.endpoints;
    if endpoints.len() > Route::MAX {
        return Err(config.error("notify.endpoints", format!("expected at most {}", Route::MAX)));
    }
    let mut names = HashSet::new();
    for (place, endpoint) in endpoints.iter().enumerate() {
        let key = |name: &str| format!("notify.endpoints[{place}].{name}");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let is_name = (1..=64).contains(&endpoint.name.len()) && endpoint.name.bytes().all(plain);
        if !is_name || !names.insert(endpoint.name.as_str()) {
            let what = "expected a name of 1 to 64 letters, digits, '-', '_' and '.', another for each endpoint";
            return Err(config.error(&key("name"), what));
        }
        read(&key("secret"), &endpoint.secret)?;
        if endpoint.events.is_empty() {
            return Err(config.error(&key("events"), "expected at least one event"));
        }
    }
    Ok(())
}

/// What one machine makes for itself must be the same on all.
fn cluster(config: &Config) -> Result<(), Error> {
    if config.postgres()?.is_none() {
        return Ok(());
    }
    let shared = |key: &str, what: &str| {
        let problem = format!("expected {what}, the same for every replica, since cluster.postgres is set");
        Err(config.error(key, problem))
    };
    let auth = &config.auth;
    if auth.reply_secrets.is_empty() {
        return shared("auth.reply_secrets", "at least one key");
    }
    if auth.api_tokens.is_empty() && auth.tokens.is_empty() {
        return shared("auth.api_tokens", "at least one token");
    }
    if config.notify.secret.is_none() {
        return shared("notify.secret", "a secret");
    }
    if !config.storage.url.is_remote() {
        return shared("storage.url", "a bucket that all machines reach");
    }
    Ok(())
}

fn server(config: &Config) -> Result<(), Error> {
    let server = &config.server;
    let (least, most) = (Size(1 << 10), Size(64 << 20));
    if !(least..=most).contains(&server.max_callback_size) {
        let problem = format!("expected {least} to {most}, found {}", server.max_callback_size);
        return Err(config.error("server.max_callback_size", problem));
    }
    if server.public_url.url().query().is_some() {
        return Err(config.error("server.public_url", "expected a URL without a query"));
    }
    let length = server.public_url.as_str().chars().count();
    if length > MAX_PUBLIC_URL {
        let problem = format!("expected at most {MAX_PUBLIC_URL} characters, found {length}");
        return Err(config.error("server.public_url", problem));
    }
    let (certificate, key) = ("server.tls_certificate", "server.tls_key");
    match (&server.tls_certificate, &server.tls_key) {
        (Some(_), None) => Err(config.error(certificate, format!("expected together with {key}, or neither"))),
        (None, Some(_)) => Err(config.error(key, format!("expected together with {certificate}, or neither"))),
        _ => Ok(()),
    }
}

fn auth(config: &Config) -> Result<(), Error> {
    let auth = &config.auth;
    visible("auth.api_tokens", config, auth.api_tokens.iter())?;
    visible("auth.tokens", config, auth.tokens.iter().map(|token| &token.token))?;
    let mut names = HashSet::new();
    for token in &auth.tokens {
        let plain = (1..=64).contains(&token.name.chars().count()) && !token.name.chars().any(char::is_control);
        if !plain || !names.insert(token.name.as_str()) {
            return Err(config.error("auth.tokens", "expected a name of 1 to 64 characters for each, all different"));
        }
    }
    let mut seen = HashSet::new();
    let tokens = auth.api_tokens.iter().chain(auth.tokens.iter().map(|token| &token.token));
    if !tokens.map(Secret::expose).all(|token| seen.insert(token)) {
        return Err(config.error("auth.tokens", "expected every token only once, here and in auth.api_tokens"));
    }
    Ok(())
}

/// Tokens travel in a header; a line end at the end of one is a file's, and would fit no request.
fn visible<'a>(key: &str, config: &Config, mut tokens: impl Iterator<Item = &'a Secret>) -> Result<(), Error> {
    if tokens.all(|token| token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
        return Ok(());
    }
    Err(config.error(key, "expected visible ASCII characters, without spaces and line ends"))
}

fn storage(config: &Config) -> Result<(), Error> {
    let storage = &config.storage;
    let remote = storage.url.is_remote();
    let (least, most) = (Size(if remote { 5 << 20 } else { 1 }), Size(5 << 30));
    if !(least..=most).contains(&storage.part_size) {
        let what = if remote { " (what the store takes)" } else { "" };
        let problem = format!("expected {least} to {most}{what}, found {}", storage.part_size);
        return Err(config.error("storage.part_size", problem));
    }
    if storage
        .region
        .as_deref()
        .is_some_and(|region| region.is_empty() || !region.bytes().all(|b| b.is_ascii_graphic()))
    {
        return Err(config.error("storage.region", "expected a region such as \"eu-central-1\""));
    }
    if storage.public_url.as_ref().is_some_and(|url| url.url().query().is_some()) {
        return Err(config.error("storage.public_url", "expected a URL without a query"));
    }
    let (least, most) = (DurationSetting(Duration::from_secs(1)), DurationSetting(Duration::from_secs(7 * 86_400)));
    if !(least..=most).contains(&storage.presign_expiry) {
        let problem = format!("expected {least} to {most}, found {}", storage.presign_expiry);
        return Err(config.error("storage.presign_expiry", problem));
    }
    let (id, secret) = ("storage.access_key_id", "storage.secret_access_key");
    match (&storage.access_key_id, &storage.secret_access_key) {
        (Some(_), None) => Err(config.error(id, format!("expected together with {secret}, or neither"))),
        (None, Some(_)) => Err(config.error(secret, format!("expected together with {id}, or neither"))),
        _ => Ok(()),
    }
}

/// The bucket must not lie in what belongs to this machine alone.
fn bucket_apart(config: &Config) -> Result<(), Error> {
    let Some(bucket) = config.storage.url.directory() else { return Ok(()) };
    let data = &config.data.dir;
    let folder = normal(&bucket);
    let folder = folder.strip_prefix(normal(data)).ok().and_then(|path| path.components().next());
    let is_in_ours = folder.is_some_and(|folder| {
        let name = folder.as_os_str().to_string_lossy();
        name != "bucket" && is_ours(&name)
    });
    if !is_in_ours {
        return Ok(());
    }
    let expected = format!(
        "expected a bucket outside of data.dir ({}), or in a folder of its own there such as bucket, found {}",
        data.display(),
        config.storage.url
    );
    Err(config.error("storage.url", expected))
}

/// Whether what belongs to this machine alone, secrets among it, lies in the bucket.
fn bucket_holds_data(config: &Config) -> bool {
    config.storage.url.directory().is_some_and(|bucket| normal(&config.data.dir).starts_with(normal(&bucket)))
}

/// An absolute path without `.` and `..`; links are left as they are.
fn normal(path: &Path) -> PathBuf {
    let path = Path::new(".").join(path);
    let mut normal = PathBuf::new();
    for component in std::path::absolute(&path).unwrap_or(path).components() {
        if component == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal
}

/// What is allowed and yet hardly meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if bucket_holds_data(config) {
        warnings.push(format!(
            "data.dir ({}) lies in the bucket ({}), and secrets.toml with it: whoever reads the bucket's directory reads them",
            config.data.dir.display(),
            config.storage.url
        ));
    }
    let mut warn = |key: &str, text: &str| warnings.push(config.error(key, text).to_string());
    let short = |secret: &Secret| secret.expose().len() < SHORT_SECRET;
    let auth = &config.auth;
    if auth.api_tokens.iter().any(short) {
        warn("auth.api_tokens", "one has fewer than 16 characters and may be guessed");
    }
    if auth.tokens.iter().any(|token| short(&token.token)) {
        warn("auth.tokens", "one has fewer than 16 characters and may be guessed");
    }
    if auth.reply_secrets.iter().any(short) {
        warn("auth.reply_secrets", "one has fewer than 16 characters and may be guessed");
    }
    if !config.server.listen.is_loopback() && config.server.public_url.is_loopback() {
        warn("server.public_url", "only this machine finds itself there: the provider cannot call such a replyUrl");
    }
    for key in ["data.dir", "storage.url"] {
        if config.sources.is_outranked(key) {
            warn(key, "it outranks what the configuration file says, and decides where everything is kept");
        }
    }
    if config.fetch.allowed_hosts.is_empty() {
        warn("fetch.allowed_hosts", "it is empty: no media will be fetched");
    }
    let policy = Policy::new(config.receivers_egress());
    for (place, endpoint) in config.notify.endpoints.iter().enumerate() {
        if let Ok(url) = MediaUrl::from_url(endpoint.url.url().clone())
            && let Err(refusal) = policy.check_url(&url)
        {
            let text =
                format!("{refusal}: no event is sent there, as fetch.allow_http and allow_private_addresses are");
            warn(&format!("notify.endpoints[{place}].url"), &text);
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(text, "config.toml", Path::new(""), []).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_and_what_is_this_machines_alone_lie_apart() {
        let here = std::env::current_dir().unwrap();
        let absolute = format!("file:{}", here.join("data").display().to_string().replace('%', "%25"));
        for bucket in ["file:data", "file:data/", "file:./data", "file:other/../data", "file:.", "file:/", &absolute] {
            let config = read(&format!("storage.url = \"{bucket}\"")).expect(bucket);
            assert!(warnings(&config).iter().any(|warning| warning.starts_with("data.dir (data) lies in")), "{bucket}");
        }
        for bucket in ["file:data/journal", "file:data/state/media", "file:data/spool", "file:data/secrets.toml"] {
            let error = read(&format!("storage.url = \"{bucket}\"")).expect_err(bucket);
            let expected = "config.toml: storage.url: expected a bucket outside of data.dir (data), or in a folder of";
            assert!(error.starts_with(expected), "{bucket}: {error}");
        }
        for bucket in ["file:data/bucket", "file:data/bucket/a", "file:data/media", "file:database", "memory:"] {
            let config = read(&format!("storage.url = \"{bucket}\"")).expect(bucket);
            assert!(!bucket_holds_data(&config), "{bucket}");
        }
        assert!(bucket_holds_data(&read("data.dir = \"data/bucket/vault\"").unwrap()));
        assert!(read("data.dir = \".\"").is_ok());
    }
}
