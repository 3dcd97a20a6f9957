//! Events on their way to those who are told what becomes of jobs.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::one_of;
use super::list::{List, PageParams};
use super::{Api, ApiError, extract};
use crate::domain::{Destination, EventType, Notification, NotificationId, NotificationState, Timestamp};
use crate::http::ErrorBody;

/// An event on its way to one destination.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationView {
    /// Its `webhook-id`.
    #[schema(example = "msg_5f0c8a6be2f14b6c9d3e5a7b8c9d0e1f")]
    id: String,
    /// What it says.
    #[serde(rename = "type")]
    #[schema(example = "job.archived")]
    event: EventType,
    /// Of which job.
    job_id: String,
    /// The endpoint of the configuration that it goes to.
    endpoint: Option<String>,
    /// The ref to whose `notifyUrl` it goes instead.
    ref_id: Option<String>,
    /// How far it is.
    state: NotificationState,
    /// How often it was sent.
    attempts: u32,
    /// What the last attempt failed with.
    last_error: Option<String>,
    /// Why it is dead.
    reason: Option<String>,
    /// When what it tells of came about.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// When it was sent last, or given up.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_attempt_at: Option<Timestamp>,
    /// When it is sent again at the latest, unless its receiver is down.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
}

impl From<Notification> for NotificationView {
    fn from(of: Notification) -> Self {
        let (endpoint, ref_id) = match of.destination {
            Destination::Endpoint(name) => (Some(name), None),
            Destination::Ref(id) => (None, Some(id.as_str().to_owned())),
        };
        Self {
            id: of.id.to_string(),
            event: of.event,
            job_id: of.job_id.as_str().to_owned(),
            endpoint,
            ref_id,
            state: of.state,
            attempts: of.attempts,
            last_error: of.last_error,
            reason: of.reason,
            timestamp: of.at,
            last_attempt_at: of.last_attempt_at,
            next_attempt_at: of.next_attempt_at,
        }
    }
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NotificationsQuery {
    /// Only those that are `pending`, `delivered` or `dead`.
    state: Option<String>,
    /// At most so many, 1 to 200; 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists events, newest first: all that are on their way, and of those that were delivered or are dead the last 10,000 each.
#[utoipa::path(
    get, path = "/api/v1/notifications", tag = "notifications", params(NotificationsQuery),
    responses(
        (status = 200, description = "a page", body = List<NotificationView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn list(request: HttpRequest, api: Data<Api>) -> Result<Json<List<NotificationView>>, ApiError> {
    let NotificationsQuery { state, limit, cursor } = extract::query(&request)?;
    let PageParams { limit, before } = PageParams::read(limit.as_deref(), cursor.as_deref())?;
    let wanted = extract::non_empty(state.as_deref());
    let wanted = wanted.map(|text| one_of("state", text, &NotificationState::ALL, NotificationState::as_str));
    let wanted = wanted.transpose()?;
    let page = api.read(move |state| state.notifications(wanted, limit, before)).await?;
    Ok(Json(List::of_page(page, NotificationView::from)))
}

/// Sends an event again that is dead, or at once when it is on its way.
#[utoipa::path(
    post, path = "/api/v1/notifications/{id}/retry", tag = "notifications", params(("id" = String, Path)),
    responses(
        (status = 202, description = "it is sent", body = NotificationView),
        (status = 404, description = "no such event", body = ErrorBody),
        (status = 409, description = "it was delivered", body = ErrorBody),
        (status = 503, description = "could not be made durable", body = ErrorBody),
    )
)]
pub(super) async fn retry(api: Data<Api>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let id = NotificationId::parse(&id).ok_or_else(|| ApiError::not_found("notification"))?;
    let known = api.read(move |state| state.notification(&id)).await?;
    let known = known.ok_or_else(|| ApiError::not_found("notification"))?;
    if known.state == NotificationState::Delivered {
        return Err(ApiError::new(StatusCode::CONFLICT, "already_delivered", "the event was delivered"));
    }
    let now = api.intake().retry_notification(id).await?;
    Ok(HttpResponse::Accepted().json(NotificationView::from(now.unwrap_or(known))))
}
