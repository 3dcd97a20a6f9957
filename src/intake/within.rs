use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Waits for `future` until `limit` is over. What is there at once, or in the next turn of its connection, costs neither a timer
/// nor a look at the clock: so it is with most bodies, which are handed over right after their heads.
///
/// # Errors
/// When the time is over.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut is_first = true;
    let soon = poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if std::mem::take(&mut is_first) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Poll::Pending => Poll::Ready(None),
    });
    match soon.await {
        Some(output) => Ok(output),
        None => timeout(limit, future).await,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn what_is_soon_there_is_taken_and_what_never_comes_is_not_waited_for() {
        assert_eq!(within(Duration::ZERO, async { 1 }).await, Ok(1));
        assert_eq!(within(Duration::ZERO, yield_now()).await, Ok(()));
        let (_sender, never) = oneshot::channel::<()>();
        let began = tokio::time::Instant::now();
        assert!(within(LIMIT, never).await.is_err());
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_later_wakes_whoever_waits() {
        let (sender, receiver) = oneshot::channel();
        let mut waits = Box::pin(within(LIMIT, receiver));
        assert!(waits.as_mut().now_or_never().is_none());
        let sending = async {
            tokio::time::sleep(LIMIT / 2).await;
            sender.send(2)
        };
        assert_eq!(tokio::join!(waits, sending), (Ok(Ok(2)), Ok(())));
    }
}
