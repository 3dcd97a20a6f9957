use std::path::{Path, PathBuf};

use super::{Failure, print, print_error};
use crate::config::Config;
use crate::repair::{Backup, BackupError, backup};

/// Copies what cannot be made anew of the data directory, whether or not a service is running, and says what it holds.
pub(super) async fn run(config: &Config, target: PathBuf) -> Result<(), Failure> {
    let (data, into) = (config.data.dir.clone(), target.clone());
    let copied = tokio::task::spawn_blocking(move || backup(&data, &into)).await.map_err(Failure::runtime)?;
    let copied = copied.map_err(|error| match error {
        BackupError::NotEmpty(_) | BackupError::Inside(_) => Failure::usage(error),
        BackupError::Nothing(_) => Failure::usage(config.error("data.dir", error)),
        other => Failure::runtime(other),
    })?;
    let damaged = copied.damaged;
    print(text(&target, copied))?;
    let bucket = config.storage.url.directory().filter(|bucket| bucket.starts_with(&config.data.dir));
    if let Some(bucket) = bucket {
        print_error(&format!(
            "the media are not in it: they are in {}, which needs a copy of its own",
            bucket.display()
        ));
    }
    if damaged > 0 {
        return Err(Failure::runtime(format!("{damaged} stretches of the journal are damaged, here and in the copy")));
    }
    Ok(())
}

fn text(target: &Path, copied: Backup) -> String {
    let Backup { segments, entries, bytes, end, waiting, files, .. } = copied;
    let files = if files.is_empty() { "no other files".to_owned() } else { files.join(", ") };
    let waiting = if waiting > 0 { format!("{waiting} callbacks that wait for PostgreSQL, ") } else { String::new() };
    let line = format!(
        "{}: {segments} segments of the journal with {entries} entries ({}) up to position {end}, {waiting}{files}; read back",
        target.display(),
        bytesize::ByteSize(bytes)
    );
    format!("{}\n", crate::telemetry::escaped(&line))
}
