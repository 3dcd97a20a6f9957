use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::Tried;
use super::waiting::{Parties, Waiting};

/// Lanes that have something to deliver, by when it is tried; of those whose time has come the owners take turns. One that is
/// being tried is not among those that wait.
#[derive(Debug)]
pub(super) struct Queue<L> {
    waiting: Waiting<L>,
    lanes: HashMap<L, QueuedLane>,
    /// Some were left out for want of room since the last scan began: they are to be looked for again.
    left_out: bool,
}

#[derive(Debug, Default)]
struct QueuedLane {
    /// When it is tried; `None` while it is.
    at: Option<Instant>,
    /// What was tried of its first.
    tried: Tried,
    parties: Parties,
    /// Whether something came while it was being tried.
    heard: bool,
}

impl<L> Default for Queue<L> {
    fn default() -> Self {
        Self { waiting: Waiting::default(), lanes: HashMap::new(), left_out: false }
    }
}

impl<L: Clone + Ord + Hash> Queue<L> {
    /// About 10 MB. Of more, some are left out: see [`Waiting::eviction_candidate`].
    const MAX_LANES: usize = 20_000;

    /// Something of an owner came that is to be delivered, or did long ago; what waits is tried now where that is asked for.
    /// Returns whether there was room for it.
    pub(super) fn enqueue(&mut self, lane: L, owner: u64, at_once: bool, now: Instant) -> bool {
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.heard = true;
            if at_once && known.at.is_some() {
                known.tried = Tried::default();
                self.wait(lane, now);
            }
            return true;
        }
        let parties = Parties { owner, receiver: None };
        self.lanes.insert(lane.clone(), QueuedLane { parties, ..QueuedLane::default() });
        self.wait(lane.clone(), now);
        self.lanes.len() <= Self::MAX_LANES || self.leave_out() != Some(lane)
    }

    /// Makes room for one. Returns what is left out.
    fn leave_out(&mut self) -> Option<L> {
        let item = self.waiting.eviction_candidate()?.clone();
        let parties = self.lanes.remove(&item.1).map(|known| known.parties).unwrap_or_default();
        self.waiting.remove(&item, parties);
        self.left_out = true;
        Some(item.1)
    }

    /// A lane whose time has come: it is being tried until one of the calls below says what became of it.
    pub(super) fn take(&mut self, now: Instant) -> Option<L> {
        let item = self.waiting.next_turn(now)?.clone();
        let mut parties = Parties::default();
        if let Some(known) = self.lanes.get_mut(&item.1) {
            (known.at, known.heard) = (None, false);
            parties = known.parties;
        }
        self.waiting.remove(&item, parties);
        Some(item.1)
    }

    /// When the next time comes, or came.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.next_at()
    }

    /// What was tried of a lane's first.
    pub(super) fn tried(&self, lane: &L) -> Tried {
        self.lanes.get(lane).map(|known| known.tried).unwrap_or_default()
    }

    /// What was found of a lane that is being tried: whether it looked too old this time, and its receiver, if that is known.
    pub(super) fn learn(&mut self, lane: &L, late: bool, receiver: Option<u64>, now: Instant) {
        if let Some(known) = self.lanes.get_mut(lane) {
            known.tried.late_since = late.then(|| *known.tried.late_since.get_or_insert(now));
            known.parties.receiver = receiver.or(known.parties.receiver);
        }
    }

    /// Its first is done with: the one behind it follows.
    pub(super) fn advance(&mut self, lane: L, now: Instant) {
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.tried = Tried::default();
        }
        self.wait(lane, now);
    }

    /// Its first has failed once more, and is tried again at `at`.
    pub(super) fn fail(&mut self, lane: L, at: Instant) {
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.tried.failures = known.tried.failures.saturating_add(1);
        }
        self.wait(lane, at);
    }

    /// When to look again for a place: the later the more there are that look.
    pub(super) fn busy_delay(&self) -> Duration {
        let millis = u64::try_from(self.lanes.len()).unwrap_or(u64::MAX).clamp(20, 20_000);
        Duration::from_millis(rand::rng().random_range(millis / 2..millis))
    }

    /// It is tried at another time, which is nobody's failure.
    pub(super) fn wait(&mut self, lane: L, at: Instant) {
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        if let Some(before) = known.at.replace(at) {
            self.waiting.remove(&(before, lane.clone()), known.parties);
        }
        self.waiting.insert((at, lane), known.parties);
    }

    /// There was nothing to deliver; there is, if something came meanwhile.
    pub(super) fn end(&mut self, lane: L, now: Instant) {
        match self.lanes.get(&lane) {
            Some(QueuedLane { heard: true, .. }) => self.advance(lane, now),
            _ => drop(self.lanes.remove(&lane)),
        }
    }

    /// Others deliver from it.
    pub(super) fn forget(&mut self, lane: &L) {
        self.lanes.remove(lane);
    }

    /// All that waits is looked for from now on.
    pub(super) fn begin_scan(&mut self) {
        self.left_out = false;
    }

    /// Whether to look at once for those that were left out: there is room for many of them. While there is not, each that is
    /// found takes the place of one that was tried, and what that has waited for is forgotten.
    pub(super) fn wants_scan(&self) -> bool {
        self.left_out && self.lanes.len() <= Self::MAX_LANES / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lane_is_tried_by_one_at_a_time_and_what_comes_meanwhile_is_not_forgotten() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(1, 0, false, now);
        queue.enqueue(1, 0, false, now);
        assert_eq!((queue.take(now), queue.take(now)), (Some(1), None));
        queue.enqueue(1, 0, true, now);
        assert_eq!(queue.take(now), None);
        queue.end(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.end(1, now);
        assert_eq!((queue.take(now), queue.lanes.len()), (None, 0));
    }

    #[test]
    fn failures_are_counted_until_one_is_done_with() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(1, 0, false, now);
        for failures in 1..=3 {
            assert_eq!(queue.take(now + 9 * SECOND), Some(1));
            queue.fail(1, now + SECOND);
            assert_eq!(queue.tried(&1).failures, failures);
            queue.enqueue(1, 0, false, now);
            assert_eq!((queue.take(now), queue.next()), (None, Some(now + SECOND)), "it waits behind the first");
        }
        queue.enqueue(1, 0, true, now);
        assert_eq!((queue.take(now), queue.tried(&1).failures), (Some(1), 0), "somebody asked for it");
        queue.wait(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.fail(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.advance(1, now);
        assert_eq!((queue.take(now), queue.tried(&1).failures), (Some(1), 0));
    }

    const MAX_LANES: usize = Queue::<usize>::MAX_LANES;

    /// Tries all whose time has come, of one receiver, in vain.
    fn try_all(queue: &mut Queue<usize>, receiver: u64, now: Instant, again: Instant) {
        while let Some(lane) = queue.take(now) {
            queue.learn(&lane, false, Some(receiver), now);
            queue.fail(lane, again);
        }
    }

    #[test]
    fn there_is_room_for_so_many_and_those_due_last_are_left_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(0, 0, false, now);
        try_all(&mut queue, 1, now, now + SECOND);
        for number in 1..MAX_LANES {
            assert!(queue.enqueue(number, 0, false, now));
        }
        assert!(!queue.enqueue(MAX_LANES, 0, false, now));
        assert_eq!((queue.lanes.len(), queue.waiting.len(), queue.left_out), (MAX_LANES, MAX_LANES, true));
        assert!(queue.lanes.contains_key(&0) && !queue.lanes.contains_key(&MAX_LANES));
        assert!(!queue.wants_scan(), "there is no room yet");
        while let Some(lane) = queue.take(now) {
            queue.end(lane, now);
        }
        assert!(queue.wants_scan());
        queue.begin_scan();
        assert!(!queue.wants_scan());
    }

    #[test]
    fn owners_take_turns_however_many_lanes_one_of_them_has() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for lane in 0..3000 {
            queue.enqueue(lane, 1, false, now);
        }
        queue.enqueue(3000, 2, false, now + SECOND);
        let taken: Vec<_> = (0..3).filter_map(|_| queue.take(now + SECOND)).collect();
        assert_eq!(taken, [0, 3000, 1]);
    }

    #[test]
    fn of_too_many_untried_lanes_those_of_the_owner_that_has_most_are_left_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for lane in 0..MAX_LANES {
            queue.enqueue(lane, 1, false, now);
        }
        assert!(queue.enqueue(MAX_LANES, 2, false, now + SECOND), "another's");
        assert!(queue.lanes.contains_key(&MAX_LANES) && !queue.lanes.contains_key(&(MAX_LANES - 1)));
        assert!(!queue.enqueue(MAX_LANES + 1, 1, false, now + SECOND));
        assert_eq!((queue.lanes.len(), queue.waiting.len(), queue.left_out), (MAX_LANES, MAX_LANES, true));
    }

    #[test]
    fn a_receiver_with_many_lanes_takes_the_places_of_no_other() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(0, 0, false, now);
        try_all(&mut queue, 1, now, now + 300 * SECOND);
        for number in 1..=3 * MAX_LANES {
            queue.enqueue(number, 0, false, now);
            if number % 1000 == 0 {
                try_all(&mut queue, 2, now, now + 60 * SECOND);
            }
        }
        assert_eq!((queue.lanes.len(), queue.waiting.len(), queue.left_out), (MAX_LANES, MAX_LANES, true));
        assert_eq!((queue.tried(&0).failures, queue.lanes[&0].at), (1, Some(now + 300 * SECOND)));
    }
}
