use super::service::{tls_failure, tls_files};
use super::{Failure, print, print_error};
use crate::config::{Config, DataDir};
use crate::fetch::Fetcher;

/// Tries what can be tried without starting.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let dir = &config.data.dir;
    DataDir::check(dir).map_err(|error| Failure::usage(config.error("data.dir", error)))?;
    // Reads secrets.toml without making it: a check leaves nothing behind.
    if dir.join("secrets.toml").exists() {
        config.credentials().map_err(Failure::usage)?;
    }
    let storage = config.storage.url.to_string();
    match config.storage.url.directory() {
        Some(bucket) => DataDir::check(&bucket).map_err(|error| Failure::usage(config.error("storage.url", error)))?,
        None => drop(config.open_bucket().map_err(Failure::usage)?),
    }
    if let Some(files) = tls_files(config) {
        files.check().map_err(|error| tls_failure(config, &error))?;
    }
    Fetcher::new(&config.fetch()).map_err(Failure::usage)?;
    for warning in config.warnings() {
        print_error(&format!("warning: {warning}"));
    }
    let file = config.file().unwrap_or("built-in defaults");
    let line = format!("ok {file}: data in {}, media in {storage}", dir.display());
    print(format!("{}\n", crate::telemetry::escaped(&line)))
}
