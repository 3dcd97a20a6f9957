//! What comes in: queries and JSON bodies, bounded, and refused with what was expected.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::web::{Payload, Query};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::http::{ApiError, BodyError, read_body};

/// The largest JSON body, in bytes.
const MAX_BODY: usize = 64 << 10;
/// How long a client may take for one.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads the query; names a parameter that there is not.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, ApiError> {
    let query = Query::from_query(request.query_string());
    query.map(Query::into_inner).map_err(|error| ApiError::invalid(shortened(&format!("query: {error}"))))
}

/// A parameter with something in it: `?cursor=` asks for no more than its absence does.
pub(super) fn non_empty(parameter: Option<&str>) -> Option<&str> {
    parameter.filter(|text| !text.is_empty())
}

/// 422 for JSON that is not what was expected.
pub(super) fn unprocessable(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", shortened(message))
}

/// Reads a JSON object. No body is an empty one.
pub(super) async fn json<T: DeserializeOwned>(payload: Payload) -> Result<T, ApiError> {
    let late = |_| Err(ApiError::incomplete(format!("not within {} seconds", BODY_TIME.as_secs())));
    let body = tokio::time::timeout(BODY_TIME, read(payload)).await.unwrap_or_else(late)?;
    let body: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { &body };
    // First the grammar of the whole: what is not JSON is not half a request.
    serde_json::from_slice::<IgnoredAny>(body).map_err(|error| invalid_json(&error))?;
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(unprocessable("expected a JSON object"));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(body)).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.into_inner());
        match error.classify() {
            Category::Data => unprocessable(&format!("{path}: {error}")),
            _ => invalid_json(&error),
        }
    })
}

async fn read(payload: Payload) -> Result<Bytes, ApiError> {
    read_body(payload, MAX_BODY).await.map_err(|error| match error {
        BodyError::TooLarge(_) => ApiError::too_large(format!("the body has more than {MAX_BODY} bytes")),
        BodyError::Broken(error) => ApiError::incomplete(error),
    })
}

fn invalid_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", shortened(&format!("not JSON: {error}")))
}

/// Some errors repeat what they do not like.
fn shortened(message: &str) -> String {
    const MAX_CHARS: usize = 400;
    message.chars().take(MAX_CHARS).collect()
}
