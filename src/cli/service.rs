//! The commands that run the service itself.

use std::path::PathBuf;

use super::Failure;
use crate::config::{Config, DataDir};

/// Runs the service.
pub(super) async fn serve(config: Config) -> Result<(), Failure> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let _held = DataDir::lock(&config.data.dir).map_err(Failure::usage)?;
    Err(Failure::found("serve is not built in yet"))
}

/// Runs the whole of it on this machine.
pub(super) async fn demo(_jobs: u32, _keep: Option<PathBuf>, _serve: bool) -> Result<(), Failure> {
    Err(Failure::found("demo is not built in yet"))
}
