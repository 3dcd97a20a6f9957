use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Value, json};

use replyvault_domain::Kind;

/// Why a call is refused, as the provider says it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("Not found.")]
    NotFound,
    #[error("No record found")]
    NoRecord,
    #[error("Paid plan required")]
    NoPlan,
    #[error("Your subscription has ended")]
    NoSubscription,
    #[error("Job not found or expired after 31 days")]
    NoSuchJob,
    #[error("There is no such template")]
    NoSuchTemplate,
    #[error("Unable to locate running {0}")]
    NotRunning(String),
    #[error("Insufficient credits. Please recharge to get more credits or try again next day.")]
    NoCredits,
    #[error("{}", moderated(*.0))]
    Moderated(Kind),
    #[error("{}", busy(*.0))]
    Busy(Kind),
    /// With what runs on the account.
    #[error("Account is busy executing videos")]
    BusyWith(Value),
    #[error("Too many requests")]
    TooMany,
    #[error("Internal error")]
    Internal,
    #[error("Timed out")]
    TimedOut,
    #[error("Unusual account activities detected. Please contact customer support at contact@hailuoai.com")]
    OnHold,
}

/// The text of a 422, which differs from call to call.
const fn moderated(kind: Kind) -> &'static str {
    match kind {
        Kind::Video | Kind::Image | Kind::Other => "Your prompt is too short, please provide more details",
        Kind::Agent => "Your prompt contains content that violates our policies",
        Kind::Music | Kind::Speech => "Moderated prompt",
    }
}

/// The text of a 429, likewise.
const fn busy(kind: Kind) -> &'static str {
    match kind {
        Kind::Video | Kind::Other => "YOU CAN QUEUE 3 JOBS AT ONCE",
        Kind::Image => "There are currently multiple tasks in the queue, and only can be generated at once",
        Kind::Agent => "Agent generation failed",
        Kind::Music | Kind::Speech => "The previous request has not been completed yet. Please try again later.",
    }
}

impl ApiError {
    /// Some of the provider's errors repeat their status in the body, most do not.
    fn has_code(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::Unauthorized
                | Self::NoSubscription
                | Self::NotFound
                | Self::NoSuchJob
                | Self::Internal
                | Self::TimedOut
        )
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        let code = match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::NoPlan | Self::NoSubscription => 402,
            Self::NotFound | Self::NoRecord | Self::NoSuchJob | Self::NoSuchTemplate | Self::NotRunning(_) => 404,
            Self::NoCredits => 412,
            Self::Moderated(_) => 422,
            Self::Busy(_) | Self::BusyWith(_) | Self::TooMany => 429,
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
        HttpResponse::build(status).json(body)
    }
}
