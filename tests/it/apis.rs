//! Bodies of every API over the one URL, each until its media are in the bucket.

use std::collections::{BTreeSet, HashMap};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use replyvault::app::Settings;
use replyvault::domain::{Digest, JobId, QuarantineReason, Target, Timestamp};
use replyvault::egress::{self, AllowedHosts};
use replyvault::intake::parse_quarantine_id;
use replyvault::journal::{CallbackEntry, Entry};
use replyvault::provider::{self, Answer, ClientConfig, Parsed};
use replyvault::simulator::{Config, Simulator};
use replyvault::state::ParsedCallback;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::apis::{create, encoded, fault};
use crate::support::media::{mp4, png};
use crate::support::vault::Vault;

/// The provider and every CDN in one: any path is a file, except those of the calls that name one.
struct World {
    base: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// What is answered about a job: its API, its id as the provider writes it, and the answer.
    answers: Mutex<Vec<(&'static str, String, Value)>>,
}

#[derive(Clone, Debug)]
struct Seen {
    path: String,
    has_token: bool,
}

impl World {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let data = web::Data::new((base.clone(), shared.clone()));
        let server = HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(serve)));
        tokio::spawn(server.workers(1).disable_signals().listen(listener).unwrap().run());
        Self { base, shared }
    }

    fn configure(&self, settings: &mut Settings) {
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

    fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn serve(request: HttpRequest, data: web::Data<(String, Arc<Shared>)>) -> HttpResponse {
    let (base, shared) = &**data;
    let path = request.uri().to_string();
    let has_token = request.headers().get("authorization").is_some_and(|value| value == "Bearer token");
    shared.seen.lock().unwrap().push(Seen { path: path.clone(), has_token });
    let is_api = path.starts_with("/v1/") || path.starts_with("/v2/");
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

#[tokio::test]
async fn one_url_takes_the_callbacks_of_every_api_and_archives_their_media() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let mut apis = BTreeSet::new();
    for (name, body) in fixtures() {
        let body = redirected(&body, &world.base);
        let (status, answer) = vault.post(&url, body.to_string()).await;
        assert_eq!(status, 200, "{name}: {answer}");
        let id = answer["jobId"].as_str().unwrap().to_owned();
        let (state, outcome, variants) = expected(&name);
        if name.ends_with("progress") {
            continue;
        }
        let wait = async {
            loop {
                let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(&id))).await;
                if job["state"] == state {
                    return job;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        let Ok(job) = waited else {
            let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(&id))).await;
            panic!("{name}: expected {state}: {job:#}");
        };
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        apis.insert(api);
        assert_eq!((&job["outcome"], &job["provider"]), (&outcome, &json!(api)), "{name}");
        let assets = job["assets"].as_array().unwrap();
        let found: Vec<&str> = assets.iter().map(|asset| asset["variant"].as_str().unwrap_or("none")).collect();
        assert_eq!(found, variants, "{name}: {job:#}");
        for asset in assets.iter().filter(|asset| asset["state"] == "stored") {
            let key = asset["key"].as_str().unwrap();
            assert!(!key.contains('@') && !key.contains("studio"), "{key}");
            assert_eq!(key.contains(&format!("-{api}-")), api != "minimax", "{key}");
            let bytes = vault.object(key).await;
            assert_eq!(asset["sha256"], Digest::of(&bytes).to_string(), "{name}");
            if name == "google-flow-image-inline" {
                assert!(bytes.starts_with(b"\x89PNG") && bytes.len() == 74, "{}", bytes.len());
            } else {
                let is_ours = world.seen().iter().any(|seen| file(&seen.path).1 == bytes);
                assert!(is_ours, "{name}: other bytes");
            }
        }
        if let Some(key) = job["manifestKey"].as_str() {
            assert!(!key.is_empty());
            let manifest = vault.manifest(&job).await;
            assert_eq!((&manifest["job"]["provider"], &manifest["job"]["kind"]), (&json!(api), &job["kind"]), "{name}");
        }
    }
    assert_eq!(apis.len(), provider::names().count());
    // The token goes to the provider's own paths alone.
    for Seen { path, has_token } in world.seen() {
        assert_eq!(has_token, path.starts_with("/v1/") || path.starts_with("/v2/"), "{path}");
    }
    let (_, jobs) = vault.get("/api/v1/jobs?provider=kling&limit=100").await;
    let jobs = jobs["items"].as_array().unwrap();
    assert!(jobs.len() >= 4 && jobs.iter().all(|job| job["provider"] == "kling"), "{jobs:#?}");
}

/// From create calls to the bucket, for each way a job can end.
#[tokio::test(flavor = "multi_thread")]
async fn what_every_api_makes_is_archived_as_the_simulator_made_it() {
    let mut refreshed = BTreeSet::new();
    // Links that are dead when they are told are asked for anew.
    for faults in ["", "no-clean=1,inline=1,processing=1", "stale=1,expire=1h", "fail=1", "moderate=1"] {
        let simulator =
            Simulator::start(Config { faults: faults.parse().unwrap(), ..Config::default() }).await.unwrap();
        let world = World { base: simulator.base_url(), shared: Arc::default() };
        let vault = Vault::start_with(|settings| world.configure(settings)).await;
        let url = vault.running().intake().urls().reply_url(&Target::UseApi);
        for (number, call) in Simulator::creates().enumerate() {
            create(&vault.client, &simulator, &call, &url, &format!("job-{number}")).await;
        }
        simulator.idle().await;
        let truth = simulator.truth();
        assert_eq!(
            truth.iter().map(|job| job.job_id.provider()).collect::<BTreeSet<_>>().len(),
            provider::names().count()
        );
        for wanted in truth {
            let job = vault.job_in(&encoded(wanted.job_id.as_str()), &["archived", "failed", "stuck"]).await;
            let mut objects = HashMap::new();
            for asset in job["assets"].as_array().unwrap() {
                let key = asset["key"].as_str().unwrap_or_else(|| panic!("{faults}: {job:#}")).to_owned();
                let bytes = vault.object(&key).await;
                objects.insert(key, Digest::of(&bytes));
            }
            let fault = fault(&job, &wanted, &mut |key| objects.get(key).copied());
            assert_eq!(fault, None, "{faults}");
            let dead: u64 =
                job["assets"].as_array().unwrap().iter().filter_map(|asset| asset["attempts"].as_u64()).sum();
            refreshed.extend((dead > 0 && faults.starts_with("stale")).then(|| wanted.job_id.provider()));
            assert_eq!(job["replyRef"].as_str(), wanted.reply_ref.as_deref(), "{job:#}");
        }
        if faults.starts_with("stale") {
            assert!(simulator.stats().cdn_expired > 20, "{:?}", simulator.stats());
        }
        simulator.stop().await;
    }
    // Files that a call gives have no link that could be dead.
    let with_links =
        ["dreamina", "faceswap", "flowmusic", "google-flow", "kling", "minimax", "mureka", "pixverse", "runwayml"];
    assert_eq!(refreshed.iter().map(String::as_str).collect::<Vec<_>>(), with_links);
}

/// Progress, as a callback and as an answer, ends nothing and says how far a job is.
#[tokio::test]
async fn progress_of_every_api_leaves_its_job_running() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let mut jobs = Vec::new();
    for (name, body) in fixtures().into_iter().filter(|(name, _)| name.ends_with("progress")) {
        let body = redirected(&body, &world.base);
        let (status, answer) = vault.post(&url, body.to_string()).await;
        assert_eq!(
            (status, &answer["state"], &answer["final"]),
            (StatusCode::OK, &json!("running"), &json!(false)),
            "{name}"
        );
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        let id: JobId = answer["jobId"].as_str().unwrap().parse().unwrap();
        world.shared.answers.lock().unwrap().push((api, id.as_sent().to_owned(), body));
        jobs.push((name, id));
    }
    let apis: BTreeSet<_> = jobs.iter().map(|(_, id)| id.provider()).collect();
    assert_eq!(apis.len(), provider::names().count());
    let (_, mut task) = vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    while task["state"] == "running" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        task = vault.get(&format!("/api/v1/tasks/{}", task["taskId"].as_str().unwrap())).await.1;
    }
    let report = &task["report"];
    assert_eq!(
        (&report["asked"], &report["running"], &report["unanswered"]),
        (&json!(13), &json!(13), &json!(0)),
        "{task:#}"
    );
    for (name, id) in jobs {
        let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
        assert_eq!(
            (&job["state"], &job["outcome"], &job["assets"]),
            (&json!("running"), &Value::Null, &json!([])),
            "{name}"
        );
        let percent = match &*name {
            "runwayml-progress" => json!(42),
            "tempolor-progress" => json!(35),
            _ => Value::Null,
        };
        assert_eq!(job["percent"], percent, "{name}: {job:#}");
    }
}

/// A body that an earlier version did not understand is understood by this one.
#[tokio::test]
async fn what_an_earlier_version_quarantined_replays_after_an_upgrade() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let log = vault.running().intake().log().clone();
    let mut all = Vec::new();
    for (name, body) in fixtures() {
        let body = redirected(&body, &world.base).to_string();
        let entry = CallbackEntry {
            at: Timestamp::now(),
            target: Target::UseApi,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: false,
            replay_of: None,
            body: body.clone().into(),
        };
        // As a version records it whose adapters do not know the body.
        let parsed = ParsedCallback::Unrecognised(QuarantineReason::UnknownShape);
        log.record_callback(Entry::Callback(entry), parsed).await.unwrap();
        all.push((name, body));
    }
    let (_, kept) = vault.get("/api/v1/quarantine?limit=200").await;
    let kept = kept["items"].as_array().unwrap();
    assert_eq!(kept.len(), all.len());
    let mut ends = Vec::new();
    // The newest is listed first.
    for ((name, body), kept) in all.iter().zip(kept.iter().rev()) {
        let id = kept["quarantineId"].as_str().unwrap();
        let at = log.state().callback_at(parse_quarantine_id(id).unwrap()).unwrap();
        let recorded = log.journal().read(at).unwrap().into_callback().unwrap();
        assert_eq!(recorded.body, body.as_bytes(), "{name}");
        let (status, answer) = vault.send("POST", &format!("/api/v1/quarantine/{id}/replay"), &Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{name}: {answer}");
        ends.push((name, answer["jobId"].as_str().unwrap().to_owned()));
    }
    assert_eq!(vault.get("/api/v1/quarantine").await.1["items"], json!([]));
    for (name, id) in ends {
        let (state, outcome, _) = expected(name);
        if state != "running" {
            let job = vault.job_in(&encoded(&id), &[state]).await;
            assert_eq!(job["outcome"], outcome, "{name}");
        }
    }
}

/// Bodies with fields taken out, renamed and changed, and noise in their place: what is not understood is kept to the byte, and
/// can be looked at again.
#[tokio::test]
async fn whatever_is_not_understood_is_quarantined_whole_and_can_be_replayed() {
    let vault = Vault::start().await;
    let log = vault.running().intake().log().clone();
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let (mut dice, mut kept) = (Dice(1), 0);
    for (name, body) in fixtures() {
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        for _ in 0..12 {
            let mut changed = body.clone();
            for _ in 0..=dice.below(6) {
                mutate(&mut changed, &mut dice);
            }
            // As somebody else might write it.
            let text = format!(" {}\n", serde_json::to_string_pretty(&changed).unwrap());
            match provider::read(text.as_bytes()).unwrap() {
                Parsed::Job(found) => assert_eq!(found.job.provider(), api, "{text}"),
                Parsed::Unrecognised(why) => {
                    let (status, answer) = vault.post(&url, text.clone()).await;
                    assert_eq!((status, &answer["reason"]), (StatusCode::ACCEPTED, &json!(why.as_str())), "{text}");
                    let id = answer["quarantineId"].as_str().unwrap();
                    let at = log.state().callback_at(parse_quarantine_id(id).unwrap()).unwrap();
                    let recorded = log.journal().read(at).unwrap().into_callback().unwrap();
                    assert_eq!(recorded.body, text.as_bytes());
                    let replay = format!("/api/v1/quarantine/{id}/replay");
                    let (status, again) = vault.send("POST", &replay, &Value::Null).await;
                    assert_eq!((status, &again["reason"]), (StatusCode::ACCEPTED, &json!(why.as_str())), "{again}");
                    kept += 1;
                }
            }
        }
    }
    assert!(kept > 100, "{kept}");
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound.max(1)
    }
}

/// Takes something out, gives it another name, or puts something else in its place: at the top as often as further down.
fn mutate(value: &mut Value, dice: &mut Dice) {
    let Value::Object(members) = value else {
        *value = json!(["noise", dice.below(1000)]);
        return;
    };
    let names: Vec<String> = members.keys().cloned().collect();
    let Some(name) = names.get(dice.below(names.len())) else { return };
    match dice.below(6) {
        0 | 1 => drop(members.remove(name)),
        2 => {
            let taken = members.remove(name).unwrap();
            members.insert(format!("{name}2"), taken);
        }
        3 => drop(members.insert(name.clone(), json!(dice.below(100_000)))),
        4 => drop(members.insert(name.clone(), json!({"noise": [null, true, "\u{1F980}"]}))),
        _ => mutate(members.get_mut(name).unwrap(), dice),
    }
}

/// The same bodies as the provider's answers when it is asked about jobs of which nothing but their ids is known.
#[tokio::test]
async fn every_api_is_asked_about_its_jobs_and_answers_as_it_calls_back() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let url = vault.running().intake().urls().reply_url(&Target::UseApi);
    let mut jobs = std::collections::BTreeMap::new();
    for (name, body) in fixtures() {
        let mut body = redirected(&body, &world.base);
        let Ok(Parsed::Job(found)) = provider::read(body.to_string().as_bytes()) else { panic!("{name}") };
        let id = found.job;
        if jobs.contains_key(&id) || name.ends_with("progress") {
            continue;
        }
        // It is asked for under one of its two names, and answered under the other.
        if name == "minimax-audio-completed" {
            body.as_object_mut().unwrap().remove("audioId");
        }
        let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
        world.shared.answers.lock().unwrap().push((api, id.as_sent().to_owned(), body));
        let (status, answer) = vault.post(&url, Answer::naming(&id, None).body).await;
        assert_eq!((status, &answer["state"]), (StatusCode::OK, &json!("running")), "{name}");
        jobs.insert(id, name);
    }
    let (status, task) = vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    assert!(status.is_success(), "{task}");
    for (id, name) in jobs {
        let (state, outcome, variants) = expected(&name);
        let wait = async {
            loop {
                let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
                if job["state"] == state {
                    return job;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let Ok(job) = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await else {
            let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
            let (_, tasks) = vault.get("/api/v1/tasks").await;
            panic!("{name}: expected {state}: {job:#}\n{tasks:#}\n{:?}", world.seen());
        };
        let found: Vec<&str> =
            job["assets"].as_array().unwrap().iter().map(|asset| asset["variant"].as_str().unwrap_or("none")).collect();
        assert_eq!((&job["outcome"], &found[..]), (&outcome, variants), "{name}");
    }
}

/// Speech has two ids, and a body may have either.
#[tokio::test]
async fn speech_that_is_named_by_its_other_id_is_the_same_job() {
    let mut vault = Vault::start().await;
    let (made, listed) = ("user:1-minimax:2-audio:a7", "user:1-minimax:2-audio:991");
    let running = json!({"statusLabel": "processing", "statusFinal": false, "replyRef": "said"});
    let with = |ids: Value| {
        let mut body = running.clone();
        body.as_object_mut().unwrap().extend(ids.as_object().unwrap().clone());
        body
    };
    vault.callback(with(json!({"audioId": made}))).await;
    vault.callback(with(json!({"audioId": made, "audio_id": listed}))).await;
    let same = async |vault: &Vault, callbacks: u32| {
        let (_, jobs) = vault.get("/api/v1/jobs").await;
        assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "{jobs:#}");
        let job = vault.job(listed).await;
        assert_eq!(
            (&job["jobId"], &job["callbacks"], &job["replyRef"]),
            (&json!(made), &json!(callbacks), &json!("said"))
        );
    };
    let answer = vault.callback(with(json!({"audio_id": listed, "message": "soon"}))).await;
    assert_eq!(answer["jobId"], made);
    same(&vault, 3).await;
    // What another job is named by stays that job's.
    let other = "user:1-minimax:2-audio:992";
    vault.callback(with(json!({"audio_id": other}))).await;
    vault.callback(with(json!({"audioId": made, "audio_id": other}))).await;
    assert_eq!(vault.job(other).await["jobId"], other);
    let (_, deleted) = vault.get("/api/v1/jobs").await;
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    // The state is found as it was, and comes back from the journal alone.
    for remove in [false, true] {
        vault.stop().await;
        if remove {
            std::fs::remove_dir_all(vault.settings.data_dir.join("state")).unwrap();
        }
        vault.start_again().await;
        assert_eq!(vault.job(listed).await["jobId"], made);
        assert_eq!(vault.job(other).await["jobId"], other);
    }
    assert_eq!(vault.callback(with(json!({"audio_id": listed, "message": "now"}))).await["jobId"], made);
}

/// Images that stand in the answer to a question about their job.
#[tokio::test]
async fn an_answer_may_have_files_in_it() {
    let world = World::start();
    let vault = Vault::start_with(|settings| world.configure(settings)).await;
    let (_, mut body) = fixtures().into_iter().find(|(name, _)| name == "google-flow-image-inline").unwrap();
    let picture = crate::support::media::png_of(&[7; 6_000_000]);
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &picture);
    body["response"]["media"][0]["image"]["generatedImage"]["encodedImage"] = json!(text);
    let id = body["jobid"].as_str().unwrap().to_owned();
    world.shared.answers.lock().unwrap().push(("google-flow", id.clone(), body));
    let known = json!({"jobid": id}).to_string();
    assert_eq!(vault.post(&vault.channel_url(), known).await.0, StatusCode::OK);
    vault.send("POST", "/api/v1/tasks/reconcile", &json!({})).await;
    let job = vault.job_in(&encoded(&id), &["archived"]).await;
    vault.assert_stored(&job, &picture).await;
}

#[tokio::test]
async fn without_a_token_what_needs_one_waits_and_says_so_and_the_marked_copy_is_kept() {
    let world = World::start();
    let vault = Vault::start().await;
    let all = fixtures();
    let post = async |name: &str| {
        let (_, body) = all.iter().find(|(found, _)| found == name).unwrap();
        let (status, answer) = vault.post(&vault.channel_url(), redirected(body, &world.base).to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["jobId"].as_str().unwrap().to_owned()
    };
    let marked = vault.archived(&post("kling-completed").await).await;
    assert_eq!(marked["assets"][0]["variant"], "watermarked");
    let id = post("tempolor-completed").await;
    let wait = async {
        loop {
            let job = vault.job(&id).await;
            if job["assets"][0]["lastError"].as_str().is_some_and(|error| error.contains("provider.api_token")) {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let job = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.unwrap();
    assert_eq!((&job["state"], &job["assets"][0]["attempts"]), (&json!("archiving"), &json!(0)));
}

#[tokio::test]
async fn a_refused_host_shows_what_would_allow_it() {
    let vault = Vault::start().await;
    let (_, body) = fixtures().into_iter().find(|(name, _)| name == "dreamina-completed").unwrap();
    let (_, answer) = vault.post(&vault.channel_url(), body.to_string()).await;
    let job = vault.job_in(&encoded(answer["jobId"].as_str().unwrap()), &["stuck"]).await;
    let error = job["assets"][0]["lastError"].as_str().unwrap();
    assert!(error.contains("add \"v3-web.douyinvod.com\" to fetch.allowed_hosts"), "{error}");
}
