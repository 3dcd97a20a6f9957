use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::domain::RefId;

/// Refs that have something to pass on, by when it is tried. One that is being tried is not among those that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeSet<(Instant, RefId)>,
    refs: HashMap<RefId, QueuedRef>,
    /// Refs were left out for want of room: they are to be looked for when there is some.
    left_out: bool,
}

#[derive(Debug, Default)]
struct QueuedRef {
    /// When it is tried; `None` while it is.
    at: Option<Instant>,
    /// How often the first of its callbacks has failed.
    attempts: u32,
    /// Since when the first of its callbacks has looked too old whenever it was looked at.
    late_since: Option<Instant>,
    /// Whether something came while it was being tried.
    heard: bool,
}

impl Queue {
    /// About 10 MB. Of more, those that are tried last are left out until there is room.
    const MAX_REFS: usize = 20_000;

    /// Something came that is to be passed on, or did long ago.
    pub(super) fn enqueue(&mut self, id: RefId, now: Instant) {
        if let Some(known) = self.refs.get_mut(&id) {
            known.heard = true;
            return;
        }
        self.refs.insert(id.clone(), QueuedRef::default());
        self.wait(id, now);
        if self.refs.len() > Self::MAX_REFS
            && let Some((_, last)) = self.waiting.pop_last()
        {
            self.refs.remove(&last);
            self.left_out = true;
        }
    }

    /// A ref whose time has come: it is being tried until one of the calls below says what became of it.
    pub(super) fn take(&mut self, now: Instant) -> Option<RefId> {
        if self.next()? > now {
            return None;
        }
        let (_, id) = self.waiting.pop_first()?;
        if let Some(known) = self.refs.get_mut(&id) {
            (known.at, known.heard) = (None, false);
        }
        Some(id)
    }

    /// When the next time comes, or came.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first().map(|(at, _)| *at)
    }

    /// Since when the first of a ref's callbacks has looked too old whenever it was looked at.
    pub(super) fn late_since(&self, id: &RefId) -> Option<Instant> {
        self.refs.get(id)?.late_since
    }

    /// Whether it looked too old this time.
    pub(super) fn set_late(&mut self, id: &RefId, late: bool, now: Instant) {
        if let Some(known) = self.refs.get_mut(id) {
            known.late_since = late.then(|| *known.late_since.get_or_insert(now));
        }
    }

    /// The first of its callbacks is done with: the one behind it follows.
    pub(super) fn advance(&mut self, id: RefId, now: Instant) {
        if let Some(known) = self.refs.get_mut(&id) {
            (known.attempts, known.late_since) = (0, None);
        }
        self.wait(id, now);
    }

    /// The first of its callbacks has failed once more.
    pub(super) fn fail(&mut self, id: RefId, now: Instant, delay: impl FnOnce(u32) -> Duration) {
        let Some(known) = self.refs.get_mut(&id) else { return };
        known.attempts = known.attempts.saturating_add(1);
        let delay = delay(known.attempts);
        self.wait(id, now + delay);
    }

    /// When to look again for a place: the later the more there are that look.
    pub(super) fn turn(&self) -> Duration {
        let millis = u64::try_from(self.refs.len()).unwrap_or(u64::MAX).clamp(20, 2000);
        Duration::from_millis(rand::rng().random_range(millis / 2..millis))
    }

    /// It is tried at another time, which is nobody's failure.
    pub(super) fn wait(&mut self, id: RefId, at: Instant) {
        let Some(known) = self.refs.get_mut(&id) else { return };
        if let Some(before) = known.at.replace(at) {
            self.waiting.remove(&(before, id.clone()));
        }
        self.waiting.insert((at, id));
    }

    /// There was nothing to pass on; there is, if something came meanwhile.
    pub(super) fn end(&mut self, id: RefId, now: Instant) {
        match self.refs.get(&id) {
            Some(QueuedRef { heard: true, .. }) => self.advance(id, now),
            _ => drop(self.refs.remove(&id)),
        }
    }

    /// Whether refs were left out and there is room for many of them. Asked once.
    pub(super) fn take_left_out(&mut self) -> bool {
        self.left_out && self.refs.len() <= Self::MAX_REFS / 2 && std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> RefId {
        RefId::parse(&format!("ref_{number:026}")).unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_ref_is_tried_by_one_at_a_time_and_what_comes_meanwhile_is_not_forgotten() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(id(1), now);
        queue.enqueue(id(1), now);
        assert_eq!((queue.take(now), queue.take(now)), (Some(id(1)), None));
        queue.enqueue(id(1), now);
        assert_eq!(queue.take(now), None);
        queue.end(id(1), now);
        assert_eq!(queue.take(now), Some(id(1)));
        queue.end(id(1), now);
        assert_eq!((queue.take(now), queue.refs.len()), (None, 0));
    }

    #[test]
    fn failures_are_counted_until_one_is_done_with() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(id(1), now);
        for attempts in 1..=3 {
            assert_eq!(queue.take(now + 9 * SECOND), Some(id(1)));
            queue.fail(id(1), now, |counted| {
                assert_eq!(counted, attempts);
                SECOND
            });
            queue.enqueue(id(1), now);
            assert_eq!((queue.take(now), queue.next()), (None, Some(now + SECOND)), "it waits behind the first");
        }
        assert_eq!(queue.take(now + SECOND), Some(id(1)));
        queue.wait(id(1), now);
        assert_eq!(queue.take(now), Some(id(1)));
        queue.advance(id(1), now);
        assert_eq!(queue.take(now), Some(id(1)));
        queue.fail(id(1), now, |counted| SECOND * counted);
        assert_eq!(queue.next(), Some(now + SECOND));
    }

    #[test]
    fn there_is_room_for_so_many_and_those_due_last_are_left_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.enqueue(id(0), now);
        assert_eq!(queue.take(now), Some(id(0)));
        queue.fail(id(0), now, |_| SECOND);
        for number in 1..=Queue::MAX_REFS {
            queue.enqueue(id(number), now);
        }
        assert_eq!((queue.refs.len(), queue.waiting.len(), queue.left_out), (Queue::MAX_REFS, Queue::MAX_REFS, true));
        assert!(!queue.refs.contains_key(&id(0)));
        assert!(!queue.take_left_out(), "there is no room yet");
        while let Some(id) = queue.take(now) {
            queue.end(id, now);
        }
        assert!(queue.take_left_out() && !queue.take_left_out());
    }
}
