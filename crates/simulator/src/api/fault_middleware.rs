//! What may happen to any answer of the API: that it comes late, in another dress, or in part.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream, to_bytes};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde_json::Value;

use crate::Shared;
use crate::faults::Fault;

/// An error discards what the server has not written yet; waiting lets what came before go out.
const FLUSH: Duration = Duration::from_millis(20);
/// How many events of a stream come before it is cut off.
const EVENTS: usize = 3;

type Failure = Box<dyn std::error::Error>;

pub(super) async fn apply(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(shared) = request.app_data::<web::Data<Shared>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let subject = shared.is_odd(request.uri()).then(|| request.uri().to_string());
    let turn = shared.next_call();
    if let Some(time) = shared.faults.slow() {
        tokio::time::sleep(time).await;
    }
    let answer = next.call(request).await?.map_into_boxed_body();
    let (request, mut answer) = answer.into_parts();
    if let Some(subject) = subject {
        answer = reformat(&shared, &subject, answer).await.map_err(actix_web::error::ErrorInternalServerError)?;
    }
    if shared.dice.hits(shared.faults.chance(Fault::Cut), Fault::Cut.name(), "call", turn) {
        answer = cut(answer).await.map_err(actix_web::error::ErrorInternalServerError)?;
    }
    Ok(ServiceResponse::new(request, answer))
}

/// JSON in another dress; anything else as it is.
async fn reformat(shared: &Shared, subject: &str, answer: HttpResponse) -> Result<HttpResponse, Failure> {
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    if !is_json {
        return Ok(answer);
    }
    let (answer, body) = answer.into_parts();
    let value: Value = serde_json::from_slice(&to_bytes(body).await?)?;
    Ok(answer.set_body(BoxBody::new(shared.odd(subject).write(&value))))
}

/// Half of a body whose length was promised, or the first events of a stream; then the connection breaks.
async fn cut(answer: HttpResponse) -> Result<HttpResponse, Failure> {
    let broken = stream::once(async {
        tokio::time::sleep(FLUSH).await;
        Err(Failure::from(io::Error::from(io::ErrorKind::ConnectionReset)))
    });
    let (answer, mut body) = answer.into_parts();
    let body = match body.size() {
        BodySize::Stream => {
            let events = stream::poll_fn(move |context| Pin::new(&mut body).poll_next(context));
            BoxBody::new(BodyStream::new(events.take(EVENTS).chain(Box::pin(broken))))
        }
        BodySize::None | BodySize::Sized(_) => {
            let bytes: Bytes = to_bytes(body).await?;
            let length = bytes.len() as u64;
            let half = stream::iter([Ok(bytes.slice(..bytes.len() / 2))]);
            BoxBody::new(SizedStream::new(length, half.chain(Box::pin(broken))))
        }
    };
    Ok(answer.set_body(body))
}
