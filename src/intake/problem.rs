use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use super::{Refused, RegisterError};
use crate::state::StateError;

/// An error as HTTP shows it. The one place that turns errors into answers.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

/// The body of every error.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorDetail {
    /// For programs: one word that stays the same.
    #[schema(example = "not_found")]
    pub code: String,
    /// For people: what was wrong and what was expected.
    pub message: String,
}

impl Problem {
    /// An error with a status, a code for programs and a message for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// 404.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no such {what}"))
    }

    /// 400 for a parameter or body that is not as expected.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// 503; it is worth asking again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        Self { retry_after: Some(Duration::from_secs(2)), ..problem }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(delay) = self.retry_after {
            response.insert_header((RETRY_AFTER, delay.as_secs().to_string()));
        }
        response.json(ErrorBody { error: ErrorDetail { code: self.code.to_owned(), message: self.message.clone() } })
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::BadSignature => Self::new(StatusCode::UNAUTHORIZED, "bad_signature", message),
            Refused::InvalidJson(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_json", message),
            Refused::Undecodable(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_encoding", message),
            Refused::Incomplete(_) => Self::new(StatusCode::BAD_REQUEST, "incomplete_body", message),
            Refused::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            Refused::TooMany => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message);
                Self { retry_after: Some(Duration::from_secs(60)), ..problem }
            }
            Refused::Unavailable(_) => Self::unavailable(message),
        }
    }
}

impl From<RegisterError> for Problem {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Conflict => Self::new(StatusCode::CONFLICT, "conflict", error.to_string()),
            RegisterError::Refused(refused) => refused.into(),
        }
    }
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        tracing::error!(%error, "the state cannot be read");
        Self::unavailable("the state cannot be read right now")
    }
}
