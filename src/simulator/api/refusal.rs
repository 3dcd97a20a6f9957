use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

/// Why a call is refused, as the provider says it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Not found.")]
    NotFound,
    #[error("Job not found or expired after 31 days")]
    NoSuchJob,
    #[error("There is no such template")]
    NoSuchTemplate,
    #[error("Unable to locate running {0}")]
    NotRunning(String),
    #[error("Not enough credits for this")]
    NoCredits,
    #[error("The prompt was refused by moderation")]
    Moderated,
    #[error("Account is busy executing jobs")]
    Busy,
    /// With what runs on the account.
    #[error("Account is busy executing videos")]
    BusyWith(Value),
    #[error("Too many requests")]
    TooMany,
    #[error("Internal error")]
    Internal,
    #[error("Timed out")]
    TimedOut,
    #[error("Unusual account activities detected")]
    OnHold,
}

impl Refusal {
    /// Some of the provider's errors repeat their status in the body, most do not.
    fn has_code(&self) -> bool {
        matches!(self, Self::BadRequest(_) | Self::Unauthorized | Self::NotFound | Self::NoSuchJob)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        let code = match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::NoSuchJob | Self::NoSuchTemplate | Self::NotRunning(_) => 404,
            Self::NoCredits => 412,
            Self::Moderated => 422,
            Self::Busy | Self::BusyWith(_) | Self::TooMany => 429,
            Self::Internal => 500,
            Self::TimedOut => 504,
            Self::OnHold => 596,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut body = json!({"error": self.to_string()});
        if self.has_code() {
            body["code"] = json!(status.as_u16());
        }
        if let Self::BusyWith(running) = self {
            body["runningVideos"] = running.clone();
        }
        let mut response = HttpResponse::build(status);
        if let Self::TooMany = self {
            response.insert_header((header::RETRY_AFTER, 1));
        }
        response.json(body)
    }
}
