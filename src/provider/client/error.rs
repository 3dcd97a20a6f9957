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
    /// Any other 4xx: it takes no such question. Of a job only 400 and 422.
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
    /// No answer: any 5xx, 408, and what else of 4xx a question about a job is met with, such as 402 where the subscription
    /// has ended.
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
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap) -> Result<(), Self> {
        Self::of_status(status, retry_after(headers, MAX_RETRY_AFTER))
    }

    pub(super) fn of_status(status: StatusCode, retry_after: Option<Duration>) -> Result<(), Self> {
        Err(match status.as_u16() {
            200..=299 => return Ok(()),
            401 => Self::TokenRefused,
            403 => Self::Forbidden,
            404 | 410 => Self::Gone,
            429 => Self::Busy { retry_after },
            596 => Self::OnHold,
            408 => Self::Failed(status),
            400..=499 => Self::Rejected(status),
            500..=599 => Self::Failed(status),
            _ => Self::Unreadable("a status that nobody expects"),
        })
    }

    /// The same in answer to a question about a job: of what is left of 4xx only 400 and 422 say something of the job.
    pub(super) fn about_a_job(self) -> Self {
        match self {
            Self::Rejected(status) if !matches!(status.as_u16(), 400 | 422) => Self::Failed(status),
            error => error,
        }
    }

    /// True for what may have passed in some seconds or minutes.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Failed(status) => status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT,
            Self::NoAnswer(_) | Self::Unreachable(_) => true,
            _ => false,
        }
    }

    /// True for the statuses that a failed or moderated agent job may be answered with.
    pub(super) fn may_carry_a_job(&self) -> bool {
        match self {
            Self::Failed(status) => status.is_server_error(),
            Self::Rejected(status) => status.as_u16() == 422,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_statuses_say_something_of_the_job_that_is_asked_about() {
        let error = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            ProviderError::of_status(status, None).unwrap_err().about_a_job()
        };
        for status in [400, 422] {
            assert!(matches!(error(status), ProviderError::Rejected(_)), "{status}");
        }
        for status in [404, 410] {
            assert_eq!(error(status), ProviderError::Gone, "{status}");
        }
        for status in [402, 405, 408, 409, 412, 500, 502, 504] {
            assert!(matches!(error(status), ProviderError::Failed(_)), "{status}");
            assert_eq!(error(status).is_transient(), status == 408 || status >= 500, "{status}");
            assert_eq!(error(status).may_carry_a_job(), status >= 500, "{status}");
        }
    }
}
