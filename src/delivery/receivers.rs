use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::post::{host_key, receiver_at};
use super::reputation::{Place, Reputation};
use super::schedule;
use crate::cluster::text_key;

/// Those that are delivered to, by scheme, host and port, so that none of them takes the place of others. One that has not
/// answered yet gets one request at a time, and each answer makes it twice as many: so one that hangs holds no more than one.
/// Most refs have the same few: while one of these is down, one request at a time looks whether it is back.
///
/// On a host that many share, one URL may fail while others work. So a URL that has not failed looks first, and its answer ends
/// the pause for all.
#[derive(Debug)]
pub struct Receivers {
    known: Mutex<HashMap<String, ReceiverState>>,
    /// `None` where one that has not answered yet gets as many as others.
    reputation: Option<Mutex<Reputation>>,
    /// So many failures in a row are no trouble yet.
    tolerated: u32,
}

#[derive(Debug, Default)]
struct ReceiverState {
    under_way: usize,
    /// Answers since it was last idle or in trouble.
    answers: usize,
    /// Failures since the last answer.
    failures: u32,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    failures: u32,
    since: Instant,
    /// Until when the URLs that failed are left alone.
    until: Instant,
    /// Until when all other URLs are.
    others_until: Instant,
    /// The URLs that failed last, each once, by their hashes.
    failed: VecDeque<u64>,
    /// Whether a request looks right now.
    probing: bool,
}

/// The right to send a request, for as long as it is held.
#[derive(Debug)]
pub struct Permit<'a> {
    receivers: &'a Receivers,
    receiver: String,
    /// Stands for the URL.
    url: u64,
    /// What it stands for where it looks whether the receiver is back.
    probe: Option<Probe>,
    place: Place,
    since: Instant,
    /// Whether it is known what came of the request.
    is_concluded: AtomicBool,
}

/// A request that looks whether a receiver is back.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// Until when it keeps all others waiting.
    until: Instant,
    /// The times of [`Trouble`] that it replaced.
    before: (Instant, Instant),
}

/// Why a request is not to be sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Backoff {
    /// The receiver is to be left alone for so long. Requests have failed since some time ago, without an answer.
    Paused {
        /// For how much longer.
        rest: Duration,
        /// Since when.
        failing_for: Duration,
    },
    /// There are as many under way as may be.
    Busy,
}

impl Receivers {
    /// Requests at a time to one receiver, once it has answered some.
    pub const AT_ONCE: usize = 8;
    /// The trouble of more is not remembered; their refs still wait each for themselves.
    const MAX_RECEIVERS: usize = 10_000;

    /// Receivers that anybody may name: each has to answer before it gets more than one request at a time, and the first failure
    /// makes it be left alone. Those that have not answered lately share half of so many places.
    pub fn of_strangers(places: usize) -> Self {
        Self { known: Mutex::default(), reputation: Some(Mutex::new(Reputation::new(places / 2))), tolerated: 0 }
    }

    /// Receivers that the operator names: they get all their requests at once, and some may fail.
    pub fn of_operator() -> Self {
        Self { known: Mutex::default(), reputation: None, tolerated: 4 }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, ReceiverState>> {
        self.known.lock()
    }

    /// Lets a request to `url` through that takes `patience` at most.
    ///
    /// # Errors
    /// When it is not to be sent now.
    pub fn admit(&self, url: &str, patience: Duration) -> Result<Permit<'_>, Backoff> {
        let (receiver, host, url) = (receiver_at(url), host_key(url), text_key(url));
        let mut all = self.known();
        let known = all.entry(receiver.clone()).or_default();
        let at_once = if self.reputation.is_none() { Self::AT_ONCE } else { (1 + known.answers).min(Self::AT_ONCE) };
        let mut probe = None;
        if let Some(trouble) = &mut known.trouble {
            probe = Some(trouble.probe(url, patience)?);
        } else if known.under_way >= at_once {
            return Err(Backoff::Busy);
        }
        let take_place = |all: &Mutex<Reputation>| all.lock().take(text_key(&receiver), host);
        let place = self.reputation.as_ref().map_or(Some(Place::Proven), take_place);
        let Some(place) = place else {
            known.not_sent(probe);
            if known.is_forgettable() {
                all.remove(&receiver);
            }
            return Err(Backoff::Busy);
        };
        known.under_way += 1;
        let since = Instant::now();
        Ok(Permit { receivers: self, receiver, url, probe, place, since, is_concluded: AtomicBool::new(false) })
    }
}

impl ReceiverState {
    /// A request was not sent, or cut off.
    fn not_sent(&mut self, probe: Option<Probe>) {
        if let (Some(trouble), Some(probe)) = (&mut self.trouble, probe) {
            trouble.take_back(probe);
        }
    }

    fn is_forgettable(&self) -> bool {
        self.under_way == 0 && self.trouble.is_none() && self.failures == 0
    }
}

impl Trouble {
    /// The most URLs that are remembered.
    const MAX_FAILED: usize = 16;
    /// URLs that have not failed wait for a tenth of the pause.
    const OTHERS_PART: u32 = 10;

    /// Begins with a request under way that is about to fail.
    fn new() -> Self {
        let now = Instant::now();
        Self { failures: 0, since: now, until: now, others_until: now, failed: VecDeque::new(), probing: true }
    }

    /// Lets a request look whether the receiver is back, one at a time.
    fn probe(&mut self, url: u64, patience: Duration) -> Result<Probe, Backoff> {
        let (now, has_failed) = (Instant::now(), self.failed.contains(&url));
        let until = if has_failed { self.until } else { self.others_until };
        let rest = until.saturating_duration_since(now);
        if !rest.is_zero() {
            // The request that looks mostly ends long before its time is over, and then this URL is next.
            let is_next = self.probing && !has_failed;
            let paused = Backoff::Paused { rest, failing_for: self.since.elapsed() };
            return Err(if is_next { Backoff::Busy } else { paused });
        }
        let probe = Probe { until: now + patience, before: (self.until, self.others_until) };
        (self.until, self.others_until, self.probing) = (probe.until, probe.until, true);
        Ok(probe)
    }

    /// A probe was not sent, or cut off: the next request looks, unless one does already.
    fn take_back(&mut self, probe: Probe) {
        if self.probing && self.until == probe.until {
            ((self.until, self.others_until), self.probing) = (probe.before, false);
        }
    }

    /// A request to `url` has failed.
    fn fail(&mut self, url: u64) {
        if !self.failed.contains(&url) {
            if self.failed.len() == Self::MAX_FAILED {
                self.failed.pop_front();
            }
            self.failed.push_back(url);
        }
        // Of requests that were under way together the first one's failure counts.
        if !std::mem::take(&mut self.probing) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let (now, pause) = (Instant::now(), schedule::pause(self.failures));
        (self.until, self.others_until) = (now + pause, now + pause / Self::OTHERS_PART);
    }
}

impl Permit<'_> {
    /// The receiver has answered.
    pub fn answered(&self) {
        self.conclude(true);
        let mut all = self.receivers.known();
        let Some(known) = all.get_mut(&self.receiver) else { return };
        known.answers = known.answers.saturating_add(1);
        known.failures = 0;
        let trouble = known.trouble.take();
        drop(all);
        if trouble.is_some() {
            tracing::info!(receiver = self.receiver, "a receiver answers again: what waits for it is delivered");
        }
    }

    /// It has not, or says that it cannot.
    pub fn failed(&self, error: &str) {
        self.conclude(false);
        let mut all = self.receivers.known();
        if all.len() > Receivers::MAX_RECEIVERS {
            let now = Instant::now();
            all.retain(|_, known| {
                known.under_way > 0 || known.trouble.as_ref().is_some_and(|trouble| trouble.until > now)
            });
        }
        let is_full = all.len() > Receivers::MAX_RECEIVERS;
        let Some(known) = all.get_mut(&self.receiver) else { return };
        known.answers = 0;
        known.failures = known.failures.saturating_add(1);
        if known.trouble.is_none() {
            if is_full || known.failures <= self.receivers.tolerated {
                return;
            }
            tracing::warn!(receiver = self.receiver, error, "a receiver does not take what is delivered: it waits");
        }
        known.trouble.get_or_insert_with(Trouble::new).fail(self.url);
    }

    fn conclude(&self, answered: bool) {
        self.is_concluded.store(true, Ordering::Relaxed);
        if let Some(reputation) = &self.receivers.reputation {
            reputation.lock().learn(text_key(&self.receiver), answered, self.since.elapsed());
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(reputation) = &self.receivers.reputation {
            reputation.lock().give_back(self.place);
        }
        let mut all = self.receivers.known();
        let Some(known) = all.get_mut(&self.receiver) else { return };
        known.under_way = known.under_way.saturating_sub(1);
        if !self.is_concluded.load(Ordering::Relaxed) {
            known.not_sent(self.probe);
        }
        if known.is_forgettable() {
            all.remove(&self.receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);
    const ORIGIN: &str = "https://hooks.example";
    const ONE: &str = "https://hooks.example/one";
    const TWO: &str = "https://hooks.example/two?key=1";
    const ELSEWHERE: &str = "https://elsewhere.example/one";

    fn wait(receivers: &Receivers, url: &str) -> Duration {
        match receivers.admit(url, PATIENCE) {
            Err(Backoff::Paused { rest, .. }) => rest,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_looks_whether_it_is_back() {
        let receivers = Receivers::of_strangers(64);
        let first = receivers.admit(ONE, PATIENCE).unwrap();
        first.answered();
        let permits = [first, receivers.admit(ONE, PATIENCE).unwrap()];
        permits.iter().for_each(|permit| permit.failed("down"));
        drop(permits);
        assert!(receivers.admit(ELSEWHERE, PATIENCE).is_ok());
        let rest = wait(&receivers, ONE);
        assert!(rest < 2 * Duration::from_secs(1), "of two that fail together one counts: {rest:?}");
        tokio::time::advance(rest).await;
        let probing = receivers.admit(ONE, PATIENCE).unwrap();
        assert_eq!(wait(&receivers, ONE), PATIENCE);
        probing.failed("busy");
        assert!(wait(&receivers, ONE) > Duration::from_secs(1));
        probing.answered();
        drop(probing);
        assert_eq!(receivers.known().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_goes_on_failing_is_left_alone_for_a_minute_at_most() {
        let receivers = Receivers::of_strangers(64);
        for failures in 0..20 {
            receivers.admit(ONE, PATIENCE).unwrap().failed("down");
            let rest = wait(&receivers, ONE);
            assert!(rest <= Duration::from_secs(60), "{failures}: {rest:?}");
            tokio::time::advance(rest).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_that_has_not_failed_looks_before_those_that_have() {
        let receivers = Receivers::of_strangers(64);
        for failures in 0..9 {
            receivers.admit(ONE, PATIENCE).unwrap().failed("busy");
            let (rest, sooner) = (wait(&receivers, ONE), wait(&receivers, TWO));
            assert!(9 * sooner < rest, "{failures}: {sooner:?} of {rest:?}");
            tokio::time::advance(rest).await;
        }
        let looking = receivers.admit(ONE, PATIENCE).unwrap();
        assert_eq!(receivers.admit(TWO, PATIENCE).unwrap_err(), Backoff::Busy, "it is next");
        looking.failed("busy");
        drop(looking);
        tokio::time::advance(wait(&receivers, TWO)).await;
        assert!(wait(&receivers, ONE) > Duration::from_secs(30));
        receivers.admit(TWO, PATIENCE).unwrap().answered();
        assert!(receivers.admit(ONE, PATIENCE).is_ok(), "the receiver is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_that_fails_in_its_turn_waits_like_those_before_it() {
        let receivers = Receivers::of_strangers(64);
        for url in [ONE, TWO] {
            receivers.admit(url, PATIENCE).unwrap().failed("down");
            tokio::time::advance(wait(&receivers, TWO)).await;
        }
        assert!(receivers.admit(ONE, PATIENCE).is_ok(), "both were waited for");
        let mut trouble = Trouble::new();
        (0..100).for_each(|url| trouble.fail(url));
        assert_eq!((trouble.failed.len(), trouble.failures), (Trouble::MAX_FAILED, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_not_sent_keeps_nobody_waiting() {
        let receivers = Receivers::of_strangers(64);
        receivers.admit(ONE, PATIENCE).unwrap().failed("down");
        tokio::time::advance(wait(&receivers, ONE)).await;
        drop(receivers.admit(ONE, PATIENCE).unwrap());
        let late = receivers.admit(ONE, PATIENCE).unwrap();
        tokio::time::advance(PATIENCE).await;
        let probing = receivers.admit(TWO, PATIENCE).unwrap();
        drop(late);
        assert_eq!(wait(&receivers, ONE), PATIENCE, "it is not that one's probe any more");
        probing.failed("down");
        drop(probing);
        assert!(wait(&receivers, ONE) > Duration::from_secs(1));
    }

    #[tokio::test]
    async fn of_the_operators_some_may_fail() {
        let receivers = Receivers::of_operator();
        let permits: Vec<_> = std::iter::from_fn(|| receivers.admit(ONE, PATIENCE).ok()).collect();
        assert_eq!(permits.len(), Receivers::AT_ONCE);
        for failures in [4, 1, 5] {
            assert!(receivers.known()[ORIGIN].trouble.is_none(), "{failures}");
            (0..failures).for_each(|_| permits[0].failed("down"));
            if failures < 5 {
                assert!(receivers.known()[ORIGIN].trouble.is_none());
                permits[0].answered();
            }
        }
        assert!(receivers.known()[ORIGIN].trouble.is_some());
    }

    #[tokio::test]
    async fn one_that_has_not_answered_gets_one_request_and_none_takes_all_places() {
        let receivers = Receivers::of_strangers(64);
        let mut permits = vec![receivers.admit(ONE, PATIENCE).unwrap()];
        assert_eq!(receivers.admit(TWO, PATIENCE).unwrap_err(), Backoff::Busy);
        for _ in 0..9 {
            permits[0].answered();
            permits.extend(std::iter::from_fn(|| receivers.admit(TWO, PATIENCE).ok()));
        }
        assert_eq!(permits.len(), Receivers::AT_ONCE);
        assert!(receivers.admit(ELSEWHERE, PATIENCE).is_ok());
        drop(permits);
        assert!(receivers.admit(ONE, PATIENCE).is_ok());
        assert_eq!(receivers.known().len(), 0);
    }
}
