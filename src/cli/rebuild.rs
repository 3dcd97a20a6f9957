use std::pin::pin;

use super::progress::{ProgressDisplay, TICK};
use super::{Failure, print};
use crate::config::{Config, DataDir, DataDirError};
use crate::intake::Intake;
use crate::journal::DamageKind;
use crate::repair::{RebuildError, RebuildProgress, rebuild};
use crate::state::Counters;

/// Makes the state anew from journal and bucket, and says what it holds.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let held = DataDir::lock(&config.data.dir).map_err(|error| match error {
        DataDirError::Held(_) => Failure::usage(format!("{error}: rebuild needs it stopped")),
        DataDirError::Io { .. } => Failure::usage(config.error("data.dir", error)),
    })?;
    super::cluster::expect_alone(config)?;
    let bucket = config.open_bucket().map_err(Failure::usage)?;
    let keys = config.journal_keys().map_err(Failure::usage)?;
    let progress = RebuildProgress::default();
    let rebuilt = watched(rebuild(held.path(), &bucket, keys, Intake::parse_callback, &progress), &progress).await;
    let rebuilt = rebuilt.map_err(|error| match error {
        RebuildError::Nothing(_) | RebuildError::NoJournal(_) => Failure::usage(config.error("data.dir", error)),
        other => Failure::runtime(other),
    })?;
    let Counters { jobs, queued, objects, bytes_stored, refs, quarantined, callbacks, .. } = rebuilt.counters;
    let recovery = rebuilt.recovery;
    let mut lines = vec![format!(
        "the state was made anew from {} journal entries ({} segments in the bucket) and {} manifests",
        recovery.replayed, rebuilt.segments, rebuilt.manifests
    )];
    for damage in &recovery.damage {
        let (segment, from, to) = (damage.segment.display(), damage.from, damage.to);
        lines.push(match damage.kind {
            DamageKind::TornTail => {
                format!("{segment}: from {from}: the last write was cut off; it was never acknowledged")
            }
            DamageKind::Header => format!("{segment}: its header is damaged; its records were read all the same"),
            DamageKind::Garbled => format!("{segment}: from {from} to {to}: damaged, passed over"),
            DamageKind::Missing => format!("before {segment}: from {from} to {to}: missing"),
        });
    }
    lines.extend(rebuilt.problems);
    let jobs: Vec<_> = jobs
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!("{} {count}", state.as_str()))
        .collect();
    lines.push(format!("jobs: {}", if jobs.is_empty() { "none".to_owned() } else { jobs.join(", ") }));
    lines.push(format!("queued {queued}, refs {refs}, quarantined {quarantined}, callbacks {callbacks}"));
    lines.push(format!("objects {objects}, {}", bytesize::ByteSize(bytes_stored)));
    let text: String = lines.iter().map(|line| format!("{}\n", crate::telemetry::escaped(line))).collect();
    print(text)?;
    if recovery.has_gaps() {
        return Err(Failure::runtime("a part of the journal is damaged or missing"));
    }
    Ok(())
}

/// Does `work` and shows how far it is.
async fn watched<T>(work: impl Future<Output = T>, progress: &RebuildProgress) -> T {
    let (shown, mut work) = (ProgressDisplay::new(), pin!(work));
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = &mut work => {
                shown.end();
                return done;
            }
            _ = tick.tick() => match progress.manifests() {
                Some(manifests) => shown.at(manifests, "manifests looked at"),
                None => {
                    let read = bytesize::ByteSize(progress.journal().bytes());
                    shown.at(progress.journal().segments(), &format!("segments of the journal read ({read})"));
                }
            },
        }
    }
}
