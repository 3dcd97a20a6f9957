use std::time::Instant;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use crate::Shared;

/// One server-sent event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: Instant,
    /// Its name, where it has one.
    pub(super) name: Option<&'static str>,
    pub(super) data: Value,
}

/// An answer that sends each event at its time.
pub(super) fn answer(http: &HttpRequest, shared: &Shared, events: Vec<Event>) -> HttpResponse {
    let is_odd = shared.is_odd(http.uri());
    let subject = http.uri().to_string();
    let events = events.into_iter().map(|event| {
        let text = if is_odd { odd(shared, &subject, &event) } else { plain(&event) };
        (event.at, Bytes::from(text))
    });
    let events = stream::iter(events.collect::<Vec<_>>()).then(|(at, text)| async move {
        tokio::time::sleep_until(at.into()).await;
        Ok::<_, std::io::Error>(text)
    });
    let mut answer = HttpResponse::Ok();
    answer.content_type("text/event-stream").insert_header((CACHE_CONTROL, "no-cache"));
    answer.streaming(events)
}

/// As the provider writes them: names without a blank after the colon, and then data without one too.
fn plain(event: &Event) -> String {
    match event.name {
        Some(name) => format!("event:{name}\ndata:{}\n\n", event.data),
        None => format!("data: {}\n\n", event.data),
    }
}

/// What the format allows besides: other line ends, comments, ids, data on several lines.
fn odd(shared: &Shared, subject: &str, event: &Event) -> String {
    let name = event.name.map(|name| format!("event: {name}\r\n")).unwrap_or_default();
    let data = shared.odd(subject).write(&event.data);
    let data: String = data.split('\n').map(|line| format!("data:{}\r\n", line.trim_end_matches('\r'))).collect();
    format!(": ✓\r\nid\r\n{name}{data}\r\n")
}
