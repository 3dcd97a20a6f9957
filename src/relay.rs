//! Passes callbacks on to the receivers that callers of the gateway named, at least once, those over one ref's URL one after
//! the other in the order they came: the same bytes, but for what was put into the call here, in whose place stands what its
//! caller gave.
//!
//! What waits is recorded in the same batch as the callback, and so is what became of it; a crash between a receiver's
//! answer and its record makes one callback be sent twice. How often something was tried is only known here: after a
//! start it is tried at once. A receiver is a stranger: requests obey the outbound policy, follow no redirect and read
//! next to nothing of the answer.

mod deliver;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::cluster::text_key;
use crate::delivery::{self, Attempt, Limits, Outbox, Receivers, Tried};
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
    log: EventLog,
}

struct Inner {
    patience: Duration,
    client: Client,
    rewrite: Rewrite,
    receivers: Receivers,
    /// KiB of bodies that may be in memory at once.
    bodies: Semaphore,
    stop: watch::Sender<bool>,
}

impl Relay {
    /// Requests at a time, all receivers together.
    const AT_ONCE: usize = 64;
    /// All bodies being sent together may take up this much, in KiB, and what each request may besides.
    const BODIES_KIB: u32 = 32 << 10;
    const SMALL_BODY_KIB: u32 = 64;
    /// For one request, its answer included.
    const REQUEST_TIME: Duration = Duration::from_secs(30);
    const CONNECT_TIME: Duration = Duration::from_secs(10);
    /// No ref has more than one lane, so all may be one owner's.
    const OWNER: u64 = 0;

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
                client,
                rewrite,
                receivers: Receivers::of_strangers(Self::AT_ONCE),
                bodies: Semaphore::new(Self::BODIES_KIB as usize),
                stop: watch::Sender::new(false),
            }),
            log,
        })
    }

    /// Begins nothing from now on.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    fn state(&self) -> &State {
        self.log.state()
    }

    /// Works until [`Relay::stop`] is called, then lets what is under way finish for at most `grace`. What is cut off is
    /// sent again after the next start.
    pub async fn run(&self, grace: Duration) {
        let limits = Limits { at_once: Self::AT_ONCE, grace };
        delivery::run(self.clone(), limits, self.inner.stop.subscribe()).await;
    }
}

impl Outbox for Relay {
    type Lane = RefId;
    type Change = RefId;

    fn log(&self) -> &EventLog {
        &self.log
    }

    fn fenced(&self, fence: Option<u64>) -> Self {
        Self { log: self.log.fenced(fence), ..self.clone() }
    }

    fn share_of(&self, lane: &RefId) -> u64 {
        text_key(lane.as_str())
    }

    fn changes(&self) -> broadcast::Receiver<Option<RefId>> {
        self.state().outbox_updates()
    }

    fn lane(&self, change: RefId) -> Option<(RefId, u64, bool)> {
        Some((change, Self::OWNER, false))
    }

    fn lanes(&self, limit: usize, after: Option<&RefId>) -> Result<Vec<(RefId, u64)>, StateError> {
        let refs = self.state().outbox_refs(limit, after)?;
        Ok(refs.into_iter().map(|id| (id, Self::OWNER)).collect())
    }

    async fn deliver_next(&self, lane: RefId, tried: Tried) -> Attempt {
        self.deliver_next(&lane, tried).await
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("log", &self.log).finish_non_exhaustive()
    }
}
