use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

/// Lanes by when they are tried. Of those whose time has come the owners take turns, so that none waits for all that another
/// has.
#[derive(Debug)]
pub(super) struct RoundRobin<L> {
    owners: HashMap<u64, OwnerLanes<L>>,
    /// The owners with a lane whose time has come, by their places in the round.
    due: BTreeMap<u64, u64>,
    /// All others, by when the time of their first lanes comes.
    later: BTreeSet<(Instant, u64)>,
    /// Places given so far. Whoever had a turn, or is new, gets the last place, so nobody is overtaken by those who come.
    places: u64,
}

#[derive(Debug)]
struct OwnerLanes<L> {
    lanes: BTreeSet<(Instant, L)>,
    /// In the round; `None` while no lane is known to be due.
    place: Option<u64>,
}

impl<L> Default for RoundRobin<L> {
    fn default() -> Self {
        Self { owners: HashMap::new(), due: BTreeMap::new(), later: BTreeSet::new(), places: 0 }
    }
}

impl<L> Default for OwnerLanes<L> {
    fn default() -> Self {
        Self { lanes: BTreeSet::new(), place: None }
    }
}

impl<L> OwnerLanes<L> {
    /// When its first lane is tried.
    fn first_at(&self) -> Option<Instant> {
        self.lanes.iter().next().map(|(at, _)| *at)
    }
}

impl<L: Ord> RoundRobin<L> {
    pub(super) fn insert(&mut self, item: (Instant, L), owner: u64) {
        let known = self.owners.entry(owner).or_default();
        let before = known.first_at();
        known.lanes.insert(item);
        if known.place.is_none() {
            let after = known.first_at();
            self.later.extend(after.map(|at| (at, owner)));
            if let Some(at) = before.filter(|_| before != after) {
                self.later.remove(&(at, owner));
            }
        }
    }

    pub(super) fn remove(&mut self, item: &(Instant, L), owner: u64) {
        let Some(known) = self.owners.get_mut(&owner) else { return };
        let is_first = known.lanes.first() == Some(item);
        if !known.lanes.remove(item) || !is_first {
            return;
        }
        if let Some(place) = known.place.take() {
            self.due.remove(&place);
        } else {
            self.later.remove(&(item.0, owner));
        }
        if let Some(at) = known.first_at() {
            self.later.insert((at, owner));
        } else {
            self.owners.remove(&owner);
        }
    }

    /// The lane that is tried next, if its time has come.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<&(Instant, L)> {
        while let Some((at, owner)) = self.later.first().copied()
            && at <= now
        {
            self.later.pop_first();
            if let Some(known) = self.owners.get_mut(&owner) {
                self.places += 1;
                known.place = Some(self.places);
                self.due.insert(self.places, owner);
            }
        }
        let (_, owner) = self.due.first_key_value()?;
        self.owners.get(owner)?.lanes.first()
    }

    /// When the next time comes, or came.
    pub(super) fn next_at(&self) -> Option<Instant> {
        match self.due.first_key_value() {
            Some((_, owner)) => self.owners.get(owner)?.first_at(),
            None => self.later.first().map(|(at, _)| *at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes the next lane out.
    fn take(turns: &mut RoundRobin<u64>, now: Instant, owner: impl Fn(u64) -> u64) -> Option<u64> {
        let item = *turns.next_turn(now)?;
        turns.remove(&item, owner(item.1));
        Some(item.1)
    }

    #[test]
    fn those_who_come_overtake_nobody_who_waits_for_a_turn() {
        let (mut turns, now) = (RoundRobin::default(), Instant::now());
        let owner = |lane: u64| if lane < 10 { 0 } else { lane };
        (0..10).for_each(|lane| turns.insert((now, lane), 0));
        let mut taken = Vec::new();
        for new in 0..9 {
            (0..2).for_each(|other| turns.insert((now - SECOND, 10 + 2 * new + other), 10 + 2 * new + other));
            taken.extend(take(&mut turns, now, owner).into_iter().chain(take(&mut turns, now, owner)));
        }
        let of_first = taken.iter().filter(|lane| **lane < 10).count();
        assert!(taken.len() == 18 && of_first > 2, "{taken:?}");
        while take(&mut turns, now, owner).is_some() {}
        assert!(turns.owners.is_empty() && turns.due.is_empty() && turns.later.is_empty());
    }

    #[test]
    fn a_lane_is_due_at_its_time_and_one_that_was_taken_back_is_not() {
        let (mut turns, now) = (RoundRobin::default(), Instant::now());
        turns.insert((now + 2 * SECOND, 1), 1);
        assert_eq!((turns.next_turn(now).copied(), turns.next_at()), (None, Some(now + 2 * SECOND)));
        turns.insert((now, 2), 1);
        assert_eq!((turns.next_turn(now).copied(), turns.later.len()), (Some((now, 2)), 0));
        turns.remove(&(now, 2), 1);
        assert_eq!((turns.next_turn(now).copied(), turns.next_at()), (None, Some(now + 2 * SECOND)));
        assert_eq!(turns.next_turn(now + 2 * SECOND), Some(&(now + 2 * SECOND, 1)));
        // What is put in front of it keeps its owner's place.
        turns.insert((now + SECOND, 3), 1);
        assert_eq!((turns.next_at(), turns.due.len(), turns.later.len()), (Some(now + SECOND), 1, 0));
        [(now + SECOND, 3), (now + 2 * SECOND, 1)].iter().for_each(|item| turns.remove(item, 1));
        assert_eq!((turns.next_at(), turns.owners.len()), (None, 0));
    }
}
