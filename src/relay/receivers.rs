use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::schedule;

/// Receivers by scheme, host and port, so that none of them takes the place of others. One that has not answered yet gets
/// one request at a time, and each answer makes it twice as many: so one that hangs holds no more than one. Most refs have
/// the same few: while one of these is down, one request at a time looks whether it is back.
#[derive(Debug, Default)]
pub(super) struct Receivers(Mutex<HashMap<String, ReceiverState>>);

#[derive(Debug, Default)]
struct ReceiverState {
    under_way: usize,
    /// Answers since it was last idle or in trouble.
    answers: usize,
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
pub(super) struct Permit<'a> {
    receivers: &'a Receivers,
    receiver: String,
}

/// Why a request is not to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Backoff {
    /// The receiver is to be left alone for so long. Requests have failed since some time ago, without an answer.
    Paused { rest: Duration, failing_for: Duration },
    /// There are as many under way as may be.
    Busy,
}

impl Receivers {
    /// Requests at a time to one receiver, once it has answered some.
    const AT_ONCE: usize = 8;
    /// The trouble of more is not remembered; their refs still wait each for themselves.
    const MAX_RECEIVERS: usize = 10_000;

    fn known(&self) -> MutexGuard<'_, HashMap<String, ReceiverState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request through that takes `patience` at most.
    ///
    /// # Errors
    /// When it is not to be sent now.
    pub(super) fn admit(&self, receiver: &str, patience: Duration) -> Result<Permit<'_>, Backoff> {
        let mut all = self.known();
        let known = all.entry(receiver.to_owned()).or_default();
        if let Some(trouble) = &mut known.trouble {
            let rest = trouble.until.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                return Err(Backoff::Paused { rest, failing_for: trouble.since.elapsed() });
            }
            (trouble.until, trouble.probing) = (Instant::now() + patience, true);
        } else if known.under_way >= (1 + known.answers).min(Self::AT_ONCE) {
            return Err(Backoff::Busy);
        }
        known.under_way += 1;
        Ok(Permit { receivers: self, receiver: receiver.to_owned() })
    }
}

impl Permit<'_> {
    /// The receiver has answered.
    pub(super) fn answered(&self) {
        let mut all = self.receivers.known();
        let Some(known) = all.get_mut(&self.receiver) else { return };
        known.answers = known.answers.saturating_add(1);
        let trouble = known.trouble.take();
        drop(all);
        if trouble.is_some() {
            tracing::info!(receiver = self.receiver, "a receiver answers again: what waits for it is passed on");
        }
    }

    /// It has not, or says that it cannot; `asked` is how long it wants to be left alone.
    pub(super) fn failed(&self, retry_after: Option<Duration>, error: &str) {
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
        let (failures, since) = match &known.trouble {
            // Of requests that were under way together the first one's failure counts.
            Some(trouble) if !trouble.probing => return,
            Some(trouble) => (trouble.failures.saturating_add(1), trouble.since),
            None if is_full => return,
            None => {
                tracing::warn!(receiver = self.receiver, error, "a receiver does not take what is passed on: it waits");
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
        if known.under_way == 0 && known.trouble.is_none() {
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
        let receivers = Receivers::default();
        let first = receivers.admit("a", PATIENCE).unwrap();
        first.answered();
        let turns = [first, receivers.admit("a", PATIENCE).unwrap()];
        turns[0].failed(None, "down");
        turns[1].failed(Some(PATIENCE), "down, too");
        drop(turns);
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
    async fn one_that_has_not_answered_gets_one_request_and_none_takes_all_places() {
        let receivers = Receivers::default();
        let mut turns = vec![receivers.admit("a", PATIENCE).unwrap()];
        assert_eq!(receivers.admit("a", PATIENCE).unwrap_err(), Backoff::Busy);
        for _ in 0..9 {
            turns[0].answered();
            turns.extend(std::iter::from_fn(|| receivers.admit("a", PATIENCE).ok()));
        }
        assert_eq!(turns.len(), Receivers::AT_ONCE);
        assert!(receivers.admit("b", PATIENCE).is_ok());
        drop(turns);
        assert!(receivers.admit("a", PATIENCE).is_ok());
        assert_eq!(receivers.known().len(), 0);
    }
}
