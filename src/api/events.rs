use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::web::{Bytes, Data};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::Api;

/// Proxies close connections that are silent for long.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Tells of jobs as they change: server-sent events named `job`, each with the job as it then is. An event `missed` says
/// how many could not be told because the listener was too slow.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "jobs",
    responses((status = 200, description = "a stream without an end", content_type = "text/event-stream", body = String))
)]
pub(super) async fn events(api: Data<Api>) -> HttpResponse {
    let changes = api.state().changes();
    let changed = stream::unfold((changes, api), |(mut changes, api)| async move {
        let text = match timeout(HEARTBEAT, changes.recv()).await {
            Ok(Ok(Some(record))) => {
                // One line: serde_json escapes what would end it.
                let job = serde_json::to_string(&api.job_view(&record)).unwrap_or_default();
                format!("event: job\ndata: {job}\n\n")
            }
            Ok(Err(RecvError::Lagged(missed))) => format!("event: missed\ndata: {missed}\n\n"),
            Ok(Ok(None) | Err(RecvError::Closed)) => return None,
            Err(_) => ":\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (changes, api)))
    });
    let greeting = stream::once(async { Ok(Bytes::from_static(b":\n\n")) });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would wait for more than there is.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(greeting.chain(changed))
}
