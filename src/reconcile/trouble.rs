use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::provider::ProviderError;

/// What keeps the provider from being asked.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    on_hold: HashMap<String, Instant>,
    token_refused: bool,
    until: Option<Instant>,
    /// Questions in a row that led to nothing.
    failures: u32,
}

impl Trouble {
    /// The provider speaks of hours.
    const HOLD: Duration = Duration::from_secs(2 * 3600);
    /// More accounts are not remembered; each of their jobs then asks once.
    const MOST: usize = 1000;
    /// A refused token takes somebody to mend.
    const TOKEN: Duration = Duration::from_secs(300);
    /// Between two questions when nobody answers, at the most.
    const LONGEST: Duration = Duration::from_secs(60);

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accounts_on_hold(&self) -> usize {
        let now = Instant::now();
        self.known().on_hold.values().filter(|until| **until > now).count()
    }

    pub(super) fn is_token_refused(&self) -> bool {
        self.known().token_refused
    }

    /// Until when nobody is to be asked.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.known().until.filter(|until| *until > Instant::now())
    }

    /// How much longer an account is to be left alone.
    pub(super) fn hold_of(&self, account: &str) -> Option<Duration> {
        let rest = self.known().on_hold.get(account)?.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }

    pub(super) fn ends(&self) {
        let mut known = self.known();
        if known.failures > 0 {
            tracing::info!("the provider answers again");
        }
        (known.failures, known.until, known.token_refused) = (0, None, false);
    }

    pub(super) fn hold(&self, account: &str) {
        tracing::warn!(account, "the provider has put the account on hold: it is left alone for hours");
        let mut known = self.known();
        known.on_hold.retain(|_, until| *until > Instant::now());
        if known.on_hold.len() < Self::MOST {
            known.on_hold.insert(account.to_owned(), Instant::now() + Self::HOLD);
        }
    }

    pub(super) fn goes_on(&self, error: &ProviderError) {
        let mut known = self.known();
        if *error == ProviderError::TokenRefused && !known.token_refused {
            tracing::error!("the provider refuses provider.api_token: jobs are not asked about");
            known.token_refused = true;
        } else if known.failures == 0 {
            tracing::warn!(%error, "jobs cannot be asked about and wait");
        }
        known.failures += 1;
        let pause = match error {
            ProviderError::Busy { retry_after: Some(retry_after) } => *retry_after,
            ProviderError::Busy { retry_after: None } => Duration::from_secs(rand::rng().random_range(10..=30)),
            ProviderError::TokenRefused => Self::TOKEN,
            _ => Duration::from_secs(1 << known.failures.min(6)).min(Self::LONGEST),
        };
        known.until = Some(Instant::now() + pause);
    }
}
