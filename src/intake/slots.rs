//! A number of slots that many keys share, so that no key can use up what others need.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// So many slots. One key holds three quarters of them at most; a slot that becomes free goes to the waiting key that holds the
/// fewest, of several to the one whose last turn is longest ago, and among those who wait for one key to the first.
#[derive(Debug)]
pub(crate) struct Slots<K: Eq + Hash + Clone> {
    shared: Arc<Mutex<Shared<K>>>,
}

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

#[derive(Debug)]
struct Shared<K: Eq + Hash + Clone> {
    free: usize,
    /// The most slots of one key.
    share: usize,
    /// The most that may wait, all keys together; half of that for one key.
    max_waiting: usize,
    waiting: usize,
    held: HashMap<K, usize>,
    queues: HashMap<K, Queue<K>>,
    /// Counts what decides who came first.
    turns: u64,
}

/// Who waits for one key.
#[derive(Debug)]
struct Queue<K: Eq + Hash + Clone> {
    /// When the key began to wait, or got its last slot.
    since: u64,
    grants: VecDeque<oneshot::Sender<Slot<K>>>,
}

/// A slot, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash + Clone> {
    key: K,
    shared: Arc<Mutex<Shared<K>>>,
}

impl<K: Eq + Hash + Clone> Slots<K> {
    pub(crate) fn new(slots: usize, max_waiting: usize) -> Self {
        let share = (slots * 3).div_ceil(4);
        let (held, queues) = (HashMap::new(), HashMap::new());
        let shared = Shared { free: slots, share, max_waiting, waiting: 0, held, queues, turns: 0 };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// Whether somebody waits who would get a slot that `key` gives back.
    pub(super) fn are_wanted(&self, key: &K) -> bool {
        let shared = lock(&self.shared);
        let may_take = |other: &K| shared.held.get(other).is_none_or(|held| *held < shared.share);
        shared.queues.keys().any(|other| other == key || may_take(other))
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.shared).waiting
    }

    /// Waits for a slot. Whoever no longer waits has lost nothing.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) async fn acquire(&self, key: K) -> Result<Slot<K>, TooMany> {
        let granted = {
            let mut shared = lock(&self.shared);
            shared.forget_leavers(&key);
            if shared.grants(&key) && !shared.queues.contains_key(&key) {
                shared.take(&key);
                return Ok(Slot { key, shared: self.shared.clone() });
            }
            let queued = shared.queues.get(&key).map_or(0, |queue| queue.grants.len());
            if shared.waiting >= shared.max_waiting || queued >= shared.max_waiting.div_ceil(2) {
                return Err(TooMany);
            }
            let (grant, granted) = oneshot::channel();
            shared.turns += 1;
            let begun = Queue { since: shared.turns, grants: VecDeque::new() };
            shared.queues.entry(key).or_insert(begun).grants.push_back(grant);
            shared.waiting += 1;
            granted
        };
        // The sender goes only with the slots themselves.
        granted.await.map_err(|_| TooMany)
    }
}

impl<K: Eq + Hash + Clone> Shared<K> {
    fn grants(&self, key: &K) -> bool {
        self.free > 0 && self.held.get(key).is_none_or(|held| *held < self.share)
    }

    fn take(&mut self, key: &K) {
        self.free -= 1;
        *self.held.entry(key.clone()).or_default() += 1;
    }

    /// Takes those out of a key's queue who no longer wait.
    fn forget_leavers(&mut self, key: &K) {
        if let Some(queue) = self.queues.get_mut(key) {
            let before = queue.grants.len();
            queue.grants.retain(|grant| !grant.is_closed());
            self.waiting -= before - queue.grants.len();
            if queue.grants.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    /// The next who waits and may have a slot, which is then taken.
    fn next(&mut self) -> Option<(K, oneshot::Sender<Slot<K>>)> {
        loop {
            let held = |key: &K| self.held.get(key).copied().unwrap_or_default();
            let queues = self.queues.iter().filter(|(key, _)| self.grants(key));
            let key = queues.min_by_key(|(key, queue)| (held(key), queue.since))?.0.clone();
            let queue = self.queues.get_mut(&key)?;
            let grant = queue.grants.pop_front();
            let is_granted = grant.as_ref().is_some_and(|grant| !grant.is_closed());
            if is_granted {
                self.turns += 1;
                queue.since = self.turns;
            }
            if queue.grants.is_empty() {
                self.queues.remove(&key);
            }
            if let Some(grant) = grant {
                self.waiting -= 1;
                if is_granted {
                    self.take(&key);
                    return Some((key, grant));
                }
            }
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.free += 1;
        if let Some(held) = shared.held.get_mut(&self.key) {
            *held -= 1;
            if *held == 0 {
                shared.held.remove(&self.key);
            }
        }
        let next = shared.next();
        drop(shared);
        if let Some((key, grant)) = next {
            // Who has just left gives it back by dropping it.
            let _ = grant.send(Self { key, shared: self.shared.clone() });
        }
    }
}

fn lock<K: Eq + Hash + Clone>(shared: &Mutex<Shared<K>>) -> MutexGuard<'_, Shared<K>> {
    shared.lock()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn one_key_leaves_a_quarter_to_others_and_who_has_least_comes_first() {
        let slots = Slots::new(4, 100);
        let mut of_one = Vec::new();
        for _ in 0..3 {
            of_one.push(slots.acquire("one").await.unwrap());
        }
        let mut waits = Box::pin(slots.acquire("one"));
        assert!(waits.as_mut().now_or_never().is_none(), "more than three quarters");
        let _of_two = slots.acquire("two").await.unwrap();
        // Whom nobody but its own share holds back would not get it.
        assert!(slots.are_wanted(&"one") && !slots.are_wanted(&"two"));
        let mut of_three = Box::pin(slots.acquire("three"));
        assert!(of_three.as_mut().now_or_never().is_none());
        assert!(slots.are_wanted(&"two"));
        of_one.pop();
        let third = of_three.as_mut().now_or_never().expect("the newcomer has least").unwrap();
        assert!(waits.as_mut().now_or_never().is_none());
        drop(third);
        waits.await.unwrap();
        assert!(!slots.are_wanted(&"one"));
    }

    #[tokio::test]
    async fn keys_that_hold_as_many_take_turns_however_many_wait_for_one() {
        let slots = Slots::new(1, 100);
        let mut held = slots.acquire(0).await.unwrap();
        let mut of_one: Vec<_> = (0..8).map(|_| Box::pin(slots.acquire(0))).collect();
        let mut of_others: Vec<_> = (1..9).map(|key| Box::pin(slots.acquire(key))).collect();
        for wait in of_one.iter_mut().chain(&mut of_others) {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        let second = of_one.remove(1);
        for next in [of_one.remove(0)].into_iter().chain(of_others).chain([second]) {
            drop(held);
            held = next.now_or_never().expect("it is its turn").unwrap();
        }
    }

    #[tokio::test]
    async fn only_so_many_wait_and_who_leaves_makes_room() {
        let slots = Slots::new(1, 4);
        let _held = slots.acquire(1).await.unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(slots.acquire(1))).collect();
        waiting.iter_mut().for_each(|wait| assert!(wait.as_mut().now_or_never().is_none()));
        assert_eq!(slots.acquire(1).await.unwrap_err(), TooMany);
        assert!(slots.acquire(2).now_or_never().is_none(), "another key has room");
        waiting.pop();
        assert!(slots.acquire(1).now_or_never().is_none(), "who left takes up no room");
    }

    proptest! {
        #[test]
        fn slots_are_never_lost_nor_given_twice(
            size in 1usize..6,
            steps in proptest::collection::vec((0u8..4, 0usize..3, any::<proptest::sample::Index>()), 0..60),
        ) {
            let slots = Slots::new(size, 8);
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for (step, key, index) in steps {
                match step {
                    0 | 1 => {
                        let slots = &slots;
                        waiting.push((key, async move { slots.acquire(key).await }.boxed_local()));
                    }
                    2 if !held.is_empty() => drop(held.swap_remove(index.index(held.len()))),
                    3 if !waiting.is_empty() => drop(waiting.swap_remove(index.index(waiting.len()))),
                    _ => {}
                }
                waiting.retain_mut(|(key, wait)| match wait.as_mut().now_or_never() {
                    Some(Ok(slot)) => {
                        held.push((*key, slot));
                        false
                    }
                    Some(Err(TooMany)) => false,
                    None => true,
                });
                prop_assert!(held.len() <= size);
                for key in 0..3 {
                    let of_key = held.iter().filter(|(of, _)| *of == key).count();
                    prop_assert!(of_key <= (size * 3).div_ceil(4));
                    // Nobody waits for what there is.
                    let waits = waiting.iter().any(|(of, _)| *of == key);
                    prop_assert!(!waits || held.len() == size || of_key == (size * 3).div_ceil(4));
                }
            }
            held.clear();
            drop(waiting);
            prop_assert_eq!(lock(&slots.shared).free, size);
        }
    }
}
