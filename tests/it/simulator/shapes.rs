//! What every endpoint answers has the fields that the provider's pages show.

use super::*;

impl Bench {
    async fn delete(&self, path: &str) -> u16 {
        self.call(self.client.delete(self.api(path))).await.0
    }

    /// A multipart call with text fields, and files where a name has an `@` in front.
    async fn form(&self, path: &str, fields: &[(&str, &str)]) -> (u16, Value) {
        let part = |(name, value): &(&str, &str)| match name.strip_prefix('@') {
            Some(name) => format!(
                "--b\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"a.txt\"\r\n\
                 content-type: text/plain\r\n\r\n{value}\r\n"
            ),
            None => format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"),
        };
        let body = fields.iter().map(part).collect::<String>() + "--b--\r\n";
        let request = self.client.post(self.api(path)).header("content-type", "multipart/form-data; boundary=b");
        self.call(request.body(body)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_configured_and_say_what_they_can_do() {
    let bench = Bench::start("").await;
    let fields = ["account", "maxJobs", "supportVideo", "supportChat", "supportAudio", "jwt.token", "jwt.exp"];
    let more = ["jwt.iat", "jwt.host", "jwt.searchParams", "jwt.iat_Issued", "jwt.exp_Expire", "jwt.user.deviceID"];
    let (_, all) = bench.get("accounts").await;
    has_keys(&all["730015522"], &fields);
    has_keys(&all["730015522"], &more);
    has_keys(&all["730015522"], &["jwt.user.id", "jwt.user.isAnonymous", "jwt.user.name", "jwt.user.avatar"]);

    let body = json!({"url": "https://example.org", "token": "secret-of-the-account", "maxJobs": 3});
    let (status, made) = bench.post("accounts", body.clone()).await;
    assert_eq!((status, &made["maxJobs"]), (201, &json!(3)));
    assert!(!made.to_string().contains("secret-of"));
    let path = format!("accounts/{}", text(&made, "account"));
    assert_eq!(bench.get(&path).await, (200, made));
    assert_eq!(bench.post("accounts", body).await.0, 201);
    assert_eq!(bench.get("accounts").await.1.as_object().unwrap().len(), 2);
    assert_eq!(bench.get("scheduler/available").await.1["available"].as_array().unwrap().len(), 2);
    assert_eq!((bench.delete(&path).await, bench.delete(&path).await, bench.get(&path).await.0), (204, 404, 404));
    assert_eq!(bench.post("accounts", json!({"url": "u", "token": "t", "maxJobs": 11})).await.0, 400);

    let (_, features) = bench.get("features/?account=730015522").await;
    has_keys(&features, &["totalCredits", "queueLength", "imageQueueLength", "isPaidSubscription", "canManagePlan"]);
    has_keys(&features, &["creditExpireText[].endTime", "modelControl[].modelId", "modelControl[].durations"]);
    has_keys(&features, &["audio.total_credit", "audio.sub_credits[].record[].credit", "supportModes"]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_counted_and_hashed() {
    let bench = Bench::start("").await;
    let bytes = vec![7_u8; 3 << 20];
    let post =
        |path: &str, kind: &str| bench.client.post(bench.api(path)).header("content-type", kind).body(bytes.clone());
    let (status, made) = bench.call(post("files/?account=42", "image/png")).await;
    has_keys(&made, &["ossPath", "fileID"]);
    assert_eq!((status, text(&made, "fileID").contains("-minimax:42-file:")), (200, true));
    assert_eq!(bench.call(post("audio/upload-sample", "audio/wav")).await.0, 200);
    assert_eq!(bench.call(post("files", "text/html")).await.0, 400);

    let uploads = bench.simulator.uploads();
    assert_eq!((uploads.len(), uploads[0].bytes, uploads[0].sha256), (2, 3 << 20, Digest::of(&bytes)));
    assert_eq!(bench.simulator.stats().upload_bytes, 6 << 20);
    let (_, list) = bench.get("files/?account=42&limit=5").await;
    has_keys(&json!({"list": list}), &["list[].file_id", "list[].file_type", "list[].file_scene", "list[].oss_path"]);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["file_id"]), (1, &made["fileID"]));
    let path = format!("files/{}", text(&made, "fileID"));
    assert_eq!((bench.delete(&path).await, bench.delete(&path).await), (200, 200));
    assert_eq!(bench.get("files/?account=42").await.1, json!([]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_and_characters_are_listed() {
    let bench = Bench::start("").await;
    let (_, page) = bench.get("videos/agent-templates/?limit=25").await;
    let asset = |name| format!("videoList[].videoAsset.{name}");
    for name in ["id", "desc", "coverURL", "videoURL", "agentTemplateID", "downloadURL", "userID", "tags[].tagText"] {
        has_keys(&page, &[&asset(name)]);
    }
    has_keys(
        &page,
        &["videoList[].like.likes", "videoList[].author.name", "videoList[].cardType", "videoList[].tabID"],
    );
    assert_eq!((&page["hasPre"], &page["hasNext"]), (&json!(false), &json!(true)));
    let last = text(&page["videoList"][24], "id");
    let (_, page) = bench.get(&format!("videos/agent-templates?lastId={last}")).await;
    assert_eq!((page["videoList"].as_array().unwrap().len(), &page["hasNext"]), (15, &json!(false)));
    let (_, one) = bench.get(&format!("videos/agent-templates/?templateId={last}")).await;
    has_keys(&one, &["videoAsset.id", "credits", "requirePrompt", "requireImage", "prompt", "inputs[].type"]);
    assert_eq!(bench.get("videos/agent-templates/?templateId=1").await.0, 404);

    let (_, characters) = bench.get("videos/characters/").await;
    let fields =
        ["c[].characterID", "c[].characterType", "c[].file.fileID", "c[].file.cdnUrl", "c[].file.promptImgUrl"];
    has_keys(&json!({"c": characters}), &fields);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_shown_only_where_the_pages_show_it_and_when_it_was_given() {
    let bench = Bench::with(Config { pace: Duration::from_secs(30), ..Config::default() }).await;
    let reply = json!({"prompt": "x", "models": "kolors", "async": true, "replyUrl": "http://h/r", "replyRef": "ref"});
    let bare = json!({"prompt": "x", "models": "kolors", "async": true});
    for (body, shown) in [(bare, false), (reply, true)] {
        let (_, video) = bench.post("videos/create", body.clone()).await;
        let (_, image) = bench.post("images/create", body.clone()).await;
        let (_, agent) = bench.post("agent", body).await;
        let (video_id, image_id) = (text(&video, "videoId"), image["imageIds"][0].as_str().unwrap().to_owned());
        let videos = bench.get("videos/?limit=1").await.1;
        let images = bench.get("images/?limit=1").await.1;
        let scheduler = bench.get("scheduler/").await.1;
        let of = |id: &str| scheduler.as_array().unwrap().iter().find(|entry| entry["videoId"] == id).unwrap().clone();
        let busy = bench.post("videos/create", json!({"prompt": "x", "maxJobs": 1})).await.1;
        let busy = busy["runningVideos"]["730015522"].as_array().unwrap();
        let all = [
            bench.get(&format!("agent/{}", text(&agent, "jobId"))).await.1["request"].clone(),
            busy.iter().find(|entry| entry["videoId"] == video_id).unwrap().clone(),
            agent["request"].clone(),
            image.clone(),
            video.clone(),
        ];
        let shown_without = [
            bench.get(&format!("videos/{video_id}")).await.1,
            bench.get(&format!("images/{image_id}")).await.1,
            videos[0].clone(),
            images["images"][0].clone(),
        ];
        for answer in shown_without {
            assert_eq!((answer.get("replyUrl"), answer.get("replyRef")), (None, None), "{answer:#}");
        }
        for answer in all {
            let found = (answer.get("replyUrl").is_some(), answer.get("replyRef").is_some());
            assert_eq!(found, (shown, shown), "{answer:#}");
        }
        for entry in [of(video_id), of(&image_id)] {
            let expected = if shown { ("http://h/r", "ref") } else { ("", "") };
            assert_eq!((text(&entry, "replyUrl"), text(&entry, "replyRef")), expected);
        }
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_video_ends_as_failed() {
    let bench = Bench::with(Config { pace: Duration::from_millis(800), ..Config::default() }).await;
    let id = text(&bench.video("x").await, "videoId").to_owned();
    assert_eq!(bench.post("videos/cancel", json!({"videoId": id})).await.0, 200);
    assert_eq!(bench.post("videos/cancel", json!({"videoId": "other"})).await.0, 200);
    assert_eq!(bench.post("videos/cancel", json!({})).await.0, 400);
    assert_eq!(bench.get(&format!("videos/{id}")).await.1["statusLabel"], "failed");
    assert_eq!(bench.get("scheduler").await.1, json!([]));
    let callbacks = bench.settled().await;
    assert_eq!((callbacks.len(), &callbacks[0]["status"]), (1, &json!(3)));
    assert_eq!(bench.simulator.truth()[0].outcome, Outcome::Failed);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_answer_and_are_kept_until_deleted() {
    let bench = Bench::start("").await;
    let (status, said) = bench.form("llm", &[("prompt", "tell me ✓"), ("model", "mm-01"), ("@file", "notes")]).await;
    assert_eq!(status, 200);
    let sent = |name| format!("request.sendResult.{name}");
    let result = |name| format!("response.messageResult.{name}");
    for name in ["userMsgID", "chatID", "systemMsgID", "msgContent", "wordSpreadRate", "extra.longCutCopyWriting"] {
        has_keys(&said, &[&sent(name)]);
    }
    for name in ["msgID", "content", "requestStatus", "isEnd", "parentMsgID", "extra.netSearchStatus", "canRetry"] {
        has_keys(&said, &[&result(name)]);
    }
    let id = text(&said["request"]["sendResult"], "chatID").to_owned();
    assert_eq!(bench.form("llm", &[("prompt", "more"), ("chatID", &id)]).await.0, 200);
    assert_eq!(bench.form("llm", &[("prompt", "more"), ("chatID", "1")]).await.0, 404);
    bench.form("llm", &[("prompt", "another")]).await;

    let (_, list) = bench.get("llm/?limit=1").await;
    has_keys(&list, &["hasMore", "limit", "items[].chatID", "items[].robotAvatar.small", "items[].abstractContent"]);
    assert_eq!((&list["hasMore"], &list["items"][0]["chatTitle"]), (&json!(true), &json!("another")));
    let last = text(&list["items"][0], "chatID");
    assert_eq!(bench.get(&format!("llm?lastChatID={last}")).await.1["items"][0]["chatID"], json!(id));

    let (_, chat) = bench.get(&format!("llm/{id}/?account=1")).await;
    has_keys(
        &chat,
        &["title", "characterID", "canSearch", "model", "messages[].msgID", "messages[].extra.form[].status"],
    );
    has_keys(&chat, &["messages[].otherAgentAnswer.botInfo", "messages[].extra.netSearchStatus.linkDetail"]);
    assert_eq!((chat["messages"].as_array().unwrap().len(), &chat["model"]), (4, &json!("mm-01")));
    let message = text(&chat["messages"][0], "msgID");
    assert_eq!(bench.delete(&format!("llm/?msgIDs={message}")).await, 200);
    assert_eq!(bench.get(&format!("llm/{id}")).await.1["messages"].as_array().unwrap().len(), 3);
    assert_eq!(bench.delete("llm/?chatIDs=all").await, 200);
    assert_eq!(bench.get("llm").await.1["items"], json!([]));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn songs_and_speech_are_listed_as_the_pages_show() {
    let bench = Bench::start("").await;
    assert_eq!(bench.get("music/create?prompt=la").await.0, 400);
    let (_, song) = bench.get("music/create?prompt=la&styleId=21&title=Sea").await;
    has_keys(&song, &["musicId", "audioURL", "duration"]);
    let (_, songs) = bench.get("music/?limit=2").await;
    for name in
        ["title", "lyrics", "style", "coverURL", "audioURL", "status", "statusLabel", "statusFinal", "createTime"]
    {
        has_keys(&json!({"songs": songs}), &[&format!("songs[].{name}")]);
    }
    let (_, styles) = bench.get("music/styles").await;
    has_keys(&json!({"s": styles}), &["s[].name", "s[].styles[].url", "s[].styles[].styleId", "s[].styles[].name"]);

    for number in 0..3 {
        let (status, spoken) =
            bench.post("audio/create-mp3", json!({"text": number.to_string(), "voice_id": "1"})).await;
        assert_eq!(status, 200);
        for name in
            ["audio_id", "audio_length", "audio_size", "word_count", "trace_id", "chunks", "user_id", "audio_url"]
        {
            has_keys(&spoken, &[name]);
        }
    }
    assert_eq!(bench.post("audio/create-mp3", json!({"text": "x"})).await.0, 400);
    assert_eq!(bench.post("audio/create-mp3", json!({"text": "x".repeat(501), "voice_id": "1"})).await.0, 400);
    let (_, page) = bench.get("audio/?page=1&page_size=2").await;
    let item = |name| format!("audio_list[].{name}");
    for name in ["audio_id", "audio_review", "user_id", "audio_title", "audio_url", "update_time"] {
        has_keys(&page, &[&item(name)]);
    }
    assert_eq!((&page["total"], &page["has_more"]), (&json!(3), &json!(true)));
    let (_, page) = bench.get("audio?page=2&page_size=2").await;
    assert_eq!((page["audio_list"].as_array().unwrap().len(), &page["has_more"]), (1, &json!(false)));
    let id = text(&page["audio_list"][0], "audio_id").to_owned();
    let (_, one) = bench.get(&format!("audio/{id}")).await;
    has_keys(&one, &["voice_info.voice_id", "voice_info.tag_list", "effects.robotic", "emotion", "speed", "pitch"]);
    assert_eq!((bench.delete(&format!("audio/{id}")).await, bench.get(&format!("audio/{id}")).await.0), (200, 404));
    assert_eq!(bench.get("audio").await.1["total"], 2);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voices_are_listed_cloned_and_deleted() {
    let bench = Bench::start("").await;
    let (_, config) = bench.get("audio/config/").await;
    has_keys(&config, &["t2a_emotion[].value", "voice_tag_accent[].language", "voice_tag_age[].tag_name"]);
    has_keys(&config, &["voice_tag_gender[].tag_name", "voice_tag_language[].tag_name"]);
    let (_, found) = bench.get("audio/voices/?tag_list=Italian,Female").await;
    for name in ["voice_id", "parent_voice_id", "tag_list", "cover_url", "voice_status", "sample_audio", "uniq_id"] {
        has_keys(&found, &[&format!("voice_list[].{name}")]);
    }
    assert_eq!((&found["total"], &found["has_more"]), (&json!(1), &json!(false)));
    assert_eq!(bench.get("audio/voices?page_size=2").await.1["has_more"], true);

    let body = json!({"voice_name": "Doctor", "language_tag": "English", "files": "a,b"});
    let (status, voice) = bench.post("audio/clone-voice", body).await;
    assert_eq!((status, text(&voice, "voice_id").contains("-audio:")), (200, true));
    assert_eq!(bench.post("audio/clone-voice", json!({"voice_name": "Doctor"})).await.0, 400);
    assert_eq!(bench.get("audio/voices?is_system=false").await.1["voice_list"], json!([voice]));
    assert_eq!(bench.form("audio/delete-voice", &[("voice_id", text(&voice, "voice_id"))]).await.0, 200);
    assert_eq!(bench.get("audio/voices?is_system=false").await.1["total"], 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_tokens_it_was_given_may_call() {
    let bench = Bench::with(Config { tokens: vec!["one".into(), "token".into()], ..Config::default() }).await;
    assert_eq!(bench.get("videos").await.0, 200);
    for header in ["Bearer other", "Bearer ", "token", "Basic token"] {
        let answer = bench.client.get(bench.api("videos")).header("authorization", header).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{header}");
    }
    bench.stop().await;
}

/// Needed where two simulators are compared.
#[tokio::test(flavor = "multi_thread")]
async fn two_simulators_with_one_seed_and_clock_answer_the_same() {
    let clock = replyvault::domain::Timestamp::from_millis(1_795_000_000_000);
    let start =
        |public_url| Bench::with(Config { clock, public_url, pace: Duration::from_secs(60), ..Config::default() });
    let one = start(Some("http://media.test".into())).await;
    let other = start(Some("http://media.test".into())).await;
    let calls = [
        ("videos/create", json!({"prompt": "x"})),
        ("images/create", json!({"prompt": "x", "quantity": 2})),
        ("agent", json!({"prompt": "x", "models": "kolors", "async": true})),
        ("audio/create-stream", json!({"text": "x", "voice_id": "1"})),
        ("llm", json!({"prompt": "x"})),
    ];
    for (path, body) in calls {
        assert_eq!(one.post(path, body.clone()).await, other.post(path, body).await, "{path}");
    }
    for path in ["accounts", "features", "videos", "images", "agent/jobs", "scheduler/available", "llm", "audio/voices"]
    {
        assert_eq!(one.get(path).await, other.get(path).await, "{path}");
    }
    one.stop().await;
    other.stop().await;
}
