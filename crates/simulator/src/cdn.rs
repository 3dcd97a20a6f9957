//! The CDN: files with ranges, validators and declared sums, and what goes wrong with them.

mod body;
mod links;
mod range;

use std::ops::Range;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use futures_util::stream;

use super::Shared;
use super::faults::Fault;
use super::media::{Declared, File};
use body::Ending;
pub(super) use links::SignedLinks;
use range::Wanted;

/// Mounts the CDN's one resource.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    app.service(web::resource("/cdn/{path:.*}").route(web::get().to(serve)).route(web::head().to(serve)));
}

async fn serve(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    shared.stats.cdn_requests.one();
    let path = request.path();
    let Some(file) = shared.store.file(path) else {
        return xml(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    };
    if !shared.links.admits(path, request.query_string()) {
        shared.stats.cdn_expired.one();
        return xml(StatusCode::FORBIDDEN, "AccessDenied", "Request has expired.");
    }
    let fault = fault(&shared, path);
    if fault.is_some() {
        shared.stats.cdn_faults.one();
    }
    match fault {
        Some(Fault::Cdn500) => return xml(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "Please try again."),
        Some(Fault::Cdn404) => return xml(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist."),
        Some(Fault::CdnHtml) => return html(),
        _ => {}
    }
    let sums = Arc::clone(&file);
    if Declared::applies(file.len()) && web::block(move || sums.sha256()).await.is_err() {
        return xml(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "Please try again.");
    }
    content(&request, &shared, file, fault)
}

/// What goes wrong with this request. The turns of each path are counted, so that a run can be repeated.
pub(super) fn fault(shared: &Shared, path: &str) -> Option<Fault> {
    let turn = shared.cdn_turn(path);
    let faults =
        [Fault::Cdn500, Fault::Cdn404, Fault::CdnReset, Fault::CdnShort, Fault::CdnStall, Fault::CdnHtml].into_iter();
    let mut faults = faults.filter(|fault| {
        // The hour in the path differs from run to run, the name at its end does not.
        let name = path.rsplit('/').next().unwrap_or_default();
        shared.dice.hits(shared.faults.chance(*fault), fault.name(), name, turn)
    });
    faults.next()
}

pub(super) fn content(
    request: &HttpRequest,
    shared: &web::Data<Shared>,
    file: Arc<File>,
    fault: Option<Fault>,
) -> HttpResponse {
    let (etag, length) = (file.etag(), file.len());
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let same = header(header::IF_RANGE).is_none_or(|validator| validator == etag);
    let wanted = header(header::RANGE).filter(|_| same).map_or(Wanted::Whole, |text| range::parse(text, length));

    let (mut answer, range) = match wanted {
        Wanted::Whole => (HttpResponse::Ok(), 0..length),
        Wanted::Part(range) => {
            let mut answer = HttpResponse::PartialContent();
            let shown = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            answer.insert_header((header::CONTENT_RANGE, shown));
            (answer, range)
        }
        Wanted::Nothing => {
            let mut answer = HttpResponse::RangeNotSatisfiable();
            return answer.insert_header((header::CONTENT_RANGE, format!("bytes */{length}"))).finish();
        }
    };
    answer.insert_header((header::ETAG, etag));
    answer.insert_header((header::ACCEPT_RANGES, "bytes"));
    answer.content_type(file.form.content_type());
    declare(&mut answer, &file);
    if request.method() == Method::HEAD {
        let nothing = stream::empty::<std::io::Result<Bytes>>();
        return answer.body(SizedStream::new(range.end - range.start, nothing));
    }
    send(answer, shared, file, range, fault)
}

/// The sums are those of the whole file, whatever part is sent.
fn declare(answer: &mut HttpResponseBuilder, file: &File) {
    if !Declared::applies(file.len()) {
        return;
    }
    if let Some(declared) = &file.sums().declared {
        answer.insert_header(("content-md5", declared.md5.as_str()));
        answer.insert_header(("x-oss-hash-crc64ecma", declared.crc64.as_str()));
    }
}

fn send(
    mut answer: HttpResponseBuilder,
    shared: &web::Data<Shared>,
    file: Arc<File>,
    range: Range<u64>,
    fault: Option<Fault>,
) -> HttpResponse {
    let length = range.end - range.start;
    let half = range.start..range.start + length / 2;
    let (range, ending) = match fault {
        // Chunked and ended in order: nothing but the declared sums and the container tell that half is missing.
        Some(Fault::CdnShort) => return answer.streaming(body::stream(shared, file, half, Ending::Whole)),
        Some(Fault::CdnReset) => (half, Ending::Broken),
        Some(Fault::CdnStall) => (half, Ending::Stalled),
        _ => (range, Ending::Whole),
    };
    answer.body(SizedStream::new(length, body::stream(shared, file, range, ending)))
}

fn xml(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>\n");
    HttpResponse::build(status).content_type("application/xml").body(body)
}

/// What a captive portal or an overloaded front puts in a file's place.
fn html() -> HttpResponse {
    let body = "<!doctype html><title>Please wait</title><p>Checking your connection.\n";
    HttpResponse::Ok().content_type("text/html; charset=utf-8").body(body)
}
