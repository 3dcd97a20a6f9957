//! Every endpoint of the provider's, through the gateway as without it: status, headers and body, byte for byte.

use actix_http::ws::OpCode;
use serde_json::{Value, json};

use super::pair::{Call, OWN_HEADERS, Pair, QUICK, STILL};
use crate::support::raw::Raw;
use crate::support::web_socket::WebSocket;

/// Where nobody listens. What is sent there is another test's business.
const OWN: &str = "http://127.0.0.1:9/own?a=1&b=%2F";

fn text(answer: &Raw, pointer: &str) -> String {
    let value = answer.json();
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {value:#}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_features_pass_as_they_are() {
    let pair = Pair::start("", STILL).await;
    let body = json!({"url": "https://example.org", "token": "an account's secret", "maxJobs": 3});
    let made = pair.post("accounts", &body).await;
    assert_eq!(made.status, 201);
    let path = format!("accounts/{}", text(&made, "/account"));
    for path in [path.as_str(), "accounts", "accounts/1", "features/?account=730015522"] {
        pair.get(path).await;
    }
    assert_eq!((pair.delete(&path).await.status, pair.delete(&path).await.status), (204, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_pass_as_they_are_and_arrive_whole() {
    let pair = Pair::start("", STILL).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    let upload = |path, content_type| Call { method: "POST", path, content_type, body: &bytes };
    let made = pair.both(upload("files/?account=730015522", "image/png")).await;
    pair.both(upload("files", "text/plain")).await;
    pair.both(upload("audio/upload-sample", "audio/mpeg")).await;
    assert_eq!(pair.direct.uploads(), pair.behind.uploads());
    assert_eq!(pair.behind.uploads()[0].sha256, replyvault::domain::Digest::of(&bytes));
    pair.get("files/?limit=5").await;
    assert_eq!(pair.delete(&format!("files/{}", text(&made, "/fileID"))).await.status, 200);
    assert_eq!(pair.get("files").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_are_made_read_and_archived_as_without_a_gateway() {
    let pair = Pair::start("", QUICK).await;
    let bodies = [
        json!({"prompt": "ünï ✓", "model": "T2V-2.3", "promptOptimization": true}),
        json!({"prompt": "x", "replyUrl": OWN, "replyRef": "boat \"17\" ✓"}),
        json!({"prompt": "x", "replyRef": "again", "maxJobs": 10}),
    ];
    for body in bodies {
        let made = pair.post("videos/create", &body).await;
        assert_eq!((made.status, made.json().get("replyUrl")), (200, body.get("replyUrl")));
        assert_eq!(made.json().get("replyRef"), body.get("replyRef"));
        pair.ended(&format!("videos/{}", text(&made, "/videoId"))).await;
    }
    let form = "prompt=a+boat&replyRef=form%20%26+ref";
    let call = Call {
        method: "POST",
        path: "videos/create",
        content_type: "application/x-www-form-urlencoded",
        body: form.as_bytes(),
    };
    let made = pair.both(call).await;
    pair.ended(&format!("videos/{}", text(&made, "/videoId"))).await;
    let made = pair.form("videos/create", &[("prompt", "x"), ("replyRef", "multipart"), ("replyUrl", OWN)]).await;
    let last = format!("videos/{}", text(&made, "/videoId"));
    pair.ended(&last).await;

    assert_eq!(pair.get("videos/?account=730015522&limit=3").await.json().as_array().unwrap().len(), 3);
    assert_eq!(pair.get(&format!("videos/?lastVideoId={}", &last[7..])).await.json().as_array().unwrap().len(), 4);
    pair.get("videos/characters").await;
    assert_eq!(pair.post("videos/create", &json!({})).await.status, 400);
    pair.assert_archived().await;
    assert_eq!((pair.delete(&last).await.status, pair.get(&last).await.status), (200, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_and_the_scheduler_pass_as_they_are() {
    let pair = Pair::start("", STILL).await;
    let one = pair.post("videos/create", &json!({"prompt": "x", "replyUrl": OWN, "replyRef": "one"})).await;
    let two = pair.post("videos/create", &json!({"prompt": "x"})).await;
    let image = pair.post("images/create", &json!({"prompt": "x", "replyRef": "image"})).await;
    assert_eq!(pair.get("scheduler/").await.json().as_array().unwrap().len(), 3);
    pair.get("scheduler/available").await;
    pair.get(&format!("videos/{}", text(&two, "/videoId"))).await;
    pair.get(&format!("images/{}", text(&image, "/imageIds/0"))).await;
    let busy = pair.post("videos/create", &json!({"prompt": "x", "maxJobs": 1})).await;
    assert_eq!((busy.status, text(&busy, "/runningVideos/730015522/0/replyRef")), (429, "one".into()));

    assert_eq!(pair.post("videos/cancel", &json!({"videoId": text(&one, "/videoId")})).await.status, 200);
    assert_eq!(text(&pair.ended(&format!("videos/{}", text(&one, "/videoId"))).await, "/statusLabel"), "failed");
    let path = format!("scheduler/{}", text(&two, "/videoId"));
    assert_eq!((pair.delete(&path).await.status, pair.delete(&path).await.status), (204, 404));
    assert_eq!(pair.get("scheduler").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn videos_from_templates_stream_and_are_archived() {
    let pair = Pair::start("", QUICK).await;
    let template = "610000000000000007";
    let page = pair.get("videos/agent-templates/?limit=25").await;
    pair.get(&format!("videos/agent-templates?lastId={}", text(&page, "/videoList/24/id"))).await;
    pair.get(&format!("videos/agent-templates?templateId={template}")).await;
    for body in [
        json!({"templateId": template, "prompt": "sea"}),
        json!({"templateId": template, "replyUrl": OWN, "replyRef": "sea-1"}),
    ] {
        let stream = pair.post("videos/agent-create", &body).await;
        assert_eq!((stream.headers["content-type"].as_str(), stream.whole), ("text/event-stream", true));
        let (_, id) = stream.text().split_once("\"videoId\":\"").map(|(a, b)| (a.len(), b.to_owned())).unwrap();
        pair.ended(&format!("videos/{}", id.split('"').next().unwrap())).await;
    }
    assert_eq!(pair.post("videos/agent-create", &json!({"templateId": "1"})).await.status, 404);
    pair.assert_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_made_read_and_archived_as_without_a_gateway() {
    let pair = Pair::start("", QUICK).await;
    let bodies = [json!({"prompt": "x", "quantity": 3}), json!({"prompt": "x", "replyUrl": OWN, "replyRef": "kettle"})];
    let mut last = String::new();
    for body in bodies {
        let made = pair.post("images/create", &body).await;
        for id in made.json()["imageIds"].as_array().unwrap() {
            last = format!("images/{}", id.as_str().unwrap());
            pair.ended(&last).await;
        }
    }
    let page = pair.get("images/?limit=2").await;
    pair.get(&format!("images/?limit=2&lastImageId={}", text(&page, "/images/1/imageId"))).await;
    assert_eq!((pair.delete(&last).await.status, pair.get(&last).await.status), (200, 200));
    assert_eq!(pair.get("images").await.json()["total"], 3);
    pair.assert_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_jobs_are_made_read_and_archived_as_without_a_gateway() {
    let pair = Pair::start("", QUICK).await;
    let models = ("models", "hailuo-2.3,nano-banana-2,minimax-music-2.0");
    let waited = pair.form("agent", &[("prompt", "rain"), models, ("@file", "a picture")]).await;
    assert_eq!((waited.status, text(&waited, "/status")), (200, "completed".into()));
    let reply = [("replyUrl", OWN), ("replyRef", "rain-kit")];
    let started = pair.form("agent", &[&[("prompt", "rain"), models, ("async", "true")], &reply[..]].concat()).await;
    assert_eq!((started.status, text(&started, "/request/replyUrl")), (201, OWN.into()));
    pair.ended(&format!("agent/{}", text(&started, "/jobId"))).await;
    assert_eq!(pair.get("agent/p1-u2-a3-bot:minimax").await.status, 404);
    pair.get("agent/jobs").await;
    pair.assert_archived().await;

    let pair = Pair::start("", STILL).await;
    pair.form("agent", &[("prompt", "rain"), models, ("async", "true")]).await;
    assert_eq!(pair.get("agent/jobs").await.json()["summary"]["730015522"]["executing"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_pass_as_they_are_and_as_they_stream() {
    let pair = Pair::start("", QUICK).await;
    let said = pair.form("llm", &[("prompt", "tell me"), ("@file", "notes")]).await;
    let id = text(&said, "/request/sendResult/chatID");
    let stream = pair.form("llm", &[("prompt", "more"), ("chatID", &id), ("stream", "true")]).await;
    assert_eq!((stream.headers["content-type"].as_str(), stream.whole), ("text/event-stream", true));
    pair.get("llm/?limit=5").await;
    assert_eq!(pair.get(&format!("llm/{id}")).await.json()["messages"].as_array().unwrap().len(), 4);
    assert_eq!(pair.delete("llm/?chatIDs=all").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn songs_and_speech_pass_and_are_archived() {
    let pair = Pair::start("", QUICK).await;
    let song = pair.get("music/create?prompt=la%20la&styleId=21&title=Sea").await;
    pair.get(&format!("music/{}", text(&song, "/musicId"))).await;
    for path in ["music/?limit=5", "music/styles", "audio/config", "audio/voices/?tag_list=Italian"] {
        assert_eq!(pair.get(path).await.status, 200, "{path}");
    }
    let spoken = pair.post("audio/create-mp3", &json!({"text": "hello", "voice_id": "1"})).await;
    let path = format!("audio/{}", text(&spoken, "/audio_id"));
    pair.get(&path).await;
    pair.get("audio/?page=1&page_size=5").await;
    pair.assert_archived().await;
    assert_eq!((pair.delete(&path).await.status, pair.get(&path).await.status), (200, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn voices_are_cloned_and_deleted_as_without_a_gateway() {
    let pair = Pair::start("", STILL).await;
    let body = json!({"voice_name": "Doctor", "language_tag": "English", "files": "a,b"});
    let voice = pair.post("audio/clone-voice", &body).await;
    pair.get("audio/voices?is_system=false").await;
    let id = text(&voice, "/voice_id");
    assert_eq!(pair.form("audio/delete-voice", &[("voice_id", &id)]).await.status, 200);
    assert_eq!(pair.get("audio/voices?is_system=false").await.json()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_over_a_web_socket_passes_frame_by_frame() {
    let pair = Pair::start("", QUICK).await;
    let made = pair.post("audio/create-stream", &json!({"text": "hello", "voice_id": "1"})).await;
    let path = format!("/v1/minimax/audio/wss?token={}", text(&made, "/token"));
    let mut spoken = Vec::new();
    for address in [pair.direct.addr(), pair.vault.running().address()] {
        let (mut socket, mut headers) = WebSocket::open(address, &path).await.ok().unwrap();
        headers.retain(|name, _| name != "date" && !OWN_HEADERS.contains(&name.as_str()));
        socket.send(OpCode::Ping, b"there?").await;
        socket.send(OpCode::Text, made.json()["payload"].to_string().as_bytes()).await;
        let mut frames = Vec::new();
        while let Some((opcode, data)) = socket.receive().await {
            frames.push((opcode, data.clone()));
            if data.windows(10).any(|part| part == b"\"status\":2") {
                socket.send(OpCode::Close, &[3, 232]).await;
            }
        }
        assert_eq!(frames.last().unwrap().0, OpCode::Close);
        spoken.push((headers, frames));
    }
    assert!(spoken[0].1.len() > 4);
    assert_eq!(spoken[0], spoken[1]);

    let listed = pair.get("audio").await;
    pair.get(&format!("audio/{}", text(&listed, "/audio_list/0/audio_id"))).await;
    pair.assert_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_providers_errors_pass_as_they_are() {
    let body = json!({"prompt": "x", "text": "x", "voice_id": "1", "models": "kolors", "replyRef": "r",
        "templateId": "610000000000000001"});
    for status in [400, 401, 404, 412, 422, 429, 500, 504, 596] {
        let pair = Pair::start(&format!("{status}=1"), QUICK).await;
        for path in ["videos/create", "videos/agent-create", "images/create", "agent", "audio/create-mp3"] {
            assert_eq!(pair.post(path, &body).await.status, status, "{path}");
        }
    }
    for status in [401, 429, 500, 596] {
        let pair = Pair::start(&format!("get-{status}=1,list-{status}=1"), QUICK).await;
        for path in
            ["videos/user:1-minimax:2-video:3", "agent/p1-u2-a3-bot:minimax", "videos", "scheduler", "agent/jobs"]
        {
            assert_eq!(pair.get(path).await.status, status, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_json_and_events_pass_as_they_are() {
    let pair = Pair::start("odd=1", QUICK).await;
    for path in ["accounts", "features", "audio/voices", "videos/agent-templates", "music/create?prompt=la&styleId=1"] {
        assert!(pair.get(path).await.text().contains("traceNumbers"), "{path}");
    }
    let stream = pair.post("videos/agent-create", &json!({"templateId": "610000000000000001"})).await;
    assert!(stream.text().contains("\r\n\r\n"));
    pair.form("llm", &[("prompt", "x"), ("stream", "true")]).await;

    let pair = Pair::start("odd=1", STILL).await;
    let made = pair.behind.base_url() + "/v1/minimax/videos/create";
    let foreign = json!({"prompt": "ünï", "replyUrl": "http://h/ünï", "replyRef": "r"});
    for base in [pair.direct.base_url() + "/v1/minimax/videos/create", made] {
        let answer = pair.vault.client.post(base).bearer_auth("t").json(&foreign).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert!(pair.get("videos/?limit=1").await.text().contains("\\u00FC"));
}
