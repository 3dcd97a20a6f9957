mod content;
pub mod range;
pub(super) mod thumbnail;

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub(super) use content::{__path_content, content};

use super::list::{List, PageParams};
use super::{Api, ApiError, extract};
use crate::domain::{Digest, Timestamp};
use crate::http::ErrorBody;
use crate::state::{MediaRecord, Reference, State, StateError};

/// Bytes that are stored.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaView {
    /// SHA-256 of them.
    sha256: String,
    /// Their number.
    bytes: u64,
    /// Their real MIME type.
    #[schema(example = "video/mp4")]
    content_type: String,
    /// The object that holds them.
    #[schema(example = "video/2026/11/20/video-3/video.mp4")]
    key: String,
    /// When they were first stored.
    #[schema(value_type = String, format = DateTime)]
    first_stored_at: Timestamp,
    /// Files that consist of them: in lists at most 20 and 4 KiB, otherwise at most 1,000 and 1 MiB.
    references: Vec<ReferenceView>,
    /// True when there are more of those.
    more_references: bool,
}

/// A file that consists of some bytes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReferenceView {
    /// The job.
    job_id: String,
    /// Its file's name.
    file: String,
    /// The caller's reference.
    reply_ref: Option<String>,
}

impl MediaView {
    fn new(
        state: &State,
        sha256: &Digest,
        record: MediaRecord,
        most: usize,
        max_bytes: usize,
    ) -> Result<Self, StateError> {
        let (references, more_references) = state.references(sha256, most, max_bytes)?;
        let MediaRecord { bytes, content_type, key, first_stored_at, position: _ } = record;
        let references = references.into_iter().map(ReferenceView::from).collect();
        Ok(Self { sha256: sha256.to_string(), bytes, content_type, key, first_stored_at, references, more_references })
    }
}

impl From<Reference> for ReferenceView {
    fn from(Reference { job_id, file, reply_ref }: Reference) -> Self {
        let reply_ref = reply_ref.map(|name| name.shown().as_str().to_owned());
        Self { job_id: job_id.as_str().to_owned(), file, reply_ref }
    }
}

/// Which media to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MediaQuery {
    /// At most so many, 1 to 200; 50 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists what is stored, newest first.
#[utoipa::path(
    get, path = "/api/v1/media", tag = "media", params(MediaQuery),
    responses(
        (status = 200, description = "a page", body = List<MediaView>),
        (status = 400, description = "a parameter is not what was expected", body = ErrorBody),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn list(request: HttpRequest, api: Data<Api>) -> Result<Json<List<MediaView>>, ApiError> {
    const REFERENCES: usize = 20;
    /// Of one medium's references; a page of 200 has a hundred times that.
    const BYTES: usize = 4 << 10;
    let MediaQuery { limit, cursor } = extract::query(&request)?;
    let PageParams { limit, before } = PageParams::read(limit.as_deref(), cursor.as_deref())?;
    let page = api.read(move |state| {
        let page = state.media_list(limit, before)?;
        let views =
            page.items.into_iter().map(|(sha256, record)| MediaView::new(state, &sha256, record, REFERENCES, BYTES));
        Ok(crate::state::Page { items: views.collect::<Result<Vec<_>, _>>()?, next: page.next })
    });
    Ok(Json(List::of_page(page.await?, |view| view)))
}

/// Shows what is known of the bytes with a digest.
#[utoipa::path(
    get, path = "/api/v1/media/{sha256}", tag = "media", params(("sha256" = String, Path)),
    responses(
        (status = 200, description = "what is known of them", body = MediaView),
        (status = 404, description = "no such media", body = ErrorBody),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(super) async fn show(api: Data<Api>, sha256: Path<String>) -> Result<Json<MediaView>, ApiError> {
    const REFERENCES: usize = 1000;
    const BYTES: usize = 1 << 20;
    let sha256 = digest(&sha256)?;
    let view = api.read(move |state| {
        let record = state.media(&sha256)?;
        record.map(|record| MediaView::new(state, &sha256, record, REFERENCES, BYTES)).transpose()
    });
    view.await?.map(Json).ok_or_else(|| ApiError::not_found("media"))
}

fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("media"))
}
