use super::{Failure, say};
use crate::config::{Config, DataDir, DataDirError};
use crate::intake::Intake;
use crate::repair::{RebuildError, rebuild};
use crate::state::Counters;

/// Makes the state anew from the journal, and says what it holds.
pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    // Asked first: locking would make a directory where there is none.
    let journal = config.data.dir.join("journal");
    if !journal.is_dir() {
        return Err(Failure::usage(config.error("data.dir", RebuildError::NoJournal(journal))));
    }
    let held = DataDir::lock(&config.data.dir).map_err(|error| match error {
        DataDirError::Held(_) => Failure::usage(format!("{error}: rebuild needs it stopped")),
        DataDirError::Io { .. } => Failure::usage(config.error("data.dir", error)),
    })?;
    let rebuilt = rebuild(held.path(), Intake::interpret).await.map_err(Failure::found)?;
    let Counters { jobs, queued, objects, bytes_stored, refs, quarantined, callbacks, .. } = rebuilt.counters;
    let recovery = rebuilt.recovery;
    let mut lines = vec![format!("the state was made anew from {} journal entries", recovery.replayed)];
    for damage in &recovery.damage {
        let (segment, from, to) = (damage.segment.display(), damage.from, damage.to);
        lines.push(match damage.torn_tail {
            true => format!("{segment}: from {from}: the last write was cut off; it was never acknowledged"),
            false => format!("{segment}: from {from} to {to}: damaged, passed over"),
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
    if recovery.damage.iter().any(|damage| !damage.torn_tail) {
        return Err(Failure::found("a part of the journal is damaged"));
    }
    Ok(())
}
