use std::time::Duration;

use super::Reconciler;
use super::ask::AskError;
use crate::domain::Timestamp;
use crate::provider::AccountLogin;

/// How one of the provider's accounts stands, as it was last heard.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderAccount {
    /// Its number.
    pub account: String,
    /// When its login at the provider expires: then nothing can be created with it until somebody logs in again.
    pub login_expires_at: Option<Timestamp>,
    /// What is left to spend on jobs, in the provider's credits.
    pub credits: Option<u64>,
}

impl Reconciler {
    /// How long before its end a login is worth a warning.
    const EXPIRING: Duration = Duration::from_secs(3 * 24 * 3600);

    /// The provider's accounts; empty until it has been asked for them.
    pub fn provider_accounts(&self) -> Vec<ProviderAccount> {
        self.inner.accounts.lock().clone()
    }

    pub(super) fn has_expiring_account(&self) -> bool {
        let soon = Timestamp::now().after(Self::EXPIRING);
        self.provider_accounts().iter().any(|account| account.login_expires_at.is_some_and(|at| at < soon))
    }

    /// Asks for the accounts and what each can still spend. An account without an answer to that stays without it.
    pub(super) async fn read_accounts(&self) -> Result<(), AskError> {
        let client = &self.inner.client;
        let mut accounts = Vec::new();
        for AccountLogin { account, expires_at } in self.with_retry(|| client.logins()).await? {
            let credits = client.credits(&account).await.ok().flatten();
            accounts.push(ProviderAccount { account, login_expires_at: expires_at, credits });
        }
        *self.inner.accounts.lock() = accounts;
        Ok(())
    }
}
