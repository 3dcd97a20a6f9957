//! What fails is tried again, twice.

use std::time::Duration;

/// What is waited before the second try, and the third.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// Does `work`, again where `may_pass` says of its error that it may be gone soon.
///
/// # Errors
/// The last one.
pub(super) async fn with_retry<T, E, F>(may_pass: impl Fn(&E) -> bool, work: impl Fn() -> F) -> Result<T, E>
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
