//! What somebody is to be told of: recorded in the same batch as the change of the job that it tells of, so that neither is
//! there without the other.
//!
//! Whom it goes to follows from the journal alone: from the routes that were last recorded before, and from the job's ref. So
//! a state that is made anew sends nothing to those who had not asked for it by then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::super::keys::{self, NOTIFY_ROUTES};
use super::super::records::{NotificationLane, NotificationsChanged, RefRecord};
use super::super::stored_job::OpenJob;
use super::super::txn::Txn;
use super::super::{State, StateError};
use super::{ApplyOutcome, refs};
use crate::domain::{
    AssetId, AssetState, Change, Destination, EventType, Job, JobState, Notification, NotificationId,
    NotificationState, Route, Timestamp,
};

/// Of delivered ones, and of dead ones, about so many are remembered. Of more, the oldest of the destination that has most are
/// forgotten: what becomes of one ref's events takes the places of nobody else's.
const MAX_REMEMBERED: u64 = 10_000;

pub(super) fn set_routes(txn: &mut Txn<'_>, routes: &[Route]) -> Result<ApplyOutcome, StateError> {
    txn.put(NOTIFY_ROUTES.to_vec(), &routes.get(..Route::MAX).unwrap_or(routes))?;
    Ok(ApplyOutcome::Done)
}

/// A job has changed: what follows is told.
pub(super) fn changed(txn: &mut Txn<'_>, open: &mut OpenJob, change: Option<Change>) -> Result<(), StateError> {
    let state = open.job.state;
    let is_other = open.state_before() != Some(state);
    let at = open.job.updated_at;
    match EventType::of_end(state).filter(|_| is_other) {
        Some(event) => tell(txn, &mut open.job, event, at),
        None if state == JobState::Running && change == Some(Change::Progressed) => {
            tell(txn, &mut open.job, EventType::Running, at)
        }
        None => Ok(()),
    }
}

/// Tells of a link that dies soon, once for each: of one to the file in `slot`, or of any.
pub(super) fn expiring(
    txn: &mut Txn<'_>,
    open: &mut OpenJob,
    slot: Option<&AssetId>,
    at: Timestamp,
) -> Result<(), StateError> {
    let dies_at = match slot {
        Some(slot) => {
            let pending = open.job.asset(slot).filter(|asset| asset.state == AssetState::Pending);
            pending.and_then(|asset| asset.link_expires_at())
        }
        None => open.link_expires_at(),
    };
    let Some(dies_at) = dies_at.filter(|dies_at| *dies_at <= at.after(EventType::EXPIRES_WITHIN)) else {
        return Ok(());
    };
    // Of several files' links the last to die counts: each is told of once at most.
    if open.job.state != JobState::Archiving || open.job.expiry_told >= Some(dies_at) {
        return Ok(());
    }
    open.job.expiry_told = Some(dies_at);
    tell(txn, &mut open.job, EventType::Expiring, at)
}

fn tell(txn: &mut Txn<'_>, job: &mut Job, event: EventType, at: Timestamp) -> Result<(), StateError> {
    let routes: Vec<Route> = txn.get(&NOTIFY_ROUTES)?.unwrap_or_default();
    let is_for_refs = EventType::DEFAULT.contains(&event);
    if routes.is_empty() && !is_for_refs {
        return Ok(());
    }
    let of_ref = match &job.ref_id {
        Some(id) => refs::live(txn, id)?,
        None => None,
    };
    let nothing = BTreeMap::new();
    let labels = of_ref.as_ref().map_or(&nothing, |known| &known.labels);
    let wanted = routes.iter().filter(|route| route.takes(event, job, labels));
    let mut destinations: Vec<_> = wanted.map(|route| Destination::Endpoint(route.endpoint.clone())).collect();
    if let Some(RefRecord { id, notify_url: Some(_), .. }) = &of_ref
        && is_for_refs
    {
        destinations.push(Destination::Ref(id.clone()));
    }
    if destinations.is_empty() {
        return Ok(());
    }
    let earlier = job.events;
    job.events = job.events.saturating_add(1);
    let as_it_is = Job { assets: Vec::new(), unconfirmed: Vec::new(), ..job.clone() };
    // An entry has more bytes than there can be destinations, so no two events get the same number.
    for (number, destination) in (txn.position..).zip(destinations) {
        let id = NotificationId::new(&job.id, event, earlier, &destination);
        if txn.contains(&keys::notification_id(&id))? {
            continue;
        }
        let notification = Notification {
            id,
            event,
            at,
            job_id: job.id.clone(),
            destination,
            state: NotificationState::Pending,
            attempts: 0,
            last_error: None,
            reason: None,
            last_attempt_at: None,
            next_attempt_at: None,
            job: Some(Box::new(as_it_is.clone())),
        };
        put_new(txn, number, &notification)?;
    }
    Ok(())
}

/// Said again: taken over where what it told of may be missing.
pub(super) fn kept(txn: &mut Txn<'_>, number: u64, notification: &Notification) -> Result<ApplyOutcome, StateError> {
    if number < txn.meta.begins && !txn.contains(&keys::notification_id(&notification.id))? {
        put_new(txn, number, notification)?;
    }
    Ok(ApplyOutcome::Done)
}

pub(super) fn delivered(txn: &mut Txn<'_>, id: &NotificationId, at: Timestamp) -> Result<ApplyOutcome, StateError> {
    end(txn, id, |notification| {
        notification.state = NotificationState::Delivered;
        (notification.last_error, notification.last_attempt_at) = (None, Some(at));
        notification.attempts = notification.attempts.saturating_add(1);
        notification.job = None;
    })
}

pub(super) fn dead(
    txn: &mut Txn<'_>,
    id: &NotificationId,
    why: &str,
    at: Timestamp,
) -> Result<ApplyOutcome, StateError> {
    end(txn, id, |notification| {
        notification.state = NotificationState::Dead;
        (notification.reason, notification.last_attempt_at) = (Some(cut(why)), Some(at));
    })
}

pub(super) fn failed(
    txn: &mut Txn<'_>,
    id: &NotificationId,
    error: &str,
    at: Timestamp,
    due: Timestamp,
) -> Result<ApplyOutcome, StateError> {
    let Some((number, mut notification)) = pending(txn, id)? else { return Ok(ApplyOutcome::Unknown) };
    notification.attempts = notification.attempts.saturating_add(1);
    (notification.last_error, notification.last_attempt_at) = (Some(cut(error)), Some(at));
    notification.next_attempt_at = Some(due);
    txn.put(keys::notification(number), &notification)?;
    Ok(ApplyOutcome::Done)
}

pub(super) fn retried(txn: &mut Txn<'_>, id: &NotificationId) -> Result<ApplyOutcome, StateError> {
    let Some((number, mut notification)) = known(txn, id)? else { return Ok(ApplyOutcome::Unknown) };
    match notification.state {
        NotificationState::Delivered => return Ok(ApplyOutcome::Done),
        NotificationState::Pending => {}
        NotificationState::Dead => {
            remove_from(txn, number, &notification);
            notification.state = NotificationState::Pending;
            enter(txn, number, &notification);
        }
    }
    (notification.next_attempt_at, notification.reason) = (None, None);
    txn.put(keys::notification(number), &notification)?;
    txn.notifications.push(news_of(&notification, true));
    Ok(ApplyOutcome::Done)
}

/// What becomes of one that is on its way.
fn end(
    txn: &mut Txn<'_>,
    id: &NotificationId,
    change: impl FnOnce(&mut Notification),
) -> Result<ApplyOutcome, StateError> {
    let Some((number, mut notification)) = pending(txn, id)? else { return Ok(ApplyOutcome::Unknown) };
    remove_from(txn, number, &notification);
    change(&mut notification);
    notification.next_attempt_at = None;
    enter(txn, number, &notification);
    txn.put(keys::notification(number), &notification)?;
    let counters = &mut txn.meta.counters;
    let delivered = notification.state == NotificationState::Delivered;
    *(if delivered { &mut counters.notified } else { &mut counters.not_notified }) += 1;
    forget_oldest(txn, notification.state)?;
    Ok(ApplyOutcome::Done)
}

fn pending(txn: &Txn<'_>, id: &NotificationId) -> Result<Option<(u64, Notification)>, StateError> {
    Ok(known(txn, id)?.filter(|(_, notification)| notification.state == NotificationState::Pending))
}

fn known(txn: &Txn<'_>, id: &NotificationId) -> Result<Option<(u64, Notification)>, StateError> {
    let Some(number) = txn.get::<u64>(&keys::notification_id(id))? else { return Ok(None) };
    Ok(txn.get(&keys::notification(number))?.map(|notification| (number, notification)))
}

fn put_new(txn: &mut Txn<'_>, mut number: u64, notification: &Notification) -> Result<(), StateError> {
    // Of two segments with one base both are read.
    while txn.contains(&keys::notification(number))? {
        number += 1;
    }
    txn.put(keys::notification(number), notification)?;
    txn.put(keys::notification_id(&notification.id), &number)?;
    enter(txn, number, notification);
    if notification.state == NotificationState::Pending {
        txn.notifications.push(news_of(notification, false));
    }
    Ok(())
}

fn news_of(notification: &Notification, at_once: bool) -> NotificationsChanged {
    let owner = State::notification_owner(notification);
    NotificationsChanged { lane: lane_of(notification), owner, at_once }
}

fn lane_of(notification: &Notification) -> NotificationLane {
    let destination = keys::destination(&notification.destination);
    NotificationLane { destination, job: keys::short_hash(notification.job_id.as_str()) }
}

/// Puts one where its state says.
fn enter(txn: &mut Txn<'_>, number: u64, notification: &Notification) {
    let destination = keys::short_hash(&notification.destination.name());
    let key = keys::with_job(keys::notifications_in(notification.state), number);
    txn.put_raw(key, &destination.to_be_bytes());
    *count(txn, notification.state) += 1;
    if notification.state == NotificationState::Pending {
        let NotificationLane { destination, job } = lane_of(notification);
        txn.mark(keys::in_notification_lane(destination, job, number));
    }
}

/// The reverse.
fn remove_from(txn: &mut Txn<'_>, number: u64, notification: &Notification) {
    txn.remove(keys::with_job(keys::notifications_in(notification.state), number));
    let count = count(txn, notification.state);
    *count = count.saturating_sub(1);
    if notification.state == NotificationState::Pending {
        let NotificationLane { destination, job } = lane_of(notification);
        txn.remove(keys::in_notification_lane(destination, job, number));
    }
}

fn count<'a>(txn: &'a mut Txn<'_>, state: NotificationState) -> &'a mut u64 {
    let counters = &mut txn.meta.counters;
    match state {
        NotificationState::Pending => &mut counters.notifications_pending,
        NotificationState::Delivered => &mut counters.notifications_delivered,
        NotificationState::Dead => &mut counters.notifications_dead,
    }
}

/// Forgets some of those in a state, where there are too many: some at a time, since each time looks at all of them.
fn forget_oldest(txn: &mut Txn<'_>, state: NotificationState) -> Result<(), StateError> {
    const AT_ONCE: u64 = 256;
    if *count(txn, state) < MAX_REMEMBERED + AT_ONCE {
        return Ok(());
    }
    let mut numbers: BTreeMap<u64, VecDeque<u64>> = BTreeMap::new();
    for (key, destination) in txn.records(&keys::notifications_in(state))? {
        let destination = keys::number_at(&destination, 0).unwrap_or_default();
        numbers.entry(destination).or_default().extend(keys::trailing_number(&key));
    }
    for number in oldest_of_largest(numbers.into_values(), AT_ONCE as usize) {
        if let Some(oldest) = txn.get::<Notification>(&keys::notification(number))? {
            remove_from(txn, number, &oldest);
            txn.remove(keys::notification(number));
            txn.remove(keys::notification_id(&oldest.id));
        }
    }
    Ok(())
}

/// Takes the first number of the longest list, `count` times; of lists of one length, of that with the lowest number.
fn oldest_of_largest(lists: impl Iterator<Item = VecDeque<u64>>, count: usize) -> Vec<u64> {
    let mut largest: BinaryHeap<_> = lists.map(|numbers| (numbers.len(), Reverse(numbers))).collect();
    let taken = std::iter::from_fn(|| {
        let (_, Reverse(mut numbers)) = largest.pop()?;
        let oldest = numbers.pop_front();
        largest.push((numbers.len(), Reverse(numbers)));
        oldest
    });
    taken.take(count).collect()
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(Notification::MAX_ERROR_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JobId, RefId};
    use crate::state::open::open_store;
    use crate::state::store::Access;

    fn notification(number: u64, destination: Destination) -> Notification {
        let job_id: JobId = format!("user:1-minimax:2-video:{number}").parse().unwrap();
        Notification {
            id: NotificationId::new(&job_id, EventType::Failed, 0, &destination),
            event: EventType::Failed,
            at: Timestamp::from_millis_clamped(1_000_000),
            job_id,
            destination,
            state: NotificationState::Pending,
            attempts: 0,
            last_error: None,
            reason: None,
            last_attempt_at: None,
            next_attempt_at: None,
            job: None,
        }
    }

    #[test]
    fn of_dead_events_those_of_the_destination_that_has_most_are_forgotten() {
        const LAST: u64 = MAX_REMEMBERED + 1000;
        let dir = tempfile::tempdir().unwrap();
        let store = open_store(dir.path(), 1 << 20, Access::ReadWrite).unwrap();
        let of_ref = Destination::Ref(RefId::parse(&format!("ref_{:026}", 1)).unwrap());
        let nth = |number| {
            let destination = if number == 0 { Destination::Endpoint("b".to_owned()) } else { of_ref.clone() };
            notification(number, destination)
        };
        let mut txn = Txn::begin(&store).unwrap();
        for number in 0..=LAST {
            let event = nth(number);
            put_new(&mut txn, number, &event).unwrap();
            dead(&mut txn, &event.id, "gone", event.at).unwrap();
            if number % 3000 == 0 {
                txn.commit(number + 1).unwrap();
                txn = Txn::begin(&store).unwrap();
            }
        }
        let is_known = |number| known(&txn, &nth(number).id).unwrap().is_some();
        assert!(is_known(0), "another destination's");
        assert!(!is_known(1) && !is_known(500), "the oldest of the ref");
        assert!(is_known(LAST));
        let count = txn.meta.counters.notifications_dead;
        assert!((MAX_REMEMBERED..MAX_REMEMBERED + 256).contains(&count), "{count}");
        assert_eq!(txn.records(&keys::notifications_in(NotificationState::Dead)).unwrap().len() as u64, count);
    }

    #[test]
    fn the_longest_list_loses_first_and_of_equals_the_oldest() {
        let lists = [vec![7, 8, 9, 10], vec![3], vec![1, 2]].map(VecDeque::from);
        assert_eq!(oldest_of_largest(lists.into_iter(), 5), [7, 8, 1, 9, 2]);
        assert_eq!(oldest_of_largest([VecDeque::new(), VecDeque::from([1])].into_iter(), 5), [1]);
    }
}
