//! Picking the most urgent jobs that there is room for.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::iter::Peekable;
use std::time::Duration;

use super::{Queued, deadline};
use crate::domain::{Job, Timestamp};
use crate::state::keys::{self, Table};
use crate::state::store::{IVec, Store, StoreError};
use crate::state::{DueJob, State, StateError};

/// What becomes of a job that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is worked on now.
    Taken,
    /// It is not, for a reason of its own.
    Passed,
    /// There is no room for others of its owner at its host.
    OwnerFull,
    /// There is no room for others of its host.
    HostFull,
    /// There is no room at all.
    Enough,
}

/// Where the last walk ended, so that the next one begins with what it did not come to.
#[derive(Debug, Default)]
pub struct DueCursor {
    host: u64,
    /// The owner who names a host first.
    owner: u64,
    /// Who names none.
    full: Vec<u64>,
    /// By host.
    lanes: HashMap<u64, u64>,
}

impl DueCursor {
    /// Has the next walk spend no time on the hosts of owners without room, where there are more than it can look at.
    pub fn leave_out(&mut self, full: Vec<u64>) {
        self.full = full;
    }
}

/// Hosts looked at in one walk, and owners of one host.
const HOSTS: usize = 256;
const LANES: usize = 256;
/// Jobs of one host that are passed over before its owners are looked at one by one.
const PASSED: usize = 64;
/// Jobs of one owner that are passed over.
const PASSED_IN_LANE: usize = 64;
/// Jobs of one host looked at whose next attempt has become due: they are sorted in memory.
const RETRIES: usize = 64;

/// The most urgent is the least: first the link that dies next; those that seem dead already come after all others.
type Urgency = (bool, Timestamp, u64);

fn urgency(job: &DueJob, now: Timestamp) -> Urgency {
    let deadline = deadline(job.at, job.link_expires_at);
    (deadline < now, deadline, job.sequence)
}

impl State {
    /// Shows the jobs that are due now, the most urgent first, until `visit` has enough. What it says of one decides which
    /// others are shown. True when there may be more that were not come to: the next walk begins with them.
    ///
    /// # Errors
    /// While the state is rebuilt, or when the store fails.
    pub fn visit_due(
        &self,
        now: Timestamp,
        cursor: &mut DueCursor,
        mut visit: impl FnMut(&DueJob) -> Shown,
    ) -> Result<bool, StateError> {
        let store = self.store()?;
        let (mut hosts, mut more) = sections(&store, &Table::HostQueues.prefix(), cursor.host, HOSTS)?;
        cursor.host = hosts.last().filter(|_| more).map_or(0, |host| host.wrapping_add(1));
        if more {
            let (named, are_all_known) = self.named_hosts(&store, &mut cursor.owner, &cursor.full, HOSTS)?;
            hosts.retain(|host| !are_all_known && !named.contains(host));
            hosts.extend(named);
        } else if hosts.len() < HOSTS / 2 {
            self.forget_lanes();
        }
        let (mut walks, mut heads) = walks(&store, hosts.iter().map(|host| keys::host_queue(*host)), now)?;
        let mut crowded = Vec::new();
        while let Some(Reverse((_, index))) = heads.pop() {
            let walk = &mut walks[index];
            let Some(job) = walk.head.take() else { continue };
            match visit(&job) {
                Shown::Taken => {}
                Shown::Passed | Shown::OwnerFull => walk.passed += 1,
                Shown::HostFull => continue,
                Shown::Enough => return Ok(false),
            }
            if walk.passed >= PASSED {
                crowded.push(hosts[index]);
            } else {
                heads.extend(walk.advance(now)?.map(|urgency| Reverse((urgency, index))));
            }
        }
        cursor.lanes.retain(|host, _| crowded.contains(host));
        for host in crowded {
            match self.visit_lanes(&store, host, now, cursor, &mut visit)? {
                Some(rest) => more |= rest,
                None => return Ok(false),
            }
        }
        Ok(more)
    }

    /// Shows the jobs of a host by their owners, the most urgent owner first. `None` when `visit` has enough.
    fn visit_lanes(
        &self,
        store: &Store,
        host: u64,
        now: Timestamp,
        cursor: &mut DueCursor,
        visit: &mut impl FnMut(&DueJob) -> Shown,
    ) -> Result<Option<bool>, StateError> {
        let start = cursor.lanes.get(&host).copied().unwrap_or_default();
        let (owners, more) = sections(store, &keys::lanes(host), start, LANES)?;
        match owners.last().filter(|_| more) {
            Some(last) => cursor.lanes.insert(host, last.wrapping_add(1)),
            None => cursor.lanes.remove(&host),
        };
        let (mut walks, mut heads) = walks(store, owners.iter().map(|owner| keys::lane(host, *owner)), now)?;
        while let Some(Reverse((_, index))) = heads.pop() {
            let walk = &mut walks[index];
            let Some(job) = walk.head.take() else { continue };
            match visit(&job) {
                Shown::Taken => {}
                Shown::Passed if walk.passed < PASSED_IN_LANE => walk.passed += 1,
                Shown::Passed | Shown::OwnerFull => continue,
                Shown::HostFull => return Ok(Some(false)),
                Shown::Enough => return Ok(None),
            }
            heads.extend(walk.advance(now)?.map(|urgency| Reverse((urgency, index))));
        }
        Ok(Some(more))
    }
}

/// The most urgent head of several queues is on top.
type Heads = BinaryHeap<Reverse<(Urgency, usize)>>;

/// The jobs of one queue that are due, the most urgent first.
struct Walk<'a> {
    /// The most urgent last, where it is taken from.
    retries: Vec<DueJob>,
    ready: Peekable<Box<dyn Iterator<Item = Result<DueJob, StateError>> + 'a>>,
    head: Option<DueJob>,
    passed: usize,
}

impl<'a> Walk<'a> {
    /// The queue whose keys begin with `prefix`.
    fn new(store: &'a Store, prefix: &[u8], now: Timestamp) -> Result<Self, StateError> {
        let key = |at_once, time| keys::in_queue(prefix.to_vec(), at_once, time, 0);
        let read = |item: Result<(IVec, IVec), StoreError>| {
            let (key, value) = item?;
            Queued::read(&key, &value)
        };
        let next = |time: Timestamp| time.after(Duration::from_millis(1));
        let come = store.range(key(false, Timestamp::default())..key(false, next(now)));
        let ahead = store.range(key(false, next(now.after(Job::LONGEST_DELAY)))..keys::after_prefix(prefix.to_vec()));
        let mut retries = come.chain(ahead).take(RETRIES).map(read).collect::<Result<Vec<_>, _>>()?;
        retries.sort_by_key(|job| Reverse(urgency(job, now)));
        let alive = store.range(key(true, now)..key(false, Timestamp::default()));
        let dead = store.range(key(true, Timestamp::default())..key(true, now));
        let ready: Box<dyn Iterator<Item = _> + 'a> = Box::new(alive.chain(dead).map(read));
        Ok(Self { retries, ready: ready.peekable(), head: None, passed: 0 })
    }

    /// Goes on to the next job.
    fn advance(&mut self, now: Timestamp) -> Result<Option<Urgency>, StateError> {
        let retry_first = match (self.retries.last(), self.ready.peek()) {
            (Some(retry), Some(Ok(next))) => urgency(retry, now) <= urgency(next, now),
            (retry, None) => retry.is_some(),
            (_, Some(_)) => false,
        };
        self.head = if retry_first { self.retries.pop() } else { self.ready.next().transpose()? };
        Ok(self.head.as_ref().map(|head| urgency(head, now)))
    }
}

/// Walks over the queues with these prefixes, and their heads.
fn walks<'a>(
    store: &'a Store,
    prefixes: impl Iterator<Item = Vec<u8>>,
    now: Timestamp,
) -> Result<(Vec<Walk<'a>>, Heads), StateError> {
    let mut walks = prefixes.map(|prefix| Walk::new(store, &prefix, now)).collect::<Result<Vec<_>, _>>()?;
    let mut heads = Heads::new();
    for (index, walk) in walks.iter_mut().enumerate() {
        heads.extend(walk.advance(now)?.map(|urgency| Reverse((urgency, index))));
    }
    Ok((walks, heads))
}

/// The numbers that follow `prefix` in keys, each once, at most `limit` of them, from `start` on and then those before it;
/// and whether there are more.
fn sections(store: &Store, prefix: &[u8], start: u64, limit: usize) -> Result<(Vec<u64>, bool), StateError> {
    let at = |number: u64| [prefix, &number.to_be_bytes()].concat();
    let mut found = Vec::new();
    for (from, end) in [(at(start), keys::after_prefix(prefix.to_vec())), (at(0), at(start))] {
        let mut from = Some(from);
        while let Some(key) = from.take() {
            let Some(item) = store.range(key..end.clone()).next() else { break };
            let Some(number) = keys::number_at(&item?.0, prefix.len()) else { break };
            if found.len() == limit {
                return Ok((found, true));
            }
            found.push(number);
            from = number.checked_add(1).map(at);
        }
    }
    Ok((found, false))
}
