//! Reading what is to be sent, and what became of it.

use tokio::sync::broadcast;

use super::keys::{self, NOTIFY_ROUTES, Table};
use super::query::Page;
use super::records::{NotificationLane, NotificationsChanged};
use super::{State, StateError};
use crate::domain::{Destination, Notification, NotificationId, NotificationState, Route};

impl State {
    /// All refs together are one destination: no job has two.
    pub const REFS: u64 = keys::REFS;

    /// What stands for a destination in a [`NotificationLane`].
    pub fn destination(destination: &Destination) -> u64 {
        keys::destination(destination)
    }

    /// What stands for an event's owner; 0 for what came over a channel.
    pub fn notification_owner(notification: &Notification) -> u64 {
        notification.owner().map_or(0, |id| keys::short_hash(id.as_str()))
    }

    /// Where there is something new to send from now on; `None` when it may be anywhere.
    pub fn notifications_changed(&self) -> broadcast::Receiver<Option<NotificationsChanged>> {
        self.shared.notifications.subscribe()
    }

    /// Which endpoints are told of what.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails; so for all that follow.
    pub fn notify_routes(&self) -> Result<Vec<Route>, StateError> {
        let Some(bytes) = self.store()?.get(&NOTIFY_ROUTES)? else { return Ok(Vec::new()) };
        Ok(postcard::from_bytes(&bytes)?)
    }

    /// At most `limit` lanes to a destination that have something to send, those behind `after`, with what stands for the owners
    /// of their first events.
    pub fn notification_lanes(
        &self,
        destination: u64,
        limit: usize,
        after: Option<NotificationLane>,
    ) -> Result<Vec<(NotificationLane, u64)>, StateError> {
        let store = self.store()?;
        let mut lanes: Vec<(NotificationLane, u64)> = Vec::new();
        let end = keys::after_prefix(keys::lanes_to(destination));
        while lanes.len() < limit {
            let start = match lanes.last().map(|(lane, _)| *lane).or(after) {
                Some(lane) => keys::in_notification_lane(destination, lane.job, u64::MAX),
                None => keys::lanes_to(destination),
            };
            let Some(item) = store.range(start..end.clone()).next() else { break };
            let key = item?.0;
            let (Some(job), Some(number)) = (keys::number_at(&key, 9), keys::trailing_number(&key)) else { break };
            let first = store.get(&keys::notification(number))?;
            let first = first.map(|bytes| postcard::from_bytes::<Notification>(&bytes)).transpose()?;
            let owner = first.as_ref().map_or(0, Self::notification_owner);
            lanes.push((NotificationLane { destination, job }, owner));
        }
        Ok(lanes)
    }

    /// The destinations that something is to be sent to, each once: there are few.
    pub fn notification_destinations(&self) -> Result<Vec<u64>, StateError> {
        let store = self.store()?;
        let mut found = Vec::new();
        let mut start = Table::NotificationLanes.prefix();
        while let Some(item) = store.range(start..keys::after(Table::NotificationLanes)).next() {
            let Some(destination) = keys::number_at(&item?.0, 1) else { break };
            found.push(destination);
            start = keys::after_prefix(keys::lanes_to(destination));
        }
        Ok(found)
    }

    /// What is to be sent first in a lane.
    pub fn next_notification(&self, lane: NotificationLane) -> Result<Option<Notification>, StateError> {
        let store = self.store()?;
        let Some(item) = store.range(keys::with_prefix(keys::notification_lane(lane.destination, lane.job))).next()
        else {
            return Ok(None);
        };
        let Some(number) = keys::trailing_number(&item?.0) else { return Ok(None) };
        let Some(bytes) = store.get(&keys::notification(number))? else { return Ok(None) };
        Ok(Some(postcard::from_bytes(&bytes)?))
    }

    /// An event on its way, or what became of it.
    pub fn notification(&self, id: &NotificationId) -> Result<Option<Notification>, StateError> {
        let store = self.store()?;
        let Some(number) = store.get(&keys::notification_id(id))? else { return Ok(None) };
        let number = postcard::from_bytes(&number)?;
        let Some(bytes) = store.get(&keys::notification(number))? else { return Ok(None) };
        Ok(Some(postcard::from_bytes(&bytes)?))
    }

    /// Events with a number below `before`, the newest first; those in one state, or all.
    pub fn notifications(
        &self,
        state: Option<NotificationState>,
        limit: usize,
        before: Option<u64>,
    ) -> Result<Page<Notification>, StateError> {
        let store = self.store()?;
        let prefix = state.map_or_else(|| Table::Notifications.prefix(), keys::notifications_in);
        self.page(&prefix, limit, before, |number, value| {
            let stored;
            let bytes: &[u8] = if state.is_none() {
                value
            } else {
                stored = store.get(&keys::notification(number))?;
                let Some(bytes) = &stored else { return Ok(None) };
                bytes
            };
            Ok(Some((postcard::from_bytes(bytes)?, bytes.len())))
        })
    }

    /// Events that the entry at `position` made and that are on their way or dead, with their numbers.
    pub fn unsent_notifications_of(&self, position: u64) -> Result<Vec<(u64, Notification)>, StateError> {
        let store = self.store()?;
        let mut found = Vec::new();
        let last = position.saturating_add(Route::MAX as u64 + 1);
        for item in store.range(keys::notification(position)..keys::notification(last)) {
            let (key, value) = item?;
            let notification: Notification = postcard::from_bytes(&value)?;
            if let Some(number) = keys::trailing_number(&key)
                && notification.state != NotificationState::Delivered
            {
                found.push((number, notification));
            }
        }
        Ok(found)
    }
}
