//! What the tables say of the cluster, for people.

use tokio_postgres::types::Type;

use super::{ClusterError, PostgresUrl};

/// The cluster as the tables have it.
#[derive(Clone, Debug)]
pub struct ClusterStatus {
    /// Where the log ends.
    pub position: u64,
    /// Where what is left of it in PostgreSQL begins.
    pub oldest: u64,
    /// Bytes of the log's table, indices included.
    pub bytes: u64,
    /// All replicas that were ever members.
    pub replicas: Vec<ReplicaStatus>,
    /// Shards that no member has.
    pub free_shards: u64,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// Its name: that of its data directory.
    pub id: String,
    /// The machine it runs on.
    pub host: String,
    /// The version it runs.
    pub version: String,
    /// Whether it is a member.
    pub is_member: bool,
    /// Its epoch.
    pub epoch: u64,
    /// How far its view was when it last gave a sign of life.
    pub applied: u64,
    /// How many callbacks waited there then.
    pub waiting: u64,
    /// How many of the shards are its.
    pub shards: u64,
}

/// Asks for it.
///
/// # Errors
/// When PostgreSQL does not answer, or has no log.
pub async fn status(url: &PostgresUrl) -> Result<ClusterStatus, ClusterError> {
    let connection = url.connect().await?;
    let head = connection
        .query(
            "SELECT position, (SELECT coalesce(min(base), 0) FROM replyvault_segment),
                    pg_total_relation_size('replyvault_journal'),
                    (SELECT count(*) FROM replyvault_lease AS lease WHERE NOT EXISTS (
                        SELECT FROM replyvault_replica AS replica
                        WHERE replica.id = lease.holder AND replica.epoch = lease.epoch))
             FROM replyvault_head",
            &[],
        )
        .await?;
    let head = head.first().ok_or_else(|| ClusterError::Damaged("it has no end".to_owned()))?;
    let none = "";
    let rows = connection
        .query(
            "SELECT id, name, version, until > clock_timestamp(), epoch, applied, waiting,
                    (SELECT count(*) FROM replyvault_lease AS lease
                     WHERE lease.holder = replica.id AND lease.epoch = replica.epoch)
             FROM replyvault_replica AS replica WHERE id <> $1 ORDER BY joined",
            &[(&none, Type::TEXT)],
        )
        .await?;
    let number = |row: &tokio_postgres::Row, column: usize| row.get::<_, i64>(column).cast_unsigned();
    let replica = |row: &tokio_postgres::Row| ReplicaStatus {
        id: row.get(0),
        host: row.get(1),
        version: row.get(2),
        is_member: row.get::<_, Option<bool>>(3).unwrap_or_default(),
        epoch: number(row, 4),
        applied: number(row, 5),
        waiting: number(row, 6),
        shards: number(row, 7),
    };
    Ok(ClusterStatus {
        position: number(head, 0),
        oldest: number(head, 1),
        bytes: number(head, 2),
        free_shards: number(head, 3),
        replicas: rows.iter().map(replica).collect(),
    })
}
