//! What the disk allows.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Appends `bytes` bytes to a file and syncs it, so many times; what each took.
pub(crate) fn synced_appends(dir: &Path, bytes: usize, times: usize) -> Result<Vec<Duration>, Failure> {
    let path = dir.join("probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let (record, mut taken) = (vec![b'x'; bytes], Vec::with_capacity(times));
    for _ in 0..times {
        let began = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        taken.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(taken)
}
