use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rand::RngExt;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::ProviderError;
use crate::backoff::doubling;
use crate::domain::JobId;

/// What keeps the provider from being asked, the same for everybody who asks it. Cheap to clone; clones share it.
///
/// An account on hold is left alone by the client itself. A pause is for whoever asks to keep: what waits for it is theirs.
#[derive(Clone, Debug, Default)]
pub struct CircuitBreaker(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    accounts: Mutex<Accounts>,
    resumed: Notify,
}

#[derive(Debug, Default)]
struct Accounts {
    on_hold: HashMap<String, Instant>,
    /// Jobs whose ids name no account, of accounts on hold: however many, they take the room of no account.
    jobs_on_hold: HashMap<String, Instant>,
    /// Accounts without credits, and until when that is worth saying.
    without_credits: HashMap<String, Instant>,
    token_refused: bool,
    until: Option<Instant>,
    /// What was asked since the last answer and got none. One question may fail by itself; several make an outage.
    unanswered: HashSet<String>,
    /// Failures in a row since the outage began; none while there is no outage.
    failures: u32,
    /// Whether the last failure was that of every question: no connection, a refused token, a busy provider.
    unreachable: bool,
    /// When the last question failed.
    failed_at: Option<Instant>,
}

impl Accounts {
    /// Where what is on hold is that `account` stands for: only a job's id has a colon in it.
    fn held(&mut self, account: &str) -> &mut HashMap<String, Instant> {
        if account.contains(':') { &mut self.jobs_on_hold } else { &mut self.on_hold }
    }
}

impl CircuitBreaker {
    /// The provider speaks of hours.
    const HOLD: Duration = Duration::from_secs(2 * 3600);
    /// The provider says to try again the next day.
    const CREDITS: Duration = Duration::from_secs(24 * 3600);
    /// Stands for an account that the provider chose: nothing is asked in this name.
    const UNNAMED: &str = "?";
    /// More accounts are not remembered; each of their jobs then asks once.
    const MAX_ACCOUNTS: usize = 1000;
    /// So many different questions in a row without an answer make an outage.
    const OUTAGE: usize = 3;
    /// A refused token takes somebody to mend.
    const TOKEN: Duration = Duration::from_secs(300);
    /// Between two questions when nobody answers, at the most.
    const LONGEST: Duration = Duration::from_secs(60);

    fn known(&self) -> MutexGuard<'_, Accounts> {
        self.0.accounts.lock()
    }

    /// How many accounts the provider has put on hold; those of all jobs whose ids name none count as one.
    pub fn accounts_on_hold(&self) -> usize {
        let (known, now) = (self.known(), Instant::now());
        let has_unnamed = known.jobs_on_hold.values().any(|until| *until > now);
        known.on_hold.values().filter(|until| **until > now).count() + usize::from(has_unnamed)
    }

    /// Whether the provider refused our token when it was last asked.
    pub fn is_token_refused(&self) -> bool {
        self.known().token_refused
    }

    /// Whether the provider seems to answer nobody: it cannot be connected to, refuses our token, is busy, or has failed to
    /// answer several different questions in a row.
    pub fn is_outage(&self) -> bool {
        self.known().failures > 0
    }

    /// Whether no question at all can be answered now, as far as is known.
    pub fn is_unreachable(&self) -> bool {
        let known = self.known();
        known.failures > 0 && known.unreachable
    }

    /// How many different questions got no answer since the last one that did.
    pub fn unanswered(&self) -> usize {
        self.known().unanswered.len()
    }

    /// Until when nobody is to ask.
    pub fn paused_until(&self) -> Option<Instant> {
        self.known().until.filter(|until| *until > Instant::now())
    }

    /// Resolves once an answer ends a pause, also one that comes before this is first polled.
    pub fn resumed(&self) -> Notified<'_> {
        self.0.resumed.notified()
    }

    /// Waits until nobody is to wait any more.
    pub async fn pause(&self) {
        loop {
            let resumed = self.resumed();
            let Some(until) = self.paused_until() else { return };
            tokio::select! {
                () = resumed => {}
                // Somebody else's question may have made it longer meanwhile.
                () = sleep_until(until) => {}
            }
        }
    }

    /// How much longer an account is to be left alone.
    pub fn hold_remaining(&self, account: &str) -> Option<Duration> {
        let until = *self.known().held(account).get(account)?;
        let rest = until.saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }

    /// Takes note of an account, or one that nobody named, that calls which make jobs are told is on hold.
    pub fn put_on_hold(&self, account: Option<&str>) {
        self.hold(account.unwrap_or(Self::UNNAMED));
    }

    /// Takes note of an account, or one that nobody named, that has no credits for a job.
    pub fn out_of_credits(&self, account: Option<&str>) {
        let account = account.unwrap_or(Self::UNNAMED);
        tracing::warn!(account, "the provider makes no job: the account is out of credits");
        remember(&mut self.known().without_credits, account, Self::CREDITS);
    }

    /// Takes note that it has: a job was made.
    pub fn has_credits(&self, account: Option<&str>) {
        let mut known = self.known();
        known.without_credits.remove(account.unwrap_or(Self::UNNAMED));
    }

    /// How many accounts were lately told to have no credits.
    pub fn accounts_without_credits(&self) -> usize {
        let now = Instant::now();
        self.known().without_credits.values().filter(|until| **until > now).count()
    }

    /// Takes note of how a question ended that was sent at `sent`; `question` tells it from others.
    pub(super) fn record_outcome(&self, account: &str, question: &str, sent: Instant, error: Option<&ProviderError>) {
        match error {
            None | Some(ProviderError::Gone | ProviderError::Rejected(_) | ProviderError::Unreadable(_)) => {
                self.answered(sent);
            }
            Some(ProviderError::OnHold) => self.hold(account),
            Some(error @ (ProviderError::Failed(_) | ProviderError::NoAnswer(_) | ProviderError::Forbidden)) => {
                self.unanswered_question(question, error);
            }
            Some(error) => self.failed(&mut self.known(), error),
        }
    }

    /// What was asked before the last failure says nothing of it.
    fn answered(&self, sent: Instant) {
        let mut known = self.known();
        if known.failed_at.is_some_and(|failed_at| failed_at <= sent) {
            if known.failures > 0 {
                tracing::info!("the provider answers again");
            }
            (known.failures, known.failed_at, known.until, known.token_refused) = (0, None, None, false);
            known.unanswered.clear();
            self.0.resumed.notify_waiters();
        }
    }

    /// One question without an answer says nothing of others.
    fn unanswered_question(&self, question: &str, error: &ProviderError) {
        let mut known = self.known();
        known.failed_at = Some(Instant::now());
        if known.unanswered.len() < Self::OUTAGE {
            known.unanswered.insert(question.to_owned());
        }
        if known.failures > 0 || known.unanswered.len() >= Self::OUTAGE {
            self.failed(&mut known, error);
        }
    }

    fn hold(&self, account: &str) {
        tracing::warn!(account, "the provider has put the account on hold: it is left alone for hours");
        remember(self.known().held(account), account, Self::HOLD);
    }

    fn failed(&self, known: &mut Accounts, error: &ProviderError) {
        if *error == ProviderError::TokenRefused && !known.token_refused {
            tracing::error!("the provider refuses provider.api_token: it is not asked about jobs");
            known.token_refused = true;
        } else if known.failures == 0 {
            tracing::warn!(%error, "what the provider is to be asked waits");
        }
        let pause = match error {
            ProviderError::Busy { retry_after: Some(retry_after) } => *retry_after,
            ProviderError::Busy { retry_after: None } => Duration::from_secs(rand::rng().random_range(10..=30)),
            ProviderError::TokenRefused => Self::TOKEN,
            ProviderError::Unreachable(_) => doubling(known.failures, Self::LONGEST),
            // Other questions may well be answered: each of those that are not waits for itself.
            _ => doubling(known.failures, Duration::from_secs(2)),
        };
        known.unreachable =
            !matches!(error, ProviderError::Failed(_) | ProviderError::NoAnswer(_) | ProviderError::Forbidden);
        known.failures = known.failures.saturating_add(1);
        (known.failed_at, known.until) = (Some(Instant::now()), Some(Instant::now() + pause));
    }
}

fn remember(accounts: &mut HashMap<String, Instant>, account: &str, long: Duration) {
    /// An account may be an e-mail address, and a job whose id names none stands for its own.
    const MAX_NAME: usize = JobId::MAX_BYTES;
    let now = Instant::now();
    accounts.retain(|_, until| *until > now);
    if account.len() <= MAX_NAME && (accounts.len() < CircuitBreaker::MAX_ACCOUNTS || accounts.contains_key(account)) {
        accounts.insert(account.to_owned(), now + long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(seconds: u64) -> ProviderError {
        ProviderError::Busy { retry_after: Some(Duration::from_secs(seconds)) }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_with_an_answer_to_a_later_question() {
        let circuit_breaker = CircuitBreaker::default();
        let pause = || circuit_breaker.paused_until().map(|until| until.duration_since(Instant::now()).as_secs());
        let early = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        let out_of_reach = ProviderError::Unreachable(String::new());
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                circuit_breaker.record_outcome("1", "a", early, Some(&out_of_reach));
                pause()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60].map(Some));
        circuit_breaker.record_outcome("1", "a", early, Some(&busy(7)));
        circuit_breaker.record_outcome("2", "b", early, None);
        assert_eq!(pause(), Some(7), "what was asked before knows nothing of it");
        tokio::time::advance(Duration::from_secs(1)).await;
        circuit_breaker.record_outcome("2", "b", Instant::now(), Some(&ProviderError::Gone));
        assert_eq!((pause(), circuit_breaker.is_outage()), (None, false));
        circuit_breaker.record_outcome("1", "a", Instant::now(), Some(&ProviderError::TokenRefused));
        assert!(circuit_breaker.is_token_refused() && pause() == Some(300));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_pause_of_whoever_waits() {
        let circuit_breaker = CircuitBreaker::default();
        let began = Instant::now();
        circuit_breaker.pause().await;
        circuit_breaker.record_outcome("1", "a", Instant::now(), Some(&ProviderError::TokenRefused));
        tokio::time::advance(Duration::from_secs(1)).await;
        let answer = async { circuit_breaker.record_outcome("2", "b", Instant::now(), None) };
        tokio::join!(circuit_breaker.pause(), answer);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        let resumed = circuit_breaker.resumed();
        circuit_breaker.record_outcome("1", "a", Instant::now(), Some(&busy(7)));
        circuit_breaker.record_outcome("2", "b", Instant::now(), None);
        resumed.await;
        circuit_breaker.record_outcome("1", "a", Instant::now(), Some(&busy(7)));
        circuit_breaker.pause().await;
        assert_eq!(began.elapsed(), Duration::from_secs(8));
    }

    #[tokio::test(start_paused = true)]
    async fn create_calls_inform_the_circuit_breaker_without_blocking_other_questions() {
        let circuit_breaker = CircuitBreaker::default();
        circuit_breaker.put_on_hold(Some("1"));
        circuit_breaker.put_on_hold(None);
        circuit_breaker.out_of_credits(Some("1"));
        circuit_breaker.out_of_credits(Some(&"9".repeat(1000)));
        assert!(
            circuit_breaker.hold_remaining("1").is_some()
                && circuit_breaker.hold_remaining("").is_none()
                && circuit_breaker.paused_until().is_none()
        );
        assert_eq!((circuit_breaker.accounts_on_hold(), circuit_breaker.accounts_without_credits()), (2, 1));
        circuit_breaker.has_credits(Some("1"));
        assert_eq!(circuit_breaker.accounts_without_credits(), 0);
        circuit_breaker.out_of_credits(None);
        tokio::time::advance(Duration::from_secs(25 * 3600)).await;
        assert_eq!((circuit_breaker.accounts_on_hold(), circuit_breaker.accounts_without_credits()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_without_an_answer_is_no_outage_and_several_are() {
        let failed = ProviderError::Failed(crate::egress::StatusCode::INTERNAL_SERVER_ERROR);
        for error in [failed, ProviderError::NoAnswer(String::new()), ProviderError::Forbidden] {
            let circuit_breaker = CircuitBreaker::default();
            for _ in 0..9 {
                circuit_breaker.record_outcome("1", "a", Instant::now(), Some(&error));
            }
            circuit_breaker.record_outcome("1", "b", Instant::now(), Some(&error));
            assert!(
                !circuit_breaker.is_outage()
                    && circuit_breaker.paused_until().is_none()
                    && circuit_breaker.unanswered() == 2,
                "{error}"
            );
            tokio::time::advance(Duration::from_secs(1)).await;
            circuit_breaker.record_outcome("1", "c", Instant::now(), None);
            for question in ["a", "b"] {
                circuit_breaker.record_outcome("1", question, Instant::now(), Some(&error));
            }
            assert!(!circuit_breaker.is_outage(), "there was an answer in between");
            circuit_breaker.record_outcome("1", "d", Instant::now(), Some(&error));
            assert!(circuit_breaker.is_outage() && circuit_breaker.paused_until().is_some(), "{error}");
            assert!(!circuit_breaker.is_token_refused() && !circuit_breaker.is_unreachable());
            assert!(circuit_breaker.paused_until().unwrap() - Instant::now() <= Duration::from_secs(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_one_accounts_own() {
        let circuit_breaker = CircuitBreaker::default();
        circuit_breaker.record_outcome("1", "a", Instant::now(), Some(&ProviderError::OnHold));
        assert!(
            circuit_breaker.hold_remaining("1").is_some()
                && circuit_breaker.hold_remaining("2").is_none()
                && circuit_breaker.paused_until().is_none()
        );
        assert_eq!(circuit_breaker.accounts_on_hold(), 1);
        for number in 0..=CircuitBreaker::MAX_ACCOUNTS {
            circuit_breaker.record_outcome(
                &format!("kling:{number}"),
                "a",
                Instant::now(),
                Some(&ProviderError::OnHold),
            );
        }
        circuit_breaker.record_outcome("3", "a", Instant::now(), Some(&ProviderError::OnHold));
        assert!(circuit_breaker.hold_remaining("3").is_some() && circuit_breaker.hold_remaining("kling:7").is_some());
        assert_eq!(circuit_breaker.accounts_on_hold(), 3, "jobs are of one account");
        tokio::time::advance(Duration::from_secs(3 * 3600)).await;
        assert_eq!((circuit_breaker.hold_remaining("1"), circuit_breaker.accounts_on_hold()), (None, 0));
    }
}
