//! When to try again.

use std::time::Duration;

use crate::backoff::{step, step_or_last};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// The delays after the first, second, … failed attempt, each a fifth more or less at random.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// In seconds.
    delays: &'static [u64],
    /// Whether the last delay goes on, or nothing is tried after it.
    goes_on: bool,
    /// The longest that a receiver may ask for.
    pub max_retry_after: Duration,
}

/// A receiver that does not answer is looked after at least so often: it takes one request for all that waits for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(MINUTE);

impl Schedule {
    /// That of relayed callbacks, which goes on until something else ends it.
    pub const RELAY: Self = Self {
        delays: &[1, 2, 4, 8, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR],
        goes_on: true,
        max_retry_after: Duration::from_secs(HOUR),
    };

    /// That of the Standard Webhooks specification 1.0.0, section "Deliverability and reliability": ten attempts in 75 hours.
    pub const STANDARD_WEBHOOKS: Self = Self {
        delays: &[5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR],
        goes_on: false,
        max_retry_after: Duration::from_secs(24 * HOUR),
    };

    /// How long to wait after the `failures`-th failed attempt, and no less than the receiver asked for; `None` when that was
    /// the last.
    pub fn delay(&self, failures: u32, retry_after: Option<Duration>) -> Option<Duration> {
        let delay = match self.goes_on {
            true => step_or_last(self.delays, failures),
            false => step(self.delays, failures)?,
        };
        Some(delay.max(retry_after.unwrap_or_default()))
    }
}

/// How long to leave a receiver alone after so many failures in a row: a minute at most. `Retry-After` does not count here: one
/// URL asks for it, and all URLs of the receiver wait.
pub(super) fn pause(failures: u32) -> Duration {
    Schedule::RELAY.delay(failures, None).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_grow_and_go_on_or_end() {
        let cases = [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 30), (6, 120), (8, 1800), (9, 3600), (99, 3600)];
        for (failures, seconds) in cases {
            for _ in 0..100 {
                let ratio = Schedule::RELAY.delay(failures, None).unwrap().as_secs_f64() / f64::from(seconds);
                assert!((0.8..1.2).contains(&ratio), "{failures}: {ratio}");
            }
        }
        let sum: u64 = Schedule::STANDARD_WEBHOOKS.delays.iter().sum();
        assert_eq!(sum, 75 * HOUR + 35 * MINUTE + 5);
        let delay = |failures| Schedule::STANDARD_WEBHOOKS.delay(failures, None);
        assert!(delay(1).unwrap() < Duration::from_secs(7) && delay(9).unwrap() > Duration::from_secs(19 * HOUR));
        assert_eq!(delay(10), None, "ten attempts");
    }

    proptest! {
        #[test]
        fn no_less_than_was_asked_for(failures in 1u32..9, retry_after in 0u64..100_000) {
            let retry_after = Duration::from_secs(retry_after);
            for schedule in [Schedule::RELAY, Schedule::STANDARD_WEBHOOKS] {
                prop_assert!(schedule.delay(failures, Some(retry_after)).unwrap() >= retry_after);
            }
            prop_assert!(pause(failures) <= LONGEST_PAUSE);
        }
    }
}
