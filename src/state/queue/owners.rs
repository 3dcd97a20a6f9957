//! At which hosts each owner has jobs: in memory, while the queue has more hosts than one walk looks at.
//!
//! Of so many hosts, most may be one owner's. So each owner names a host in turn, and none waits for another's to be over.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::state::keys::{self, Table};
use crate::state::store::{IVec, Store};
use crate::state::{State, StateError};

/// An owner, and a host that files of its jobs come from.
pub(in crate::state) type Lane = (u64, u64);

/// Records of the queue that are read in one walk, until all lanes are known.
const PAGE: usize = 32_768;
/// How often owners are asked for a host in one walk.
const QUESTIONS: usize = 2048;
/// Lanes of which one walk sees to it that they still have jobs.
const CHECKED: usize = 512;
/// Lanes that are noted in one go while all who commit wait.
const NOTED: usize = 1024;

/// The lanes of the queue. One without jobs stays until it has been named.
#[derive(Debug)]
pub(in crate::state) struct Owners {
    lanes: BTreeSet<Lane>,
    /// By owner, the host it names next, unless that is its first.
    turns: HashMap<u64, u64>,
    /// From which key on the queue is still to be read.
    unread: Option<Vec<u8>>,
}

impl Owners {
    pub(super) fn new() -> Self {
        Self { lanes: BTreeSet::new(), turns: HashMap::new(), unread: Some(Table::Lanes.prefix()) }
    }

    /// Has each owner from `turn` on name a host, then each another, until these are `most`; but for those that are `full`.
    /// Returns the lanes they named, the hosts of these, and whether all who could were asked.
    pub(super) fn name(&mut self, turn: &mut u64, full: &[u64], most: usize) -> (Vec<Lane>, BTreeSet<u64>, bool) {
        let Self { lanes, turns, .. } = self;
        let (lanes, start) = (&*lanes, *turn);
        let mut first_round = owners(lanes, start).chain(owners(lanes, 0).take_while(|owner| *owner < start));
        // Each with the host it named first.
        let mut further_rounds = VecDeque::<Lane>::new();
        let (mut named, mut hosts) = (Vec::new(), BTreeSet::new());
        let mut questions = 0;
        while hosts.len() < most && questions < QUESTIONS {
            questions += 1;
            let asked = match first_round.next() {
                Some(owner) => {
                    *turn = owner.wrapping_add(1);
                    Some((owner, None))
                }
                None => further_rounds.pop_front().map(|(owner, first)| (owner, Some(first))),
            };
            let Some((owner, first)) = asked else { break };
            if full.contains(&owner) {
                continue;
            }
            let from = turns.get(&owner).copied().unwrap_or_default();
            let host = next_host(lanes, owner, from).or_else(|| next_host(lanes, owner, 0));
            let Some(host) = host.filter(|host| first != Some(*host)) else { continue };
            match host.checked_add(1).and_then(|from| next_host(lanes, owner, from)) {
                Some(next) => turns.insert(owner, next),
                None => turns.remove(&owner),
            };
            named.push((owner, host));
            hosts.insert(host);
            further_rounds.push_back((owner, first.unwrap_or(host)));
        }
        let was_asked_enough = hosts.len() == most || questions < QUESTIONS;
        (named, hosts, was_asked_enough)
    }

    pub(super) fn note(&mut self, lanes: impl IntoIterator<Item = Lane>) {
        self.lanes.extend(lanes);
    }

    fn remove(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
        let (owner, _) = lane;
        if next_host(&self.lanes, owner, 0).is_none() {
            self.turns.remove(&owner);
        }
    }
}

/// The owners from `from` on.
fn owners(lanes: &BTreeSet<Lane>, from: u64) -> impl Iterator<Item = u64> {
    let next = move |from: u64| lanes.range((from, u64::MIN)..).next().map(|(owner, _)| *owner);
    std::iter::successors(next(from), move |owner| next(owner.checked_add(1)?))
}

/// The first host of an owner from `from` on.
fn next_host(lanes: &BTreeSet<Lane>, owner: u64, from: u64) -> Option<u64> {
    lanes.range((owner, from)..=(owner, u64::MAX)).next().map(|(_, host)| *host)
}

impl State {
    /// The hosts that owners name for a walk, and whether no others need to be looked at: all lanes are known by now, and
    /// all owners were asked.
    pub(super) fn named_hosts(
        &self,
        store: &Store,
        turn: &mut u64,
        full: &[u64],
        most: usize,
    ) -> Result<(BTreeSet<u64>, bool), StateError> {
        self.read_lanes(store)?;
        let (named, hosts, is_whole) = {
            let mut known = self.shared.owners.lock();
            let owners = known.get_or_insert_with(Owners::new);
            let (named, hosts, was_asked_enough) = owners.name(turn, full, most);
            (named, hosts, was_asked_enough && owners.unread.is_none())
        };
        for lane in named.into_iter().take(CHECKED) {
            self.forget_if_empty(store, lane)?;
        }
        Ok((hosts, is_whole))
    }

    /// Takes note of lanes that jobs were committed to. Whoever commits calls it afterwards, with the number of records that
    /// the queue has then.
    pub(in crate::state) fn note_lanes(&self, lanes: Vec<Lane>, queued: u64) {
        let mut known = self.shared.owners.lock();
        let Some(owners) = &mut *known else { return };
        owners.note(lanes);
        // Jobs have left most of so many: the lanes are read anew.
        let is_stale = owners.lanes.len() as u64 > queued + queued / 2 + PAGE as u64;
        let left = if is_stale { known.take() } else { None };
        drop(known);
        drop(left);
    }

    /// For when nobody has to know them, or the store is another.
    pub(in crate::state) fn forget_lanes(&self) {
        let known = self.shared.owners.lock().take();
        drop(known);
    }

    /// Reads on in the queue, unless all of it was read. What is committed meanwhile is noted by itself.
    fn read_lanes(&self, store: &Store) -> Result<(), StateError> {
        let unread = self.shared.owners.lock().get_or_insert_with(Owners::new).unread.clone();
        let Some(from) = unread else { return Ok(()) };
        let page = store.range(from.clone()..keys::after(Table::Lanes)).take(PAGE);
        let page = page.map(|record| Ok(record?.0)).collect::<Result<Vec<IVec>, StateError>>()?;
        let unread = page.last().filter(|_| page.len() == PAGE).map(|last| [&last[..], &[0]].concat());
        let mut noted = page.chunks(NOTED).peekable();
        while let Some(chunk) = noted.next() {
            let mut known = self.shared.owners.lock();
            let Some(owners) = known.as_mut().filter(|owners| owners.unread.as_ref() == Some(&from)) else { break };
            owners.note(chunk.iter().filter_map(|key| keys::lane_in(key)));
            if noted.peek().is_none() {
                owners.unread.clone_from(&unread);
            }
        }
        if page.is_empty()
            && let Some(owners) = &mut *self.shared.owners.lock()
        {
            owners.unread = None;
        }
        Ok(())
    }

    fn forget_if_empty(&self, store: &Store, lane: Lane) -> Result<(), StateError> {
        let (owner, host) = lane;
        let is_empty = || -> Result<bool, StateError> {
            Ok(store.range(keys::with_prefix(keys::lane(host, owner))).next().transpose()?.is_none())
        };
        if !is_empty()? {
            return Ok(());
        }
        if let Some(owners) = &mut *self.shared.owners.lock() {
            owners.remove(lane);
        }
        // What was committed in between may have been noted before. The disk is not read under the lock, for which commits wait.
        if !is_empty()?
            && let Some(owners) = &mut *self.shared.owners.lock()
        {
            owners.note([lane]);
        }
        Ok(())
    }
}
