//! What replicas tell each other for a while and what is no part of the log: sessions that were ended, tasks that run.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::{Cluster, ClusterError, Connection};

/// How long a statement may take: requests wait for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// One note.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it is called among those of its kind.
    pub key: String,
    /// What it says.
    pub body: String,
    /// Seconds since it was written, by the clock of PostgreSQL.
    pub age: u64,
}

impl Cluster {
    /// Writes a note in the place of any of its kind and key. It is gone after `seconds`.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn put_note(&self, kind: &str, key: &str, body: &str, seconds: u32) -> Result<(), ClusterError> {
        self.write_note(kind, key, body, seconds, "true").await.map(drop)
    }

    /// Writes a note unless there is one of another body. Then that one's body is the answer.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn claim_note(
        &self,
        kind: &str,
        key: &str,
        body: &str,
        seconds: u32,
    ) -> Result<Option<String>, ClusterError> {
        if self.write_note(kind, key, body, seconds, "note.body = $3 OR note.expires < clock_timestamp()").await? {
            return Ok(None);
        }
        let found = self.notes(kind, &[key]).await?;
        Ok(Some(found.into_iter().next().map(|note| note.body).unwrap_or_default()))
    }

    async fn write_note(
        &self,
        kind: &str,
        key: &str,
        body: &str,
        seconds: u32,
        replaces: &str,
    ) -> Result<bool, ClusterError> {
        let statement = format!(
            "INSERT INTO replyvault_note AS note (kind, key, body, written, expires)
             VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp() + $4 * interval '1 second')
             ON CONFLICT (kind, key) DO UPDATE SET body = $3, written = EXCLUDED.written, expires = EXCLUDED.expires
             WHERE {replaces} RETURNING 1"
        );
        let seconds = i64::from(seconds);
        let parameters: [super::connect::Parameter<'_>; 4] =
            [(&kind, Type::TEXT), (&key, Type::TEXT), (&body, Type::TEXT), (&seconds, Type::INT8)];
        Ok(!self.note_connection().await?.query(&statement, &parameters).await?.is_empty())
    }

    /// The notes of a kind under these keys; of all keys when none is given, the highest first, at most 100.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn notes(&self, kind: &str, keys: &[&str]) -> Result<Vec<Note>, ClusterError> {
        let statement = "SELECT key, body, extract(epoch FROM clock_timestamp() - written)::bigint FROM replyvault_note
             WHERE kind = $1 AND expires > clock_timestamp() AND (key = ANY ($2) OR cardinality($2) = 0)
             ORDER BY key DESC LIMIT 100";
        let parameters: [super::connect::Parameter<'_>; 2] = [(&kind, Type::TEXT), (&keys, Type::TEXT_ARRAY)];
        let rows = self.note_connection().await?.query(statement, &parameters).await?;
        let note = |row: &tokio_postgres::Row| Note {
            key: row.get(0),
            body: row.get(1),
            age: row.get::<_, i64>(2).try_into().unwrap_or_default(),
        };
        Ok(rows.iter().map(note).collect())
    }

    /// Removes a note if it still says this.
    ///
    /// # Errors
    /// When PostgreSQL does not answer; it is gone after its time all the same.
    pub async fn remove_note(&self, kind: &str, key: &str, body: &str) -> Result<(), ClusterError> {
        let statement = "DELETE FROM replyvault_note WHERE kind = $1 AND key = $2 AND body = $3";
        let parameters: [super::connect::Parameter<'_>; 3] =
            [(&kind, Type::TEXT), (&key, Type::TEXT), (&body, Type::TEXT)];
        self.note_connection().await?.query(statement, &parameters).await.map(drop)
    }

    /// Removes all notes of a kind but those with the highest keys.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn trim_notes(&self, kind: &str, keep: u32) -> Result<(), ClusterError> {
        let statement = "DELETE FROM replyvault_note WHERE kind = $1 AND key <= (
                SELECT key FROM replyvault_note WHERE kind = $1 ORDER BY key DESC OFFSET $2 LIMIT 1)";
        let keep = i64::from(keep);
        let parameters: [super::connect::Parameter<'_>; 2] = [(&kind, Type::TEXT), (&keep, Type::INT8)];
        self.note_connection().await?.query(statement, &parameters).await.map(drop)
    }

    /// One connection for all notes; statements follow one another on it without waiting.
    async fn note_connection(&self) -> Result<Arc<Connection>, ClusterError> {
        // A server that hangs keeps its connections open: nobody waits for it who need not.
        if let Some(away) = self.health().away {
            return Err(ClusterError::Lost(away));
        }
        let mut kept = self.inner.note_connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let mut connection = self.connect_on_service_runtime().await?;
        connection.set_patience(PATIENCE);
        let connection = Arc::new(connection);
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// The threads that answer HTTP end one after the other; a connection must not end with the one that made it.
    async fn connect_on_service_runtime(&self) -> Result<Connection, ClusterError> {
        let Some(runtime) = self.inner.runtime.get().cloned() else {
            return Err(ClusterError::Lost("the service has not started".to_owned()));
        };
        let url = self.inner.url.clone();
        let connecting = runtime.spawn(async move { url.connect().await });
        connecting.await.map_err(|error| ClusterError::Lost(error.to_string()))?
    }
}

/// Removes what is over.
pub(super) async fn remove_expired(connection: &Connection) -> Result<(), ClusterError> {
    connection.query("DELETE FROM replyvault_note WHERE expires < clock_timestamp()", &[]).await.map(drop)
}
