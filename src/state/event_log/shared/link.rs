//! The connection to the log, and whether the log takes entries.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{FAR, HOLD, Run, SharedLogError};
use crate::cluster::{Cluster, ClusterError, Health as ClusterHealth, Joined, LogConnection, first_position};
use crate::journal::{JournalError, SegmentStart};
use crate::state::StateError;
use crate::state::event_log::FoldCommand;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(500);
/// How often that doubles while PostgreSQL can be reached and refuses, as it does when its disk is full.
const MAX_DOUBLINGS: u32 = 3;

pub(super) enum Link {
    Up(LogConnection),
    Down { retry_at: Instant, connecting: Option<JoinHandle<Result<Connected, ClusterError>>> },
}

/// Why the log takes nothing, until it does.
pub(super) struct Away {
    since: Instant,
    why: String,
    attempts: u32,
}

impl Away {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), why: ClusterHealth::CONNECTING.to_owned(), attempts: 0 }
    }
}

/// A new connection, and what was found on it.
pub(super) struct Connected {
    connection: LogConnection,
    found: Found,
}

enum Found {
    Member {
        copy: CopyCheck,
        /// The end of the log.
        head: u64,
        joined: Joined,
        is_new_epoch: bool,
    },
    /// The log lacks what was copied from it.
    Lost(String),
    /// Another process is a member under this name.
    Displaced,
}

/// What was copied from the log so far.
struct Copied {
    segment: Option<SegmentStart>,
    end: Option<u64>,
    last: Option<(u64, Bytes)>,
}

/// How the copy and the log stand to each other.
enum CopyCheck {
    Follows,
    /// The copy goes on with the log's oldest segment; what stands between is in the archive.
    BeginsAt(SegmentStart),
}

/// Resolves when the connection that is being made is made, or cannot be; never while none is.
pub(super) async fn connected(link: &mut Link) -> Result<Connected, ClusterError> {
    match link {
        Link::Down { connecting: Some(connecting), .. } => {
            connecting.await.unwrap_or_else(|error| Err(ClusterError::Lost(error.to_string())))
        }
        _ => std::future::pending().await,
    }
}

async fn connect(
    cluster: Cluster,
    epoch: Option<u64>,
    is_first: bool,
    copied: Copied,
) -> Result<Connected, ClusterError> {
    let base = first_position();
    let first = SegmentStart { base, previous_end: 0, salt: rand::random() };
    let connection = LogConnection::open(&cluster, first).await?;
    let copy = match copied.check(&connection).await? {
        Ok(copy) => copy,
        Err(lost) => return Ok(Connected { connection, found: Found::Lost(lost) }),
    };
    let head = connection.head().await?;
    if let Some(epoch) = epoch
        && let Some(joined) = connection.resume(epoch).await?
    {
        return Ok(Connected { connection, found: Found::Member { copy, head, joined, is_new_epoch: false } });
    }
    let found = match connection.join(&host_name(), is_first).await? {
        Some(joined) => Found::Member { copy, head, joined, is_new_epoch: true },
        None => Found::Displaced,
    };
    Ok(Connected { connection, found })
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    read.trim().chars().filter(|letter| !letter.is_control()).take(64).collect()
}

impl Copied {
    /// Whether the log still has what was copied from it, and the copy follows on; what it lacks, otherwise.
    async fn check(&self, connection: &LogConnection) -> Result<Result<CopyCheck, String>, ClusterError> {
        let Some(oldest) = connection.segments(0, 1).await?.first().copied() else {
            return Err(ClusterError::Damaged("it has no segment".to_owned()));
        };
        let (Some(known), Some(end)) = (self.segment, self.end) else { return Ok(Ok(CopyCheck::BeginsAt(oldest))) };
        if known.base < oldest.base && end <= oldest.previous_end {
            if end < oldest.previous_end {
                tracing::info!(from = end, to = oldest.base, "what this replica has missed is in the bucket");
            }
            return Ok(Ok(CopyCheck::BeginsAt(oldest)));
        }
        let found = connection.segments(known.base, 1).await?;
        if found.first().is_none_or(|found| (found.base, found.salt) != (known.base, known.salt)) {
            return Ok(Err(format!("the segment at {}", known.base)));
        }
        let head = connection.head().await?;
        if head < end && end > known.first() {
            return Ok(Err(format!("what stands from {head} to {end}")));
        }
        if let Some((position, payload)) = &self.last
            && *position >= known.base
            && !has_had(connection, *position, payload).await?
        {
            return Ok(Err(format!("the record at {position}")));
        }
        Ok(Ok(CopyCheck::Follows))
    }
}

/// Whether a record is in the log, or has left it: while a segment moves into the archive, its oldest records go first.
async fn has_had(connection: &LogConnection, position: u64, payload: &[u8]) -> Result<bool, ClusterError> {
    match connection.digest_at(position).await? {
        Some(found) => Ok(found == Sha256::digest(payload).as_slice()),
        None => Ok(connection.read(0, position).await?.is_empty()),
    }
}

impl Run {
    /// For how long the log has taken nothing.
    pub(super) fn away_for(&self) -> Duration {
        self.away.as_ref().map_or(Duration::ZERO, |away| away.since.elapsed())
    }

    /// When to look at what is not told.
    pub(super) fn look_at(&self, queue_is_empty: bool) -> Instant {
        match &self.link {
            Link::Up(_) => self.poll_at,
            Link::Down { retry_at, connecting } => {
                let retry = if connecting.is_some() { *retry_at + Duration::from_secs(3600) } else { *retry_at };
                let keep_at = self.away.as_ref().map_or(*retry_at, |away| away.since + HOLD);
                let holds = !queue_is_empty || self.doubtful.is_some() || !self.retry_first.is_empty();
                if holds && keep_at > Instant::now() { retry.min(keep_at) } else { retry }
            }
        }
    }

    pub(super) fn begin_connecting(&mut self) {
        let epoch = *self.log.cluster.epoch().borrow();
        if let Link::Down { retry_at, connecting: connecting @ None } = &mut self.link
            && *retry_at <= Instant::now()
        {
            let (segment, end) = (self.log.mirror.segment(), self.log.mirror.end());
            let copied = Copied { segment, end, last: self.last.clone() };
            let is_first = !self.has_joined;
            *connecting = Some(tokio::spawn(connect(self.log.cluster.clone(), epoch, is_first, copied)));
        }
    }

    /// A connection was made, or could not be.
    pub(super) async fn connected(&mut self, connected: Result<Connected, ClusterError>) -> Result<(), SharedLogError> {
        let Connected { connection, found } = match connected {
            Ok(connected) => connected,
            // Nothing here gets better by itself, but nothing was lost either: who runs it may mend it.
            Err(error) => {
                self.mark_unavailable(&error);
                return Ok(());
            }
        };
        let (copy, head, joined, is_new_epoch) = match found {
            Found::Member { copy, head, joined, is_new_epoch } => (copy, head, joined, is_new_epoch),
            Found::Lost(what) => return Err(SharedLogError::LogLost(what)),
            Found::Displaced => return Err(SharedLogError::Displaced),
        };
        if let CopyCheck::BeginsAt(oldest) = copy {
            self.log.mirror.begin(oldest)?;
            if oldest.previous_end > 0 {
                // What stands before it is in the archive.
                self.enqueue(FoldCommand::Recover { error: StateError::Behind, end: 0 })?;
            }
        }
        if self.log.mirror.end().is_some_and(|end| head.saturating_sub(end) > FAR) {
            self.copy_to = head;
        }
        self.serial = joined.serial;
        if is_new_epoch {
            self.became_member(joined.epoch);
        }
        self.link = Link::Up(connection);
        if let Err(error) = self.settle_outage(joined) {
            self.mark_unavailable(&ClusterError::Outage(error));
            return Ok(());
        }
        if let Some((serial, requests)) = self.doubtful.take() {
            if joined.committed == serial {
                self.appended(joined.start, requests).await?;
            } else {
                self.retry_first = requests;
            }
        }
        let is_up = matches!(self.link, Link::Up(_));
        if is_up && self.retry_first.is_empty() && self.log.outage.waiting() == 0 {
            self.mark_available();
        }
        self.report_health();
        self.poll_at = Instant::now();
        Ok(())
    }

    fn became_member(&mut self, epoch: u64) {
        self.has_joined = true;
        tracing::info!(epoch, replica = self.log.cluster.id(), "this replica is a member of the cluster");
        self.log.cluster.shares().lose();
        self.log.cluster.epoch().send_replace(Some(epoch));
    }

    /// Learns what the log has of what waits here.
    fn settle_outage(&mut self, joined: Joined) -> Result<(), JournalError> {
        let outage = &mut self.log.outage;
        if let Some(serial) = outage.doubtful() {
            outage.settle(joined.committed == serial)?;
        }
        outage.set_drained(joined.drained)
    }

    /// Connects anew: that looks whether the log lacks what was copied from it, and joins if this replica is no member any more.
    /// Through a pool, a connection may outlive the server behind it.
    pub(super) fn reconnect(&mut self) {
        self.away.get_or_insert_with(Away::new);
        self.link = Link::Down { retry_at: Instant::now(), connecting: None };
    }

    /// The log can be reached, and takes what is appended.
    pub(super) fn mark_available(&mut self) {
        let Some(away) = self.away.take() else { return };
        if away.attempts > 0 {
            tracing::info!(away_for = ?away.since.elapsed(), waiting = self.log.outage.waiting(),
                "the shared log can be reached again");
        }
        self.report_health();
    }

    /// The log cannot be reached, or refuses what is appended.
    pub(super) fn mark_unavailable(&mut self, error: &ClusterError) {
        let why = error.to_string();
        let away = self.away.get_or_insert_with(Away::new);
        if away.attempts == 0 || away.why != why {
            tracing::error!(%error, "the shared log is away: callbacks are kept here, everything else waits");
        } else {
            tracing::debug!(%error, "the shared log is still away");
        }
        let doublings = if error.is_definite() { away.attempts.min(MAX_DOUBLINGS) } else { 0 };
        (away.why, away.attempts) = (why, away.attempts.saturating_add(1));
        self.link = Link::Down { retry_at: Instant::now() + RETRY * 2_u32.pow(doublings), connecting: None };
        self.report_health();
    }

    /// How many bytes are still to be copied of what is then folded in at once.
    pub(super) fn behind(&self) -> u64 {
        self.copy_to.saturating_sub(self.log.mirror.end().unwrap_or_default())
    }

    pub(super) fn report_health(&self) {
        let away = self.away.as_ref().map(|away| away.why.clone());
        let (waiting, behind) = (self.log.outage.waiting(), self.behind());
        self.log.cluster.set_health(ClusterHealth { away, waiting, behind });
    }
}
