//! When to try again.

use std::time::Duration;

use rand::RngExt;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// In seconds, after the first, second, … failed attempt; the last goes on.
const DELAYS: [u64; 9] = [1, 2, 4, 8, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR];

/// Receivers that do not answer at all are looked after at least so often: it takes one request for all their refs.
const LONGEST_PAUSE: Duration = Duration::from_secs(MINUTE);

/// The longest that a receiver may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(HOUR);

/// How long to wait after the `attempts`-th failed attempt at one callback, a fifth more or less at random, and no less
/// than the receiver asked for.
pub(super) fn delay(attempts: u32, retry_after: Option<Duration>) -> Duration {
    let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX).min(DELAYS.len() - 1);
    let delay = Duration::from_secs(DELAYS[index]).mul_f64(rand::rng().random_range(0.8..1.2));
    delay.max(retry_after.unwrap_or_default().min(LONGEST_ASKED))
}

/// How long to leave a receiver alone after so many failures in a row.
pub(super) fn pause(failures: u32, retry_after: Option<Duration>) -> Duration {
    delay(failures, None).min(LONGEST_PAUSE).max(retry_after.unwrap_or_default().min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_grow_to_an_hour() {
        for (attempts, seconds) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (5, 30), (6, 120), (8, 1800), (9, 3600)] {
            for _ in 0..100 {
                let ratio = delay(attempts, None).as_secs_f64() / f64::from(seconds);
                assert!((0.8..1.2).contains(&ratio), "{attempts}: {ratio}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_requested_range_is_kept_within_the_file(attempts: u32, retry_after in 0u64..100_000) {
            let retry_after = Duration::from_secs(retry_after);
            for (waits, longest) in [(delay(attempts, Some(retry_after)), 1.2), (pause(attempts, Some(retry_after)), 1.0)] {
                prop_assert!(waits >= retry_after.min(LONGEST_ASKED));
                prop_assert!(waits <= LONGEST_ASKED.mul_f64(longest));
            }
            prop_assert!(pause(attempts, None) <= LONGEST_PAUSE);
        }
    }
}
