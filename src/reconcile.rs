//! Asks the provider about jobs whose end it has not told.
//!
//! When a job is asked about follows from its age, so nothing need be written for it: after a restart a job that should
//! have been asked about meanwhile is asked about once. An answer goes through `intake` as a callback does, and only one
//! that changes something is recorded.

mod ask;
mod queue;
mod schedule;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::queue::Queue;
use self::trouble::Trouble;
use crate::domain::Timestamp;
use crate::intake::Intake;
use crate::provider::Client;
use crate::state::State;

/// How often the provider is asked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the schedule's minutes last; something else is for tests.
    pub minute: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { minute: Duration::from_secs(60) }
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
    trouble: Trouble,
}

impl Reconciler {
    /// Questions at a time, all accounts together; the client lets one at a time through for each account.
    const AT_ONCE: usize = 4;
    /// Running jobs are looked for anew this often; in between they are heard of.
    const SCAN_EVERY: Duration = Duration::from_secs(3600);
    /// The same when some may not have been heard of.
    const SCAN_SOON: Duration = Duration::from_secs(60);

    /// Asks `client`, and hands what it says to `intake`.
    pub fn new(config: Config, intake: Intake, client: Client) -> Self {
        Self { inner: Arc::new(Inner { config, intake, client, trouble: Trouble::default() }) }
    }

    /// What keeps the provider from being asked, in words.
    pub fn trouble(&self) -> Option<&'static str> {
        match (self.is_token_refused(), self.accounts_on_hold()) {
            (true, _) => Some("the token is refused"),
            (false, 0) => None,
            (false, _) => Some("an account is on hold"),
        }
    }

    /// How many accounts the provider has put on hold.
    pub fn accounts_on_hold(&self) -> usize {
        self.inner.trouble.accounts_on_hold()
    }

    /// Whether the provider refused our token when it was last asked.
    pub fn is_token_refused(&self) -> bool {
        self.inner.trouble.is_token_refused()
    }

    fn state(&self) -> &State {
        self.inner.intake.ledger().state()
    }

    /// Asks for as long as the service runs. Dropping it is fine at any time.
    pub async fn run(&self) {
        if self.inner.intake.ledger().recovered().await.is_none() {
            return;
        }
        let mut changes = self.state().changes();
        let mut queue = Queue::default();
        let mut asking = JoinSet::new();
        let mut scan_at = Instant::now();
        loop {
            if scan_at <= Instant::now() {
                let scanned = self.scan(&mut queue);
                let pause = if scanned.is_ok() { Self::SCAN_EVERY } else { Self::SCAN_SOON };
                scan_at = Instant::now() + pause;
            }
            let paused = self.inner.trouble.paused_until();
            let now = Timestamp::now();
            while paused.is_none()
                && asking.len() < Self::AT_ONCE
                && let Some(sequence) = queue.take(now)
            {
                let this = self.clone();
                asking.spawn(async move { (sequence, this.ask(sequence).await) });
            }
            let has_room = asking.len() < Self::AT_ONCE;
            let due = queue.next().filter(|_| has_room).map(|at| Instant::now() + at.since(now));
            let next = [Some(scan_at), paused.or(due)].into_iter().flatten().min().unwrap_or(scan_at);
            tokio::select! {
                Some(ended) = asking.join_next(), if !asking.is_empty() => match ended {
                    Ok((sequence, next)) => queue.put(sequence, next),
                    Err(error) => tracing::error!(%error, "a defect cut a question to the provider off"),
                },
                change = changes.recv() => match change {
                    Ok(Some(record)) => self.heard(&mut queue, &record),
                    Ok(None) | Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(_)) => scan_at = scan_at.min(Instant::now() + Self::SCAN_SOON),
                },
                () = sleep_until(next) => {}
            }
        }
    }
}
