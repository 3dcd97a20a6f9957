//! Answers that come in events.

use std::time::Instant;

use super::*;
use crate::support::raw;

/// The events of a stream, each its name and its data.
fn events(text: &str) -> Vec<(String, Value)> {
    let text = text.replace("\r\n", "\n");
    let events = text.split("\n\n").filter(|event| !event.is_empty()).map(|event| {
        let field = |name: &str| {
            let lines = event.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':'));
            lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
        };
        (field("event"), serde_json::from_str(&field("data")).unwrap())
    });
    events.collect()
}

const TEMPLATE: &str = "610000000000000002";

async fn agent_video(bench: &Bench) -> raw::Raw {
    let body = json!({"templateId": TEMPLATE, "prompt": "sea", "replyUrl": bench.receiver.url, "replyRef": "sea-1"});
    let headers = [("Authorization", "Bearer t"), ("Content-Type", "application/json")];
    let body = body.to_string();
    raw::call(bench.simulator.addr(), "POST", "/v1/minimax/videos/agent-create", &headers, body.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_becomes_a_video_while_a_stream_tells_of_it() {
    let bench = Bench::with(Config { pace: Duration::from_millis(300), ..Config::default() }).await;
    let answer = agent_video(&bench).await;
    assert_eq!(
        (answer.status, answer.headers["content-type"].as_str(), answer.whole),
        (200, "text/event-stream", true)
    );
    assert_eq!(answer.headers["cache-control"], "no-cache");
    assert!(answer.text().starts_with("data: {") && answer.text().ends_with("}\n\n"));
    let events: Vec<_> = events(&answer.text()).into_iter().map(|(_, data)| data).collect();
    let statuses: Vec<_> = events.iter().map(|event| text(event, "status")).collect();
    assert_eq!(statuses[..3], ["created", "connected", "heartbeat"]);
    assert_eq!(statuses.last(), Some(&"finished"));
    assert!(events.iter().map(|event| event["timestamp"].as_u64().unwrap()).is_sorted());
    let (first, last) = (&events[0], events.last().unwrap());
    has_keys(first, &["videoId", "projectID", "chatID", "message.msgContent", "message.msgType", "code", "timestamp"]);
    assert_eq!((&first["videoId"], &first["code"]), (&last["videoId"], &json!(200)));

    let shown: Vec<_> = events.iter().filter(|event| event["status"] == "progress").collect();
    assert!(shown.iter().all(|event| event.get("videoId").is_none()));
    let attachment = |event: &Value| event["message"]["attachmentInfo"]["attachments"][0].clone();
    let files: Vec<_> = shown.iter().map(|event| attachment(event)).filter(|file| file["status"] == 3).collect();
    assert_eq!(
        files.iter().map(|file| text(&file["file"], "fileName")).collect::<Vec<_>>(),
        ["frame.png", "final_video.mp4"]
    );
    assert_eq!((&shown[6]["type"], &shown[6]["isFinished"]), (&json!(3), &json!(true)));

    let (_, video) = bench.get(&format!("videos/{}", text(first, "videoId"))).await;
    assert_eq!((text(&video, "statusLabel"), video.get("replyRef")), ("completed", None));
    let truth = bench.simulator.truth();
    assert_eq!(truth[0].files[0].url, text(&video, "downloadURL"));
    assert!(files.iter().all(|file| text(&file["file"], "fileUrl") != truth[0].files[0].url));
    let last = bench.settled().await.pop().unwrap();
    assert_eq!((&last["videoId"], &last["replyRef"]), (&first["videoId"], &json!("sea-1")));

    assert_eq!(bench.post("videos/agent-create", json!({"templateId": "1"})).await.0, 404);
    assert_eq!(bench.post("videos/agent-create", json!({"prompt": "x"})).await.0, 400);
    assert_eq!(bench.post("videos/agent-create", json!({"templateId": TEMPLATE, "fileID": "x"})).await.0, 400);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_can_come_as_a_stream() {
    let bench = Bench::start("").await;
    let headers = [("Authorization", "Bearer t"), ("Content-Type", "application/x-www-form-urlencoded")];
    let body = b"prompt=tell+me+a+joke&stream=true";
    let answer = raw::call(bench.simulator.addr(), "POST", "/v1/minimax/llm", &headers, body).await;
    assert!(answer.text().starts_with("event:send_result\ndata:{"));
    let events = events(&answer.text());
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    let grows = ["message_result"; 4];
    assert_eq!(names, [&["send_result"][..], &grows, &["close_chunk"]].concat());
    let content = |place: usize| text(&events[place].1["data"]["messageResult"], "content").to_owned();
    assert!((1..4).all(|place| content(place + 1).starts_with(&content(place))));
    assert!(events.iter().take(5).all(|(_, data)| data["statusInfo"]["code"] == 0));
    assert_eq!(events[5].1, json!({"type": 8}));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_can_be_silent_cut_off_or_odd() {
    let bench = Bench::start("stream-gap=700ms").await;
    let started = Instant::now();
    let answer = agent_video(&bench).await;
    assert!(started.elapsed() > Duration::from_millis(700) && answer.whole);
    assert!(!answer.text().contains("heartbeat") && answer.text().contains("finished"));
    bench.stop().await;

    let bench = Bench::start("cut=1").await;
    let answer = agent_video(&bench).await;
    assert!(!answer.whole && answer.text().contains("created") && !answer.text().contains("finished"));
    bench.stop().await;

    let bench = Bench::start("odd=1").await;
    let answer = agent_video(&bench).await;
    assert!(answer.text().contains("\r\n\r\n") && answer.text().starts_with(": "));
    let events = events(&answer.text());
    assert_eq!((events.len(), text(&events[0].1, "status")), (13, "created"));
    bench.stop().await;
}
