//! Passes callbacks on to the receivers that callers of the gateway named, at least once, those over one ref's URL one after
//! the other in the order they came: the same bytes, but for what was put into the call here, in whose place stands what its
//! caller gave.
//!
//! What waits is recorded in the same batch as the callback, and so is what became of it; a crash between a receiver's
//! answer and its record makes one callback be sent twice. How often something was tried is only known here: after a
//! start it is tried at once. A receiver is a stranger: requests obey the outbound policy, follow no redirect and read
//! next to nothing of the answer.

mod deliver;
mod queue;
mod receivers;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::deliver::DeliveryOutcome;
use self::queue::Queue;
use self::receivers::Receivers;
use crate::domain::RefId;
use crate::egress::{self, Client, ClientConfig, ClientSetupError, Policy};
use crate::state::{EventLog, RefRecord, State, StateError};

/// A callback over a ref's URL as its receiver is to get it.
pub type Rewrite = Arc<dyn Fn(&RefRecord, Bytes) -> Bytes + Send + Sync>;

/// How callbacks are passed on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests may go.
    pub egress: egress::Config,
    /// After this time a callback that its receiver does not take is given up; [`Config::PATIENCE`] is a good time.
    pub patience: Duration,
}

impl Config {
    /// Longer than a weekend.
    pub const PATIENCE: Duration = Duration::from_secs(72 * 3600);
}

/// Passes callbacks on. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    inner: Arc<Inner>,
}

struct Inner {
    patience: Duration,
    log: EventLog,
    client: Client,
    rewrite: Rewrite,
    receivers: Receivers,
    /// KiB of bodies that may be in memory at once.
    bodies: Semaphore,
    stop: watch::Sender<bool>,
}

/// Requests under way.
type InFlight = (JoinSet<(DeliveryOutcome, bool)>, HashMap<Id, RefId>);

impl Relay {
    /// Requests at a time, all receivers together.
    const AT_ONCE: usize = 64;
    /// All bodies being sent together may take up this much, in KiB, and what each request may besides.
    const BODIES_KIB: u32 = 32 << 10;
    const SMALL_BODY_KIB: u32 = 64;
    /// For one request, its answer included.
    const REQUEST_TIME: Duration = Duration::from_secs(30);
    const CONNECT_TIME: Duration = Duration::from_secs(10);
    /// How many refs are looked for at a time.
    const PAGE: usize = 1000;
    /// What waits is looked for anew this often; in between it is heard of.
    const SCAN_EVERY: Duration = Duration::from_secs(3600);
    /// The same when something may not have been heard of.
    const SCAN_SOON: Duration = Duration::from_secs(1);
    /// After a defect, which would strike again at once.
    const AFTER_DEFECT: Duration = Duration::from_secs(3600);

    /// Passes on what `log` has, as `rewrite` gives it.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(config: Config, log: EventLog, rewrite: Rewrite) -> Result<Self, ClientSetupError> {
        // At least once: a callback may come twice.
        let times = ClientConfig { may_repeat: true, ..ClientConfig::new(Self::CONNECT_TIME, Self::REQUEST_TIME) };
        let client = Client::new(Policy::new(config.egress), times)?;
        Ok(Self {
            inner: Arc::new(Inner {
                patience: config.patience,
                log,
                client,
                rewrite,
                receivers: Receivers::default(),
                bodies: Semaphore::new(Self::BODIES_KIB as usize),
                stop: watch::Sender::new(false),
            }),
        })
    }

    /// Begins nothing from now on.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    fn state(&self) -> &State {
        self.inner.log.state()
    }

    /// Works until [`Relay::stop`] is called, then lets what is under way finish for at most `grace`. What is cut off is
    /// sent again after the next start.
    pub async fn run(&self, grace: Duration) {
        let mut stop = self.inner.stop.subscribe();
        // From here on, so that the first scan and what is heard of leave no gap.
        let mut heard = self.state().outbox_updates();
        tokio::select! {
            _ = self.inner.log.recovered() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let (mut queue, mut sending) = (Queue::default(), InFlight::default());
        let mut scan_at = Instant::now();
        while !*stop.borrow_and_update() {
            if queue.take_left_out() {
                scan_at = Instant::now();
            }
            if scan_at <= Instant::now() {
                let scanned = self.scan(&mut queue).await;
                scan_at = Instant::now() + if scanned.is_ok() { Self::SCAN_EVERY } else { Self::SCAN_SOON };
            }
            while sending.0.len() < Self::AT_ONCE
                && let Some(id) = queue.take(Instant::now())
            {
                let (this, late_since) = (self.clone(), queue.late_since(&id));
                let task = sending.0.spawn({
                    let id = id.clone();
                    async move { this.deliver_next(&id, late_since).await }
                });
                sending.1.insert(task.id(), id);
            }
            let next = queue.next().filter(|_| sending.0.len() < Self::AT_ONCE);
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = sending.0.join_next_with_id(), if !sending.0.is_empty() => {
                    Self::ended(&mut queue, &mut sending.1, ended);
                }
                heard = heard.recv() => match heard {
                    Ok(Some(id)) => queue.enqueue(id, Instant::now()),
                    Ok(None) | Err(RecvError::Lagged(_)) => scan_at = scan_at.min(Instant::now() + Self::SCAN_SOON),
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(next.map_or(scan_at, |next| next.min(scan_at))) => {}
            }
        }
        let finished = async { while sending.0.join_next().await.is_some() {} };
        if timeout(grace, finished).await.is_err() {
            tracing::info!("what was being passed on is sent again after the next start");
        }
        sending.0.shutdown().await;
    }

    /// Looks for all that waits.
    async fn scan(&self, queue: &mut Queue) -> Result<(), StateError> {
        let mut last = None;
        loop {
            let (state, after) = (self.state().clone(), last.take());
            let page = tokio::task::spawn_blocking(move || state.outbox_refs(Self::PAGE, after.as_ref())).await;
            // It ends early only when the runtime does.
            let page = page.unwrap_or(Err(StateError::Rebuilding))?;
            let (now, is_last) = (Instant::now(), page.len() < Self::PAGE);
            last = page.last().cloned();
            page.into_iter().for_each(|id| queue.enqueue(id, now));
            if is_last {
                return Ok(());
            }
        }
    }

    fn ended(
        queue: &mut Queue,
        under_way: &mut HashMap<Id, RefId>,
        ended: Result<(Id, (DeliveryOutcome, bool)), JoinError>,
    ) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = under_way.remove(&task) else { return };
        let now = Instant::now();
        let ended = ended.map(|(_, (ended, late))| {
            queue.set_late(&id, late, now);
            ended
        });
        match ended {
            Ok(DeliveryOutcome::Done) => queue.advance(id, now),
            Ok(DeliveryOutcome::Nothing) => queue.end(id, now),
            Ok(DeliveryOutcome::Later(wait)) => queue.wait(id, now + wait),
            Ok(DeliveryOutcome::Busy) => queue.wait(id, now + queue.turn()),
            Ok(DeliveryOutcome::Failed { retry_after }) => {
                queue.fail(id, now, |attempts| schedule::delay(attempts, retry_after))
            }
            Err(error) => {
                tracing::error!(reference = %id, %error, "a defect cut off what was being passed on");
                queue.wait(id, now + Self::AFTER_DEFECT);
            }
        }
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("log", &self.inner.log).finish_non_exhaustive()
    }
}
