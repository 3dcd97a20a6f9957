use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Lets one request at a time through for each account.
#[derive(Clone, Debug, Default)]
pub(super) struct AccountLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// The right to send a request for an account, for as long as it is held.
#[derive(Debug)]
pub(super) struct AccountGuard {
    _guard: OwnedMutexGuard<()>,
}

impl AccountLocks {
    /// Waits until nobody else sends a request for `account`.
    pub(super) async fn turn(&self, account: &str) -> AccountGuard {
        let lock = {
            let mut accounts = self.0.lock();
            // Nobody waits for a lock that only the table still holds.
            accounts.retain(|_, lock| Arc::strong_count(lock) > 1);
            accounts.entry(account.to_owned()).or_default().clone()
        };
        AccountGuard { _guard: lock.lock_owned().await }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_account_waits_and_another_does_not() {
        let account_locks = AccountLocks::default();
        let first = account_locks.turn("1").await;
        assert!(timeout(Duration::from_secs(9), account_locks.turn("1")).await.is_err());
        drop(account_locks.turn("2").await);
        drop(first);
        drop(account_locks.turn("1").await);
        drop(account_locks.turn("3").await);
        assert_eq!(account_locks.0.lock().len(), 1, "what nobody uses is forgotten");
    }
}
