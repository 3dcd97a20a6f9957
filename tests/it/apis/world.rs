//! The provider and every CDN in one, and where the jobs of the provider's pages end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use replyvault::app::Settings;
use replyvault::domain::Digest;
use replyvault::egress::{self, AllowedHosts};
use replyvault::provider::ClientConfig;
use serde_json::{Value, json};

use crate::support::media::{mp4, png};
use crate::support::stand_in;

/// The provider and every CDN in one: any path is a file, except those of the calls that name one.
pub(super) struct World {
    pub(super) base: String,
    pub(super) shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) seen: Mutex<Vec<Seen>>,
    /// What is answered about a job: its API, its id as the provider writes it, and the answer.
    pub(super) answers: Mutex<Vec<(&'static str, String, Value)>>,
    /// A part of paths, and the status that is all they are answered with.
    pub(super) refused: Mutex<Option<(&'static str, u16)>>,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) has_token: bool,
}

impl World {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let data = web::Data::new((base.clone(), shared.clone()));
        let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(serve)));
        tokio::spawn(stand_in(server).listen(listener).unwrap().run());
        Self { base, shared }
    }

    pub(super) fn configure(&self, settings: &mut Settings) {
        settings.provider = Some(ClientConfig {
            base_url: self.base.parse().unwrap(),
            api_token: "token".into(),
            egress: egress::Config {
                allowed_hosts: AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]),
                allow_http: true,
                allow_private_addresses: true,
            },
        });
        settings.reconcile.minute = std::time::Duration::from_secs(86_400);
        settings.reconcile.reads_lists = false;
    }

    /// From now on requests whose path has `part` in it are answered with this status alone.
    pub(super) fn refuse(&self, part: &'static str, status: u16) {
        *self.shared.refused.lock().unwrap() = Some((part, status));
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn serve(request: HttpRequest, data: web::Data<(String, Arc<Shared>)>) -> HttpResponse {
    let (base, shared) = &**data;
    let path = request.uri().to_string();
    let has_token = request.headers().get("authorization").is_some_and(|value| value == "Bearer token");
    shared.seen.lock().unwrap().push(Seen { path: path.clone(), has_token });
    let is_api = path.starts_with("/v1/") || path.starts_with("/v2/");
    let refused = *shared.refused.lock().unwrap();
    if let Some((_, status)) = refused.filter(|(part, _)| path.contains(part)) {
        return HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish();
    }
    match &*path {
        _ if is_api && !has_token => HttpResponse::Unauthorized().finish(),
        _ if path.starts_with("/v1/kling/assets/download?") => {
            HttpResponse::Ok().json(json!({"cdnUrl": format!("{base}/clean.mp4"), "status": "success"}))
        }
        _ if path.starts_with("/v1/tempolor/music/download/") => {
            HttpResponse::Ok().json(json!({"url": format!("{base}/song.wav?auth_key=1"), "remainSeconds": 0}))
        }
        _ if is_api && !path.contains("/media/") && !path.contains("/artifacts/download?") => {
            let decoded = decoded(&path);
            let answers = shared.answers.lock().unwrap();
            let is_meant =
                |(api, id, _): &&(&str, String, Value)| decoded[4..].starts_with(api) && decoded.ends_with(id);
            match answers.iter().find(is_meant) {
                Some((_, _, answer)) => HttpResponse::Ok().json(answer),
                None => HttpResponse::NotFound().finish(),
            }
        }
        _ => {
            let (content_type, bytes) = file(&path);
            HttpResponse::Ok().content_type(content_type).body(bytes)
        }
    }
}

/// What there is under a path: unlike what is under any other.
pub(crate) fn file(path: &str) -> (&'static str, Vec<u8>) {
    let seed = u64::from_str_radix(&Digest::of(path.as_bytes()).to_string()[..15], 16).unwrap();
    let has = |parts: &[&str]| parts.iter().any(|part| path.contains(part));
    let sound = |magic: &[u8]| [magic, &mp4(seed, 3000)].concat();
    if has(&["format=pdf"]) {
        return ("application/pdf", format!("%PDF-1.4\n{seed}\n%%EOF\n").into_bytes());
    }
    if has(&["format=pptx"]) {
        let end = [b"PK\x05\x06".to_vec(), vec![0; 18]].concat();
        return (
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            [b"PK\x03\x04".to_vec(), seed.to_be_bytes().to_vec(), end].concat(),
        );
    }
    if has(&["/image", "-image", ".png", ".jpg", ".jpeg", ".webp", ".image", "/attachments/"]) && !has(&[".mp4"]) {
        return ("image/png", png(seed));
    }
    if has(&[".mp3", ".wav"]) {
        // Bytes of no known type, as their server declares them.
        return (if has(&[".mp3"]) { "audio/mpeg" } else { "audio/wav" }, sound(b"\x01sound"));
    }
    ("video/mp4", mp4(seed, 3000))
}

pub(crate) fn fixtures() -> Vec<(String, Value)> {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider/apis/fixtures");
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort_by_key(|path| name(path));
    files.iter().map(|path| (name(path), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())).collect()
}

/// The same with its links leading to `base`.
pub(crate) fn redirected(value: &Value, base: &str) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("https://").and_then(|rest| rest.split_once('/')) {
            Some((host, path)) if host != "vault.example.com" => json!(format!("{base}/{path}")),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(|item| redirected(item, base)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), redirected(value, base))).collect())
        }
        _ => value.clone(),
    }
}

/// Where each job of the provider's pages ends, and the variants of its files.
pub(crate) fn expected(name: &str) -> (&'static str, Value, &'static [&'static str]) {
    let (state, outcome, variants): (_, _, &[_]) = match name {
        "dreamina-completed"
        | "pixverse-completed"
        | "pixverse-image-completed"
        | "runwayml-completed"
        | "kling-completed"
        | "google-vids-image-completed" => ("archived", json!("completed"), &["clean"]),
        "dreamina-completed-watermarked" | "google-vids-completed" => {
            ("archived", json!("completed"), &["watermarked"])
        }
        "dreamina-image-completed"
        | "flowmusic-completed"
        | "gemini-notebook-slides-completed"
        | "google-flow-image-completed"
        | "kling-image-completed"
        | "mureka-completed"
        | "runwayml-image-completed" => ("archived", json!("completed"), &["unknown", "unknown"]),
        "faceswap-command-completed" | "gemini-notebook-text-completed" => ("archived", json!("completed"), &[]),
        // It is asked for.
        "google-flow-completed-without-url" => ("stuck", json!("completed"), &["none"]),
        "minimax-audio-history-row" => ("archived", json!("completed"), &["unknown"]),
        "google-flow-image-inline" | "google-flow-legacy-operations" => ("archived", json!("completed"), &["unknown"]),
        name if name.contains("completed") => ("archived", json!("completed"), &["unknown"]),
        // These pages know no sign of moderation.
        "dreamina-moderated"
        | "kling-moderated"
        | "runwayml-moderated"
        | "mureka-moderated"
        | "tempolor-moderated"
        | "gemini-notebook-moderated" => ("failed", json!("failed"), &[]),
        name if name.ends_with("moderated") => ("failed", json!("moderated"), &[]),
        name if name.ends_with("failed") => ("failed", json!("failed"), &[]),
        _ => ("running", Value::Null, &[]),
    };
    (state, outcome, variants)
}

fn decoded(path: &str) -> String {
    let bytes: Vec<u8> = url::form_urlencoded::parse(format!("x={}", path.replace(['&', '='], "\0")).as_bytes())
        .next()
        .map(|(_, text)| text.replace('\0', "=").into_bytes())
        .unwrap();
    String::from_utf8(bytes).unwrap()
}
