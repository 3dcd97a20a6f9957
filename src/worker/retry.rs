//! When to try again.

use std::time::Duration;

use rand::RngExt;

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

/// How long to wait after the `attempts`-th failed attempt, a fifth more or less at random, so that what failed
/// together does not come back together.
pub(super) fn delay(attempts: u16) -> Duration {
    let index = usize::from(attempts.saturating_sub(1)).min(DELAYS.len() - 1);
    jittered(Duration::from_secs(DELAYS[index]))
}

/// How long to wait after what was not the file's fault.
pub(super) fn pause() -> Duration {
    jittered(Duration::from_secs(5))
}

fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

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
