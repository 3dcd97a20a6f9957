use super::{Failure, say};
use crate::config::{Config, DataDir, DataDirError};
use crate::intake::Intake;
use crate::journal::DamageKind;
use crate::repair::{RebuildError, rebuild};
use crate::state::Counters;

/// Makes the state anew from journal and bucket, and says what it holds.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let held = DataDir::lock(&config.data.dir).map_err(|error| match error {
        DataDirError::Held(_) => Failure::usage(format!("{error}: rebuild needs it stopped")),
        DataDirError::Io { .. } => Failure::usage(config.error("data.dir", error)),
    })?;
    let bucket = config.open_bucket().map_err(Failure::usage)?;
    let rebuilt = rebuild(held.path(), &bucket, Intake::interpret).await;
    let rebuilt = rebuilt.map_err(|error| match error {
        RebuildError::Nothing(_) | RebuildError::NoJournal(_) => Failure::usage(config.error("data.dir", error)),
        other => Failure::found(other),
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
            DamageKind::Garbled => format!("{segment}: from {from} to {to}: damaged, passed over"),
            DamageKind::Missing => format!("before {segment}: from {from} to {to}: missing"),
        });
    }
    let jobs: Vec<_> = jobs
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| format!("{} {count}", state.as_str()))
        .collect();
    lines.push(format!("jobs: {}", if jobs.is_empty() { "none".to_owned() } else { jobs.join(", ") }));
    lines.push(format!("queued {queued}, refs {refs}, quarantined {quarantined}, callbacks {callbacks}"));
    lines.push(format!("objects {objects}, {}", bytesize::ByteSize(bytes_stored)));
    let text: String = lines.iter().map(|line| format!("{}\n", crate::telemetry::escaped(line))).collect();
    say(text)?;
    if recovery.has_gaps() {
        return Err(Failure::found("a part of the journal is damaged or missing"));
    }
    Ok(())
}
