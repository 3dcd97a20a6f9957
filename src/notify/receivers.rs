use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::schedule;

/// Receivers that do not answer, by scheme, host and port. Most refs have the same few receivers: while one is down, one
/// request at a time looks whether it is back, so that what waits for it takes no place from others.
#[derive(Debug, Default)]
pub(super) struct Receivers(Mutex<HashMap<String, Trouble>>);

#[derive(Debug)]
struct Trouble {
    failures: u32,
    until: Instant,
    /// Whether a request looks right now.
    looking: bool,
}

impl Receivers {
    /// More are not remembered; their refs still wait each for themselves.
    const MOST: usize = 10_000;

    fn known(&self) -> MutexGuard<'_, HashMap<String, Trouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request through that takes `patience` at most.
    ///
    /// # Errors
    /// With how long the receiver is to be left alone.
    pub(super) fn admit(&self, receiver: &str, patience: Duration) -> Result<(), Duration> {
        let mut known = self.known();
        let Some(trouble) = known.get_mut(receiver) else { return Ok(()) };
        let rest = trouble.until.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            return Err(rest);
        }
        (trouble.until, trouble.looking) = (Instant::now() + patience, true);
        Ok(())
    }

    /// It has answered.
    pub(super) fn answers(&self, receiver: &str) {
        if self.known().remove(receiver).is_some() {
            tracing::info!(receiver, "a receiver answers again: what waits for it is passed on");
        }
    }

    /// It has not, or says that it cannot; `asked` is how long it wants to be left alone.
    pub(super) fn fails(&self, receiver: &str, asked: Option<Duration>, error: &str) {
        let mut known = self.known();
        let failures = match known.get(receiver) {
            // Of requests that were under way together the first one's failure counts.
            Some(trouble) if !trouble.looking => return,
            Some(trouble) => trouble.failures,
            None => 0,
        };
        if failures == 0 && known.len() >= Self::MOST {
            known.retain(|_, trouble| trouble.until > Instant::now());
            if known.len() >= Self::MOST {
                return;
            }
        }
        if failures == 0 {
            tracing::warn!(receiver, error, "a receiver does not take what is passed on to it: it waits");
        }
        let failures = failures.saturating_add(1);
        let until = Instant::now() + schedule::pause(failures, asked);
        known.insert(receiver.to_owned(), Trouble { failures, until, looking: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_looks_whether_it_is_back() {
        let (receivers, patience) = (Receivers::default(), Duration::from_secs(30));
        assert_eq!(receivers.admit("a", patience), Ok(()));
        receivers.fails("a", None, "down");
        receivers.fails("a", Some(patience), "down, too");
        assert_eq!(receivers.admit("b", patience), Ok(()));
        let rest = receivers.admit("a", patience).unwrap_err();
        tokio::time::advance(rest).await;
        assert_eq!(receivers.admit("a", patience), Ok(()));
        assert_eq!(receivers.admit("a", patience), Err(patience));
        receivers.fails("a", Some(Duration::from_secs(600)), "busy");
        assert_eq!(receivers.admit("a", patience), Err(Duration::from_secs(600)));
        receivers.answers("a");
        assert_eq!(receivers.admit("a", patience), Ok(()));
        assert_eq!(receivers.admit("a", patience), Ok(()));
    }
}
