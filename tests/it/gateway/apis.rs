//! Every API of the provider through the gateway: jobs made here call back here, and what is read teaches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actix_web::HttpResponse;
use replyvault::domain::{Digest, JobId};
use replyvault::provider::{self, ClientConfig, Parsed};
use serde_json::{Value, json};

use super::provider::{Asked, CALLERS_TOKEN, Provider, gateway, loopback};
use crate::apis::world::{expected, file, fixtures, redirected};
use crate::support::apis::encoded;
use crate::support::vault::{TOKEN, Vault};

/// How a job of a fixture is made: the path, and the provider's answer to the call, without what the caller gave.
fn creation(name: &str, id: &JobId, body: &Value) -> (&'static str, Value) {
    let sent = id.as_sent();
    let record = |status: &str| json!({"jobid": sent, "status": status, "type": body["type"], "request": {}});
    let api = provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap();
    match api {
        "minimax" if name.contains("music") => ("v1/minimax/music/create", json!({"musicId": sent})),
        "minimax" => ("v1/minimax/speech/create", json!({"audioId": sent})),
        "google-flow" if name.contains("image") => ("v1/google-flow/images", record("created")),
        "google-flow" => ("v1/google-flow/videos", record("created")),
        "flowmusic" => ("v1/flowmusic/music", record("pending")),
        "dreamina" if name.contains("image") => ("v1/dreamina/images", record("created")),
        "dreamina" if name.contains("upscale") => ("v1/dreamina/videos/upscale", record("created")),
        "dreamina" => ("v1/dreamina/videos", record("created")),
        "kling" if name.contains("image") => ("v1/kling/images/kolors", json!({"task": {"id": body["task"]["id"]}})),
        "kling" => ("v1/kling/videos/text2video", json!({"task": {"id": body["task"]["id"], "status": 5}})),
        "runwayml" if name.contains("image") => {
            ("v1/runwayml/images/create", json!({"taskId": sent, "status": "PENDING"}))
        }
        "runwayml" => ("v1/runwayml/gen4turbo/create", json!({"taskId": sent, "status": "PENDING"})),
        "pixverse" if name.contains("image") => {
            ("v2/pixverse/images/create", json!({"success_ids": [sent], "image_id": null}))
        }
        "pixverse" if name.contains("music") => ("v2/pixverse/music/create", json!({"audio_id": sent})),
        "pixverse" if name.contains("speech") => ("v2/pixverse/speech/create", json!({"audio_id": sent})),
        "pixverse" => ("v2/pixverse/videos/create", json!({"video_id": sent})),
        "mureka" if name.contains("speech") => ("v1/mureka/speech", record("created")),
        "mureka" => ("v1/mureka/music/create", record("created")),
        "tempolor" => ("v1/tempolor/music/song", json!({"jobs": [sent]})),
        "faceswap" => ("v1/faceswap/picsi", json!({"jobid": sent, "verb": body["verb"], "status": "started"})),
        "google-vids" => ("v1/google-vids/videos", record("processing")),
        "gemini-notebook" => ("v1/gemini-notebook/artifacts", record("processing")),
        other => panic!("{other} has no call that creates its jobs"),
    }
}

#[derive(Default)]
struct Script {
    /// The answer to the next call that creates a job.
    created: Mutex<Value>,
    /// The answers about jobs, by their paths.
    jobs: Mutex<HashMap<String, Value>>,
}

/// What the caller gave stands in the answer, as at the provider.
fn echoed(asked: &Asked, mut answer: Value) -> Value {
    let given = if asked.header("content-type").is_some_and(|is| is.starts_with("multipart")) {
        let (text, mut given) = (asked.text(), json!({}));
        for name in ["replyUrl", "replyRef"] {
            let value =
                text.split_once(&format!("name=\"{name}\"\r\n\r\n")).and_then(|(_, rest)| rest.split_once("\r\n"));
            given[name] = value.map_or(Value::Null, |(value, _)| json!(value));
        }
        given
    } else {
        asked.json()
    };
    for name in ["replyUrl", "replyRef"] {
        match answer.get_mut("request") {
            Some(request) => request[name] = given[name].clone(),
            None => answer[name] = given[name].clone(),
        }
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_every_api_are_made_to_call_back_and_archived_from_what_their_callers_read() {
    let script = Arc::new(Script::default());
    let provider = Provider::start({
        let script = script.clone();
        move |asked: &Asked| {
            let path = asked.target.trim_start_matches('/').to_owned();
            let is_api = path.starts_with("v1/") || path.starts_with("v2/");
            if asked.method == "POST" {
                return HttpResponse::Created().json(echoed(asked, script.created.lock().unwrap().clone()));
            }
            if let Some(answer) = script.jobs.lock().unwrap().get(&path) {
                return HttpResponse::Ok().json(answer);
            }
            let at = |file: &str| format!("http://{}/{file}", asked.header("host").unwrap());
            if path.starts_with("v1/kling/assets/download?") {
                return HttpResponse::Ok().json(json!({"cdnUrl": at("clean.mp4")}));
            }
            if path.starts_with("v1/tempolor/music/download/") {
                return HttpResponse::Ok().json(json!({"url": at("song.wav")}));
            }
            if is_api && !path.contains("/media/") && !path.contains("/artifacts/download?") {
                return HttpResponse::NotFound().finish();
            }
            let (content_type, bytes) = file(&asked.target);
            HttpResponse::Ok().content_type(content_type).body(bytes)
        }
    });
    let vault = Vault::start_with(|settings| {
        settings.gateway = Some(gateway(&provider.base_url));
        settings.provider = Some(ClientConfig {
            base_url: provider.base_url.parse().unwrap(),
            api_token: "token".into(),
            egress: loopback(),
        });
        settings.reconcile.minute = std::time::Duration::from_secs(86_400);
        settings.reconcile.reads_lists = false;
    })
    .await;
    let mut apis = std::collections::BTreeSet::new();
    let mut seen = std::collections::BTreeSet::new();
    for (name, body) in fixtures() {
        let mut body = redirected(&body, &provider.base_url);
        let Ok(Parsed::Job(found)) = provider::read(body.to_string().as_bytes()) else { panic!("{name}") };
        let id = found.job;
        // A history has no call that makes it, and a command none that is to call back.
        if name.ends_with("progress")
            || name.contains("history")
            || name.contains("command")
            || !seen.insert(id.clone())
        {
            continue;
        }
        let (path, answer) = creation(&name, &id, &body);
        *script.created.lock().unwrap() = answer;
        let (reply_ref, own) = (format!("mine-{name}"), "https://caller.example/hook?key=1");
        let request = vault.client.post(vault.url(&format!("/{path}"))).bearer_auth(CALLERS_TOKEN);
        let request = if name.starts_with("faceswap") {
            let part = |name: &str, value: &str| {
                format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            };
            let form = [part("replyUrl", own), part("replyRef", &reply_ref), "--b--\r\n".to_owned()].concat();
            request.header("content-type", "multipart/form-data; boundary=b").body(form)
        } else {
            request.json(&json!({"prompt": "a boat", "replyUrl": own, "replyRef": reply_ref}))
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 201, "{name}");
        let shown: Value = response.json().await.unwrap();
        let reply = |value: &Value, field: &str| {
            let request = &value["request"][field];
            if request.is_null() { value[field].clone() } else { request.clone() }
        };
        assert_eq!((reply(&shown, "replyUrl"), reply(&shown, "replyRef")), (json!(own), json!(reply_ref)), "{name}");
        let asked = provider.asked().into_iter().rfind(|asked| asked.method == "POST").unwrap();
        assert_eq!(asked.header("authorization"), Some(&*format!("Bearer {CALLERS_TOKEN}")));
        let sent = reply(&echoed(&asked, json!({})), "replyUrl").as_str().unwrap().to_owned();
        assert!(sent.starts_with(&vault.url("/reply/ref_")), "{name}: {sent}");
        let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
        let (state, outcome, variants) = expected(&name);
        assert_eq!((&job["replyRef"], &job["state"]), (&json!(reply_ref), &json!("running")), "{name}: {job:#}");

        // Whoever reads it teaches its end, and sees nothing of ours.
        body["replyUrl"] = json!(sent);
        let path = provider::job_path(&id).unwrap();
        script.jobs.lock().unwrap().insert(path.clone(), body);
        let response = vault.client.get(vault.url(&format!("/{path}"))).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}: {path}");
        let text = response.text().await.unwrap();
        assert!(!text.contains("/reply/ref_") && text.contains(own), "{name}: {text}");
        let ended = async {
            loop {
                let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
                if job["state"] == state {
                    return job;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let Ok(job) = tokio::time::timeout(std::time::Duration::from_secs(60), ended).await else {
            let (_, job) = vault.get(&format!("/api/v1/jobs/{}", encoded(id.as_str()))).await;
            panic!("{name}: expected {state}: {job:#}");
        };
        let assets = job["assets"].as_array().unwrap();
        let found: Vec<&str> = assets.iter().map(|asset| asset["variant"].as_str().unwrap_or("none")).collect();
        assert_eq!((&job["outcome"], &found[..]), (&outcome, variants), "{name}");
        assert_eq!(job["replyRef"], reply_ref, "{name}");
        for asset in assets.iter().filter(|asset| asset["state"] == "stored") {
            let bytes = vault.object(asset["key"].as_str().unwrap()).await;
            assert_eq!(asset["sha256"], Digest::of(&bytes).to_string(), "{name}");
        }
        apis.insert(provider::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap());
    }
    assert_eq!(apis.len(), provider::names().count());
    // What is no API's is nobody's, and without a token nothing passes.
    for (path, status) in [("/v1/other/videos", 404), ("/v2/kling/tasks", 404), ("/v1/kling/tasks", 401)] {
        assert_eq!(vault.client.get(vault.url(path)).send().await.unwrap().status(), status, "{path}");
    }
}

/// Some APIs want ids encoded, others refuse that.
#[tokio::test(flavor = "multi_thread")]
async fn ids_in_paths_reach_each_api_in_the_form_that_it_takes() {
    let provider = Provider::start(|_| HttpResponse::Ok().json(json!({})));
    let vault = super::provider::vault(&provider.base_url).await;
    for (path, sent) in [
        (
            "/v1/google-flow/jobs/j1v-u1-email%3Aa%40b.c-bot:google-flow",
            "/v1/google-flow/jobs/j1v-u1-email:a@b.c-bot:google-flow",
        ),
        ("/v1/google-vids/jobs/user:1-a+x@b.c-job%3A2", "/v1/google-vids/jobs/user%3A1-a%2Bx%40b.c-job%3A2"),
        ("/v2/pixverse//videos/", "/v2/pixverse/videos/"),
    ] {
        let response = vault.client.get(vault.url(path)).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!((response.status().as_u16(), provider.last().target), (200, sent.to_owned()));
    }
}
