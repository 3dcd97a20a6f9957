//! What delivers events to one endpoint, to all refs, or to nobody.

use std::sync::Arc;
use std::time::Duration;

use fail::fail_point;
use tokio::sync::broadcast;
use tokio::time::sleep;

use super::body::headers;
use super::{Notifier, SigningKeys};
use crate::delivery::{
    Attempt, Backoff, Outbox, Outcome, Receivers, Schedule, Tried, Verdict, judge, post, receiver_key,
};
use crate::domain::{Destination, MediaUrl, Notification, RefId, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{ApplyOutcome, EventLog, NotificationLane, NotificationsChanged, RecordError, State, StateError};

/// Whom to deliver to.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// An endpoint of the configuration, by its place there.
    Endpoint(usize),
    /// The receivers of refs.
    Refs,
    /// Endpoints that are not configured here: not any more, or only on other replicas yet.
    Nobody,
}

#[derive(Clone, Debug)]
pub(super) struct Courier {
    notifier: Notifier,
    log: EventLog,
    to: To,
    /// What stands for the destination; `None` for those that are no more.
    destination: Option<u64>,
    /// What stands for all that are configured.
    known: Arc<[u64]>,
}

/// Where an event goes, or what becomes of it without being sent.
type Goal = Result<MediaUrl, Verdict>;

impl Courier {
    pub(super) fn new(notifier: Notifier, to: To) -> Self {
        let endpoints = notifier.inner.config.endpoints.iter();
        let known = endpoints.map(|endpoint| Destination::Endpoint(endpoint.route.endpoint.clone()));
        let known: Arc<[u64]> = known.map(|known| State::destination(&known)).collect();
        let destination = match to {
            To::Endpoint(place) => known.get(place).copied(),
            To::Refs => Some(State::REFS),
            To::Nobody => None,
        };
        Self { log: notifier.inner.log.clone(), notifier, to, destination, known }
    }

    fn is_mine(&self, destination: u64) -> bool {
        match self.destination {
            Some(mine) => mine == destination,
            None => destination != State::REFS && !self.known.contains(&destination),
        }
    }

    /// The first of a lane, and where it goes. Blocks.
    fn next(&self, lane: NotificationLane) -> Result<Option<(Notification, Goal)>, StateError> {
        let Some(notification) = self.notifier.state().next_notification(lane)? else { return Ok(None) };
        let url = match (self.to, &notification.destination) {
            (To::Endpoint(place), Destination::Endpoint(_)) => {
                Ok(self.notifier.inner.config.endpoints[place].url.clone())
            }
            (To::Refs, Destination::Ref(id)) => self.url_of(id)?,
            (To::Nobody, Destination::Endpoint(name)) => Err(self.without_endpoint(name)?),
            _ => Err(Verdict::GiveUp("endpoint_removed")),
        };
        Ok(Some((notification, url)))
    }

    /// What becomes of an event to an endpoint that is not configured here.
    fn without_endpoint(&self, name: &str) -> Result<Verdict, StateError> {
        let routes = self.notifier.state().notify_routes()?;
        // Another replica that was restarted before this one has it.
        let is_elsewhere = routes.iter().any(|route| route.endpoint == name);
        Ok(if is_elsewhere {
            Verdict::Backoff(Backoff::Paused { rest: Notifier::PAUSE, failing_for: Duration::ZERO })
        } else {
            Verdict::GiveUp("endpoint_removed")
        })
    }

    fn url_of(&self, id: &RefId) -> Result<Goal, StateError> {
        let known = self.notifier.state().reply_ref(id)?;
        let Some(url) = known.and_then(|known| known.notify_url) else {
            return Ok(Err(Verdict::GiveUp("ref_removed")));
        };
        Ok(MediaUrl::parse(&url).map_err(|_| Verdict::GiveUp("invalid_url")))
    }

    /// What signs, whether there are presigned links, and who shares what is sent at a time.
    fn terms(&self) -> (&SigningKeys, bool, &Receivers) {
        let inner = &self.notifier.inner;
        match self.to {
            To::Endpoint(place) => {
                let endpoint = &inner.config.endpoints[place];
                (&endpoint.keys, endpoint.presigned, &inner.endpoints)
            }
            To::Refs | To::Nobody => (&inner.config.ref_keys, false, &inner.strangers),
        }
    }

    async fn send(&self, notification: &Notification, url: MediaUrl) -> Verdict {
        fail_point!("notify.send", |_| Verdict::Failed("as asked for".to_owned(), None));
        let (keys, presigned, receivers) = self.terms();
        let permit = match receivers.admit(url.expose().as_str(), Notifier::REQUEST_TIME) {
            Ok(permit) => permit,
            Err(backoff) => return Verdict::Backoff(backoff),
        };
        let body = match self.notifier.body(notification.clone(), presigned).await {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(%error, "an event cannot be written yet");
                return Verdict::Backoff(Backoff::Paused { rest: Notifier::PAUSE, failing_for: Duration::ZERO });
            }
        };
        let at = Timestamp::now();
        let headers = headers(&notification.id.to_string(), at, &keys.sign(&notification.id, at, &body));
        let max_retry_after = Schedule::STANDARD_WEBHOOKS.max_retry_after;
        let client = &self.notifier.inner.client;
        judge(&permit, post(client, &url, headers, body, Notifier::REQUEST_TIME, max_retry_after).await)
    }

    async fn conclude(&self, notification: &Notification, verdict: Verdict, tried: Tried) -> Outcome {
        let (at, id) = (Timestamp::now(), notification.id);
        match verdict {
            Verdict::Taken => {
                fail_point!("notify.sent", |_| Outcome::Failed(Duration::from_secs(1)));
                self.record(Event::NotificationDelivered { at, id }, Outcome::Done).await
            }
            Verdict::GiveUp(why) => self.give_up(notification, why).await,
            Verdict::Backoff(Backoff::Paused { rest, .. }) => Outcome::Later(rest),
            Verdict::Backoff(Backoff::Busy) => Outcome::Busy,
            Verdict::Failed(error, retry_after) => {
                tracing::info!(%id, event = notification.event.as_str(), error, "an event could not be delivered yet");
                let delay = Schedule::STANDARD_WEBHOOKS.delay(tried.failures.saturating_add(1), retry_after);
                let due = at.after(delay.unwrap_or_default());
                let again = Outcome::Failed(delay.unwrap_or_default());
                let recorded = self.record(Event::NotificationFailed { at, id, error, due }, again).await;
                if delay.is_some() { recorded } else { self.give_up(notification, "attempts_exhausted").await }
            }
        }
    }

    async fn give_up(&self, notification: &Notification, why: &str) -> Outcome {
        let (at, id, destination) = (Timestamp::now(), notification.id, notification.destination.name());
        tracing::warn!(%id, event = notification.event.as_str(), destination, why, "an event is not sent any more");
        self.record(Event::NotificationDead { at, id, why: why.to_owned() }, Outcome::Done).await
    }

    /// Says what became of an event. While that cannot be recorded, nothing else of its lane is tried.
    async fn record(&self, event: Event, outcome: Outcome) -> Outcome {
        loop {
            // It need not be on the disk at once: without it the event is sent again.
            match self.log().record(event.clone(), Durability::Buffered).await {
                // What is told of it here may be from before: it must not be sent again at once.
                Ok(ApplyOutcome::Deferred) if matches!(outcome, Outcome::Done) => {
                    return Outcome::Later(Notifier::PAUSE);
                }
                Ok(_) => return outcome,
                Err(RecordError::Stopping) => return Outcome::Later(Notifier::PAUSE),
                Err(RecordError::Fenced) => return Outcome::Nothing,
                Err(RecordError::Journal(_) | RecordError::Away) => sleep(Notifier::PAUSE).await,
            }
        }
    }
}

impl Outbox for Courier {
    type Lane = NotificationLane;
    type Change = NotificationsChanged;

    fn log(&self) -> &EventLog {
        &self.log
    }

    fn fenced(&self, fence: Option<u64>) -> Self {
        Self { log: self.log.fenced(fence), ..self.clone() }
    }

    fn share_of(&self, lane: &NotificationLane) -> u64 {
        lane.job
    }

    fn changes(&self) -> broadcast::Receiver<Option<NotificationsChanged>> {
        self.notifier.state().notifications_changed()
    }

    fn lane(&self, change: NotificationsChanged) -> Option<(NotificationLane, u64, bool)> {
        let NotificationsChanged { lane, owner, at_once } = change;
        self.is_mine(lane.destination).then_some((lane, owner, at_once))
    }

    fn lanes(
        &self,
        limit: usize,
        after: Option<&NotificationLane>,
    ) -> Result<Vec<(NotificationLane, u64)>, StateError> {
        let state = self.notifier.state();
        if let Some(destination) = self.destination {
            return state.notification_lanes(destination, limit, after.copied());
        }
        let mut lanes = Vec::new();
        for destination in state.notification_destinations()? {
            let after = match after {
                Some(after) if after.destination > destination => continue,
                Some(after) if after.destination == destination => Some(*after),
                _ => None,
            };
            if self.is_mine(destination) && lanes.len() < limit {
                lanes.extend(state.notification_lanes(destination, limit - lanes.len(), after)?);
            }
        }
        Ok(lanes)
    }

    async fn deliver_next(&self, lane: NotificationLane, tried: Tried) -> Attempt {
        let courier = self.clone();
        // It ends early only when the runtime does.
        let next = tokio::task::spawn_blocking(move || courier.next(lane)).await.unwrap_or(Err(StateError::Rebuilding));
        let (notification, url) = match next {
            Ok(Some(next)) => next,
            Ok(None) => return Attempt { outcome: Outcome::Nothing, late: false, receiver: None },
            Err(error) => {
                tracing::debug!(%error, "what is to be sent cannot be read yet");
                let (outcome, late) = (Outcome::Later(Notifier::PAUSE), tried.late_since.is_some());
                return Attempt { outcome, late, receiver: None };
            }
        };
        let patience = self.notifier.inner.config.patience;
        let late = Timestamp::now().since(notification.at) >= patience;
        let receiver = match (self.to, &url) {
            (To::Refs, Ok(url)) => Some(receiver_key(url.expose().as_str())),
            (To::Refs, Err(_)) => None,
            (To::Endpoint(_) | To::Nobody, _) => Some(State::notification_owner(&notification)),
        };
        let verdict = match url {
            Ok(url) => self.send(&notification, url).await,
            Err(verdict) => verdict,
        };
        let verdict = tried.expire(verdict, late, patience);
        Attempt { outcome: self.conclude(&notification, verdict, tried).await, late, receiver }
    }
}
