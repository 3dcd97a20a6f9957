//! How intake's errors, and those of the state under it, are answered.

use std::time::Duration;

use actix_web::http::StatusCode;

use super::{IntakeError, RegisterError};
use crate::http::ApiError;
use crate::state::StateError;

impl From<IntakeError> for ApiError {
    fn from(refused: IntakeError) -> Self {
        let message = refused.to_string();
        match refused {
            IntakeError::BadSignature => Self::new(StatusCode::UNAUTHORIZED, "bad_signature", message),
            IntakeError::InvalidJson(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_json", message),
            IntakeError::Undecodable(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_encoding", message),
            IntakeError::Incomplete(_) => Self::new(StatusCode::BAD_REQUEST, "incomplete_body", message),
            IntakeError::TooLarge(_) => Self::too_large(message),
            IntakeError::TooMany => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message).with_retry_after(Duration::from_secs(60))
            }
            IntakeError::Unavailable(_) => Self::unavailable(message),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Conflict => Self::new(StatusCode::CONFLICT, "conflict", error.to_string()),
            RegisterError::IntakeError(refused) => refused.into(),
        }
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        match error {
            // Whoever rebuilds it says so, once.
            StateError::Rebuilding => tracing::debug!(%error, "the state cannot be read yet"),
            error => tracing::error!(%error, "the state cannot be read"),
        }
        Self::unavailable("the state cannot be read right now")
    }
}
