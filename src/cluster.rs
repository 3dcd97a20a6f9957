//! What replicas share: one log, and the right to work, both in PostgreSQL.
//!
//! The log is a table of records. Their positions are those of a journal, header of each segment included, so each replica
//! keeps a copy ([`crate::journal::Mirror`]) that is read as a journal of its own would be. One row says where the log ends;
//! whoever appends moves it in the same statement, so positions have no gap and become visible in their order.
//!
//! A replica is a member while it says so every few seconds, by the clock of the database. One that falls silent is
//! expelled: its epoch ends, which waits for what it is just appending, and nothing that it appends under that epoch counts
//! from then on. The work is divided into [`SHARDS`] shards; each belongs to an epoch of one member. So the epoch is the
//! fence of everything that a member does.
//!
//! Every statement is sent unnamed with its types, which one round trip does, also through PgBouncer in transaction mode.

mod connect;
mod log;
mod member;
mod notes;
mod schema;
mod shares;
mod status;
mod transfer;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::disk::write_durably;
use crate::domain::Timestamp;
use crate::journal::JournalError;

pub use connect::{Connection, PostgresUrl, UrlError};
pub use log::{Appended, BatchFate, Joined, LogConnection};
pub use notes::Note;
pub use shares::{SHARDS, Share, Shares, shard_of, text_key};
pub use status::{ClusterStatus, ReplicaStatus, status};
pub use transfer::{ImportError, Imported, export, import};

/// Why PostgreSQL did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// It said so: nothing was changed.
    #[error("PostgreSQL refuses: {0}")]
    Refused(String),
    /// The connection was lost, or could not be made: what was asked may have been done.
    #[error("PostgreSQL cannot be reached: {0}")]
    Lost(String),
    /// It did not answer in time: what was asked may have been done.
    #[error("PostgreSQL does not answer within {0:?}")]
    TimedOut(Duration),
    /// The server or its settings will not do.
    #[error("{0}")]
    Unfit(String),
    /// What is in the tables cannot be.
    #[error("the shared log is damaged: {0}")]
    Damaged(String),
    /// What waits on this disk for the log could not be read or written.
    #[error("what waits here for the log cannot be put into it: {0}")]
    Outage(JournalError),
    /// The replica's name could not be read or written.
    #[error("the name of this replica cannot be kept: {0}")]
    Name(std::io::Error),
}

impl ClusterError {
    /// Whether what was asked for is sure not to have been done.
    pub fn is_definite(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unfit(_) | Self::Outage(_))
    }
}

/// This replica among the others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: PostgresUrl,
    id: String,
    process: i64,
    shares: Shares,
    /// The epoch under which this replica is a member; `None` while it is none.
    epoch: watch::Sender<Option<u64>>,
    /// How far the view is.
    applied: watch::Sender<u64>,
    /// Told when somebody waits for what the view does not have yet.
    poke: Notify,
    /// Since when, and why, the log cannot be reached; and how many callbacks wait here meanwhile.
    health: Mutex<Health>,
    readers: mpsc::Sender<oneshot::Sender<bool>>,
    reader_queue: Mutex<Option<mpsc::Receiver<oneshot::Sender<bool>>>>,
    note_connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    /// The runtime that [`Cluster::run`] was called in.
    runtime: OnceLock<Handle>,
}

/// How the shared log fares, as seen from here.
#[derive(Clone, Debug)]
pub struct Health {
    /// Why it cannot be reached, if it cannot.
    pub away: Option<String>,
    /// How many callbacks wait here until it can.
    pub waiting: u64,
    /// How many bytes of log a replica that is far behind has still to copy; 0 for any other.
    pub behind: u64,
}

impl Health {
    /// Why the log cannot be reached before anything was tried.
    pub const CONNECTING: &str = "it is being connected to";
}

impl Cluster {
    /// How long a reader waits until the view has what was there when it came.
    const READ_PATIENCE: Duration = Duration::from_secs(5);
    /// How many readers may wait at a time; more get what is there.
    const MAX_READERS: usize = 4096;

    /// A member of the cluster at `url`, known by the name that is kept in the data directory `data`. Nothing is asked yet.
    ///
    /// # Errors
    /// When the name cannot be kept.
    pub fn new(url: PostgresUrl, data: &Path) -> Result<Self, ClusterError> {
        let id = replica_id(data).map_err(ClusterError::Name)?;
        let (readers, reader_queue) = mpsc::channel(Self::MAX_READERS);
        Ok(Self {
            inner: Arc::new(Inner {
                url,
                id,
                process: rand::random(),
                shares: Shares::default(),
                epoch: watch::Sender::new(None),
                applied: watch::Sender::new(0),
                poke: Notify::new(),
                health: Mutex::new(Health { away: Some(Health::CONNECTING.to_owned()), waiting: 0, behind: 0 }),
                readers,
                reader_queue: Mutex::new(Some(reader_queue)),
                note_connection: tokio::sync::Mutex::default(),
                runtime: OnceLock::new(),
            }),
        })
    }

    /// The name of this replica.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// What of the work is this replica's.
    pub fn shares(&self) -> &Shares {
        &self.inner.shares
    }

    /// How the log fares.
    pub fn health(&self) -> Health {
        self.inner.health.lock().clone()
    }

    /// Takes note of how the log fares.
    pub fn set_health(&self, health: Health) {
        *self.inner.health.lock() = health;
    }

    /// Takes note of how far the view is.
    pub fn set_applied(&self, position: u64) {
        self.inner.applied.send_if_modified(|known| {
            let is_new = *known != position;
            *known = position;
            is_new
        });
    }

    /// How far the view is.
    pub fn applied(&self) -> u64 {
        *self.inner.applied.borrow()
    }

    /// The epoch of this replica, for whoever appends.
    pub fn epoch(&self) -> &watch::Sender<Option<u64>> {
        &self.inner.epoch
    }

    /// Resolves when somebody waits for entries of others.
    pub async fn poked(&self) {
        self.inner.poke.notified().await;
    }

    /// Waits until the view has all that the log has now. False when that takes too long, at once when it would, and when the
    /// log cannot be reached: then what is read may be stale.
    pub async fn caught_up(&self) -> bool {
        let health = self.health();
        if health.away.is_some() || health.behind > 0 {
            return false;
        }
        let (answer, answered) = oneshot::channel();
        if self.inner.readers.try_send(answer).is_err() {
            return false;
        }
        matches!(timeout(Self::READ_PATIENCE, answered).await, Ok(Ok(true)))
    }
}

/// The file below the data directory that holds the replica's name.
const NAME_FILE: &str = "replica";

/// Whether a data directory is that of a replica.
pub fn is_replica(data: &Path) -> bool {
    data.join(NAME_FILE).is_file()
}

/// Where a log begins that is made now: further on than anything in the bucket got, unless that was written at more than 64
/// MiB a second all the time. So nothing collides with what an older copy does not know of.
pub fn first_position() -> u64 {
    const POSITIONS_PER_MS: u64 = 1 << 16;
    Timestamp::now().millis().saturating_mul(POSITIONS_PER_MS)
}

/// The name in `replica` below the data directory, made at the first start.
fn replica_id(data: &Path) -> std::io::Result<String> {
    let path = data.join(NAME_FILE);
    match std::fs::read_to_string(&path) {
        Ok(id) if is_id(id.trim()) => return Ok(id.trim().to_owned()),
        Ok(_) => {
            let problem = format!("{} does not hold 32 hex digits", path.display());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, problem));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = format!("{:032x}", rand::random::<u128>());
    std::fs::create_dir_all(data)?;
    write_durably(&path, id.as_bytes())?;
    Ok(id)
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}
