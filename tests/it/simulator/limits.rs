//! The provider's errors and limits on demand.

use std::time::Instant;

use super::*;
use crate::support::raw;

const HEADERS: [(&str, &str); 2] = [("Authorization", "Bearer t"), ("Content-Type", "application/json")];

#[tokio::test(flavor = "multi_thread")]
async fn every_status_can_be_had_from_every_call_that_makes_jobs() {
    for status in [400_u16, 401, 404, 412, 422, 429, 500, 504, 596] {
        let bench = Bench::start(&format!("{status}=1")).await;
        for path in ["videos/create", "videos/agent-create", "images/create", "agent", "audio/create-mp3"] {
            let body = json!({"prompt": "x", "text": "x", "voice_id": "1", "models": "kolors", "replyRef": "r",
                "templateId": "610000000000000001"});
            let (found, answer) = bench.post(path, body).await;
            assert_eq!(found, status, "{path}");
            if path == "agent" && [500, 504].contains(&status) {
                assert_eq!((text(&answer, "status"), &answer["error"]["status"]), ("failed", &json!(status)));
                assert_eq!((text(&answer["request"], "replyRef"), answer.get("response")), ("r", None));
            } else {
                assert!(answer["error"].is_string(), "{answer}");
                assert_eq!(answer["runningVideos"].is_object(), status == 429 && path.starts_with("videos"));
            }
        }
        assert_eq!(bench.get("music/create?prompt=x&styleId=1").await.0, status);
        let whole_jobs = u64::from([500, 504].contains(&status));
        assert_eq!(bench.simulator.stats().jobs, whole_jobs);
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_job_that_is_to_fail_does_so_in_the_background_too() {
    let bench = Bench::start("504=1").await;
    assert_eq!(text(&bench.agent("kolors").await, "status"), "started");
    let [failed] = bench.settled().await.try_into().unwrap();
    assert_eq!((text(&failed, "status"), &failed["error"]["status"]), ("failed", &json!(504)));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_have_only_so_many_jobs_and_credits() {
    let faults = "max-jobs=2,credits=4".parse().unwrap();
    let bench = Bench::with(Config { faults, pace: Duration::from_secs(30), ..Config::default() }).await;
    for name in ["one", "two"] {
        assert!(bench.video(name).await["videoId"].is_string());
    }
    let (status, busy) = bench.post("videos/create", json!({"prompt": "x"})).await;
    let running = &busy["runningVideos"]["730015522"];
    assert_eq!((status, running.as_array().unwrap().len(), text(&running[0], "replyRef")), (429, 2, "one"));
    for name in ["account", "id", "scheduledVideo", "videoId", "started", "replyUrl", "replyRef"] {
        assert!(running[0][name].is_string(), "{name}");
    }
    assert_eq!(bench.post("videos/create", json!({"prompt": "x", "account": "7"})).await.0, 200);
    let (status, poor) = bench.post("images/create", json!({"prompt": "x", "quantity": 2})).await;
    assert_eq!((status, poor["error"].is_string()), (412, true));
    assert_eq!(bench.get("features").await.1["totalCredits"], 1);
    assert_eq!(bench.post("videos/create", json!({"prompt": "x", "maxJobs": 11})).await.0, 400);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_can_fail_and_have_any_order() {
    let paths =
        ["videos", "images", "music", "audio", "files", "llm", "scheduler", "scheduler/available", "agent/jobs"];
    for status in [401, 429, 500, 596] {
        let bench = Bench::start(&format!("list-{status}=1")).await;
        for path in paths {
            assert_eq!(bench.get(path).await.0, status, "{path}");
        }
        bench.simulator.set_read_faults("".parse().unwrap());
        assert_eq!(bench.get("videos").await.0, 200);
        bench.stop().await;
    }
    let mut orders = Vec::new();
    for order in ["newest", "oldest", "shuffled"] {
        let bench = Bench::start(&format!("list-order={order}")).await;
        let mut made = Vec::new();
        for n in 0..9 {
            made.push(bench.video(&n.to_string()).await["videoId"].clone());
        }
        let mut listed: Vec<Value> = Vec::new();
        loop {
            let last = listed.last().and_then(Value::as_str).unwrap_or_default();
            let (_, page) = bench.get(&format!("videos/?limit=2&lastVideoId={last}")).await;
            let page = page.as_array().unwrap();
            listed.extend(page.iter().map(|video| video["videoId"].clone()));
            if page.len() < 2 {
                break;
            }
        }
        let places: Vec<_> = listed.iter().map(|id| made.iter().position(|made| made == id).unwrap()).collect();
        orders.push(places);
        bench.stop().await;
    }
    let oldest: Vec<_> = (0..9).collect();
    assert_eq!((&orders[0], &orders[1]), (&oldest.iter().rev().copied().collect(), &oldest));
    assert!(orders[2] != orders[0] && orders[2] != orders[1]);
    orders[2].sort_unstable();
    assert_eq!(orders[2], oldest);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_can_be_slow_cut_off_or_odd() {
    let bench = Bench::start("slow=300ms").await;
    let started = Instant::now();
    assert_eq!(bench.get("accounts").await.0, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    bench.stop().await;

    let bench = Bench::start("cut=1").await;
    let path = "/v1/minimax/accounts";
    let answer = raw::call(bench.simulator.addr(), "GET", path, &HEADERS, b"").await;
    let promised: usize = answer.headers["content-length"].parse().unwrap();
    assert_eq!((answer.status, answer.whole, answer.body.len()), (200, false, promised / 2));
    bench.stop().await;

    let bench = Bench::start("odd=1").await;
    let id = text(&bench.video("boat ✓").await, "videoId").to_owned();
    let last = bench.settled().await.pop().unwrap();
    let path = format!("/v1/minimax/videos/{id}");
    let answer = raw::call(bench.simulator.addr(), "GET", &path, &HEADERS, b"").await;
    let (odd, plain) = (answer.text(), answer.json().to_string());
    assert!(odd.is_ascii() && odd.contains("98765432109876543210987"));
    assert_ne!(odd.len(), plain.len());
    assert_eq!((text(&answer.json(), "desc"), text(&last, "replyRef")), (text(&last, "desc"), "boat ✓"));
    assert_eq!(answer, raw::call(bench.simulator.addr(), "GET", &path, &HEADERS, b"").await.without_date(&answer));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_links_can_have_expired_whoever_tells_them() {
    let bench = Bench::start("stale=1,expire=1h").await;
    let status = async |url: &str| bench.client.get(url).send().await.unwrap().status().as_u16();
    let (_, agent) = bench.post("agent", json!({"prompt": "x", "models": "kolors"})).await;
    let file = |agent: &Value| text(&agent["response"]["attachments"][0]["file"], "fileUrl").to_owned();
    assert_eq!(status(&file(&agent)).await, 403);
    let (_, fresh) = bench.get(&format!("agent/{}", text(&agent, "jobId"))).await;
    assert_eq!(status(&file(&fresh)).await, 200);

    let (_, spoken) = bench.post("audio/create-mp3", json!({"text": "x", "voice_id": "1"})).await;
    assert_eq!(status(text(&spoken, "audio_url")).await, 403);
    let (_, fresh) = bench.get(&format!("audio/{}", text(&spoken, "audio_id"))).await;
    assert_eq!(status(text(&fresh, "audio_url")).await, 200);
    bench.stop().await;
}

#[test]
fn help_and_the_document_name_every_fault() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/simulator.md")).unwrap();
    let (chances, values) = replyvault::simulator::Faults::TABLE.split_once("With a value").unwrap();
    let names = |text: &str| {
        text.lines().filter_map(|line| Some(line.strip_prefix("  ")?.split_once(':')?.0.to_owned())).collect::<Vec<_>>()
    };
    let (chances, values) = (names(chances), names(values));
    assert!(chances.len() > 30 && values.len() == 7);
    for name in &chances {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
    for name in &values {
        assert!(document.contains(&format!("`{name}=")), "{name}");
    }
}
