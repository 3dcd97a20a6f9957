//! Asks the provider about jobs whose end it has not told, and for jobs that nobody has heard of.
//!
//! When a job is asked about follows from its age, so nothing need be written for it: after a restart a job that should
//! have been asked about meanwhile is asked about once. An answer goes through `intake` as a callback does, and only one
//! that changes something is recorded.

mod accounts;
mod ask;
mod backfill;
mod discover;
mod progress;
mod queue;
mod retry;
mod schedule;
mod sweep;
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

pub use accounts::ProviderAccount;
pub use backfill::{Backfill, ListBackfill};
pub use progress::{BackfillReport, Progress, ReconcileReport, SyncError};

use self::ask::AskError;
use self::queue::Queue;
use crate::domain::Timestamp;
use crate::intake::Intake;
pub use crate::provider::JobList;
use crate::provider::{self, Client};
use crate::state::{ChangeNotice, State};

/// How often the provider is asked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the schedule's minutes last; something else is for tests.
    pub minute: Duration,
    /// Whether the first pages of the provider's lists, and its accounts, are read now and then; off is for tests that count
    /// what is asked.
    pub reads_lists: bool,
    /// Whether finished jobs are taken in that only a list shows.
    pub adopt_listed: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { minute: Duration::from_secs(60), reads_lists: true, adopt_listed: false }
    }
}

/// Asks about jobs that have not ended. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reconciler {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    intake: Intake,
    client: Client,
    accounts: Mutex<Vec<ProviderAccount>>,
}

/// Notices that the clock was set, by comparing it with the time that has passed.
#[derive(Debug)]
struct ClockWatch {
    wall: Timestamp,
    at: Instant,
}

impl ClockWatch {
    /// A clock that is adjusted by less is not taken for set.
    const SLACK: Duration = Duration::from_secs(60);

    fn new() -> Self {
        Self { wall: Timestamp::now(), at: Instant::now() }
    }

    /// Whether it was set since this was last asked.
    fn was_set(&mut self) -> bool {
        self.differs(Timestamp::now(), Instant::now())
    }

    fn differs(&mut self, wall: Timestamp, at: Instant) -> bool {
        let expected = self.wall.after(at - self.at);
        (self.wall, self.at) = (wall, at);
        wall.since(expected).max(expected.since(wall)) > Self::SLACK
    }
}

impl Reconciler {
    /// Questions at a time, all accounts together; of each account it is one, as the client lets no more through.
    const AT_ONCE: usize = 4;
    /// What runs is asked for this often, in minutes of the schedule.
    const DISCOVER_MINUTES: u32 = 10;
    /// After so many of these its accounts are asked about, too: every six hours.
    const ACCOUNTS_ROUNDS: u32 = 36;
    /// Jobs to ask about are looked for anew this often; in between they are heard of.
    const SCAN_EVERY: Duration = Duration::from_secs(3600);
    /// The same when some may not have been heard of.
    const SCAN_SOON: Duration = Duration::from_secs(60);

    /// Asks `client`, and hands what it says to `intake`.
    pub fn new(config: Config, intake: Intake, client: Client) -> Self {
        Self { inner: Arc::new(Inner { config, intake, client, accounts: Mutex::default() }) }
    }

    /// What keeps the provider from being asked, in words.
    pub fn trouble(&self) -> Option<&'static str> {
        let trouble = self.inner.client.circuit_breaker();
        match (self.is_token_refused(), self.accounts_on_hold(), self.accounts_without_credits()) {
            (true, ..) => Some("the token is refused"),
            _ if trouble.is_outage() => Some("it does not answer"),
            (false, 1.., _) => Some("an account is on hold"),
            (false, 0, 1..) => Some("an account is out of credits"),
            (false, 0, 0) if trouble.unanswered() > 0 => Some("a question has got no answer"),
            (false, 0, 0) => self.has_expiring_account().then_some("the login of an account expires within three days"),
        }
    }

    /// How many accounts were lately told to have no credits.
    pub fn accounts_without_credits(&self) -> usize {
        self.inner.client.circuit_breaker().accounts_without_credits()
    }

    /// Whether the provider answers nobody, as far as is known.
    pub fn is_outage(&self) -> bool {
        self.inner.client.circuit_breaker().is_outage()
    }

    /// How many accounts the provider has put on hold.
    pub fn accounts_on_hold(&self) -> usize {
        self.inner.client.circuit_breaker().accounts_on_hold()
    }

    /// Whether the provider refused our token when it was last asked.
    pub fn is_token_refused(&self) -> bool {
        self.inner.client.circuit_breaker().is_token_refused()
    }

    fn state(&self) -> &State {
        self.inner.intake.log().state()
    }

    /// Asks for as long as the service runs. Dropping it is fine at any time.
    pub async fn run(&self) {
        if self.inner.intake.log().recovered().await.is_none() {
            return;
        }
        tokio::select! {
            () = self.ask_on_schedule() => {}
            () = self.discover_now_and_then() => {}
        }
    }

    async fn discover_now_and_then(&self) {
        let mut pause = self.inner.config.minute;
        for round in 0_u32.. {
            sleep(pause).await;
            let apis: Vec<_> = match self.apis_in_use().await {
                Ok(apis) => apis.into_iter().filter(|api| round.is_multiple_of(provider::rounds(api))).collect(),
                Err(error) => {
                    tracing::debug!(%error, "which APIs to ask cannot be read");
                    Vec::new()
                }
            };
            if let Err(error) = self.discover(&apis).await {
                tracing::debug!(%error, "the provider does not say what runs");
            }
            if self.inner.config.reads_lists
                && let Err(error) = self.read_first_pages(&apis).await
            {
                tracing::debug!(%error, "the provider does not list its newest jobs");
            }
            if self.inner.config.reads_lists
                && round.is_multiple_of(Self::ACCOUNTS_ROUNDS)
                && let Err(error) = self.read_accounts().await
            {
                tracing::debug!(%error, "the provider does not say how its accounts stand");
            }
            pause = self.inner.config.minute.saturating_mul(Self::DISCOVER_MINUTES);
        }
    }

    async fn ask_on_schedule(&self) {
        /// The clock is looked at this often.
        const LOOK: Duration = Duration::from_secs(60);
        let mut clock = ClockWatch::new();
        let mut changes = self.state().changes();
        let mut queue = Queue::default();
        let (mut asking, mut in_flight) = (JoinSet::new(), HashMap::new());
        let mut scan_at = Instant::now();
        loop {
            if clock.was_set() {
                tracing::warn!("the clock was set: when to ask about jobs is worked out anew");
                (queue, scan_at) = (Queue::default(), Instant::now());
            }
            if scan_at <= Instant::now() {
                let has_all = self.scan(&mut queue, Queue::MAX_JOBS).await.unwrap_or(false);
                let pause = if has_all { Self::SCAN_EVERY } else { Self::SCAN_SOON };
                scan_at = Instant::now() + pause;
            }
            let resumed = self.inner.client.circuit_breaker().resumed();
            let paused = self.inner.client.circuit_breaker().paused_until();
            let now = Timestamp::now();
            while paused.is_none()
                && asking.len() < Self::AT_ONCE
                && let Some(sequence) = queue.take(now)
            {
                let this = self.clone();
                let task = asking.spawn(async move { this.ask(sequence).await });
                in_flight.insert(task.id(), sequence);
            }
            let has_room = asking.len() < Self::AT_ONCE;
            let due = queue.next().filter(|_| has_room).map(|at| Instant::now() + at.since(now));
            let next = [Some(scan_at), paused.or(due)].into_iter().flatten().min().unwrap_or(scan_at);
            tokio::select! {
                Some(ended) = asking.join_next_with_id(), if !asking.is_empty() => {
                    let (id, next) = Self::ended(ended);
                    if let Some(sequence) = in_flight.remove(&id) {
                        queue.asked(sequence, next, Timestamp::now());
                    }
                }
                change = changes.recv() => match change {
                    Ok(ChangeNotice::Job(change)) => if self.heard_of(&mut queue, change).is_err() {
                        scan_at = scan_at.min(Instant::now() + Self::SCAN_SOON);
                    },
                    Ok(ChangeNotice::End) | Err(RecvError::Closed) => return,
                    Ok(ChangeNotice::Gap) | Err(RecvError::Lagged(_)) => {
                        scan_at = scan_at.min(Instant::now() + Self::SCAN_SOON);
                    }
                },
                () = resumed => {}
                () = sleep_until(next.min(Instant::now() + LOOK)) => {}
            }
        }
    }

    /// Which question ended, and when to ask again.
    fn ended(ended: Result<(Id, Option<Timestamp>), JoinError>) -> (Id, Option<Timestamp>) {
        ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a defect cut a question to the provider off");
            (error.id(), Some(Timestamp::now().after(Self::SCAN_EVERY)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_either_way_is_noticed_once() {
        let mut clock = ClockWatch::new();
        let (wall, at) = (clock.wall, clock.at);
        let second = Duration::from_secs(1);
        let day = 24 * 3600 * second;
        assert!(!clock.differs(wall.after(30 * second), at + 29 * second));
        assert!(clock.differs(wall.after(30 * day), at + 60 * second));
        assert!(!clock.differs(wall.after(30 * day + second), at + 61 * second));
        assert!(clock.differs(wall.after(62 * second), at + 62 * second));
    }
}
