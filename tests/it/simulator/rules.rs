//! What the provider's pages allow, and its words where a client might match them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_the_pages_do_not_allow_is_refused() {
    let bench = Bench::with(Config { pace: Duration::from_secs(30), ..Config::default() }).await;
    let long = "x".repeat(1251);
    let video = |rest: Value| ("videos/create", json!({"prompt": "a boat"}), rest);
    let image = |rest: Value| ("images/create", json!({"prompt": "a boat"}), rest);
    let speech = |rest: Value| ("audio/create-mp3", json!({"text": "hello", "voice_id": "1"}), rest);
    let agent = |models: &str| ("agent", json!({"prompt": "rain", "async": true}), json!({"models": models}));
    for (allowed, (path, mut body, rest)) in [
        (true, video(json!({"model": "I2V-2.3-Fast", "options": "1080p-6sec"}))),
        (false, video(json!({"model": "I2V-9"}))),
        (false, video(json!({"model": "T2V-01", "options": "768p-6sec"}))),
        (false, video(json!({"model": "Sora-2", "options": "768p-6sec"}))),
        (false, video(json!({"model": "02", "options": "512p-6sec"}))),
        (false, video(json!({"options": "768p-6sec"}))),
        (false, video(json!({"promptOptimization": "maybe"}))),
        (true, image(json!({"model": "nano-banana-pro", "resolution": "4K", "aspectRatio": "5:4", "prompt": long}))),
        (true, image(json!({"referenceFileId14": "f", "model": "seedream-4.5"}))),
        (false, image(json!({"model": "dall-e"}))),
        (false, image(json!({"resolution": "4K"}))),
        (false, image(json!({"aspectRatio": "5:4"}))),
        (false, image(json!({"model": "seedream-4.5", "resolution": "1K"}))),
        (false, image(json!({"model": "gpt-image-1.5", "aspectRatio": "16:9"}))),
        (false, image(json!({"prompt": long}))),
        (false, image(json!({"referenceFileId1": "f"}))),
        (false, image(json!({"model": "gpt-image-1.5", "referenceFileId4": "f"}))),
        (true, speech(json!({"speed": 2, "pitch": -12, "model": "speech-01-hd", "robotic": true}))),
        (false, speech(json!({"speed": 2.5}))),
        (false, speech(json!({"speed": "fast"}))),
        (false, speech(json!({"pitch": -13}))),
        (false, speech(json!({"nasal_crisp": 101}))),
        (false, speech(json!({"model": "speech-03"}))),
        (false, speech(json!({"robotic": "a little"}))),
        (true, agent("hailuo-2.3, nano-banana-2")),
        (false, agent("hailuo-2.3,hailuo-9")),
    ] {
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let (status, answer) = bench.post(path, body.clone()).await;
        assert_eq!(status < 300, allowed, "{path} {body}: {answer}");
        assert!(allowed || (status == 400 && answer["error"].is_string()), "{path} {body}: {status} {answer}");
    }
    let lyrics = "x".repeat(601);
    assert_eq!(bench.get(&format!("music/create?styleId=1&prompt={lyrics}")).await.0, 400);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_accounts_a_call_has_to_say_whose_is_meant() {
    let bench = Bench::with(Config { pace: Duration::from_secs(30), ..Config::default() }).await;
    let names = ["audio", "audio/config", "audio/voices", "features", "files", "images", "llm", "llm/7", "music"];
    let others =
        ["music/create?styleId=1&prompt=la", "music/styles", "videos", "videos/agent-templates", "videos/characters"];
    let posts = [
        ("agent", json!({"prompt": "x", "models": "kolors", "async": true})),
        ("images/create", json!({"prompt": "x"})),
        ("audio/create-mp3", json!({"text": "x", "voice_id": "1"})),
        ("audio/create-stream", json!({"text": "x", "voice_id": "1"})),
        ("audio/delete-voice", json!({"voice_id": "1"})),
    ];
    for token in ["one", "two"] {
        let account = json!({"url": "https://hailuoai.video", "token": token, "maxJobs": 2});
        assert_eq!(bench.post("accounts", account).await.0, 201);
    }
    let accounts = bench.get("accounts").await.1;
    let account = accounts.as_object().unwrap().keys().next().unwrap().clone();
    for path in names.into_iter().chain(others) {
        let (status, answer) = bench.get(path).await;
        assert_eq!((status, text(&answer, "error")), (400, "Parameter account is required"), "{path}");
        let and = if path.contains('?') { '&' } else { '?' };
        assert_ne!(bench.get(&format!("{path}{and}account={account}")).await.0, 400, "{path}");
    }
    for (path, mut body) in posts {
        assert_eq!(bench.post(path, body.clone()).await.0, 400, "{path}");
        body["account"] = account.as_str().into();
        assert!(bench.post(path, body).await.0 < 300, "{path}");
    }
    // Here the provider takes one of them.
    assert_eq!(bench.post("videos/create", json!({"prompt": "x"})).await.0, 200);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_words_of_the_pages_and_no_header_of_ours() {
    let on_hold = "Unusual account activities detected. Please contact customer support at contact@hailuoai.com";
    let poor = "Insufficient credits. Please recharge to get more credits or try again next day.";
    for (status, path, words) in [
        (412, "videos/create", poor),
        (412, "images/create", poor),
        (422, "videos/create", "Your prompt is too short, please provide more details"),
        (422, "agent", "Your prompt contains content that violates our policies"),
        (429, "videos/create", "Account is busy executing videos"),
        (429, "images/create", "There are currently multiple tasks in the queue, and only can be generated at once"),
        (429, "agent", "Agent generation failed"),
        (596, "videos/create", on_hold),
        (596, "agent", on_hold),
    ] {
        let bench = Bench::start(&format!("{status}=1")).await;
        let (found, answer) = bench.post(path, json!({"prompt": "x", "models": "kolors"})).await;
        assert_eq!((found, text(&answer, "error")), (status, words), "{path}");
        bench.stop().await;
    }
    let bench = Bench::start("get-429=1").await;
    let url = format!("{}/v1/minimax/videos/user:1-minimax:2-video:3", bench.simulator.base_url());
    let busy = bench.client.get(url).bearer_auth("t").send().await.unwrap();
    assert_eq!((busy.status().as_u16(), busy.headers().get("retry-after")), (429, None));
    bench.stop().await;
}
