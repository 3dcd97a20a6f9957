//! Asking something that may hang whether it is well, at most once at a time, on behalf of everyone who wants to know.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::{FutureExt, Shared};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
const LATE: &str = "no answer within 2 s";

type PendingCheck = Shared<Pin<Box<dyn Future<Output = Finding> + Send>>>;

/// What was found, and when.
#[derive(Clone, Copy)]
struct Finding {
    at: Instant,
    problem: Option<&'static str>,
}

/// Remembers the last answer, or that one is still awaited.
pub(super) struct CachedCheck {
    /// How long an answer is good.
    keep: Duration,
    last: Mutex<Option<PendingCheck>>,
}

impl CachedCheck {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, last: Mutex::new(None) }
    }

    /// What is wrong, if anything is: from the last answer while that is good, from the one that is awaited, or from
    /// asking. Takes two seconds at most; whoever is asked longer than that is not well.
    pub(super) async fn problem<F>(&self, ask: impl FnOnce() -> F) -> Option<&'static str>
    where
        F: Future<Output = Option<&'static str>> + Send + 'static,
    {
        let asked = self.asked(ask);
        timeout(PATIENCE, asked).await.map_or(Some(LATE), |finding| finding.problem)
    }

    fn asked<F>(&self, ask: impl FnOnce() -> F) -> PendingCheck
    where
        F: Future<Output = Option<&'static str>> + Send + 'static,
    {
        let mut last = self.last.lock();
        // Polled here, since after a late answer nobody else may have.
        let is_old =
            |asked: &PendingCheck| asked.clone().now_or_never().is_some_and(|found| found.at.elapsed() >= self.keep);
        match &*last {
            Some(asked) if !is_old(asked) => asked.clone(),
            _ => last.insert(start(ask())).clone(),
        }
    }
}

/// Goes on when nobody waits any more: to be asked again, it has to have answered.
fn start<F>(ask: F) -> PendingCheck
where
    F: Future<Output = Option<&'static str>> + Send + 'static,
{
    let started = Instant::now();
    let task = tokio::spawn(async move {
        let problem = ask.await;
        let at = Instant::now();
        Finding { at, problem: if at - started > PATIENCE { Some(LATE) } else { problem } }
    });
    let broken = move |_| Finding { at: started, problem: Some("it could not be asked") };
    task.map(move |found| found.unwrap_or_else(broken)).boxed().shared()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_is_asked_at_a_time_and_a_late_answer_is_a_bad_one() {
        let probe = CachedCheck::new(Duration::from_secs(10));
        let count = Arc::new(AtomicU32::new(0));
        let ask = |seconds: u64| {
            let count = count.clone();
            move || async move {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                None
            }
        };
        let both = futures_util::future::join(probe.problem(ask(4)), probe.problem(ask(0))).await;
        assert_eq!(both, (Some(LATE), Some(LATE)));
        assert_eq!(probe.problem(ask(0)).await, Some(LATE));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_good_for_a_while_and_no_longer() {
        let probe = CachedCheck::new(Duration::from_millis(200));
        assert_eq!(probe.problem(|| async { Some("ill") }).await, Some("ill"));
        assert_eq!(probe.problem(|| async { None }).await, Some("ill"));
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(probe.problem(|| async { None }).await, None);
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(probe.problem(|| async { panic!("on purpose") }).await, Some("it could not be asked"));
    }
}
