use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::web::{self, Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, ApiError};
use crate::domain::{JobState, Timestamp};
use crate::http::ErrorBody;
use crate::state::{Counters, EventLog, StateError};

/// The numbers at one moment, as far as they are kept together.
pub(super) struct Snapshot {
    pub(super) counters: Counters,
    /// The earliest time at which a job that waits is, or was, due.
    pub(super) oldest_due: Option<Timestamp>,
    /// The same of the questions that the provider is to be asked about final callbacks.
    pub(super) oldest_ask: Option<Timestamp>,
    /// Jobs that wait and have a link that dies within the hour.
    pub(super) expiring: u64,
    pub(super) fetching: u64,
    pub(super) journal_bytes: u64,
    pub(super) older_copy: bool,
    pub(super) archive_conflicts: u64,
    pub(super) unreadable_segments: u64,
}

impl Snapshot {
    /// Blocks.
    fn take(log: &EventLog) -> Result<Self, StateError> {
        let (state, now) = (log.state(), Timestamp::now());
        let asked = state.confirmations(1)?.first().map(|(at, _)| *at);
        Ok(Self {
            counters: state.counters()?,
            oldest_ask: asked,
            oldest_due: state.oldest_due()?.into_iter().chain(asked).min(),
            expiring: state.expiring(now, now.after(Duration::from_secs(3600)))?,
            fetching: state.fetching_count() as u64,
            journal_bytes: log.journal().disk_bytes(),
            older_copy: log.journal().standing().is_older_copy(),
            archive_conflicts: log.journal().conflicts(),
            unreadable_segments: log.journal().unreadable_segments() as u64,
        })
    }

    /// What is to be done now or later.
    pub(super) fn queue_depth(&self) -> u64 {
        self.counters.queued + self.counters.unconfirmed
    }

    pub(super) fn jobs(&self, state: JobState) -> u64 {
        self.counters.jobs.get(&state).copied().unwrap_or_default()
    }
}

impl Api {
    pub(super) async fn snapshot(&self) -> Result<Snapshot, ApiError> {
        let log = self.intake().log().clone();
        let taken = web::block(move || Snapshot::take(&log)).await;
        Ok(taken.map_err(|_| ApiError::unavailable("the state cannot be read right now"))??)
    }
}

/// What the vault holds and has to do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    /// Jobs by state, every state named.
    jobs: BTreeMap<&'static str, u64>,
    /// Refs.
    refs: u64,
    /// Bodies in quarantine.
    quarantined: u64,
    /// Callbacks understood, repeats included.
    callbacks: u64,
    /// Callbacks in each of the last 60 minutes, the oldest first; since the start.
    callbacks_per_minute: Vec<u64>,
    /// Objects in the content-hash index.
    objects: u64,
    /// Their bytes.
    bytes_stored: u64,
    /// Bytes that did not have to be stored again.
    bytes_deduplicated: u64,
    /// Jobs that are due now or later, and those with final callbacks that the provider has still to confirm.
    queue_depth: u64,
    /// Of these, jobs with a link that says it dies within the hour.
    expiring_within_hour: u64,
    /// Files being fetched now.
    fetching: u64,
    /// Callbacks that wait to be passed on.
    outbox_depth: u64,
    /// Events that are to be sent.
    notifications_pending: u64,
    /// Of the events that nobody took, how many are remembered.
    notifications_dead: u64,
    /// Answers that wait until something has ended.
    waiting: u64,
    /// The earliest time at which one of the queue is, or was, due.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_due: Option<Timestamp>,
    /// Bytes of the journal on the disk.
    journal_bytes: u64,
    /// Whether the data directory was older than the bucket at the start: a copy that was put back.
    older_copy: bool,
    /// Segments archived since the start beside others with the same base and other bytes.
    archive_conflicts: u64,
}

/// Counts.
#[utoipa::path(
    get, path = "/api/v1/stats", tag = "stats",
    responses(
        (status = 200, description = "the numbers", body = Stats),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn stats(api: Data<Api>) -> Result<Json<Stats>, ApiError> {
    let snapshot = api.snapshot().await?;
    let queue_depth = snapshot.queue_depth();
    let jobs = JobState::ALL.into_iter().map(|state| (state.as_str(), snapshot.jobs(state))).collect();
    let Snapshot { counters, oldest_due, expiring, fetching, journal_bytes, older_copy, archive_conflicts, .. } =
        snapshot;
    api.inner.rate.note(Timestamp::now(), counters.callbacks);
    // The others are there to prove the state whole.
    let Counters { objects, bytes_stored, bytes_deduplicated, refs, quarantined, callbacks, outbox, .. } = counters;
    let Counters { notifications_pending, notifications_dead, .. } = counters;
    let waiting = api.state().waiters() as u64;
    Ok(Json(Stats {
        jobs,
        refs,
        quarantined,
        callbacks,
        callbacks_per_minute: api.inner.rate.per_minute(Timestamp::now()),
        objects,
        bytes_stored,
        bytes_deduplicated,
        queue_depth,
        expiring_within_hour: expiring,
        fetching,
        outbox_depth: outbox,
        notifications_pending,
        notifications_dead,
        waiting,
        oldest_due,
        journal_bytes,
        older_copy,
        archive_conflicts,
    }))
}
