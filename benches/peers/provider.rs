//! A stand-in for the provider that is as fast as can be: it takes uploads, gives downloads, and tells events.

use std::time::Duration;

use actix_web::web::{self, Bytes, Payload, Query};
use actix_web::{App, HttpResponse, HttpServer};
use futures_util::{StreamExt, stream};

const CHUNK: &[u8] = &[b'x'; 64 << 10];
/// Between two events.
const PAUSE: Duration = Duration::from_millis(50);
const EVENTS: u32 = 5;

/// Takes in all of a body.
async fn upload(mut payload: Payload) -> actix_web::Result<HttpResponse> {
    let mut bytes = 0;
    while let Some(chunk) = payload.next().await {
        bytes += chunk?.len();
    }
    Ok(HttpResponse::Ok().body(bytes.to_string()))
}

/// So many mebibytes.
async fn download(mebibytes: Query<Vec<(String, u64)>>) -> HttpResponse {
    let count: u64 = mebibytes.iter().find(|(name, _)| name == "mebibytes").map_or(1, |(_, count)| *count);
    let chunks = stream::iter(0..count * 16).map(|_| Ok::<_, actix_web::Error>(Bytes::from_static(CHUNK)));
    HttpResponse::Ok().content_type("application/octet-stream").streaming(chunks)
}

/// The first event comes at once, others follow.
async fn events() -> HttpResponse {
    let events = stream::unfold(0, |number| async move {
        if number > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let event = Bytes::from(format!("data: {{\"status\":\"progress\",\"number\":{number}}}\n\n"));
        (number < EVENTS).then_some((Ok::<_, actix_web::Error>(event), number + 1))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(events)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8082);
    let app = || {
        App::new()
            .route("/v1/minimax/files", web::post().to(upload))
            .route("/v1/minimax/files", web::get().to(download))
            .route("/v1/minimax/videos/agent-create", web::post().to(events))
    };
    HttpServer::new(app).workers(1).bind(("127.0.0.1", port))?.run().await
}
