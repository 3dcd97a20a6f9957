//! Which jobs are this replica's, where there are others.

use tokio::sync::watch;

use crate::cluster::shard_of;
use crate::domain::JobId;
use crate::state::{State, StateError};

/// All shards, a bit for each.
pub(super) const ALL: u64 = u64::MAX;

/// Whether a job is in one of `shards`, a bit for each. One that nobody knows is in the first.
///
/// # Errors
/// When the state cannot be read.
pub(super) fn include(shards: u64, state: &State, job: &JobId) -> Result<bool, StateError> {
    if shards == ALL {
        return Ok(true);
    }
    let sequence = state.job(job)?.map(|record| record.sequence);
    Ok(shards & (1 << sequence.map_or(0, shard_of)) != 0)
}

/// Resolves when other shards are this replica's; never where there are no others.
pub(super) async fn changed(shares: &mut Option<watch::Receiver<u64>>) {
    let changed = match shares {
        Some(shares) => shares.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}
