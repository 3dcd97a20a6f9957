use std::time::Duration;

use crate::egress::header::HeaderMap;
use crate::egress::{EgressError, StatusCode};
use crate::http::retry_after;

/// The longest that the provider is obeyed in.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Why the provider said nothing of a job. The statuses are those of its pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// 401: our token is not, or no longer, accepted.
    #[error("the provider refuses our token")]
    TokenRefused,
    /// 403: this question is not for our token.
    #[error("the provider forbids the question")]
    Forbidden,
    /// 404 and 410: it knows no such job, or no longer.
    #[error("the provider knows no such job")]
    Gone,
    /// Any other 4xx: it takes no such question.
    #[error("the provider answers {0}")]
    Rejected(StatusCode),
    /// 429: to be asked again in 10 to 30 seconds, or when it says.
    #[error("the provider is busy")]
    Busy {
        /// What it says.
        retry_after: Option<Duration>,
    },
    /// 596: the account is on hold, for hours, and must not be asked about meanwhile.
    #[error("the provider has put the account on hold")]
    OnHold,
    /// An answer that is no job's, or not this one's.
    #[error("the provider's answer cannot be used: {0}")]
    Unreadable(&'static str),
    /// Any 5xx.
    #[error("the provider answers {0}")]
    Failed(StatusCode),
    /// No answer to this question, or not the whole of it.
    #[error("the provider does not answer: {0}")]
    NoAnswer(String),
    /// No connection.
    #[error("the provider is out of reach: {0}")]
    Unreachable(String),
}

impl From<EgressError> for ProviderError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Refused(_) | EgressError::Unreachable(_) => Self::Unreachable(error.to_string()),
            EgressError::TimedOut | EgressError::Broken(_) => Self::NoAnswer(error.to_string()),
        }
    }
}

impl ProviderError {
    pub(super) fn of_status(status: StatusCode, headers: &HeaderMap) -> Result<(), Self> {
        Err(match status.as_u16() {
            200..=299 => return Ok(()),
            401 => Self::TokenRefused,
            403 => Self::Forbidden,
            404 | 410 => Self::Gone,
            429 => Self::Busy { retry_after: retry_after(headers, MAX_RETRY_AFTER) },
            596 => Self::OnHold,
            408 => Self::Failed(status),
            400..=499 => Self::Rejected(status),
            500..=599 => Self::Failed(status),
            _ => Self::Unreadable("a status that nobody expects"),
        })
    }

    /// True for the statuses that a failed or moderated agent job may be answered with.
    pub(super) fn may_carry_a_job(&self) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::Rejected(status) => status.as_u16() == 422,
            _ => false,
        }
    }
}
