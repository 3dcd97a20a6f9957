use std::collections::HashMap;

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::schedule;

/// Those that are delivered to, by scheme, host and port, so that none of them takes the place of others. One that has not
/// answered yet gets one request at a time, and each answer makes it twice as many: so one that hangs holds no more than one.
/// Most refs have the same few: while one of these is down, one request at a time looks whether it is back.
#[derive(Debug)]
pub struct Receivers {
    known: Mutex<HashMap<String, ReceiverState>>,
    /// Whether one that has not answered yet gets as many as others.
    is_trusting: bool,
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
    until: Instant,
    /// Whether a request looks right now.
    probing: bool,
}

/// The right to send a request, for as long as it is held.
#[derive(Debug)]
pub struct Permit<'a> {
    receivers: &'a Receivers,
    receiver: String,
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
    /// makes it be left alone.
    pub fn of_strangers() -> Self {
        Self { known: Mutex::default(), is_trusting: false, tolerated: 0 }
    }

    /// Receivers that the operator names: they get all their requests at once, and some may fail.
    pub fn of_operator() -> Self {
        Self { known: Mutex::default(), is_trusting: true, tolerated: 4 }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, ReceiverState>> {
        self.known.lock()
    }

    /// Lets a request through that takes `patience` at most.
    ///
    /// # Errors
    /// When it is not to be sent now.
    pub fn admit(&self, receiver: &str, patience: Duration) -> Result<Permit<'_>, Backoff> {
        let mut all = self.known();
        let known = all.entry(receiver.to_owned()).or_default();
        if let Some(trouble) = &mut known.trouble {
            let rest = trouble.until.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                return Err(Backoff::Paused { rest, failing_for: trouble.since.elapsed() });
            }
            (trouble.until, trouble.probing) = (Instant::now() + patience, true);
        } else if known.under_way
            >= if self.is_trusting { Self::AT_ONCE } else { (1 + known.answers).min(Self::AT_ONCE) }
        {
            return Err(Backoff::Busy);
        }
        known.under_way += 1;
        Ok(Permit { receivers: self, receiver: receiver.to_owned() })
    }
}

impl Permit<'_> {
    /// The receiver has answered.
    pub fn answered(&self) {
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

    /// It has not, or says that it cannot; `retry_after` is how long it wants to be left alone.
    pub fn failed(&self, retry_after: Option<Duration>, error: &str) {
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
        let (failures, since) = match &known.trouble {
            // Of requests that were under way together the first one's failure counts.
            Some(trouble) if !trouble.probing => return,
            Some(trouble) => (trouble.failures.saturating_add(1), trouble.since),
            None if is_full => return,
            // One that says how long to leave it alone means it.
            None if retry_after.is_none() && known.failures <= self.receivers.tolerated => return,
            None => {
                tracing::warn!(receiver = self.receiver, error, "a receiver does not take what is delivered: it waits");
                (1, Instant::now())
            }
        };
        let until = Instant::now() + schedule::pause(failures, retry_after);
        known.trouble = Some(Trouble { failures, since, until, probing: false });
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut all = self.receivers.known();
        let Some(known) = all.get_mut(&self.receiver) else { return };
        known.under_way = known.under_way.saturating_sub(1);
        if known.under_way == 0 && known.trouble.is_none() && known.failures == 0 {
            all.remove(&self.receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn wait(receivers: &Receivers) -> Duration {
        match receivers.admit("a", PATIENCE) {
            Err(Backoff::Paused { rest, .. }) => rest,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_looks_whether_it_is_back() {
        let receivers = Receivers::of_strangers();
        let first = receivers.admit("a", PATIENCE).unwrap();
        first.answered();
        let permits = [first, receivers.admit("a", PATIENCE).unwrap()];
        permits[0].failed(None, "down");
        permits[1].failed(Some(PATIENCE), "down, too");
        drop(permits);
        assert!(receivers.admit("b", PATIENCE).is_ok());
        let rest = wait(&receivers);
        assert!(rest < 2 * Duration::from_secs(1), "{rest:?}");
        tokio::time::advance(rest).await;
        let probing = receivers.admit("a", PATIENCE).unwrap();
        assert_eq!(wait(&receivers), PATIENCE);
        probing.failed(Some(Duration::from_secs(600)), "busy");
        assert_eq!(wait(&receivers), Duration::from_secs(600));
        probing.answered();
        drop(probing);
        assert_eq!(receivers.known().len(), 0);
    }

    #[tokio::test]
    async fn of_the_operators_some_may_fail() {
        let receivers = Receivers::of_operator();
        let permits: Vec<_> = std::iter::from_fn(|| receivers.admit("a", PATIENCE).ok()).collect();
        assert_eq!(permits.len(), Receivers::AT_ONCE);
        for failures in [4, 1, 5] {
            assert!(receivers.known()["a"].trouble.is_none(), "{failures}");
            (0..failures).for_each(|_| permits[0].failed(None, "down"));
            if failures < 5 {
                assert!(receivers.known()["a"].trouble.is_none());
                permits[0].answered();
            }
        }
        assert!(receivers.known()["a"].trouble.is_some());
        permits[1].answered();
        permits[2].failed(Some(PATIENCE), "busy");
        assert!(wait(&receivers) > PATIENCE / 2, "it says how long");
    }

    #[tokio::test]
    async fn one_that_has_not_answered_gets_one_request_and_none_takes_all_places() {
        let receivers = Receivers::of_strangers();
        let mut permits = vec![receivers.admit("a", PATIENCE).unwrap()];
        assert_eq!(receivers.admit("a", PATIENCE).unwrap_err(), Backoff::Busy);
        for _ in 0..9 {
            permits[0].answered();
            permits.extend(std::iter::from_fn(|| receivers.admit("a", PATIENCE).ok()));
        }
        assert_eq!(permits.len(), Receivers::AT_ONCE);
        assert!(receivers.admit("b", PATIENCE).is_ok());
        drop(permits);
        assert!(receivers.admit("a", PATIENCE).is_ok());
        assert_eq!(receivers.known().len(), 0);
    }
}
