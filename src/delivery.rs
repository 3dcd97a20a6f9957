//! Delivers what waits in an outbox to receivers on the network, at least once: what is in one lane in order and one at a time,
//! different lanes beside each other. Relayed callbacks and our own events go out this way.
//!
//! What waits, and what became of it, is in the state and in the journal; here is when it is tried. How often something was
//! tried is only known here: after a start all is tried at once. A receiver that does not answer is left alone and looked
//! after by one request at a time, so that it holds up nobody else, and owners of lanes take turns. Memory is bounded whatever
//! the backlog: of more lanes than there is room for, some of the receivers or owners that have most are looked for again later.

mod post;
mod queue;
mod receivers;
mod reputation;
mod round_robin;
mod schedule;
mod waiting;

use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

pub use post::{Verdict, judge, origin, post, receiver_key};
pub use receivers::{Backoff, Permit, Receivers};
pub use schedule::Schedule;

use self::queue::Queue;
use crate::cluster::Share;
use crate::state::{EventLog, StateError};

/// Something that is delivered from.
pub trait Outbox: Clone + Send + Sync + 'static {
    /// What follows one after the other.
    type Lane: Clone + Debug + Display + Ord + Hash + Send + Sync + 'static;
    /// That there is something new.
    type Change: Clone + Send + 'static;

    /// What records.
    fn log(&self) -> &EventLog;

    /// The same for whoever acts in an epoch of the cluster: see [`EventLog::fenced`].
    #[must_use]
    fn fenced(&self, fence: Option<u64>) -> Self;

    /// What decides which replica delivers from a lane.
    fn share_of(&self, lane: &Self::Lane) -> u64;

    /// Whatever is new from now on; `None` when it may be anywhere.
    fn changes(&self) -> broadcast::Receiver<Option<Self::Change>>;

    /// Where something is new, what stands for the owner, and whether it is to be tried at once; `None` when it is none of ours.
    fn lane(&self, change: Self::Change) -> Option<(Self::Lane, u64, bool)>;

    /// At most `limit` lanes in which something waits and what stands for their owners, in order, those behind `after`. Blocks.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn lanes(&self, limit: usize, after: Option<&Self::Lane>) -> Result<Vec<(Self::Lane, u64)>, StateError>;

    /// Tries the first of what waits in a lane, and records what became of it.
    fn deliver_next(&self, lane: Self::Lane, tried: Tried) -> impl Future<Output = Attempt> + Send;
}

/// What was tried before of the first in a lane, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    /// How often it has failed.
    pub failures: u32,
    /// Since when it has looked too old whenever it was looked at.
    pub late_since: Option<Instant>,
}

impl Tried {
    /// Whether something that looks `late` now is to be given up, after so much patience: the clock alone is not believed, it
    /// must have said so for a while.
    fn is_over(&self, late: bool, patience: Duration) -> bool {
        late && self.late_since.is_some_and(|since| since.elapsed() >= Self::hold(patience))
    }

    /// Gives up what failed once more, or whose receiver has failed for long enough, where it is over.
    pub fn expire(&self, verdict: Verdict, late: bool, patience: Duration) -> Verdict {
        let has_failed = match &verdict {
            Verdict::Failed(..) => true,
            Verdict::Backoff(Backoff::Paused { failing_for, .. }) => *failing_for >= Self::hold(patience),
            _ => false,
        };
        if has_failed && self.is_over(late, patience) { Verdict::GiveUp("expired") } else { verdict }
    }

    /// For how long something must have looked too old, and its receiver must have failed, before it is given up.
    fn hold(patience: Duration) -> Duration {
        const HOLD: Duration = Duration::from_secs(3600);
        patience.min(HOLD)
    }
}

/// What was done with the first in a lane, and what was found by it.
#[derive(Debug)]
pub struct Attempt {
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it looks too old.
    pub late: bool,
    /// What stands for its receiver (see [`receiver_key`]), where that was found; for its owner where all have one receiver.
    pub receiver: Option<u64>,
}

/// What became of the first in a lane.
#[derive(Debug)]
pub enum Outcome {
    /// It is done with, taken or given up.
    Done,
    /// There was none.
    Nothing,
    /// It was not tried.
    Later(Duration),
    /// It was not tried since too many others of its receiver were.
    Busy,
    /// It is tried again after this time.
    Failed(Duration),
}

/// What bounds the delivery from one outbox.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests at a time.
    pub at_once: usize,
    /// How long requests under way may take to end after a stop.
    pub grace: Duration,
}

/// How many lanes are looked for at a time.
const PAGE: usize = 1000;
/// What waits is looked for anew this often; in between it is heard of.
const SCAN_EVERY: Duration = Duration::from_secs(3600);
/// The same when something may not have been heard of.
const SCAN_SOON: Duration = Duration::from_secs(1);
/// When there was no room for all that was found, which is tried meanwhile.
const SCAN_ON: Duration = Duration::from_secs(30);
/// After a defect, which would strike again at once.
const AFTER_DEFECT: Duration = Duration::from_secs(3600);

/// Requests under way.
type UnderWay<L> = (JoinSet<Attempt>, HashMap<Id, L>);

/// Delivers until `stop` says so, then lets what is under way finish. What is cut off is sent again after the next start.
pub async fn run<O: Outbox>(outbox: O, limits: Limits, mut stop: watch::Receiver<bool>) {
    // From here on, so that the first scan and what is heard of leave no gap.
    let mut changes = outbox.changes();
    tokio::select! {
        _ = outbox.log().recovered() => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    let mut queue = Queue::default();
    let mut under_way: UnderWay<O::Lane> = (JoinSet::new(), HashMap::new());
    // A scan that has not seen all yet is not begun anew for what was not heard of: another one follows it.
    let (mut scan_at, mut cursor, mut is_cut_off, mut missed) = (Instant::now(), None, false, false);
    let mut shares = outbox.log().cluster().map(|cluster| cluster.shares().changes());
    while !*stop.borrow_and_update() {
        if queue.wants_scan() {
            scan_at = Instant::now();
        }
        if scan_at <= Instant::now() {
            let from = outbox.clone();
            let lanes = move |after: Option<O::Lane>| from.lanes(PAGE, after.as_ref());
            let is_ours = |lane: &O::Lane| outbox.log().state().share(outbox.share_of(lane)).is_some();
            let has_seen_all = scan(lanes, is_ours, &mut queue, &mut cursor).await;
            is_cut_off = !matches!(has_seen_all, Ok(true));
            scan_at = Instant::now()
                + match has_seen_all {
                    Ok(false) => SCAN_ON,
                    Ok(true) if !std::mem::take(&mut missed) => SCAN_EVERY,
                    _ => SCAN_SOON,
                };
        }
        while under_way.0.len() < limits.at_once
            && let Some(lane) = queue.take(Instant::now())
        {
            let Some(share) = outbox.log().state().share(outbox.share_of(&lane)) else {
                // Another replica's. All is looked for anew when that changes.
                queue.forget(&lane);
                continue;
            };
            let (outbox, tried) = (outbox.fenced(share.as_ref().map(Share::fence)), queue.tried(&lane));
            let task = under_way.0.spawn({
                let lane = lane.clone();
                async move {
                    let _share = share;
                    outbox.deliver_next(lane, tried).await
                }
            });
            under_way.1.insert(task.id(), lane);
        }
        let next = queue.next().filter(|_| under_way.0.len() < limits.at_once);
        tokio::select! {
            _ = stop.changed() => {}
            Some(ended) = under_way.0.join_next_with_id(), if !under_way.0.is_empty() => {
                end(&mut queue, &mut under_way.1, ended);
            }
            change = changes.recv() => match change {
                Ok(Some(change)) => if let Some((lane, owner, at_once)) = outbox.lane(change) {
                    queue.enqueue(lane, owner, at_once, Instant::now());
                },
                Ok(None) | Err(RecvError::Lagged(_)) if is_cut_off => missed = true,
                Ok(None) | Err(RecvError::Lagged(_)) => scan_at = scan_at.min(Instant::now() + SCAN_SOON),
                Err(RecvError::Closed) => return,
            },
            () = changed(&mut shares) => {
                scan_at = scan_at.min(Instant::now() + Duration::from_millis(100));
                missed |= is_cut_off;
            }
            () = sleep_until(next.map_or(scan_at, |next| next.min(scan_at))) => {}
        }
    }
    let finished = async { while under_way.0.join_next().await.is_some() {} };
    if timeout(limits.grace, finished).await.is_err() {
        tracing::info!("what was being delivered is sent again after the next start");
    }
    under_way.0.shutdown().await;
}

/// Resolves when other shards are this replica's; never where there are no others.
async fn changed(shares: &mut Option<watch::Receiver<u64>>) {
    let changed = match shares {
        Some(shares) => shares.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending().await
    }
}

/// Looks for all that waits by pages of `lanes`, from behind `cursor` on, as long as there is room. Returns whether it has seen all;
/// if not, it is to go on from `cursor`.
async fn scan<L: Clone + Ord + Hash + Send + Sync + 'static>(
    lanes: impl Fn(Option<L>) -> Result<Vec<(L, u64)>, StateError> + Clone + Send + 'static,
    is_ours: impl Fn(&L) -> bool,
    queue: &mut Queue<L>,
    cursor: &mut Option<L>,
) -> Result<bool, StateError> {
    if cursor.is_none() {
        queue.begin_scan();
    }
    loop {
        let (lanes, after) = (lanes.clone(), cursor.clone());
        let page = tokio::task::spawn_blocking(move || lanes(after)).await;
        // It ends early only when the runtime does.
        let page = page.unwrap_or(Err(StateError::Rebuilding))?;
        let (now, is_last) = (Instant::now(), page.len() < PAGE);
        for (lane, owner) in page {
            if is_ours(&lane) && !queue.enqueue(lane.clone(), owner, false, now) {
                return Ok(false);
            }
            *cursor = Some(lane);
        }
        if is_last {
            *cursor = None;
            return Ok(true);
        }
    }
}

fn end<L: Clone + Display + Ord + Hash>(
    queue: &mut Queue<L>,
    under_way: &mut HashMap<Id, L>,
    ended: Result<(Id, Attempt), JoinError>,
) {
    let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
    let Some(lane) = under_way.remove(&task) else { return };
    let now = Instant::now();
    let ended = ended.map(|(_, Attempt { outcome, late, receiver })| {
        queue.learn(&lane, late, receiver, now);
        outcome
    });
    match ended {
        Ok(Outcome::Done) => queue.advance(lane, now),
        Ok(Outcome::Nothing) => queue.end(lane, now),
        Ok(Outcome::Later(wait)) => queue.wait(lane, now + wait),
        Ok(Outcome::Busy) => queue.wait(lane, now + queue.busy_delay()),
        Ok(Outcome::Failed(delay)) => queue.fail(lane, now + delay),
        Err(error) => {
            tracing::error!(%lane, %error, "a defect cut off what was being delivered");
            queue.wait(lane, now + AFTER_DEFECT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_looks_too_old_is_given_up_once_it_did_so_for_an_hour() {
        let since = Instant::now();
        tokio::time::advance(2 * HOUR).await;
        let failed = || Verdict::Failed("down".to_owned(), None);
        let paused = |failing_for| Verdict::Backoff(Backoff::Paused { rest: MINUTE, failing_for });
        let is_over = |verdict, late, for_so_long: Option<Duration>| {
            let late_since = for_so_long.map(|passed| since + (2 * HOUR - passed));
            let tried = Tried { failures: 9, late_since };
            matches!(tried.expire(verdict, late, 72 * HOUR), Verdict::GiveUp("expired"))
        };
        assert!(!is_over(failed(), true, None), "this run has just begun");
        assert!(!is_over(failed(), true, Some(59 * MINUTE)));
        assert!(is_over(failed(), true, Some(61 * MINUTE)));
        assert!(!is_over(failed(), false, Some(61 * MINUTE)), "the clock went back");
        assert!(is_over(paused(61 * MINUTE), true, Some(61 * MINUTE)));
        assert!(!is_over(paused(59 * MINUTE), true, Some(61 * MINUTE)));
        assert!(!is_over(Verdict::Taken, true, Some(61 * MINUTE)));
        assert!(!is_over(Verdict::Backoff(Backoff::Busy), true, Some(61 * MINUTE)));
    }

    /// All lanes of a queue, in pages.
    fn pages(lanes: usize) -> impl Fn(Option<usize>) -> Result<Vec<(usize, u64)>, StateError> + Clone + Send + 'static {
        move |after| Ok((after.map_or(0, |after| after + 1)..lanes).take(PAGE).map(|lane| (lane, 0)).collect())
    }

    /// Delivers for `hours` as [`run`] does, with `receiver` for each lane, which refuses. Returns how often each was tried, and
    /// when the last of them first was.
    async fn refused(lanes: usize, hours: u32, receiver: impl Fn(usize) -> u64) -> (Vec<u32>, Option<Duration>) {
        let (mut queue, mut cursor, mut tried, mut last) = (Queue::default(), None, vec![0; lanes], None);
        let (began, mut scan_at) = (Instant::now(), Instant::now());
        while began.elapsed() < hours * HOUR {
            if queue.wants_scan() || scan_at <= Instant::now() {
                let has_seen_all = scan(pages(lanes), |_| true, &mut queue, &mut cursor).await.unwrap();
                scan_at = Instant::now() + if has_seen_all { SCAN_EVERY } else { SCAN_ON };
            }
            let now = Instant::now();
            while let Some(lane) = queue.take(now) {
                tried[lane] += 1;
                last = last.or((lane == lanes - 1).then(|| began.elapsed()));
                queue.learn(&lane, true, Some(receiver(lane)), now);
                let failures = queue.tried(&lane).failures;
                queue.fail(lane, now + MINUTE * 5_u32.pow(failures.min(3)));
            }
            tokio::time::sleep_until(queue.next().unwrap().min(scan_at)).await;
        }
        (tried, last)
    }

    /// What a receiver is sent that refuses more than there is room for comes to an end, each attempt after its delay.
    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_refuses_more_than_there_is_room_for_is_not_asked_more_often_for_that() {
        const LANES: usize = 22_000;
        let (tried, _) = refused(LANES, 3, |_| 1).await;
        let (attempts, most) = (tried.iter().sum::<u32>() as usize, tried.iter().max());
        // With room for all, each would have had five.
        assert!(attempts < 8 * LANES && most >= Some(&5), "{attempts} attempts, {most:?} at the most of one");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_behind_more_of_another_receiver_than_there_is_room_for_is_found_in_minutes() {
        const LANES: usize = 45_000;
        let (_, last) = refused(LANES, 1, |lane| if lane == LANES - 1 { 2 } else { 1 }).await;
        assert!(last.is_some_and(|last| last < 5 * MINUTE), "{last:?}");
    }

    #[tokio::test]
    async fn a_scan_goes_on_where_the_room_ended_and_then_begins_anew() {
        const LANES: usize = 50_000;
        let (mut queue, mut cursor, mut tried) = (Queue::default(), None, vec![false; LANES]);
        for _ in 0..3 {
            scan(pages(LANES), |lane| lane % 5 > 0, &mut queue, &mut cursor).await.unwrap();
            let now = Instant::now();
            while let Some(lane) = queue.take(now) {
                tried[lane] = true;
                queue.learn(&lane, false, Some(1), now);
                queue.fail(lane, now + HOUR);
            }
        }
        assert_eq!(
            (tried.iter().filter(|tried| **tried).count(), cursor),
            (LANES / 5 * 4, None),
            "others' are not ours"
        );
        // Also where there is no room for the very first it has not seen all.
        let (mut full, mut cursor) = (Queue::default(), None);
        for lane in 1..=20_000 {
            full.enqueue(lane, 0, false, Instant::now());
        }
        assert!(!scan(pages(20_001), |_| true, &mut full, &mut cursor).await.unwrap() && cursor.is_none());
        // What is before the cursor is found by the next.
        cursor = Some(LANES / 2);
        let mut other = Queue::default();
        let one = |after: Option<usize>| Ok(if after.is_none() { vec![(3, 0)] } else { Vec::new() });
        for found in [None, Some(3)] {
            scan(one, |_| true, &mut other, &mut cursor).await.unwrap();
            assert_eq!((other.take(Instant::now()), cursor), (found, None));
        }
    }
}
