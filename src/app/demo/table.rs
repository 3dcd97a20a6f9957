use std::collections::HashMap;

use bytesize::ByteSize;
use comfy_table::{Cell, CellAlignment, Table};

use super::super::Running;
use crate::bucket::{BucketError, ObjectKey};
use crate::domain::{AssetState, Digest};
use crate::simulator::Expected;
use crate::state::JobRecord;

/// One file, as it was found in the bucket.
#[derive(Clone, Debug)]
pub(super) struct Row {
    reply_ref: String,
    kind: &'static str,
    file: String,
    bytes: u64,
    sha256: String,
    place: String,
    /// True when the object's bytes have the recorded hash, and that is the hash of what the provider made.
    pub(super) verified: bool,
}

/// Reads every file of `jobs` back from the bucket.
pub(super) async fn read_back(
    running: &Running,
    truth: &[Expected],
    jobs: &[JobRecord],
) -> Result<Vec<Row>, BucketError> {
    let made: HashMap<&str, Vec<Digest>> =
        truth.iter().map(|job| (job.job_id.as_str(), job.files.iter().map(|file| file.sha256).collect())).collect();
    let mut rows = Vec::new();
    for record in jobs {
        let job = &record.job;
        let known = made.get(job.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        for asset in &job.assets {
            let mut row = Row {
                reply_ref: job.reply_ref.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
                kind: job.kind().as_str(),
                file: asset.file.as_str().to_owned(),
                bytes: 0,
                sha256: String::new(),
                place: asset.last_error.clone().unwrap_or_else(|| "not stored".to_owned()),
                verified: false,
            };
            if let (AssetState::Stored, Some(stored)) = (asset.state, &asset.stored) {
                let found = match stored.key.parse::<ObjectKey>() {
                    Ok(key) => running.bucket().digest(&key).await?,
                    Err(_) => None,
                };
                row.bytes = stored.bytes;
                row.sha256 = stored.sha256.to_string();
                row.place.clone_from(&stored.key);
                row.verified = found == Some((stored.sha256, stored.bytes)) && known.contains(&stored.sha256);
            }
            rows.push(row);
        }
    }
    rows.sort_by(|a, b| (&a.reply_ref, &a.place).cmp(&(&b.reply_ref, &b.place)));
    Ok(rows)
}

/// The files as a table for people.
pub(super) fn render(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["replyRef", "kind", "file", "size", "sha256", "", "where"]);
    for row in rows {
        table.add_row([
            Cell::new(&row.reply_ref),
            Cell::new(row.kind),
            Cell::new(&row.file),
            Cell::new(ByteSize(row.bytes)).set_alignment(CellAlignment::Right),
            Cell::new(row.sha256.get(..12).unwrap_or_default()),
            Cell::new(if row.verified { "✓" } else { "✗" }),
            Cell::new(&row.place),
        ]);
    }
    table.to_string()
}
