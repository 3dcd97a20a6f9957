use std::collections::HashMap;

use actix_multipart::Multipart;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::ApiError;

/// The most text of a multipart call that is read.
const MAX_TEXT: usize = 1 << 20;
/// The most models, and files sent along, of one job.
pub(super) const MAX_ITEMS: usize = 16;

/// What a create call says, in whichever of the three encodings it came.
#[derive(Debug, Default)]
pub(super) struct Fields {
    values: HashMap<String, String>,
    /// `{name, size, type}` of each file sent along.
    files: Vec<Value>,
}

impl Fields {
    pub(super) async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        let mut payload = payload.into_inner();
        if content_type.starts_with("multipart/form-data") {
            return Self::from_multipart(Multipart::new(request.headers(), payload)).await;
        }
        let body = web::Bytes::from_request(request, &mut payload).await;
        let body = body.map_err(|error| ApiError::BadRequest(error.to_string()))?;
        if content_type.starts_with("application/x-www-form-urlencoded") {
            return Ok(Self::from_pairs(&body));
        }
        let values: HashMap<String, Value> =
            serde_json::from_slice(&body).map_err(|error| ApiError::BadRequest(error.to_string()))?;
        let values = values.into_iter().filter_map(|(name, value)| Some((name, text(value)?)));
        Ok(Self { values: values.collect(), files: Vec::new() })
    }

    /// The same from a query.
    pub(super) fn from_pairs(pairs: &[u8]) -> Self {
        let values = url::form_urlencoded::parse(pairs).into_owned().collect();
        Self { values, files: Vec::new() }
    }

    async fn from_multipart(mut parts: Multipart) -> Result<Self, ApiError> {
        let wrong = |error: actix_multipart::MultipartError| ApiError::BadRequest(error.to_string());
        let (mut fields, mut budget) = (Self::default(), MAX_TEXT);
        while let Some(mut part) = parts.try_next().await.map_err(wrong)? {
            let name = part.name().unwrap_or_default().to_owned();
            let file = part.content_disposition().and_then(|disposition| disposition.get_filename());
            if let Some(file) = file.map(str::to_owned) {
                let mut size = 0;
                while let Some(chunk) = part.try_next().await.map_err(wrong)? {
                    size += chunk.len();
                }
                if fields.files.len() >= MAX_ITEMS {
                    return Err(ApiError::BadRequest(format!("More than {MAX_ITEMS} files")));
                }
                let media_type = part.content_type().map(ToString::to_string);
                fields.files.push(json!({"name": file, "size": size, "type": media_type}));
                continue;
            }
            let value = part.bytes(budget).await.map_err(|error| ApiError::BadRequest(error.to_string()))?;
            let value = value.map_err(wrong)?;
            budget -= value.len();
            fields.values.insert(name, String::from_utf8_lossy(&value).into_owned());
        }
        Ok(fields)
    }

    /// A field's text; absent when it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::BadRequest(format!("Parameter {name} is required")))
    }

    /// How many files came along, and the names of the first of them.
    pub(super) fn files(&self) -> &[Value] {
        &self.files
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => Some(items.into_iter().filter_map(text).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_values_become_the_text_a_form_would_hold() {
        assert_eq!(text(json!(["a", "b"])).as_deref(), Some("a,b"));
        assert_eq!(text(json!(2)).as_deref(), Some("2"));
        assert_eq!(text(json!(true)).as_deref(), Some("true"));
        assert_eq!(text(json!(null)), None);
    }
}
