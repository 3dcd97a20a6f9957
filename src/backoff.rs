//! How long to wait before what failed is tried again.

use std::time::Duration;

use rand::RngExt;

/// What is waited before the second try, and the third.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// A fifth more or less at random, so that what failed together does not come back together.
pub fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::rng().random_range(0.8..1.2))
}

/// The delay after the `failures`-th failure of a ladder of seconds, jittered; `None` beyond its last step.
pub fn step(ladder: &[u64], failures: u32) -> Option<Duration> {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    ladder.get(index).map(|seconds| jittered(Duration::from_secs(*seconds)))
}

/// The same, where the last step goes on.
pub fn step_or_last(ladder: &[u64], failures: u32) -> Duration {
    let last = u32::try_from(ladder.len()).unwrap_or(u32::MAX);
    step(ladder, failures.min(last)).unwrap_or_default()
}

/// A second, two, four, … after `earlier` failures before this one; at most `longest`.
pub fn doubling(earlier: u32, longest: Duration) -> Duration {
    Duration::from_secs(1 << earlier.min(31)).min(longest)
}

/// Does `work`, and again, twice at most, where `may_pass` says of its error that it may be gone soon.
///
/// # Errors
/// The last one.
pub async fn with_retry<T, E, F>(may_pass: impl Fn(&E) -> bool, work: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut pauses = PAUSES.into_iter();
    loop {
        match (work().await, pauses.next()) {
            (Err(error), Some(pause)) if may_pass(&error) => tokio::time::sleep(pause).await,
            (done, _) => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_ladder_ends_or_its_last_step_goes_on() {
        for (failures, seconds, is_beyond) in
            [(0, 1, false), (1, 1, false), (2, 30, false), (3, 30, true), (u32::MAX, 30, true)]
        {
            for _ in 0..100 {
                let ratio = step_or_last(&[1, 30], failures).as_secs_f64() / f64::from(seconds);
                assert!((0.8..1.2).contains(&ratio), "{failures}: {ratio}");
            }
            assert_eq!(step(&[1, 30], failures).is_none(), is_beyond, "{failures}");
        }
    }

    #[test]
    fn doubling_delays_end_at_the_longest() {
        let seconds = |earlier| doubling(earlier, Duration::from_secs(30)).as_secs();
        assert_eq!([0, 1, 4, 5, u32::MAX].map(seconds), [1, 2, 16, 30, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again_and_not_for_ever() {
        let tries = Cell::new(0);
        let fail_until = |good: u32| {
            let tries = &tries;
            tries.set(0);
            move || {
                tries.set(tries.get() + 1);
                std::future::ready(if tries.get() < good { Err(tries.get()) } else { Ok(()) })
            }
        };
        assert_eq!((with_retry(|_| true, fail_until(3)).await, tries.get()), (Ok(()), 3));
        assert_eq!((with_retry(|_| true, fail_until(9)).await, tries.get()), (Err(3), 3));
        assert_eq!((with_retry(|_| false, fail_until(3)).await, tries.get()), (Err(1), 1));
    }
}
