//! Between one machine's journal and the shared log.

use std::path::Path;

use bytes::Bytes;
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::{ClusterError, PostgresUrl, schema};
use crate::journal::{DamageKind, Journal, JournalError, SegmentStart, record_length, sync_segments};

/// Why a journal was not moved into the log, or out of it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// PostgreSQL.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A part of the journal cannot be read.
    #[error("{0}: a part of the journal is damaged: expected one that `replyvault verify` finds in order")]
    Damaged(String),
    /// There is a log already.
    #[error("the database has a log already: expected an empty one")]
    NotEmpty,
    /// The copy here is not all of the log.
    #[error(
        "this replica has the log up to {here}, and it ends at {end}: expected to be started, and stopped again, first"
    )]
    Behind {
        /// The end of the copy.
        here: u64,
        /// The end of the log.
        end: u64,
    },
    /// The replica's name cannot be removed.
    #[error("the data directory cannot be written to: {0}")]
    Io(#[from] std::io::Error),
}

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Segments.
    pub segments: u64,
    /// Entries.
    pub entries: u64,
    /// Where the log ends now.
    pub end: u64,
}

/// How many bytes of records one statement inserts, about.
const BATCH: usize = 1 << 20;

/// Puts all that is in `journal` into a database without a log, at the same positions. What a run before that was cut off left
/// there is removed first. Nobody may write to the journal meanwhile.
///
/// # Errors
/// When a part of the journal is damaged, the database has a log, or does not answer.
pub async fn import(url: &PostgresUrl, journal: &Journal) -> Result<Imported, ImportError> {
    let connection = url.connect().await?;
    schema::prepare_import(&connection).await?.then_some(()).ok_or(ImportError::NotEmpty)?;
    let mut imported = Imported::default();
    let mut previous: Option<u64> = None;
    for base in journal.segments_here() {
        let Some(start) = journal.segment_start(base) else {
            return Err(ImportError::Damaged(Journal::segment_name(base)));
        };
        let (segment, mut replay) = (journal.segment(base)?, journal.read_segment(base));
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut end = start.first();
        while let Some(item) = replay.next() {
            let (position, _) = item?;
            // As it stands there: the copy here is compared with it later, and may be an earlier version's.
            let offset = |position: u64| usize::try_from(position - base).unwrap_or(usize::MAX);
            let payload = segment.get(offset(position + record_length(0))..offset(replay.end()));
            let Some(payload) = payload.filter(|_| position == end).map(Bytes::copy_from_slice) else {
                return Err(ImportError::Damaged(Journal::segment_name(base)));
            };
            end = replay.end();
            bytes += payload.len();
            records.push((position, payload));
            imported.entries += 1;
            if bytes >= BATCH {
                insert(&connection, &std::mem::take(&mut records)).await?;
                bytes = 0;
            }
        }
        if replay.damage().iter().any(|damage| !matches!(damage.kind, DamageKind::TornTail | DamageKind::Missing)) {
            return Err(ImportError::Damaged(Journal::segment_name(base)));
        }
        insert(&connection, &records).await?;
        let known_end = previous.replace(end).unwrap_or(start.previous_end);
        insert_segment(&connection, SegmentStart { previous_end: known_end, ..start }).await?;
        imported.segments += 1;
        imported.end = end;
    }
    let first = SegmentStart {
        base: imported.end.max(super::first_position()),
        previous_end: imported.end,
        salt: rand::random(),
    };
    insert_segment(&connection, first).await?;
    schema::finish_import(&connection, first).await?;
    imported.end = first.first();
    Ok(imported)
}

async fn insert(connection: &Connection, records: &[(u64, Bytes)]) -> Result<(), ClusterError> {
    let positions: Vec<i64> = records.iter().map(|(position, _)| position.cast_signed()).collect();
    let payloads: Vec<&[u8]> = records.iter().map(|(_, payload)| payload.as_ref()).collect();
    connection
        .query(
            "INSERT INTO replyvault_journal (position, payload) SELECT * FROM unnest($1::bigint[], $2::bytea[])",
            &[(&positions, Type::INT8_ARRAY), (&payloads, Type::BYTEA_ARRAY)],
        )
        .await
        .map(drop)
}

async fn insert_segment(connection: &Connection, start: SegmentStart) -> Result<(), ClusterError> {
    let (base, previous_end, salt) =
        (start.base.cast_signed(), start.previous_end.cast_signed(), i64::from(start.salt));
    connection
        .query(
            "INSERT INTO replyvault_segment (base, previous_end, salt) VALUES ($1, $2, $3)",
            &[(&base, Type::INT8), (&previous_end, Type::INT8), (&salt, Type::INT8)],
        )
        .await
        .map(drop)
}

/// Makes the copy in `data` a journal of its own: it must have all of the log. Returns where that ends. Nobody may be a member
/// meanwhile.
///
/// # Errors
/// When the copy lacks something, or is not the log's; then nothing is changed.
pub async fn export(url: &PostgresUrl, journal: &Journal, data: &Path) -> Result<u64, ImportError> {
    let connection = url.connect().await?;
    let end = super::log::head(&connection).await?;
    let here = journal.intact_end()?;
    if here < end {
        return Err(ImportError::Behind { here, end });
    }
    sync_segments(journal)?;
    std::fs::remove_file(data.join(super::NAME_FILE))?;
    std::fs::File::open(data)?.sync_all()?;
    Ok(end)
}
