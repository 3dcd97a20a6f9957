//! The log: appending to it, and reading it.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::{Cluster, ClusterError, schema};
use crate::journal::{SegmentStart, record_length};

/// A connection on which one replica appends and reads.
#[derive(Debug)]
pub struct LogConnection {
    pub(super) connection: Connection,
    id: String,
    /// Tells this process from others under the same name.
    process: i64,
}

/// What a replica begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The epoch it is a member in.
    pub epoch: u64,
    /// The number of the batch before its next.
    pub serial: u64,
    /// The number of the last batch that is in the log, and where that begins.
    pub committed: u64,
    /// See [`Joined::committed`].
    pub start: u64,
    /// Up to where what was taken in while the log was away is in it, by its own positions.
    pub drained: u64,
}

/// Where a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position of its first record.
    pub start: u64,
    /// The segment it is in.
    pub base: u64,
}

/// What became of a batch that the log did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFate {
    /// It is in the log after all.
    Appended(u64),
    /// It is not, and may be appended under a number behind this one.
    Not(u64),
    /// This replica is no member any more.
    Expelled,
}

/// How long a statement may take: callers of ours wait behind it, and for ten seconds in all.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same where so many bytes go along, at a MiB a second.
const fn patience(bytes: u64) -> Duration {
    PATIENCE.saturating_add(Duration::from_millis(bytes >> 10))
}

/// Whoever expels waits for the row that this locks; who is expelled finds no row. The number of a batch is used up once, so
/// one that is sent again after a lost connection is appended once.
const APPEND: &str = "WITH mine AS (
        SELECT id FROM replyvault_replica WHERE id = $1 AND epoch = $2 AND serial = $3 - 1 FOR UPDATE
    ), head AS (
        UPDATE replyvault_head SET position = position + $4 FROM mine RETURNING position - $4 AS start, base
    ), records AS (
        INSERT INTO replyvault_journal (position, payload)
        SELECT head.start + record.at, record.payload FROM head, unnest($5::bigint[], $6::bytea[]) AS record (at, payload)
    )
    UPDATE replyvault_replica SET serial = $3, committed = $3, start = head.start, drained = GREATEST(drained, $7)
    FROM head WHERE id = $1 RETURNING head.start, head.base";

impl LogConnection {
    /// Connects, and sees to it that the tables are there. A log that is made now begins at `first`.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached or will not do.
    pub async fn open(cluster: &Cluster, first: SegmentStart) -> Result<Self, ClusterError> {
        let mut connection = cluster.inner.url.connect().await?;
        schema::prepare(&connection, first).await?;
        connection.set_patience(PATIENCE);
        Ok(Self { connection, id: cluster.id().to_owned(), process: cluster.inner.process })
    }

    /// Becomes a member, in an epoch of its own: what this replica did in earlier ones counts no more. The first time, that ends
    /// the epoch of whichever process had its name before. Later it does not: `None` when another process has it now.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn join(&self, name: &str, is_first: bool) -> Result<Option<Joined>, ClusterError> {
        let version = env!("CARGO_PKG_VERSION");
        let rows = self
            .connection
            .query(
                "INSERT INTO replyvault_replica AS known (id, name, version, process, epoch, until, joined, serial)
                 VALUES ($1, $2, $3, $4, 1, clock_timestamp() + interval '20 s', clock_timestamp(), 0)
                 ON CONFLICT (id) DO UPDATE SET name = $2, version = $3, process = $4, epoch = known.epoch + 1,
                     until = clock_timestamp() + interval '20 s', joined = clock_timestamp(), serial = known.serial + 1
                     WHERE $5 OR known.process = $4 OR known.until IS NULL OR known.until < clock_timestamp()
                 RETURNING epoch, serial, committed, start, drained",
                &[
                    (&self.id, Type::TEXT),
                    (&name, Type::TEXT),
                    (&version, Type::TEXT),
                    (&self.process, Type::INT8),
                    (&is_first, Type::BOOL),
                ],
            )
            .await?;
        if rows.is_empty() { Ok(None) } else { joined(&rows).map(Some) }
    }

    /// Takes the place of the connection before in the epoch that goes on: what that may still be doing is waited for, or
    /// counts no more. `None` when the epoch is over.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn resume(&self, epoch: u64) -> Result<Option<Joined>, ClusterError> {
        let epoch = epoch.cast_signed();
        let rows = self
            .connection
            .query(
                "UPDATE replyvault_replica SET serial = serial + 1 WHERE id = $1 AND epoch = $2
                 RETURNING epoch, serial, committed, start, drained",
                &[(&self.id, Type::TEXT), (&epoch, Type::INT8)],
            )
            .await?;
        if rows.is_empty() { Ok(None) } else { joined(&rows).map(Some) }
    }

    /// Appends a batch under the number `serial`, all of it or nothing. `None` when the number is used up or the epoch is over:
    /// [`LogConnection::fate`] says which. `drained` is up to where of what was taken in meanwhile is in the log with this.
    ///
    /// # Errors
    /// When PostgreSQL does not answer; then the batch may be in the log, unless the error is definite.
    pub async fn append(
        &self,
        epoch: u64,
        serial: u64,
        payloads: &[Bytes],
        drained: u64,
    ) -> Result<Option<Appended>, ClusterError> {
        let mut offsets = Vec::with_capacity(payloads.len());
        let mut length = 0_i64;
        for payload in payloads {
            offsets.push(length);
            length += record_length(payload.len()).cast_signed();
        }
        let payloads: Vec<&[u8]> = payloads.iter().map(AsRef::as_ref).collect();
        let (epoch, serial, drained) = (epoch.cast_signed(), serial.cast_signed(), drained.cast_signed());
        let rows = self
            .connection
            .ask(
                patience(length.cast_unsigned()),
                APPEND,
                &[
                    (&self.id, Type::TEXT),
                    (&epoch, Type::INT8),
                    (&serial, Type::INT8),
                    (&length, Type::INT8),
                    (&offsets, Type::INT8_ARRAY),
                    (&payloads, Type::BYTEA_ARRAY),
                    (&drained, Type::INT8),
                ],
            )
            .await?;
        Ok(rows.first().map(|row| Appended {
            start: row.get::<_, i64>(0).cast_unsigned(),
            base: row.get::<_, i64>(1).cast_unsigned(),
        }))
    }

    /// What became of the batch `serial` that [`LogConnection::append`] did not take in `epoch`.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn fate(&self, epoch: u64, serial: u64) -> Result<BatchFate, ClusterError> {
        let rows = self
            .connection
            .query(
                "SELECT epoch, serial, committed, start FROM replyvault_replica WHERE id = $1",
                &[(&self.id, Type::TEXT)],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(BatchFate::Expelled) };
        let number = |column: usize| row.get::<_, i64>(column).cast_unsigned();
        Ok(match (number(0) == epoch, number(2) == serial) {
            (_, true) => BatchFate::Appended(number(3)),
            (true, false) => BatchFate::Not(number(1)),
            // Joining finds out whether another process has this name now.
            (false, false) => BatchFate::Expelled,
        })
    }

    /// Begins the next segment, at `at_least` or behind the end, unless somebody else has begun one behind `base`.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn begin_segment(&self, base: u64, at_least: u64, salt: u32) -> Result<(), ClusterError> {
        let (base, at_least, salt) = (base.cast_signed(), at_least.cast_signed(), i64::from(salt));
        let header = SegmentStart::HEADER.cast_signed();
        self.connection
            .query(
                "WITH old AS (
                    SELECT position FROM replyvault_head WHERE base = $1 FOR UPDATE
                ), head AS (
                    UPDATE replyvault_head
                    SET base = GREATEST(old.position, $2), position = GREATEST(old.position, $2) + $4
                    FROM old RETURNING base, old.position AS previous_end
                )
                INSERT INTO replyvault_segment (base, previous_end, salt) SELECT base, previous_end, $3 FROM head",
                &[(&base, Type::INT8), (&at_least, Type::INT8), (&salt, Type::INT8), (&header, Type::INT8)],
            )
            .await
            .map(drop)
    }

    /// Where the last record ends.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn head(&self) -> Result<u64, ClusterError> {
        head(&self.connection).await
    }

    /// The next records from the position `from` on and before `until`, in order: those that begin within a MiB, so at least
    /// one if there is any.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn read(&self, from: u64, until: u64) -> Result<Vec<(u64, Bytes)>, ClusterError> {
        /// In positions: bytes, that is. A record that is longer comes alone, with the time that it takes.
        const RANGE: u32 = 1 << 20;
        // Between two segments positions may be far apart.
        const STATEMENT: &str = "WITH first AS (
                SELECT min(position) AS position FROM replyvault_journal WHERE position >= $1
            )
            SELECT record.position, CASE WHEN octet_length(payload) <= $3 THEN payload END, octet_length(payload)
            FROM first, replyvault_journal AS record
            WHERE record.position >= $1 AND record.position < LEAST($2, first.position + $3) ORDER BY record.position";
        let (from, until, range) = (from.cast_signed(), i64::try_from(until).unwrap_or(i64::MAX), i64::from(RANGE));
        let parameters: [super::connect::Parameter<'_>; 3] =
            [(&from, Type::INT8), (&until, Type::INT8), (&range, Type::INT8)];
        let rows = self.connection.ask(patience(2 * u64::from(RANGE)), STATEMENT, &parameters).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            let position = row.get::<_, i64>(0).cast_unsigned();
            let payload = match row.get::<_, Option<&[u8]>>(1) {
                Some(payload) => Bytes::copy_from_slice(payload),
                None => self.payload(position, row.get::<_, i32>(2)).await?,
            };
            records.push((position, payload));
        }
        Ok(records)
    }

    async fn payload(&self, position: u64, length: i32) -> Result<Bytes, ClusterError> {
        let (at, length) = (position.cast_signed(), u64::try_from(length).unwrap_or_default());
        let statement = "SELECT payload FROM replyvault_journal WHERE position = $1";
        let rows = self.connection.ask(patience(length), statement, &[(&at, Type::INT8)]).await?;
        let row =
            rows.first().ok_or_else(|| ClusterError::Lost(format!("the record at {position} was just archived")))?;
        Ok(Bytes::copy_from_slice(row.get(0)))
    }

    /// The SHA-256 of the payload at a position.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn digest_at(&self, position: u64) -> Result<Option<Vec<u8>>, ClusterError> {
        let position = position.cast_signed();
        let statement = "SELECT sha256(payload) FROM replyvault_journal WHERE position = $1";
        let rows = self.connection.query(statement, &[(&position, Type::INT8)]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Is no member any more: others need not wait until that shows. `waiting` callbacks stay here that the log does not have.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn leave(&self, epoch: u64, waiting: u64) -> Result<(), ClusterError> {
        let (epoch, waiting) = (epoch.cast_signed(), waiting.cast_signed());
        let statement = "UPDATE replyvault_replica SET epoch = epoch + 1, until = NULL, waiting = $3
             WHERE id = $1 AND epoch = $2";
        let parameters: [super::connect::Parameter<'_>; 3] =
            [(&self.id, Type::TEXT), (&epoch, Type::INT8), (&waiting, Type::INT8)];
        self.connection.query(statement, &parameters).await.map(drop)
    }
}

impl Cluster {
    /// Whether the log has a record with this SHA-256 at a position, or had one there before its segment moved into the archive.
    ///
    /// # Errors
    /// When PostgreSQL does not answer, or has no log.
    pub async fn has_record(&self, position: u64, sha256: &[u8]) -> Result<bool, ClusterError> {
        let connection = self.inner.url.connect().await?;
        let log = LogConnection { connection, id: self.id().to_owned(), process: self.inner.process };
        let Some(oldest) = log.segments(0, 1).await?.first().copied() else { return Ok(false) };
        if position < oldest.base {
            return Ok(position < oldest.previous_end);
        }
        Ok(log.digest_at(position).await?.is_some_and(|found| found == sha256))
    }

    /// Takes the segments before `base` out of the log, the records of each in steps. They are in the archive.
    /// This takes a connection of its own, so that nobody who appends waits for it.
    ///
    /// # Errors
    /// When PostgreSQL does not answer; what is left goes the next time.
    pub async fn remove_before(&self, base: u64) -> Result<(), ClusterError> {
        /// Of one step, in positions: bytes, that is.
        const STEP: i64 = 4 << 20;
        let connection = self.inner.url.connect().await?;
        let base = base.cast_signed();
        loop {
            let rows = connection
                .query(
                    "WITH first AS (SELECT min(position) AS position FROM replyvault_journal WHERE position < $1)
                     DELETE FROM replyvault_journal AS record USING first
                     WHERE record.position < LEAST($1, first.position + $2) RETURNING 1",
                    &[(&base, Type::INT8), (&STEP, Type::INT8)],
                )
                .await?;
            if rows.is_empty() {
                break;
            }
        }
        let statement = "DELETE FROM replyvault_segment WHERE base < $1";
        connection.query(statement, &[(&base, Type::INT8)]).await.map(drop)
    }
}

/// Where the last record ends: the header of a segment that has none counts for nothing.
pub(super) async fn head(connection: &Connection) -> Result<u64, ClusterError> {
    let frame = record_length(0).cast_signed();
    let statement =
        "SELECT position + $1 + octet_length(payload) FROM replyvault_journal ORDER BY position DESC LIMIT 1";
    let rows = connection.query(statement, &[(&frame, Type::INT8)]).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()))
}

fn joined(rows: &[Row]) -> Result<Joined, ClusterError> {
    let row = rows.first().ok_or_else(|| ClusterError::Damaged("a replica that joined is not there".to_owned()))?;
    let number = |column: usize| row.get::<_, i64>(column).cast_unsigned();
    Ok(Joined { epoch: number(0), serial: number(1), committed: number(2), start: number(3), drained: number(4) })
}
