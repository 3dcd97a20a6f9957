//! Tells endpoints of the configuration, and the `notifyUrl` of refs, what becomes of jobs: by Standard Webhooks 1.0.0, at least
//! once with the same id, events of one job to one destination in order.
//!
//! What is to be told is recorded with the change it tells of, in the state's fold; here it is sent. Each endpoint has a
//! delivery of its own, and all refs together another, so that a slow or dead one holds up nobody else.

mod body;
mod courier;
mod expiry;
mod signature;
mod test;

use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use signature::{SigningKeys, SigningKeysError};
pub use test::{TestError, send_test};

use self::courier::{Courier, To};
use crate::bucket::Links;
use crate::delivery::{self, Limits, Receivers};
use crate::domain::{MediaUrl, Route};
use crate::egress::{self, Client, ClientConfig, ClientSetupError, Policy};
use crate::journal::{Durability, Event};
use crate::state::{EventLog, RecordError, State};

/// How events are sent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where requests may go.
    pub egress: egress::Config,
    /// Whom to tell.
    pub endpoints: Vec<Endpoint>,
    /// What signs events to the `notifyUrl` of a ref.
    pub ref_keys: SigningKeys,
    /// After this time an event that its destination does not take is given up; [`Config::PATIENCE`] is a good time.
    pub patience: Duration,
}

impl Config {
    /// A little more than all attempts of the schedule take.
    pub const PATIENCE: Duration = Duration::from_secs(76 * 3600);

    fn routes(&self) -> Vec<Route> {
        self.endpoints.iter().map(|endpoint| endpoint.route.clone()).collect()
    }
}

/// One that is told.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name, and what it is told of.
    pub route: Route,
    /// Where it is. The query may be a secret.
    pub url: MediaUrl,
    /// What signs.
    pub keys: SigningKeys,
    /// Whether events have presigned links.
    pub presigned: bool,
}

/// Sends events. Cheap to clone.
#[derive(Clone)]
pub struct Notifier {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    log: EventLog,
    links: Links,
    client: Client,
    /// Those that the operator names.
    endpoints: Receivers,
    /// Those that refs name.
    strangers: Receivers,
    stop: watch::Sender<bool>,
}

impl Notifier {
    /// For one request, its answer included: the specification recommends 15 to 30 seconds.
    const REQUEST_TIME: Duration = Duration::from_secs(15);
    const CONNECT_TIME: Duration = Duration::from_secs(10);
    /// Requests at a time to the receivers of refs, all together; to one endpoint there are [`Receivers::AT_ONCE`].
    const TO_REFS_AT_ONCE: usize = 64;
    /// After an error of our own.
    const PAUSE: Duration = Duration::from_secs(5);

    /// Sends what `log` has.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(config: Config, log: EventLog, links: Links) -> Result<Self, ClientSetupError> {
        let client = client(config.egress.clone())?;
        let (endpoints, strangers) = (Receivers::of_operator(), Receivers::of_strangers(Self::TO_REFS_AT_ONCE));
        let stop = watch::Sender::new(false);
        Ok(Self { inner: Arc::new(Inner { config, log, links, client, endpoints, strangers, stop }) })
    }

    /// Begins nothing from now on.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    /// Records whom to tell, so that whatever is recorded behind it is told. To be called before anything is taken in.
    pub async fn record_routes(&self) {
        let routes = self.inner.config.routes();
        if routes.is_empty() {
            return;
        }
        if let Err(error) = self.inner.log.record(Event::NotifyRoutes { routes }, Durability::Buffered).await {
            tracing::warn!(%error, "the endpoints to notify cannot be recorded yet");
        }
    }

    /// Works until [`Notifier::stop`] is called, then lets what is under way finish for at most `grace`. What is cut off is
    /// sent again after the next start. Ends earlier where one of its parts does, so that this is noticed.
    pub async fn run(&self, grace: Duration) {
        let mut stop = self.inner.stop.subscribe();
        tokio::select! {
            _ = self.inner.log.recovered() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        while let Err(error) = correct_routes(&self.inner.config, &self.inner.log).await {
            tracing::debug!(%error, "the endpoints to notify cannot be recorded yet");
            tokio::select! {
                () = sleep(Self::PAUSE) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
        let mut parts = JoinSet::new();
        let to_each = (0..self.inner.config.endpoints.len()).map(To::Endpoint);
        for to in to_each.chain([To::Refs, To::Nobody]) {
            let at_once = if matches!(to, To::Refs) { Self::TO_REFS_AT_ONCE } else { Receivers::AT_ONCE };
            let (courier, stop) = (Courier::new(self.clone(), to), self.inner.stop.subscribe());
            parts.spawn(async move {
                fail_point!("notify.part", |_| ());
                delivery::run(courier, Limits { at_once, grace }, stop).await;
            });
        }
        let watching = {
            let this = self.clone();
            parts.spawn(async move { this.watch_expiry().await })
        };
        tokio::select! {
            // First, since after it all parts end.
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            Some(ended) = parts.join_next() => {
                // It may have heard of the stop just before.
                if !*self.inner.stop.borrow() {
                    let reason = ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned());
                    tracing::error!(reason, "a part of what sends events has ended");
                    return;
                }
            }
        }
        watching.abort();
        while parts.join_next().await.is_some() {}
    }

    fn state(&self) -> &State {
        self.inner.log.state()
    }
}

/// Records whom to tell where that is not what was recorded last: for whoever takes something in and sends nothing, too. To
/// be called when the state can be read.
///
/// # Errors
/// When it cannot be recorded.
pub async fn correct_routes(config: &Config, log: &EventLog) -> Result<(), RecordError> {
    let routes = config.routes();
    if log.state().notify_routes().is_ok_and(|known| known == routes) {
        return Ok(());
    }
    log.record(Event::NotifyRoutes { routes }, Durability::Buffered).await.map(drop)
}

/// The client that events are sent with.
fn client(egress: egress::Config) -> Result<Client, ClientSetupError> {
    // At least once: an event may come twice.
    let times = ClientConfig { may_repeat: true, ..ClientConfig::new(Notifier::CONNECT_TIME, Notifier::REQUEST_TIME) };
    Client::new(Policy::new(egress), times)
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").field("config", &self.inner.config).finish_non_exhaustive()
    }
}
