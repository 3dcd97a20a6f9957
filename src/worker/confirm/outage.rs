//! When not to ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::provider::ProviderError;

/// What is known of a provider that gives no answers to anybody.
#[derive(Debug, Default)]
pub(super) struct Outage {
    until: Option<Instant>,
    /// Questions in a row that led to nothing.
    failures: u32,
}

impl Outage {
    /// Between two questions at most.
    const LONGEST: Duration = Duration::from_secs(60);
    /// A token that is refused, or a host that is forbidden, takes somebody to mend.
    const TOKEN: Duration = Duration::from_secs(300);

    pub(super) fn is_over(&self) -> bool {
        self.failures == 0
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    pub(super) fn ends(&mut self) {
        if self.failures > 0 {
            tracing::info!("the provider answers again");
        }
        *self = Self::default();
    }

    pub(super) fn goes_on(&mut self, error: &ProviderError) {
        if self.failures == 0 {
            tracing::warn!(%error, "final callbacks cannot be confirmed and wait");
        }
        self.failures += 1;
        let pause = match error {
            ProviderError::Busy { retry_after: Some(retry_after) } => *retry_after,
            ProviderError::Busy { retry_after: None } => Duration::from_secs(rand::rng().random_range(10..=30)),
            ProviderError::TokenRefused => Self::TOKEN,
            _ => Duration::from_secs(1 << self.failures.min(6)).min(Self::LONGEST).mul_f64(0.5),
        };
        self.pause(pause);
    }

    pub(super) fn pause(&mut self, pause: Duration) {
        self.until = Some(Instant::now() + pause);
    }
}

/// Accounts that the provider has put on hold.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<HashMap<String, Instant>>);

impl Holds {
    /// The provider speaks of hours.
    pub(super) const TIME: Duration = Duration::from_secs(3600);
    /// More are not remembered; each of their jobs then asks once.
    const MOST: usize = 1000;

    pub(super) fn begin(&self, account: &str) {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|_, until| *until > Instant::now());
        if holds.len() < Self::MOST {
            holds.insert(account.to_owned(), Instant::now() + Self::TIME);
        }
    }

    /// How much longer an account is to be left alone.
    pub(super) fn of(&self, account: &str) -> Option<Duration> {
        let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = holds.get(account)?.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }
}
