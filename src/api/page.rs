//! The gallery: a page, and what it loads.
//!
//! Scripts and styles are compiled in. Their path has a digest over all of them, so they may be kept for good, and a page never
//! mixes those of two versions.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ContentType, VARY,
};
use actix_web::web::{Bytes, Path};
use actix_web::{HttpRequest, HttpResponse};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::ApiError;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../ui/", $name)))),*]
    };
}

/// What the page loads.
const FILES: &[(&str, &[u8])] = files![
    "style.css",
    "app.js",
    "api.js",
    "chart.js",
    "format.js",
    "grid.js",
    "job.js",
    "keys.js",
    "layout.js",
    "live.js",
    "needs.js",
    "numbers.js",
    "quarantine.js",
    "refs.js",
    "select.js",
    "setup.js",
    "state.js",
    "tile.js",
    "timeline.js",
    "vendor/lit-html/lit-html.js",
    "vendor/lit-html/directive.js",
    "vendor/lit-html/directive-helpers.js",
    "vendor/lit-html/directives/repeat.js",
];

const PAGE: &str = include_str!("../ui/index.html");

/// Scripts come from here alone, and none is in the page. What a caller wrote is text wherever it is shown; if it ever were
/// not, nothing of it would run.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types lit-html";

struct Assets {
    version: String,
    page: String,
    files: BTreeMap<&'static str, Asset>,
}

struct Asset {
    plain: &'static [u8],
    compressed: Bytes,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for (name, bytes) in FILES {
        digest.update(name.as_bytes());
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
    let version = hex::encode(&digest.finalize()[..8]);
    let page = PAGE.replace("{ui}", &format!("ui/{version}"));
    let asset = |(name, plain): &(&'static str, &'static [u8])| (*name, Asset { plain, compressed: gzip(plain) });
    Assets { page, files: FILES.iter().map(asset).collect(), version }
});

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// The gallery.
pub(super) async fn index() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(ContentType::html())
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(ASSETS.page.as_str())
}

/// What it loads.
pub(super) async fn asset(request: HttpRequest, path: Path<(String, String)>) -> Result<HttpResponse, ApiError> {
    let (version, name) = path.into_inner();
    let asset = ASSETS.files.get(name.as_str()).filter(|_| version == ASSETS.version);
    let Asset { plain, compressed } = asset.ok_or_else(|| ApiError::not_found("path"))?;
    let content_type =
        if name.ends_with(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((VARY, "Accept-Encoding"));
    let accepted = request.headers().get(ACCEPT_ENCODING).and_then(|header| header.to_str().ok()).unwrap_or_default();
    if accepted.split(',').any(|coding| matches!(coding.trim(), "gzip" | "*")) {
        return Ok(response.insert_header((CONTENT_ENCODING, "gzip")).body(compressed.clone()));
    }
    Ok(response.body(*plain))
}
