//! Bodies kept aside: looked at again, shown, deleted, and bounded, so that no sender pushes out what another sent.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::{Accepted, Intake, IntakeError, answer, parsed};
use crate::domain::{QuarantineReason, QuarantineRemoval, Target, Timestamp};
use crate::journal::{Durability, Event};
use crate::provider;
use crate::state::{ApplyOutcome, QuarantineRecord, StateError};

/// How much may be in quarantine, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// Bodies.
    pub items: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// How long a body stays.
    pub age: Duration,
}

impl Default for QuarantineLimits {
    fn default() -> Self {
        Self { items: 100_000, bytes: 256 << 20, age: Duration::from_secs(90 * 86_400) }
    }
}

/// Which bodies are meant; all that are not excluded.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuarantineFilter {
    /// Only those that are here for this reason.
    pub reason: Option<QuarantineReason>,
    /// Only those that came before.
    pub before: Option<Timestamp>,
}

impl QuarantineFilter {
    fn takes(&self, record: &QuarantineRecord) -> bool {
        self.reason.is_none_or(|reason| record.reason == reason) && self.before.is_none_or(|before| record.at < before)
    }
}

/// Bodies in one journal event, and looked at in one go.
const BATCH: usize = 1000;
/// At each start the journal goes on at a position that follows from the time, or behind: so many for each millisecond.
const POSITIONS_PER_MS: u64 = 1 << 16;

impl Intake {
    /// Looks at a quarantined body again, as if it came now over the URL it came over. `None`: there is no such body.
    ///
    /// # Errors
    /// When that cannot be recorded, or the body cannot be read.
    pub async fn replay_quarantined(&self, position: u64) -> Result<Option<Accepted>, IntakeError> {
        let _turn = self.turn_to_read(position).await?;
        let found = self.read_quarantined(position, provider::read).await?;
        let Some((target, body, read)) = found else { return Ok(None) };
        let parsed = parsed(read?);
        let fallback = self.provisional_answer(&parsed);
        let applied = self.record(target, body, parsed, Some(position)).await?;
        answer(applied, fallback).map(Some)
    }

    /// What `see` makes of a quarantined body, with the body and where it came in. `None`: there is no such body.
    async fn read_quarantined<T: Send + 'static>(
        &self,
        position: u64,
        see: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<Option<(Target, Bytes, T)>, IntakeError> {
        let intake = self.clone();
        // It may have to be fetched from the bucket, and be large.
        let read = tokio::task::spawn_blocking(move || {
            let found = intake.quarantined_body(position)?;
            Ok(found.map(|(target, body)| {
                let seen = see(&body);
                (target, body, seen)
            }))
        });
        read.await.map_err(|_| IntakeError::Unavailable("the journal cannot be read"))?
    }

    /// Held by whoever has a quarantined body in memory that is large.
    async fn turn_to_read(&self, position: u64) -> Result<Option<SemaphorePermit<'_>>, IntakeError> {
        /// Of these there may be as many as there are requests.
        const SMALL_BYTES: u64 = 1 << 20;
        if self.state().quarantined(position)?.is_none_or(|record| record.bytes <= SMALL_BYTES) {
            return Ok(None);
        }
        match timeout(Self::PATIENCE, self.inner.large_reads.acquire()).await {
            Ok(Ok(turn)) => Ok(Some(turn)),
            Ok(Err(_)) | Err(_) => Err(IntakeError::Unavailable("other large bodies are being read")),
        }
    }

    /// The bytes of a quarantined body and where it came in. `None`: there is no such body. Blocks.
    fn quarantined_body(&self, position: u64) -> Result<Option<(Target, Bytes)>, IntakeError> {
        let Some(record) = self.state().quarantined(position)? else {
            return Ok(None);
        };
        let at = self.state().callback_at(record.position)?;
        let callback = self.inner.log.journal().read(at)?.into_callback();
        Ok(callback.map(|callback| (callback.target, callback.body)))
    }

    /// A quarantined body as it may be shown, as [`provider::redacted`] has it. `None`: there is no such body.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn quarantined_shown(&self, position: u64) -> Result<Option<Box<RawValue>>, IntakeError> {
        let _turn = self.turn_to_read(position).await?;
        let found = self.read_quarantined(position, provider::redacted).await?;
        Ok(found.and_then(|(_, _, shown)| shown))
    }

    /// Deletes a quarantined body. False: there is no such body.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn delete_quarantined(&self, position: u64) -> Result<bool, IntakeError> {
        if self.state().quarantined(position)?.is_none() {
            return Ok(false);
        }
        Ok(self.remove_quarantined(vec![position], QuarantineRemoval::Asked).await? > 0)
    }

    /// Deletes what `filter` takes of the bodies that are in quarantine now. Returns how many.
    ///
    /// # Errors
    /// When that cannot be recorded; some may be deleted then.
    pub async fn delete_quarantine(&self, filter: QuarantineFilter) -> Result<u64, IntakeError> {
        self.remove_all(move |record| filter.takes(record), QuarantineRemoval::Asked).await
    }

    /// Keeps the quarantine within its limits, until it is dropped.
    pub async fn bound_quarantine(&self) {
        self.bound_quarantine_every(Duration::from_secs(3600)).await;
    }

    /// The same, with a look every `interval`, and sooner when a body comes.
    async fn bound_quarantine_every(&self, interval: Duration) {
        const PAUSE: Duration = Duration::from_secs(5);
        self.inner.log.recovered().await;
        let mut clock = SteadyClock::start();
        loop {
            let pause = match self.bound_once(&mut clock, interval).await {
                Ok(0) => interval,
                Ok(_) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "the quarantine cannot be kept within its limits yet");
                    PAUSE
                }
            };
            tokio::select! {
                () = self.inner.quarantine_grew.notified(), if pause == interval => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Deletes what is too much, and what is too old if `clock` has gone as it should for `watched`: one that was wrong for a
    /// while must not delete what is young. Returns how many bodies were too much.
    async fn bound_once(&self, clock: &mut SteadyClock, watched: Duration) -> Result<u64, IntakeError> {
        let removed = self.bound_size().await?;
        if clock.is_steady(watched) {
            *clock = SteadyClock::start();
            self.bound_age().await?;
        }
        Ok(removed)
    }

    async fn bound_age(&self) -> Result<(), IntakeError> {
        let age = u64::try_from(self.inner.config.quarantine.age.as_millis()).unwrap_or(u64::MAX);
        let now = Timestamp::now();
        let before = Timestamp::from_millis_clamped(now.millis().saturating_sub(age));
        let removed = self.remove_all(move |record| came_at(record, now) < before, QuarantineRemoval::Age).await?;
        if removed > 0 {
            tracing::warn!(removed, "bodies were in quarantine for as long as they may be, and are deleted");
        }
        Ok(())
    }

    async fn bound_size(&self) -> Result<u64, IntakeError> {
        let limits = self.inner.config.quarantine;
        let counters = self.state().counters()?;
        if counters.quarantined <= limits.items && counters.quarantined_bytes <= limits.bytes {
            return Ok(0);
        }
        let mut all = VecDeque::new();
        let mut targets = HashMap::new();
        self.visit_quarantine(|record| {
            let next = targets.len();
            let target = *targets.entry(record.target).or_insert(next);
            all.push_front(Kept { position: record.position, target, bytes: record.bytes });
        })
        .await?;
        let surplus = surplus(all, limits);
        let mut removed = 0;
        for positions in surplus.chunks(BATCH) {
            removed += self.remove_quarantined(positions.to_vec(), QuarantineRemoval::Quota).await?;
        }
        tracing::warn!(removed, "the quarantine is full: the oldest bodies of those who sent most are deleted");
        Ok(removed)
    }

    async fn remove_all(
        &self,
        takes: impl Fn(&QuarantineRecord) -> bool,
        why: QuarantineRemoval,
    ) -> Result<u64, IntakeError> {
        let mut positions = Vec::new();
        self.visit_quarantine(|record| positions.extend(takes(&record).then_some(record.position))).await?;
        let mut removed = 0;
        for positions in positions.chunks(BATCH) {
            removed += self.remove_quarantined(positions.to_vec(), why).await?;
        }
        Ok(removed)
    }

    async fn remove_quarantined(&self, positions: Vec<u64>, why: QuarantineRemoval) -> Result<u64, IntakeError> {
        let event = Event::QuarantineRemoved { at: Timestamp::now(), positions, why };
        match self.recorded(self.inner.log.record(event, Durability::Synced)).await? {
            ApplyOutcome::Removed(removed) => Ok(removed),
            _ => Err(IntakeError::Unavailable("the state is being rebuilt")),
        }
    }

    /// Shows all that is in quarantine, the newest first, a page at a time.
    async fn visit_quarantine(&self, mut visit: impl FnMut(QuarantineRecord)) -> Result<(), IntakeError> {
        let mut before = None;
        loop {
            let state = self.state().clone();
            let page = tokio::task::spawn_blocking(move || state.quarantine(BATCH, before)).await;
            let page = page.unwrap_or(Err(StateError::Panicked))?;
            page.items.into_iter().for_each(&mut visit);
            before = match page.next {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }
}

/// When a body came. The clock may have been behind then; positions never go back. One that is ahead of the time says nothing.
fn came_at(record: &QuarantineRecord, now: Timestamp) -> Timestamp {
    let by_position = Timestamp::from_millis_clamped(record.position / POSITIONS_PER_MS);
    if by_position <= now { record.at.max(by_position) } else { record.at }
}

/// A body in quarantine, as far as its size matters.
#[derive(Clone, Copy, Debug)]
struct Kept {
    position: u64,
    /// Whom it counts for.
    target: usize,
    bytes: u64,
}

/// What has to go of `all`, which is in the order of age: each time the oldest of the target with the largest share, until a
/// sixteenth of the room is free. Who has less than an equal share of the room loses nothing.
fn surplus(all: impl IntoIterator<Item = Kept>, limits: QuarantineLimits) -> Vec<u64> {
    let goal = |limit: u64| limit - limit / 16;
    let (mut items, mut bytes) = (0, 0);
    let mut of_target: HashMap<usize, (VecDeque<Kept>, u64)> = HashMap::new();
    for kept in all {
        (items, bytes) = (items + 1, bytes + kept.bytes);
        let (queue, sum) = of_target.entry(kept.target).or_default();
        queue.push_back(kept);
        *sum += kept.bytes;
    }
    // As part of the room, in whole numbers.
    let share = |items: usize, bytes: u64| {
        let (items, bytes) = (items as u128 * u128::from(limits.bytes), u128::from(bytes) * u128::from(limits.items));
        items.max(bytes)
    };
    let mut largest: BinaryHeap<(u128, usize)> =
        of_target.iter().map(|(target, (queue, sum))| (share(queue.len(), *sum), *target)).collect();
    let mut surplus = Vec::new();
    while items > goal(limits.items) || bytes > goal(limits.bytes) {
        let Some((_, target)) = largest.pop() else { break };
        let Some((queue, sum)) = of_target.get_mut(&target) else { break };
        let Some(oldest) = queue.pop_front() else { continue };
        *sum -= oldest.bytes;
        (items, bytes) = (items - 1, bytes - oldest.bytes);
        surplus.push(oldest.position);
        largest.push((share(queue.len(), *sum), target));
    }
    surplus
}

/// Tells whether the system's clock goes as it should.
struct SteadyClock {
    since: Instant,
    at: Timestamp,
}

impl SteadyClock {
    fn start() -> Self {
        Self { since: Instant::now(), at: Timestamp::now() }
    }

    /// Whether it has gone as far as time has, for as long as `watched`; where it has jumped, it is watched anew.
    fn is_steady(&mut self, watched: Duration) -> bool {
        const TOLERANCE: Duration = Duration::from_secs(600);
        let (passed, now) = (self.since.elapsed(), Timestamp::now());
        if passed.abs_diff(now.since(self.at)) > TOLERANCE {
            *self = Self::start();
            return false;
        }
        passed >= watched
    }
}

#[cfg(test)]
mod tests;
