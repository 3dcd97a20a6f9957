use std::time::Duration;

use tokio::time::sleep;

use super::Reconciler;
use crate::backoff::doubling;
use crate::provider::ProviderError;

/// How often somebody waits for a provider that is out of reach: over four minutes.
const MOST_FAILURES: u32 = 8;
/// Between two questions to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

impl Reconciler {
    /// Asks on while the provider is busy, and for some minutes when it gives no answer. For work that somebody waits for;
    /// what goes on anyhow asks once.
    ///
    /// # Errors
    /// With what else it says.
    pub(super) async fn with_retry<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let mut failures = 0;
        loop {
            // Whoever has it done now may have mended the token.
            if !self.is_token_refused() {
                self.inner.client.circuit_breaker().pause().await;
            }
            match ask().await {
                Err(ProviderError::Busy { .. }) => {}
                Err(error) if error.is_transient() && failures < MOST_FAILURES => {
                    sleep(doubling(failures, LONGEST_PAUSE)).await;
                    failures += 1;
                }
                answer => return answer,
            }
        }
    }
}
