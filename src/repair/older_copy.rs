//! A data directory that is older than the bucket: a copy that was put back.
//!
//! The bucket's journal then goes on behind the end of what is here, with entries that were acknowledged. They are read
//! into the state; new entries stand behind them, since a journal's first segment after a start follows from the time. When
//! the bucket does not answer at the start, callbacks are taken all the same, and it is asked until it does.

use std::time::Duration;

use crate::journal::Standing;
use crate::state::{EventLog, Recovery};

/// Compares what was here at the start with the archive, for as long as that does not answer, and sees to it that the state
/// is made of both. Returns how the state was brought up to date; `None` when the service stops before.
pub async fn compare_with_archive(log: &EventLog) -> Option<Recovery> {
    const LONGEST: Duration = Duration::from_secs(60);
    let mut recovery = log.recovered().await?;
    // As it was when the state was brought up to date.
    let surveyed = log.journal().standing();
    let (mut standing, mut pause) = (surveyed, Duration::from_millis(500));
    while standing == Standing::Unknown {
        let journal = log.journal().clone();
        match tokio::task::spawn_blocking(move || journal.survey_archive()).await {
            Ok(Ok(found)) => standing = found,
            Ok(Err(error)) => {
                tracing::debug!(%error, "whether this is an older copy cannot be told yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            Err(_) => return None,
        }
    }
    match standing {
        Standing::OlderCopy { archive_end } => {
            tracing::warn!(
                archive_end,
                "the data directory is older than the bucket: a copy that was put back. What the bucket's journal has beyond \
                 it is read; what was neither in the copy nor in the bucket is lost"
            );
            if surveyed == Standing::Unknown {
                recovery = log.start_over().await?;
            }
            if log.journal().newest().is_none_or(|newest| newest < archive_end) {
                // The clock is behind, or was ahead once.
                if let Err(error) = log.begin_segment_at(archive_end).await {
                    tracing::error!(%error, "no segment could be begun behind those in the bucket");
                }
            }
        }
        Standing::Empty => tracing::warn!(
            "the bucket has an older journal, and there was none here: after a loss, put secrets.toml back and run `replyvault \
             rebuild`"
        ),
        Standing::InStep | Standing::Unknown => {}
    }
    Some(recovery)
}
