use std::time::Duration;

use crate::egress::{EgressError, Refusal, StatusCode};

/// What an error means for the URL it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The policy forbids this URL: permanent.
    Refused,
    /// The server says that there is nothing under this URL, or not for us: permanent for this link, which may have
    /// expired.
    Gone,
    /// Something is there, and it is not what may be kept: permanent.
    NotMedia,
    /// May pass: try again.
    Transient,
}

/// Why there is no (further) byte. No message holds a URL's query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The policy forbids it, or the network failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Any status but 200, 203, 206 for the whole, or 206 where the rest was asked for.
    #[error("the server answered {status}, expected 200")]
    Status {
        /// What the server answered.
        status: StatusCode,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// Declared or proven to be longer than what may be kept.
    #[error("more than the {limit} bytes allowed")]
    TooLarge {
        /// The configured size, in bytes.
        limit: u64,
    },
    /// Bytes in an encoding nobody asked for would be kept under the wrong type.
    #[error("a Content-Encoding was applied that was not asked for, expected none")]
    ContentEncoding,
    /// Too few bytes came over the last window.
    #[error("slower than {min_speed} bytes per second")]
    TooSlow {
        /// The configured speed, in bytes per second.
        min_speed: u64,
    },
    /// The body ended early or went on for too long.
    #[error("the body has {received} bytes so far, expected {declared}")]
    Length {
        /// What the server declared, in bytes.
        declared: u64,
        /// What came, in bytes.
        received: u64,
    },
    /// What came does not have the checksum which the server declared.
    #[error("the body does not match its {header}")]
    Checksum {
        /// The header that declared it.
        header: &'static str,
    },
    /// Interrupted, and what the server offers now is not provably the rest of the same: start over.
    #[error("the rest of the body is not provably of the same entity, expected the same ETag, length and position")]
    Changed,
}

impl FetchError {
    /// What it means for the URL.
    pub fn class(&self) -> ErrorClass {
        match self {
            // The server leads nowhere, which no policy forbids.
            Self::Egress(EgressError::Refused(Refusal::TooManyRedirects | Refusal::RedirectInvalid)) => {
                ErrorClass::NotMedia
            }
            Self::Egress(EgressError::Refused(_)) => ErrorClass::Refused,
            Self::Status { status, .. } => match status.as_u16() {
                408 | 425 | 429 | 500.. => ErrorClass::Transient,
                400..=499 => ErrorClass::Gone,
                _ => ErrorClass::NotMedia,
            },
            Self::TooLarge { .. } | Self::ContentEncoding => ErrorClass::NotMedia,
            Self::Egress(_) | Self::TooSlow { .. } | Self::Length { .. } | Self::Checksum { .. } | Self::Changed => {
                ErrorClass::Transient
            }
        }
    }

    /// How long the server asks to wait before the next try; at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The stable name, for records and metrics; that of the refusal where the policy refused.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Egress(error) => error.name(),
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::ContentEncoding => "content_encoding",
            Self::TooSlow { .. } => "too_slow",
            Self::Length { .. } => "length",
            Self::Checksum { .. } => "checksum",
            Self::Changed => "changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_classified() {
        for (status, class) in [
            (401, ErrorClass::Gone),
            (403, ErrorClass::Gone),
            (404, ErrorClass::Gone),
            (410, ErrorClass::Gone),
            (416, ErrorClass::Gone),
            (451, ErrorClass::Gone),
            (408, ErrorClass::Transient),
            (425, ErrorClass::Transient),
            (429, ErrorClass::Transient),
            (500, ErrorClass::Transient),
            (503, ErrorClass::Transient),
            (596, ErrorClass::Transient),
            (204, ErrorClass::NotMedia),
            (206, ErrorClass::NotMedia),
            (304, ErrorClass::NotMedia),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(FetchError::Status { status, retry_after: None }.class(), class, "{status}");
        }
    }

    #[test]
    fn refusals_keep_their_name_and_are_permanent() {
        let error = FetchError::from(EgressError::from(Refusal::Downgrade));
        assert_eq!((error.name(), error.class()), ("downgrade", ErrorClass::Refused));
        assert_eq!(FetchError::from(EgressError::TimedOut).class(), ErrorClass::Transient);
    }
}
