//! When to try again.

use std::time::Duration;

use crate::backoff::{jittered, step_or_last};

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// In seconds, after the first, second, … failed attempt; the last goes on.
const DELAYS: [u64; 11] = [
    SECOND,
    2 * SECOND,
    4 * SECOND,
    8 * SECOND,
    30 * SECOND,
    2 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
];

/// How long to wait after the `attempts`-th failed attempt.
pub(super) fn delay(attempts: u16) -> Duration {
    step_or_last(&DELAYS, attempts.into())
}

/// How long to wait after what was not the file's fault.
pub(super) fn pause() -> Duration {
    jittered(Duration::from_secs(5))
}

/// `delay`, or less when the link dies in `left` and there is time for another try before: as much before its death as
/// a download may need, by what is left of it.
pub(super) fn before_expiry(delay: Duration, left: Duration) -> Duration {
    const MIN_MARGIN: Duration = Duration::from_secs(5);
    const MAX_MARGIN: Duration = Duration::from_secs(5 * MINUTE);
    let last_chance = left.saturating_sub((left / 10).clamp(MIN_MARGIN, MAX_MARGIN));
    if last_chance < Duration::from_secs(SECOND) { delay } else { delay.min(last_chance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_tried_once_more_before_it_dies() {
        let tried = |delay, left| before_expiry(Duration::from_secs(delay), Duration::from_secs(left)).as_secs();
        assert_eq!(tried(60, 4 * 3600), 60, "there is time");
        assert_eq!((tried(4 * 3600, 3600), tried(4 * 3600, 600), tried(4 * 3600, 20)), (3300, 540, 15));
        assert_eq!((tried(1800, 5), tried(1800, 0)), (1800, 1800), "too late to hurry");
    }

    #[test]
    fn delays_grow_and_stay_within_a_fifth() {
        for (attempts, seconds) in [(0, 1), (1, 1), (4, 8), (5, 30), (8, 1800), (11, 14_400), (500, 14_400)] {
            for _ in 0..100 {
                let ratio = delay(attempts).as_secs_f64() / f64::from(seconds);
                assert!((0.8..1.2).contains(&ratio), "{attempts}: {ratio}");
            }
        }
    }
}
