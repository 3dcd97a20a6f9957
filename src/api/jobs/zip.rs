//! The files of several jobs in one archive.

use std::collections::{HashMap, HashSet};

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use utoipa::IntoParams;

use super::job_id;
use super::zip_format::{Directory, Entry, checksum, length};
use crate::api::auth::Caller;
use crate::api::places::in_pieces;
use crate::api::{Api, ApiError, extract};
use crate::bucket::{Bucket, BucketError, ObjectKey};
use crate::domain::{JobId, Timestamp};
use crate::http::ErrorBody;
use crate::state::{JobRecord, State, StateError};

/// The most jobs of one archive: their ids fit into the 8 KiB that servers in front take for a URL.
const MAX_JOBS: usize = 100;
/// The most files: what is known of them is held while they are sent, some hundred bytes for each.
const MAX_FILES: usize = 5000;

/// Whose files to send.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ZipQuery {
    /// The ids of at most 100 jobs, with commas between them.
    #[param(example = "user:1-minimax:2-video:3,user:1-minimax:2-video:4")]
    ids: String,
}

/// Sends the stored files of some jobs as one ZIP archive, uncompressed, each job's in a folder. It is made while it is sent,
/// from one file at a time, and its length is known before. When a file cannot be read, the connection ends early. HEAD answers
/// the same without the archive, and reads no file.
#[utoipa::path(
    get, path = "/api/v1/jobs/zip", tag = "jobs", params(ZipQuery),
    responses(
        (status = 200, description = "the archive", body = [u8], content_type = "application/zip"),
        (status = 400, description = "a parameter is not what was expected, or the jobs have too many files", body = ErrorBody),
        (status = 404, description = "no such job, or none has a stored file", body = ErrorBody),
        (status = 503, description = "the state is being rebuilt", body = ErrorBody),
    )
)]
pub(in crate::api) async fn zip(
    request: HttpRequest,
    api: Data<Api>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    let ZipQuery { ids } = extract::query(&request)?;
    let ids = read_ids(&ids)?;
    let files = api.read(move |state| files_of(state, &ids)).await??;
    let length = length(files.iter().map(|(entry, _)| entry));
    let (year, month, day) = Timestamp::now().date();
    let disposition = format!("attachment; filename=\"replyvault-{year:04}-{month:02}-{day:02}.zip\"");
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "application/zip"))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"));
    // actix-web reads a body to its end even where it sends none of it.
    if request.method() == Method::HEAD {
        let nothing = stream::empty::<Result<Bytes, BucketError>>();
        return Ok(response.body(SizedStream::new(length, nothing)));
    }
    let place = api.inner.places.send(&caller.name).await?;
    let writer = Writer::new(api.inner.bucket.clone(), files);
    let archive = stream::try_unfold(writer, Writer::next);
    let archive = archive.inspect_err(|error| tracing::warn!(%error, "an archive of files could not be sent whole"));
    Ok(response.body(SizedStream::new(length, in_pieces(archive, place))))
}

fn read_ids(text: &str) -> Result<Vec<JobId>, ApiError> {
    let mut seen = HashSet::new();
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty() && seen.insert(*id));
    let ids: Vec<JobId> = ids.take(MAX_JOBS + 1).map(job_id).collect::<Result<_, _>>()?;
    if ids.is_empty() || ids.len() > MAX_JOBS {
        return Err(ApiError::invalid(format!("ids: expected 1 to {MAX_JOBS} job ids with commas between them")));
    }
    Ok(ids)
}

type Files = Vec<(Entry, ObjectKey)>;

/// Blocks.
fn files_of(state: &State, ids: &[JobId]) -> Result<Result<Files, ApiError>, StateError> {
    let mut files = Files::new();
    let mut folders: HashMap<String, JobId> = HashMap::new();
    for id in ids {
        let Some(JobRecord { job, .. }) = state.job(id)? else { return Ok(Err(ApiError::not_found("job"))) };
        let whole = job.folder.clone().unwrap_or_else(|| job.id.folder(job.kind()));
        // Short names, where they are not the same: a bucket's folders begin with dates and accounts.
        let short = whole.rsplit('/').next().unwrap_or(&whole).to_owned();
        let folder = if folders.contains_key(&short) { whole } else { short };
        folders.insert(folder.clone(), id.clone());
        for asset in &job.assets {
            let Some(stored) = &asset.stored else { continue };
            let Ok(key) = stored.key.parse() else { continue };
            let name = format!("{folder}/{}", stored.file.as_str());
            files.push((Entry { name, bytes: stored.bytes, modified: stored.at }, key));
        }
        if files.len() > MAX_FILES {
            let message = format!("the jobs have more than {MAX_FILES} files: ask for fewer at a time");
            return Ok(Err(ApiError::invalid(message)));
        }
    }
    if files.is_empty() {
        let message = "none of these jobs has a stored file";
        return Ok(Err(ApiError::new(StatusCode::NOT_FOUND, "no_files", message)));
    }
    Ok(Ok(files))
}

/// What sends an archive.
struct Writer {
    bucket: Bucket,
    files: std::vec::IntoIter<(Entry, ObjectKey)>,
    current: Option<Current>,
    /// Taken when the end is sent.
    directory: Option<Directory>,
}

/// The file that is being sent.
struct Current {
    entry: Entry,
    key: ObjectKey,
    bytes: BoxStream<'static, Result<Bytes, BucketError>>,
    crc: crc_fast::Digest,
    left: u64,
}

impl Writer {
    fn new(bucket: Bucket, files: Files) -> Self {
        Self { bucket, files: files.into_iter(), current: None, directory: Some(Directory::default()) }
    }

    /// The next piece, as fast as the caller takes it.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BucketError> {
        let Some(directory) = &mut self.directory else { return Ok(None) };
        if let Some(current) = &mut self.current {
            if let Some(chunk) = current.bytes.try_next().await? {
                let left = current.left.checked_sub(chunk.len() as u64);
                current.left = left.ok_or_else(|| other_length(&current.key))?;
                current.crc.update(&chunk);
                return Ok(Some((chunk, self)));
            }
            if current.left > 0 {
                return Err(other_length(&current.key));
            }
            let crc = current.crc.finalize() as u32;
            directory.add(&current.entry, crc);
            let tail = current.entry.tail(crc);
            self.current = None;
            return Ok(Some((tail, self)));
        }
        let Some((entry, key)) = self.files.next() else {
            let end = self.directory.take().unwrap_or_default().end();
            return Ok(Some((end, self)));
        };
        let bytes = if entry.bytes == 0 { stream::empty().boxed() } else { self.bucket.read(&key, None).await? };
        let head = entry.head();
        let left = entry.bytes;
        self.current = Some(Current { entry, key, bytes, crc: checksum(), left });
        Ok(Some((head, self)))
    }
}

fn other_length(key: &ObjectKey) -> BucketError {
    BucketError::Unavailable(format!("{key} has not the length that is known of it"))
}
