//! The simulator as its users see it: an API, callbacks and a CDN.

#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use replyvault::domain::{Digest, Kind};
use replyvault::simulator::{Config, Expected, Outcome, Simulator, Variant};
use serde_json::{Value, json};

use crate::support::stand_in;

/// Receives callbacks and answers them all alike.
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<Value>>>,
    server: ServerHandle,
}

impl Receiver {
    async fn start(answer: StatusCode) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/reply", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Value>>>::default();
        let store = Arc::clone(&seen);
        let server = HttpServer::new(move || {
            let store = Arc::clone(&store);
            let reply = web::post().to(move |body: web::Json<Value>| {
                store.lock().unwrap().push(body.into_inner());
                async move { HttpResponse::build(answer).finish() }
            });
            App::new().route("/reply", reply)
        });
        let server = stand_in(server).listen(listener).unwrap().run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { url, seen, server: handle }
    }

    fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

/// A simulator with a client that has a token and a receiver that says 200.
struct Bench {
    simulator: Simulator,
    receiver: Receiver,
    client: reqwest::Client,
}

impl Bench {
    async fn start(faults: &str) -> Self {
        Self::with(Config { faults: faults.parse().unwrap(), ..Config::default() }).await
    }

    async fn with(config: Config) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        let receiver = Receiver::start(StatusCode::OK).await;
        Self { simulator, receiver, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn api(&self, path: &str) -> String {
        format!("{}/v1/minimax/{path}", self.simulator.base_url())
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let answer = request.bearer_auth("token").send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(self.client.get(self.api(path))).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(self.client.post(self.api(path)).json(&body)).await
    }

    async fn video(&self, reply_ref: &str) -> Value {
        let body = json!({"prompt": "a boat", "fileID": "user:1-minimax:2-file:3", "replyUrl": self.receiver.url, "replyRef": reply_ref});
        self.post("videos/create", body).await.1
    }

    async fn agent(&self, models: &str) -> Value {
        let body = json!({"prompt": "rain", "models": models, "async": true, "replyUrl": self.receiver.url,
            "replyRef": "rain-kit"});
        self.post("agent", body).await.1
    }

    /// The callbacks once all are sent.
    async fn settled(&self) -> Vec<Value> {
        self.simulator.idle().await;
        self.receiver.seen()
    }

    async fn check_files(&self, job: &Expected) {
        for file in &job.files {
            let answer = self.client.get(&file.url).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], file.content_type);
            assert_eq!(answer.content_length(), Some(file.bytes));
            assert_eq!(Digest::of(&answer.bytes().await.unwrap()), file.sha256);
        }
    }

    async fn stop(self) {
        self.simulator.stop().await;
        self.receiver.server.stop(false).await;
    }
}

/// Every path to a field, so that shapes can be compared.
fn keys(value: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                let path = format!("{path}.{name}");
                into.push(path.clone());
                walk(value, &path, into);
            }),
            Value::Array(items) => items.iter().for_each(|item| walk(item, &format!("{path}[]"), into)),
            _ => {}
        }
    }
    let mut paths = Vec::new();
    walk(value, "", &mut paths);
    paths.sort();
    paths.dedup();
    paths
}

fn has_keys(value: &Value, names: &[&str]) {
    let keys = keys(value);
    for name in names {
        assert!(keys.contains(&format!(".{name}")), "no {name} in {value:#}");
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_video_goes_from_created_to_a_final_callback_with_real_media() {
    let bench = Bench::start("").await;
    let created = bench.video("boat ünïcode ✓").await;
    has_keys(&created, &["id", "task.batchID", "task.videoIDs", "videoId", "replyUrl", "replyRef"]);
    let id = text(&created, "videoId").to_owned();
    assert!(!id.ends_with(text(&created, "id")));

    let callbacks = bench.settled().await;
    let (last, progress) = callbacks.split_last().unwrap();
    assert!(progress.len() >= 3);
    for callback in progress {
        has_keys(callback, &["id", "desc", "coverURL", "videoURL", "status", "statusLabel", "message", "percent"]);
        has_keys(callback, &["width", "height", "originFiles", "canAppeal", "canRetry", "videoId", "replyUrl"]);
        assert_eq!((&callback["statusFinal"], text(callback, "videoURL")), (&json!(false), ""));
    }
    let percents: Vec<_> = progress.iter().map(|callback| callback["percent"].as_u64().unwrap()).collect();
    assert!(percents.is_sorted() && percents.first() < percents.last());
    has_keys(last, &["id", "desc", "coverURL", "videoURL", "downloadURL", "percent", "width", "height"]);
    has_keys(last, &["originFiles[].id", "originFiles[].url", "originFiles[].type", "canAppeal", "canRetry"]);
    assert_eq!(
        (&last["status"], &last["statusLabel"], &last["statusFinal"]),
        (&json!(2), &json!("completed"), &json!(true))
    );
    assert_eq!((text(last, "videoId"), text(last, "replyRef")), (id.as_str(), "boat ünïcode ✓"));

    let truth = bench.simulator.truth();
    assert_eq!(truth.len(), 1);
    assert_eq!((truth[0].job_id.as_str(), truth[0].outcome, truth[0].heard), (id.as_str(), Outcome::Completed, true));
    assert_eq!(
        (truth[0].files[0].url.as_str(), truth[0].files[0].variant),
        (text(last, "downloadURL"), Variant::Clean)
    );
    bench.check_files(&truth[0]).await;
    let marked = bench.client.get(text(last, "videoURL")).send().await.unwrap().bytes().await.unwrap();
    assert_ne!(Digest::of(&marked), truth[0].files[0].sha256);
    let cover = bench.client.get(text(last, "coverURL")).send().await.unwrap();
    assert_eq!((cover.status().as_u16(), cover.headers()["content-type"].to_str().unwrap()), (200, "image/jpeg"));

    let stats = bench.simulator.stats();
    assert_eq!((stats.jobs, stats.callbacks_sent, stats.callbacks_acked), (1, 5, 5));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_makes_up_to_four_images() {
    let bench = Bench::start("").await;
    let body = json!({"prompt": "a kettle", "quantity": 3, "replyUrl": bench.receiver.url, "replyRef": "kettle"});
    let (status, created) = bench.post("images/create", body).await;
    assert_eq!((status, created["imageIds"].as_array().unwrap().len()), (200, 3));
    assert_eq!(created["task"]["videoIDs"].as_array().unwrap().len(), 3);
    assert_eq!(bench.post("images/create", json!({"prompt": "x", "quantity": 5})).await.0, 400);

    let callbacks = bench.settled().await;
    let finals: Vec<_> = callbacks.iter().filter(|callback| callback["statusFinal"] == true).collect();
    assert_eq!(finals.len(), 3);
    for last in finals {
        has_keys(last, &["id", "desc", "coverURL", "videoURL", "status", "canRetry", "width", "height", "originFiles"]);
        has_keys(last, &["downloadURL", "hasVoice", "modelID", "createTime", "userID", "createType", "promptImgURL"]);
        has_keys(last, &["extra.cameraMotions", "videoURLs.feedURL", "videoURLs.downloadURLWithWatermark", "batchID"]);
        has_keys(last, &["aspectRatio", "fileID", "tags[].tagIcon", "duration", "resolution", "userIDStr", "replyRef"]);
        assert!(last["userID"].as_u64().unwrap() > 1 << 53);
        assert_eq!(last["batchID"], created["task"]["batchID"]);
        let urls = [&last["videoURL"], &last["downloadURL"], &last["videoURLs"]["downloadURLWithWatermark"]];
        assert!(urls[0] != urls[1] && urls[1] != urls[2]);
    }
    for job in bench.simulator.truth() {
        bench.check_files(&job).await;
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_answer_at_once_or_when_done_in_every_encoding() {
    let bench = Bench::with(Config { pace: Duration::from_millis(800), ..Config::default() }).await;
    let started = bench.agent("hailuo-2.3,nano-banana-2,minimax-music-2.0").await;
    assert_eq!(text(&started, "status"), "started");
    has_keys(&started, &["jobId", "created", "request.account", "request.models", "request.async", "request.replyUrl"]);
    has_keys(&started, &["response.projectID", "response.sectionID", "response.chatID", "request.replyRef"]);
    assert_eq!(bench.get("agent/jobs").await.1["summary"]["730015522"]["executing"], 1);

    let [done] = bench.settled().await.try_into().unwrap();
    assert_eq!((text(&done, "status"), text(&done["request"], "replyRef")), ("completed", "rain-kit"));
    has_keys(&done, &["response.msg_content", "response.timestamp", "response.elapsedTime"]);
    let file = "response.attachments[].file";
    has_keys(&done, &[&format!("{file}.extra.no_watermark_url"), &format!("{file}.extra.thumbnail_url")]);
    has_keys(&done, &["response.attachments[].node.agentFile.noWatermarkUrl"]);
    let truth = bench.simulator.truth();
    let types: Vec<_> = truth[0].files.iter().map(|file| file.content_type).collect();
    assert_eq!(types, ["video/mp4", "image/png", "audio/mpeg", "video/mp4"]);
    bench.check_files(&truth[0]).await;
    assert_eq!(bench.get(&format!("agent/{}", text(&started, "jobId"))).await.1, done);

    let form = bench.client.post(bench.api("agent")).header("content-type", "application/x-www-form-urlencoded");
    let (status, waited) = bench.call(form.body("prompt=rain&models=nano-banana-2&async=false")).await;
    assert_eq!((status, text(&waited, "status")), (200, "completed"));

    let part = |name: &str, value: &str| format!("--b\r\ncontent-disposition: form-data; {name}\r\n\r\n{value}\r\n");
    let body = part("name=\"prompt\"", "rain")
        + &part("name=\"models\"", "hailuo-2.3")
        + &part("name=\"async\"", "true")
        + &part("name=\"file\"; filename=\"a.jpg\"", "bytes")
        + "--b--\r\n";
    let form = bench.client.post(bench.api("agent")).header("content-type", "multipart/form-data; boundary=b");
    let (status, started) = bench.call(form.body(body)).await;
    assert_eq!((status, text(&started, "status")), (201, "started"));
    assert_eq!(
        (text(&started["request"]["file"][0], "name"), &started["request"]["file"][0]["size"]),
        ("a.jpg", &json!(5))
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_kinds_can_still_be_made_and_read() {
    let bench = Bench::start("").await;
    let (_, song) = bench.get("music/create?prompt=la&styleId=1").await;
    assert!(text(&song, "audioURL").ends_with(".mp3"));
    let (_, song) = bench.get(&format!("music/{}", text(&song, "musicId"))).await;
    assert_eq!((text(&song, "statusLabel"), text(&song, "lyrics")), ("completed", "la"));
    let body = json!({"text": "hello", "voice_id": "1", "replyUrl": bench.receiver.url});
    let (_, spoken) = bench.post("audio/create-mp3", body).await;
    let [callback] = bench.settled().await.try_into().unwrap();
    assert_eq!((&callback["audio_id"], &callback["status"]), (&spoken["audio_id"], &Value::Null));
    let truth = bench.simulator.truth();
    assert_eq!(truth.iter().map(|job| job.kind).collect::<Vec<_>>(), [Kind::Music, Kind::Speech]);
    bench.check_files(&truth[0]).await;
    bench.check_files(&truth[1]).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_refused_as_the_provider_refuses_them() {
    let bench = Bench::start("").await;
    let answer = bench.client.get(bench.api("videos/")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"error": "Unauthorized", "code": 401}));
    for path in ["videos/user:1-minimax:2-video:3", "images/x", "agent/p1-u2-a3-bot:minimax", "music/1", "nowhere"] {
        assert_eq!(bench.get(path).await.0, 404, "{path}");
    }
    for (path, body) in [
        ("videos/create", json!({})),
        ("videos/create", json!({"prompt": "x", "replyRef": "a".repeat(1025)})),
        ("images/create", json!({"prompt": "x", "replyUrl": "a".repeat(1025)})),
        ("images/create", json!({"prompt": "x", "account": "../x"})),
        ("images/create", json!({"prompt": "x".repeat(5001)})),
        ("agent", json!({"prompt": "x"})),
        ("agent", json!({"prompt": "x", "models": "kolors,".repeat(17)})),
    ] {
        assert_eq!(bench.post(path, body).await.0, 400, "{path}");
    }
    assert_eq!(bench.simulator.stats().jobs, 0);
    bench.stop().await;

    for (faults, status) in [("429=1", 429), ("596=1", 596)] {
        let bench = Bench::start(faults).await;
        assert_eq!(bench.post("videos/create", json!({"prompt": "x"})).await.0, status);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_page_and_what_is_deleted_leaves_them() {
    let bench = Bench::start("").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.insert(0, text(&bench.video(&n.to_string()).await, "videoId").to_owned());
    }
    let of = |page: &Value| page.as_array().unwrap().iter().map(|v| text(v, "videoId").to_owned()).collect::<Vec<_>>();
    assert_eq!(of(&bench.get("videos/?limit=2").await.1), ids[..2]);
    assert_eq!(of(&bench.get(&format!("videos/?limit=2&lastVideoId={}", ids[1])).await.1), ids[2..4]);
    assert_eq!(of(&bench.get("videos").await.1), ids);
    assert_eq!(bench.call(bench.client.delete(bench.api(&format!("videos/{}", ids[0])))).await.0, 200);
    assert_eq!(of(&bench.get("videos/").await.1), ids[1..]);
    assert_eq!(bench.get(&format!("videos/{}", ids[0])).await.0, 404);

    bench.post("images/create", json!({"prompt": "x", "quantity": 3})).await;
    let (_, page) = bench.get("images/?limit=2").await;
    assert_eq!((&page["hasPre"], &page["hasNext"], &page["total"]), (&json!(false), &json!(true), &json!(3)));
    let (_, page) = bench.get(&format!("images/?lastImageId={}", text(&page["images"][1], "imageId"))).await;
    assert_eq!((&page["hasPre"], &page["hasNext"]), (&json!(true), &json!(false)));
    assert_eq!(page["images"].as_array().unwrap().len(), 1);
    let image = text(&page["images"][0], "imageId").to_owned();
    assert_eq!(bench.call(bench.client.delete(bench.api(&format!("images/{image}")))).await.0, 200);
    assert_eq!(bench.get("images").await.1["total"], 2);
    assert_eq!(bench.get(&format!("images/{image}")).await.0, 200);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_shows_what_runs_and_can_forget_it() {
    let bench = Bench::with(Config { pace: Duration::from_millis(1500), ..Config::default() }).await;
    let id = text(&bench.video("one").await, "videoId").to_owned();
    let image = json!({"prompt": "x", "replyUrl": bench.receiver.url});
    let (_, created) = bench.post("images/create", image).await;
    let (_, running) = bench.get("scheduler").await;
    assert_eq!((&running[0]["videoId"], &running[0]["replyRef"]), (&json!(id), &json!("one")));
    assert_eq!(running[1]["videoId"], created["imageIds"][0]);
    assert_eq!(bench.get("scheduler/available").await.1["available"][0]["available"], 4);
    let forget = || bench.call(bench.client.delete(bench.api(&format!("scheduler/{id}"))));
    assert_eq!((forget().await.0, forget().await.0), (204, 404));
    let callbacks = bench.settled().await;
    assert!(callbacks.iter().all(|callback| callback["videoId"] != json!(id) || callback["statusFinal"] == false));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bench.get(&format!("videos/{id}")).await.1["statusFinal"], true);
    assert_eq!(bench.get("scheduler").await.1, json!([]));
    bench.stop().await;
}

mod apis;
mod faults;
mod limits;
mod media;
mod rules;
mod shapes;
mod socket;
mod streams;
