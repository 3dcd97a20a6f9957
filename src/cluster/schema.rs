//! The tables, and whether the server will do.

use tokio_postgres::types::Type;

use super::connect::Connection;
use super::shares::SHARDS;
use super::{ClusterError, LogConnection};
use crate::journal::SegmentStart;

/// The form of the tables that this version makes and knows.
const VERSION: i32 = 1;
/// The form of tables into which a journal is being put.
const IMPORTING: i32 = 0;
/// What whoever makes the tables locks: "replyva" as a number.
const LOCK: i64 = 0x72_65_70_6c_79_76_61;
/// Older ones are not tried.
const LEAST_SERVER: i32 = 150_000;

/// Sees to it that the tables are there. `first` is where a log begins that is made now.
pub(super) async fn prepare(connection: &Connection, first: SegmentStart) -> Result<(), ClusterError> {
    check_server(connection).await?;
    let rows = connection.query("SELECT to_regclass('replyvault_note') IS NOT NULL", &[]).await?;
    if rows.first().is_some_and(|row| row.get(0)) {
        return check_version(connection).await;
    }
    connection.batch(&tables(VERSION, first)).await?;
    check_version(connection).await
}

/// What makes the tables, and a log that begins at `first`. One simple query is one transaction.
fn tables(version: i32, first: SegmentStart) -> String {
    let SegmentStart { base, previous_end, salt } = first;
    let position = first.first();
    let last_shard = SHARDS - 1;
    format!(
        "SELECT pg_advisory_xact_lock({LOCK});
            SET LOCAL client_min_messages = warning;
            CREATE TABLE IF NOT EXISTS replyvault_head (
                one boolean PRIMARY KEY DEFAULT true CHECK (one),
                version int NOT NULL, position bigint NOT NULL, base bigint NOT NULL
            ) WITH (fillfactor = 10);
            CREATE TABLE IF NOT EXISTS replyvault_segment (
                base bigint PRIMARY KEY, previous_end bigint NOT NULL, salt bigint NOT NULL
            );
            CREATE TABLE IF NOT EXISTS replyvault_journal (
                position bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), payload bytea NOT NULL
            );
            CREATE TABLE IF NOT EXISTS replyvault_replica (
                id text PRIMARY KEY, name text NOT NULL, version text NOT NULL, process bigint,
                epoch bigint NOT NULL, until timestamptz, joined timestamptz NOT NULL,
                serial bigint NOT NULL, committed bigint NOT NULL DEFAULT 0, start bigint NOT NULL DEFAULT 0,
                drained bigint NOT NULL DEFAULT 0, applied bigint NOT NULL DEFAULT 0, waiting bigint NOT NULL DEFAULT 0
            ) WITH (fillfactor = 10);
            ALTER TABLE replyvault_replica ADD COLUMN IF NOT EXISTS process bigint;
            CREATE TABLE IF NOT EXISTS replyvault_lease (
                shard int PRIMARY KEY, holder text, epoch bigint
            ) WITH (fillfactor = 50);
            CREATE TABLE IF NOT EXISTS replyvault_note (
                kind text, key text, body text NOT NULL, written timestamptz NOT NULL, expires timestamptz NOT NULL,
                PRIMARY KEY (kind, key)
            );
            INSERT INTO replyvault_lease (shard) SELECT generate_series(0, {last_shard}) ON CONFLICT DO NOTHING;
            WITH made AS (
                INSERT INTO replyvault_head (version, position, base) VALUES ({version}, {position}, {base})
                ON CONFLICT DO NOTHING RETURNING base
            ) INSERT INTO replyvault_segment (base, previous_end, salt) SELECT base, {previous_end}, {salt} FROM made"
    )
}

/// Makes tables for an import, without a log. False when there is one.
pub(super) async fn prepare_import(connection: &Connection) -> Result<bool, ClusterError> {
    check_server(connection).await?;
    let rows = connection.query("SELECT to_regclass('replyvault_head') IS NOT NULL", &[]).await?;
    if rows.first().is_some_and(|row| row.get(0)) {
        let rows = connection.query("SELECT version FROM replyvault_head", &[]).await?;
        if rows.first().is_some_and(|row| row.get::<_, i32>(0) != IMPORTING) {
            return Ok(false);
        }
    }
    let tables = tables(IMPORTING, SegmentStart { base: 0, previous_end: 0, salt: 0 });
    connection.batch(&format!("{tables}; TRUNCATE replyvault_segment, replyvault_journal")).await?;
    Ok(true)
}

/// The import is whole: the log goes on at `start`.
pub(super) async fn finish_import(connection: &Connection, start: SegmentStart) -> Result<(), ClusterError> {
    let (position, base) = (start.first().cast_signed(), start.base.cast_signed());
    let statement = "UPDATE replyvault_head SET version = $1, position = $2, base = $3";
    let parameters: [super::connect::Parameter<'_>; 3] =
        [(&VERSION, Type::INT4), (&position, Type::INT8), (&base, Type::INT8)];
    connection.query(statement, &parameters).await.map(drop)
}

async fn check_version(connection: &Connection) -> Result<(), ClusterError> {
    let rows = connection.query("SELECT version FROM replyvault_head", &[]).await?;
    let version: i32 = rows.first().map_or(0, |row| row.get(0));
    if version == VERSION {
        return Ok(());
    }
    if version == IMPORTING {
        return Err(ClusterError::Unfit(
            "an import was not finished: expected `replyvault cluster import` to be run again".to_owned(),
        ));
    }
    Err(ClusterError::Unfit(format!("the tables have form {version}, this version of replyvault knows {VERSION}")))
}

async fn check_server(connection: &Connection) -> Result<(), ClusterError> {
    let rows = connection
        .query(
            "SELECT version(), current_setting('server_version_num'), current_setting('synchronous_commit'), \
             current_setting('fsync'), pg_is_in_recovery(), current_setting('transaction_isolation')",
            &[],
        )
        .await?;
    let Some(row) = rows.first() else { return Err(ClusterError::Unfit("the server says nothing".to_owned())) };
    let text = |column: usize| row.try_get::<_, String>(column).unwrap_or_default();
    let unfit = |problem: String| Err(ClusterError::Unfit(problem));
    let version = text(0);
    if ["CockroachDB", "-YB-"].iter().any(|other| version.contains(other)) {
        return unfit(format!("expected PostgreSQL, found {version}: locks work differently there"));
    }
    if text(1).parse::<i32>().unwrap_or_default() < LEAST_SERVER {
        return unfit(format!("expected PostgreSQL 15 or later, found {version}"));
    }
    if text(2) == "off" {
        return unfit("synchronous_commit is off: a commit would not be durable when it is answered".to_owned());
    }
    if text(3) == "off" {
        return unfit("fsync is off: a commit would not be durable when it is answered".to_owned());
    }
    if row.try_get::<_, bool>(4).unwrap_or_default() {
        return Err(ClusterError::Refused("the server is a standby".to_owned()));
    }
    if text(5) != "read committed" {
        return unfit(format!("expected the isolation level read committed, found {}", text(5)));
    }
    Ok(())
}

impl LogConnection {
    /// The segments from the oldest on whose base is `from` or beyond, at most `limit`.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn segments(&self, from: u64, limit: u32) -> Result<Vec<SegmentStart>, ClusterError> {
        let (from, limit) = (from.cast_signed(), i64::from(limit));
        let rows = self
            .connection
            .query(
                "SELECT base, previous_end, salt FROM replyvault_segment WHERE base >= $1 ORDER BY base LIMIT $2",
                &[(&from, Type::INT8), (&limit, Type::INT8)],
            )
            .await?;
        let number = |row: &tokio_postgres::Row, column: usize| row.get::<_, i64>(column).cast_unsigned();
        let segment = |row: &tokio_postgres::Row| SegmentStart {
            base: number(row, 0),
            previous_end: number(row, 1),
            // It was written as one.
            salt: u32::try_from(row.get::<_, i64>(2)).unwrap_or_default(),
        };
        Ok(rows.iter().map(segment).collect())
    }
}
