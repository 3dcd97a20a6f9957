use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::escapes::layers;
use crate::domain::{JobDetails, Kind, MissingReason, Outcome, Role, Status, Variant};

fn observed(body: serde_json::Value) -> Observation {
    match read(body.to_string().as_bytes()).unwrap() {
        Parsed::Job(observation) => *observation,
        Parsed::Unrecognised(unclear) => panic!("{unclear:?}"),
    }
}

fn unclear(body: &[u8]) -> Unrecognised {
    match read(body).unwrap() {
        Parsed::Job(observation) => panic!("{observation:?}"),
        Parsed::Unrecognised(unclear) => unclear,
    }
}

fn video(fields: serde_json::Value) -> serde_json::Value {
    let mut body = json!({"videoId": "user:1-minimax:2-video:3"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn urls(observation: &Observation) -> Vec<(String, Variant)> {
    let candidates = observation.assets.iter().flat_map(|asset| &asset.candidates);
    candidates.map(|candidate| (candidate.url.expose().to_string(), candidate.variant)).collect()
}

#[test]
fn status_final_decides_when_present_and_the_table_when_not() {
    for (fields, outcome) in [
        (json!({"status": 0}), None),
        (json!({"status": 1}), None),
        (json!({"status": 12}), None),
        (json!({"status": 11}), None),
        (json!({"status": 2}), Some(Outcome::Completed)),
        (json!({"status": "2"}), Some(Outcome::Completed)),
        (json!({"status": 3}), Some(Outcome::Failed)),
        (json!({"status": 4}), None),
        (json!({"status": 5}), Some(Outcome::Moderated)),
        (json!({"status": 7}), Some(Outcome::Moderated)),
        (json!({"status": 14}), Some(Outcome::Moderated)),
        (json!({"status": 99}), None),
        (json!({"status": 99, "statusLabel": "completed"}), None),
        (json!({"status": 99, "statusLabel": "moderated", "statusFinal": true}), Some(Outcome::Moderated)),
        (json!({"status": 99, "statusFinal": true}), Some(Outcome::Failed)),
        (json!({"status": 99, "statusFinal": true, "videoURL": "https://h/v"}), Some(Outcome::Completed)),
        (json!({"status": 2, "statusFinal": false}), None),
        (json!({"status": 2, "statusFinal": null}), Some(Outcome::Completed)),
        (json!({"status": 2, "statusFinal": "false"}), None),
        (json!({}), None),
        (json!({"videoURL": "https://h/v"}), None),
    ] {
        assert_eq!(observed(video(fields.clone())).outcome, outcome, "{fields}");
    }
    let song = json!({"musicId": "user:1-minimax:2-music:3", "status": 4});
    assert_eq!(observed(song).outcome, Some(Outcome::Moderated));
    for body in [
        json!({"musicId": "user:1-minimax:2-music:3", "audioURL": "https://h/a.mp3"}),
        json!({"audio_id": "user:1-minimax:2-audio:3", "audio_url": "https://h/a.mp3"}),
    ] {
        assert_eq!(observed(body).outcome, Some(Outcome::Completed));
    }
}

#[test]
fn an_error_without_a_status_ends_the_job_and_says_all_that_the_provider_says() {
    let error = |fields: serde_json::Value| {
        let observation = observed(video(fields));
        (observation.outcome, observation.error)
    };
    let said = |text: &str| Some(text.to_owned());
    for (fields, expected) in [
        (
            json!({"error": "Moderated prompt", "code": 422}),
            (Some(Outcome::Moderated), said("Moderated prompt (status 422)")),
        ),
        (json!({"error": "no credits", "code": 412}), (Some(Outcome::Failed), said("no credits (status 412)"))),
        (json!({"error": "late", "code": "504"}), (Some(Outcome::Failed), said("late (status 504)"))),
        (json!({"error": "busy", "code": 429}), (None, said("busy (status 429)"))),
        (json!({"error": "who?", "code": 401}), (None, said("who? (status 401)"))),
        (json!({"error": "gone", "code": 404}), (None, said("gone (status 404)"))),
        (json!({"error": "odd"}), (None, said("odd"))),
        (json!({"code": 422}), (None, None)),
        (json!({"error": "x", "code": 422, "status": 1}), (None, said("x (status 422)"))),
        (json!({"error": "x", "code": 422, "statusFinal": false}), (None, said("x (status 422)"))),
        (json!({"error": ["x"], "code": 500}), (Some(Outcome::Failed), said(r#"["x"] (status 500)"#))),
        (
            json!({"error": {"message": "Sensitive words", "details": {"word": 7}}, "code": 422, "status": 3}),
            (Some(Outcome::Moderated), said(r#"Sensitive words (status 422: {"word":7})"#)),
        ),
    ] {
        assert_eq!(error(fields.clone()), expected, "{fields}");
    }
}

#[test]
fn a_failed_agent_job_shows_status_and_details_and_may_be_moderated() {
    let agent = |error: serde_json::Value| {
        let body = json!({"jobId": "p1-u2-a3-bot:minimax", "status": "failed", "error": error});
        let observation = observed(body);
        (observation.outcome, observation.error.unwrap())
    };
    for (error, outcome, text) in [
        (json!("it broke"), Outcome::Failed, "it broke"),
        (json!({"message": "Timeout", "status": 504}), Outcome::Failed, "Timeout (status 504)"),
        (
            json!({"message": "no", "status": 422, "details": "Your prompt contains content that violates our policies"}),
            Outcome::Moderated,
            "no (status 422: Your prompt contains content that violates our policies)",
        ),
        (
            json!({"message": "The file is too large", "status": 422}),
            Outcome::Failed,
            "The file is too large (status 422)",
        ),
        (json!({"message": "a policy violation", "status": 500}), Outcome::Failed, "a policy violation (status 500)"),
        (json!({"status": 500}), Outcome::Failed, r#"{"status":500} (status 500)"#),
    ] {
        assert_eq!(agent(error.clone()), (Some(outcome), text.to_owned()), "{error}");
    }
    let coded = json!({"jobId": "p1-u2-a3-bot:minimax", "status": "failed", "code": 422,
        "error": "Your prompt contains content that violates our policies"});
    assert_eq!(observed(coded).outcome, Some(Outcome::Moderated));
}

#[test]
fn model_resolution_and_duration_are_read_wherever_they_stand() {
    let details = |body: serde_json::Value| observed(body).details;
    let text = |text: &str| Some(text.to_owned());
    let image = details(
        json!({"imageId": "user:1-minimax:2-image:3", "status": 2, "modelID": "image-01", "aspectRatio": "9:16",
        "resolution": 0, "width": 0, "height": 0, "duration": 0, "batchID": "357", "canAppeal": false, "canRetry": "true"}),
    );
    assert_eq!((image.model, image.aspect_ratio, image.batch_id), (text("image-01"), text("9:16"), text("357")));
    assert_eq!((image.resolution, image.duration), (None, None));
    assert_eq!((image.can_appeal, image.can_retry), (Some(false), Some(true)));
    let clip = details(video(json!({"width": 1366, "height": 768, "duration": "5.9", "model": "x".repeat(500)})));
    assert_eq!((clip.resolution, clip.duration, clip.model.unwrap().len()), (text("1366x768"), Some(5.9), 128));
    let agent = json!({"jobId": "p1-u2-a3-bot:minimax", "request": {"models": ["hailuo-2.3", "kolors"]}});
    assert_eq!(details(agent).model, text("hailuo-2.3,kolors"));
    assert_eq!(details(video(json!({"duration": -1, "resolution": null}))), JobDetails::default());
}

#[test]
fn a_time_before_2015_or_far_ahead_is_not_believed() {
    for created in [json!(0), json!(-1), json!(1), json!(1_262_304_000), json!(1_262_304_000_000u64), json!(9e15)] {
        assert_eq!(observed(video(json!({"createTime": created}))).created_at, None, "{created}");
    }
    assert!(observed(video(json!({"createTime": 1_795_172_334}))).created_at.is_some());
    let agent = json!({"jobId": "p1-u2-a3-bot:minimax", "created": "1970-01-01T00:00:00.000Z"});
    assert_eq!(observed(agent).created_at, None);
}

#[test]
fn the_shape_of_the_id_decides_the_kind() {
    let image = json!({"videoId": "user:1-minimax:2-image:3", "status": 2, "videoURL": "https://h/i.png"});
    let image = observed(image);
    assert_eq!((image.job.kind(), image.assets[0].file.as_str()), (Kind::Image, "image.png"));
    let upload = br#"{"videoId": "user:1-minimax:2-file:3"}"#;
    assert_eq!(unclear(upload), Unrecognised::UnknownId);
    assert_eq!(unclear(br#"{"voice_id": "user:1-minimax:2-audio:3", "id": "7"}"#), Unrecognised::UnknownShape);
    for shapeless in [&b"[]"[..], b"1", b"null", b"{}", b"\"user:1-minimax:2-video:3\"", br#"{"videoId": ""}"#] {
        assert_eq!(unclear(shapeless), Unrecognised::UnknownShape);
    }
}

/// A hold is an account's own, as far as the job's id says whose it is.
#[test]
fn the_account_of_a_job_is_found_wherever_its_id_has_it() {
    let mail = "studio@example.com";
    let uuid = "3f6b2c14-9d0a-4a38-8f57-0c1a7d5be412";
    for (id, turn, account) in [
        ("user:1-minimax:2-video:3", "2", "2"),
        (&format!("user:1-pixverse:{mail}-video:33"), "pixverse/studio@example.com", "pixverse/studio@example.com"),
        (
            &format!("google-vids:user:4-{mail}-job:{uuid}"),
            "google-vids/studio@example.com",
            "google-vids/studio@example.com",
        ),
        (
            &format!("j1795172710120i-u4-{mail}-bot:google-vids"),
            "google-vids/studio@example.com",
            "google-vids/studio@example.com",
        ),
        ("kling:285018472933", "kling/", "kling:285018472933"),
        ("faceswap:a b", "faceswap/", "faceswap:a b"),
    ] {
        let id: JobId = id.parse().unwrap();
        assert_eq!((turn_of(&id).as_str(), account_of(&id).as_str()), (turn, account));
    }
}

#[test]
fn the_cleanest_url_comes_first() {
    let body = video(
        json!({"status": 2, "downloadURL": "https://h/clean", "videoURL": "https://h/v", "coverURL": "https://h/c"}),
    );
    let observation = observed(body);
    assert_eq!(observation.assets.iter().map(|asset| asset.role).collect::<Vec<_>>(), [Role::Media, Role::Poster]);
    let media = &observation.assets[0];
    assert_eq!(media.candidates.iter().map(|c| c.variant).collect::<Vec<_>>(), [Variant::Clean, Variant::Unknown]);

    let free = observed(video(json!({"status": 2, "downloadURL": "", "videoURL": "https://h/v"})));
    assert_eq!(urls(&free), [("https://h/v".to_owned(), Variant::Watermarked)]);

    let image = |download: &str| {
        observed(json!({"imageId": "user:1-minimax:2-image:3", "status": 2, "videoURL": "https://h/v",
            "downloadURL": download, "videoURLs": {"downloadURLWithWatermark": "https://h/wm", "feedURL": "https://h/f"}}))
    };
    let (v, wm) = ("https://h/v".to_owned(), "https://h/wm".to_owned());
    let clean = ("https://h/d".to_owned(), Variant::Clean);
    assert_eq!(urls(&image("https://h/d")), [clean, (v.clone(), Variant::Unknown), (wm.clone(), Variant::Watermarked)]);
    assert_eq!(urls(&image("https://h/wm")), [(v, Variant::Unknown), (wm, Variant::Watermarked)]);
}

#[test]
fn a_completed_job_without_a_url_has_no_assets_and_with_a_broken_one_says_so() {
    assert_eq!(observed(video(json!({"status": 2, "videoURL": "", "downloadURL": null}))).assets, []);
    let broken = observed(video(json!({"status": 2, "videoURL": "ftp://h/v"})));
    assert_eq!((broken.assets[0].missing, broken.assets[0].candidates.len()), (MissingReason::InvalidUrl, 0));
}

#[test]
fn an_agents_attachments_are_read_by_the_table() {
    let observation = observed(
        json!({"jobId": "p1-u2-a3-bot:minimax", "status": "completed", "created": "2026-11-20T11:04:10.120Z",
        "request": {"prompt": "rain", "replyRef": "kit"},
        "response": {"msg_content": "done", "attachments": [
            {"attachmentID": "a", "status": 3, "file": {"fileName": "rain.mp4", "fileUrl": "https://h/wm.mp4", "type": "video/mp4",
                "extra": {"no_watermark_url": "https://h/clean.mp4", "watermark_url": "https://h/wm.mp4", "thumbnail_url": "https://h/t.jpg"}}},
            {"attachmentID": "b", "status": 3, "file": {"fileName": "rain.mp4", "fileUrl": ""},
                "node": {"agentFile": {"url": "https://h/n.mp4", "noWatermarkUrl": "https://h/n-clean.mp4"}}},
            {"attachmentID": "b", "status": 2, "file": {"fileName": "processing", "fileUrl": "https://h/p"}},
            {"status": 3, "text": "just words"},
            {"status": 3, "file": {"fileName": "song", "fileUrl": "https://h/song", "extra": {"format": "mp3", "type": "audio"}}},
            {"status": 3, "file": {"fileName": "gone.png"}},
            "noise",
        ]}}),
    );
    assert_eq!(observation.reply_ref, Some(ReplyRef::new("kit").unwrap()));
    assert_eq!((observation.prompt.as_deref(), observation.message.as_deref()), (Some("rain"), Some("done")));
    assert_eq!(observation.created_at.unwrap().to_string(), "2026-11-20T11:04:10.120Z");
    let files: Vec<_> = observation.assets.iter().map(|asset| (asset.slot.as_str(), asset.file.as_str())).collect();
    assert_eq!(
        files,
        [
            ("a", "01-rain.mp4"),
            ("a/thumbnail", "01-rain-thumbnail.jpg"),
            ("b", "02-rain.mp4"),
            ("#3", "03-processing"),
            ("#5", "05-song.mp3"),
            ("#6", "06-gone.png"),
        ]
    );
    let variants = |index: usize| observation.assets[index].candidates.iter().map(|c| c.variant).collect::<Vec<_>>();
    assert_eq!(variants(0), [Variant::Clean, Variant::Watermarked]);
    assert_eq!(variants(2), [Variant::Clean, Variant::Unknown]);
    assert_eq!(observation.assets[3].missing, MissingReason::StillProcessing);
    assert!(observation.assets[3].candidates.is_empty());
    assert_eq!(observation.assets[5].missing, MissingReason::NoUrl);
}

#[test]
fn odd_forms_of_values_are_tolerated() {
    let body =
        video(json!({"status": "2", "percent": "37.9", "createTime": "1795172334234", "userID": 923847293472394001u64,
        "replyRef": 17, "message": null, "error": {"message": "no", "status": 504}}));
    let observation = observed(body);
    assert_eq!(observation.status, Some(Status::Number(2)));
    assert_eq!(observation.percent, Some(37));
    assert_eq!(observation.created_at.unwrap().millis(), 1_795_172_334_234);
    assert_eq!(observation.reply_ref, Some(ReplyRef::new("17").unwrap()));
    assert_eq!((observation.message, observation.error.as_deref()), (None, Some("no (status 504)")));
    let twice = br#"{"videoId": "x", "videoId": "user:1-minimax:2-video:3", "replyRef": "a\ud800b"}"#;
    let Parsed::Job(twice) = read(twice).unwrap() else { panic!("expected a job") };
    assert!(twice.reply_ref.unwrap().as_str().starts_with("a\u{fffd}"));
    let long = video(json!({"replyRef": "x".repeat(1025)}));
    assert_eq!(unclear(long.to_string().as_bytes()), Unrecognised::InvalidReplyRef);
}

#[test]
fn the_grammar_alone_decides_what_is_json() {
    let deep =
        format!("{{\"videoId\":\"user:1-minimax:2-video:3\",\"x\":{}{}}}", "[".repeat(400_000), "]".repeat(400_000));
    assert!(matches!(read(deep.as_bytes()), Ok(Parsed::Job(_))));
    assert!(read(&b"[".repeat(400_000)).is_err());
    for good in ["1e999", "-0", "\"\\ud800\"", "[1E+2]", "\u{feff}{}", " \n\t{} ", "123456789012345678901234567890"] {
        assert!(read(good.as_bytes()).is_ok(), "{good}");
    }
    for bad in
        ["", " ", "{", "{'a':1}", "[1,]", "{\"a\":1,}", "NaN", "01", "\"\t\"", "{} {}", "tru", "\"\\x\"", "+1", "1."]
    {
        assert!(read(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(read(b"\"\xff\"").is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn any_json_in_the_known_places_is_read_without_a_panic(values in proptest::collection::vec(any_json(), 12)) {
        let mut body = serde_json::Map::new();
        let names = ["status", "statusLabel", "statusFinal", "percent", "createTime", "videoURL", "downloadURL", "videoURLs",
            "replyRef", "request", "response", "error"];
        for (name, value) in names.into_iter().zip(values) {
            body.insert(name.to_owned(), value);
        }
        for (field, id) in [("videoId", "user:1-minimax:2-video:3"), ("jobId", "p1-u2-a3-bot:minimax"), ("imageId", "user:1-minimax:2-image:3")] {
            let mut body = body.clone();
            body.insert(field.to_owned(), id.into());
            let body = serde_json::to_vec(&body).unwrap();
            prop_assert!(read(&body).is_ok());
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        Just("https://cdn.hailuoai.video/a.mp4".into()),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let names = prop_oneof![
            Just("attachments".to_owned()),
            Just("file".to_owned()),
            Just("fileUrl".to_owned()),
            Just("extra".to_owned()),
            ".{0,6}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::hash_map(names, inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

#[test]
fn of_too_many_attachments_the_first_are_read_each_with_its_best_url() {
    let attachment = |place: usize| {
        json!({"attachmentID": format!("a{place}"), "file": {"fileName": "f.mp4", "fileUrl": format!("https://h/u{place}"),
            "posterUrl": format!("https://h/p{place}"),
            "extra": {"no_watermark_url": format!("https://h/c{place}?{}", "x".repeat(200))}}})
    };
    let agent = |count| {
        let attachments: Vec<_> = (1..=count).map(attachment).collect();
        observed(
            json!({"jobId": "p1-u2-a3-bot:minimax", "status": "completed", "response": {"attachments": attachments}}),
        )
    };
    let few = agent(20);
    assert_eq!((few.assets.len(), few.left_out), (40, 0));
    assert!(few.assets.iter().all(|asset| !asset.candidates.is_empty()));
    let many = agent(4096);
    // No memory is for candidates that are not there.
    let mut candidates = few.assets.iter().chain(&many.assets).map(|asset| &asset.candidates);
    assert!(candidates.all(|candidates| candidates.capacity() == candidates.len()));
    assert_eq!(many.assets.len(), Observation::MAX_ASSETS);
    assert!(many.left_out as usize >= 4096 - Observation::MAX_ASSETS, "{}", many.left_out);
    for (place, asset) in (1..).zip(&many.assets) {
        assert_eq!((asset.slot.as_str(), asset.role), (format!("a{place}").as_str(), Role::Media));
        assert!(asset.candidates[0].url.file_name().starts_with('c'), "{:?}", asset.candidates);
    }
    assert!(many.bytes() < 100_000, "{}", many.bytes());
}

#[test]
fn a_long_status_is_cut() {
    let long = observed(
        json!({"videoId": "user:1-minimax:2-video:3", "status": "s".repeat(9000), "statusLabel": "l".repeat(9000)}),
    );
    assert!(long.bytes() < 600, "{}", long.bytes());
    assert!(matches!(long.status, Some(Status::Word(word)) if word.len() < 300));
}

#[test]
fn of_a_secret_that_is_not_looked_at_as_a_whole_nothing_is_shown() {
    let around =
        |hidden: usize| format!("see /a?{} u:{}@h/ {}", "x".repeat(hidden), "S".repeat(200), "b ".repeat(1 << 20));
    for hidden in [1_900, 4_000, 8_000, 16_200, 130_900] {
        let text = around(hidden);
        let long = observed(video(json!({"statusLabel": text, "message": text, "model": text})));
        for shown in [long.status_label, long.message, long.details.model].map(Option::unwrap) {
            let is_hidden = shown.starts_with("see /a?…") && !shown.contains(['x', 'S']);
            assert!(is_hidden && shown.len() < 9000, "{hidden}: {shown}");
        }
    }
}

#[test]
fn of_a_signature_that_the_end_cuts_off_nothing_is_shown() {
    let mut url = format!("https://h/reply/minimax/{}", "Q".repeat(43));
    for written in ["Q", "%51", "%2551", "%252551"] {
        let signature = url.find(written).unwrap();
        for before_the_end in [0, 1, 5, 20, 42] {
            let begins = MAX_TEXT_BYTES - before_the_end * written.len() - signature;
            let text = format!("{} {url} {}", "b".repeat(begins - 1), "b ".repeat(1 << 14));
            let shown = truncate_redacted(text);
            assert!(shown.len() > 7000 && !shown.contains(written), "{before_the_end} of {written}");
        }
        url = match written {
            "Q" => url.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            _ => url.replace('%', "%25"),
        };
    }
}

/// What is looked at is counted, and not the time, which is some milliseconds here, and was half a second.
#[test]
fn the_texts_of_a_body_are_searched_little_further_than_they_are_kept() {
    let escaped = format!("{}%{}2f", ":".repeat(1000), "25".repeat(11));
    let text = escaped.repeat(116);
    let looked_at = |kept| layers(searched(&text, kept).0.as_bytes()).map(|layer| layer.len()).sum::<usize>();
    let labels = 2 * looked_at(MAX_LABEL_BYTES) + 4 * looked_at(JobDetails::MAX_TEXT_BYTES);
    let all = 3 * looked_at(MAX_TEXT_BYTES) + labels;
    assert!(all < 700_000, "{all}");
    let short = &text[..3000];
    assert_eq!(searched(short, MAX_LABEL_BYTES), (short, 3000));
}
