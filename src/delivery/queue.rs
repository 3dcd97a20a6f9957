use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::Tried;

/// Lanes that have something to deliver, by when it is tried. One that is being tried is not among those that wait.
#[derive(Debug)]
pub(super) struct Queue<L> {
    waiting: BTreeSet<(Instant, L)>,
    lanes: HashMap<L, QueuedLane>,
    /// Some were left out for want of room: they are to be looked for when there is some.
    left_out: bool,
}

#[derive(Debug, Default)]
struct QueuedLane {
    /// When it is tried; `None` while it is.
    at: Option<Instant>,
    /// What was tried of its first.
    tried: Tried,
    /// Whether something came while it was being tried.
    heard: bool,
}

impl<L> Default for Queue<L> {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), lanes: HashMap::new(), left_out: false }
    }
}

impl<L: Clone + Ord + Hash> Queue<L> {
    /// About 10 MB. Of more, those that are tried last are left out until there is room.
    const MAX_LANES: usize = 20_000;

    /// Something came that is to be delivered, or did long ago; what waits is tried now where that is asked for.
    pub(super) fn enqueue(&mut self, lane: L, at_once: bool, now: Instant) {
        if let Some(known) = self.lanes.get_mut(&lane) {
            known.heard = true;
            if at_once && known.at.is_some() {
                known.tried = Tried::default();
                self.wait(lane, now);
            }
            return;
        }
        self.lanes.insert(lane.clone(), QueuedLane::default());
        self.wait(lane, now);
        if self.lanes.len() > Self::MAX_LANES
            && let Some((_, last)) = self.waiting.pop_last()
        {
            self.lanes.remove(&last);
            self.left_out = true;
        }
    }

    /// A lane whose time has come: it is being tried until one of the calls below says what became of it.
    pub(super) fn take(&mut self, now: Instant) -> Option<L> {
        if self.next()? > now {
            return None;
        }
        let (_, lane) = self.waiting.pop_first()?;
        if let Some(known) = self.lanes.get_mut(&lane) {
            (known.at, known.heard) = (None, false);
        }
        Some(lane)
    }

    /// When the next time comes, or came.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// What was tried of a lane's first.
    pub(super) fn tried(&self, lane: &L) -> Tried {
        self.lanes.get(lane).map(|known| known.tried).unwrap_or_default()
    }

    /// Whether it looked too old this time.
    pub(super) fn set_late(&mut self, lane: &L, late: bool, now: Instant) {
        if let Some(known) = self.lanes.get_mut(lane) {
            known.tried.late_since = late.then(|| *known.tried.late_since.get_or_insert(now));
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
            self.waiting.remove(&(before, lane.clone()));
        }
        self.waiting.insert((at, lane));
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

    /// Whether some were left out and there is room for many of them. Asked once.
    pub(super) fn take_left_out(&mut self) -> bool {
        self.left_out && self.lanes.len() <= Self::MAX_LANES / 2 && std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lane_is_tried_by_one_at_a_time_and_what_comes_meanwhile_is_not_forgotten() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(1, false, now);
        queue.enqueue(1, false, now);
        assert_eq!((queue.take(now), queue.take(now)), (Some(1), None));
        queue.enqueue(1, true, now);
        assert_eq!(queue.take(now), None);
        queue.end(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.end(1, now);
        assert_eq!((queue.take(now), queue.lanes.len()), (None, 0));
    }

    #[test]
    fn failures_are_counted_until_one_is_done_with() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(1, false, now);
        for failures in 1..=3 {
            assert_eq!(queue.take(now + 9 * SECOND), Some(1));
            queue.fail(1, now + SECOND);
            assert_eq!(queue.tried(&1).failures, failures);
            queue.enqueue(1, false, now);
            assert_eq!((queue.take(now), queue.next()), (None, Some(now + SECOND)), "it waits behind the first");
        }
        queue.enqueue(1, true, now);
        assert_eq!((queue.take(now), queue.tried(&1).failures), (Some(1), 0), "somebody asked for it");
        queue.wait(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.fail(1, now);
        assert_eq!(queue.take(now), Some(1));
        queue.advance(1, now);
        assert_eq!((queue.take(now), queue.tried(&1).failures), (Some(1), 0));
    }

    #[test]
    fn there_is_room_for_so_many_and_those_due_last_are_left_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let most = Queue::<usize>::MAX_LANES;
        queue.enqueue(0, false, now);
        assert_eq!(queue.take(now), Some(0));
        queue.fail(0, now + SECOND);
        for number in 1..=most {
            queue.enqueue(number, false, now);
        }
        assert_eq!((queue.lanes.len(), queue.waiting.len(), queue.left_out), (most, most, true));
        assert!(!queue.lanes.contains_key(&0));
        assert!(!queue.take_left_out(), "there is no room yet");
        while let Some(lane) = queue.take(now) {
            queue.end(lane, now);
        }
        assert!(queue.take_left_out() && !queue.take_left_out());
    }
}
