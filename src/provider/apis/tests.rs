use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use crate::domain::{Access, Kind, Observation, Outcome, Role, Variant};
use crate::provider::{Answer, Parsed, Unrecognised, read};

/// The bodies of the provider's pages, `<api>-<what>.json`.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let dir: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider/apis/fixtures");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    files.sort_by_key(|path| name(path));
    files.into_iter().map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

fn api_of(name: &str) -> &'static str {
    super::names().find(|api| name.starts_with(&format!("{api}-"))).unwrap()
}

fn observed(body: &[u8]) -> Observation {
    match read(body).unwrap() {
        Parsed::Job(observation) => *observation,
        Parsed::Unrecognised(why) => panic!("{why:?}"),
    }
}

const CLEAN: Variant = Variant::Clean;
const MARKED: Variant = Variant::Watermarked;
const UNKNOWN: Variant = Variant::Unknown;

/// What each body says: outcome, kind, and the best variant of each file.
const EXPECTED: &[(&str, Option<Outcome>, Kind, &[Variant])] = {
    const DONE: Option<Outcome> = Some(Outcome::Completed);
    const FAILED: Option<Outcome> = Some(Outcome::Failed);
    const REFUSED: Option<Outcome> = Some(Outcome::Moderated);
    &[
        ("dreamina-completed", DONE, Kind::Video, &[CLEAN]),
        ("dreamina-completed-watermarked", DONE, Kind::Video, &[MARKED]),
        ("dreamina-failed", FAILED, Kind::Video, &[]),
        ("dreamina-image-completed", DONE, Kind::Image, &[UNKNOWN, UNKNOWN]),
        ("dreamina-moderated", FAILED, Kind::Video, &[]),
        ("dreamina-progress", None, Kind::Video, &[]),
        ("dreamina-upscale-progress", None, Kind::Video, &[]),
        ("faceswap-command-completed", DONE, Kind::Other, &[]),
        ("faceswap-completed", DONE, Kind::Image, &[UNKNOWN]),
        ("faceswap-failed", FAILED, Kind::Other, &[]),
        ("faceswap-moderated", REFUSED, Kind::Other, &[]),
        ("faceswap-progress", None, Kind::Other, &[]),
        ("faceswap-video-completed", DONE, Kind::Video, &[UNKNOWN]),
        ("flowmusic-completed", DONE, Kind::Music, &[UNKNOWN, UNKNOWN]),
        ("flowmusic-failed", FAILED, Kind::Music, &[]),
        ("flowmusic-moderated", REFUSED, Kind::Music, &[]),
        ("flowmusic-progress", None, Kind::Music, &[]),
        ("gemini-notebook-completed", DONE, Kind::Speech, &[UNKNOWN]),
        ("gemini-notebook-failed", FAILED, Kind::Video, &[]),
        ("gemini-notebook-moderated", FAILED, Kind::Speech, &[]),
        ("gemini-notebook-progress", None, Kind::Speech, &[]),
        ("gemini-notebook-slides-completed", DONE, Kind::Other, &[UNKNOWN, UNKNOWN]),
        ("gemini-notebook-text-completed", DONE, Kind::Other, &[]),
        ("google-flow-completed", DONE, Kind::Video, &[UNKNOWN]),
        ("google-flow-completed-partial", DONE, Kind::Video, &[UNKNOWN]),
        ("google-flow-completed-without-url", DONE, Kind::Video, &[]),
        ("google-flow-failed", FAILED, Kind::Video, &[]),
        ("google-flow-image-completed", DONE, Kind::Image, &[UNKNOWN, UNKNOWN]),
        ("google-flow-image-inline", DONE, Kind::Image, &[UNKNOWN]),
        ("google-flow-legacy-operations", DONE, Kind::Video, &[UNKNOWN]),
        ("google-flow-moderated", REFUSED, Kind::Video, &[]),
        ("google-flow-progress", None, Kind::Video, &[]),
        ("google-vids-completed", DONE, Kind::Video, &[MARKED]),
        ("google-vids-failed", FAILED, Kind::Video, &[]),
        ("google-vids-image-completed", DONE, Kind::Image, &[CLEAN]),
        ("google-vids-moderated", REFUSED, Kind::Video, &[]),
        ("google-vids-progress", None, Kind::Video, &[]),
        ("kling-completed", DONE, Kind::Video, &[CLEAN]),
        ("kling-failed", FAILED, Kind::Video, &[]),
        ("kling-image-completed", DONE, Kind::Image, &[UNKNOWN, UNKNOWN]),
        ("kling-moderated", FAILED, Kind::Video, &[]),
        ("kling-progress", None, Kind::Video, &[]),
        ("minimax-audio-completed", DONE, Kind::Speech, &[UNKNOWN]),
        ("minimax-audio-failed", FAILED, Kind::Speech, &[]),
        ("minimax-audio-history-row", DONE, Kind::Speech, &[UNKNOWN]),
        ("minimax-audio-moderated", REFUSED, Kind::Speech, &[]),
        ("minimax-audio-progress", None, Kind::Speech, &[]),
        ("minimax-music-completed", DONE, Kind::Music, &[UNKNOWN]),
        ("mureka-completed", DONE, Kind::Music, &[UNKNOWN, UNKNOWN]),
        ("mureka-failed", FAILED, Kind::Music, &[]),
        ("mureka-moderated", FAILED, Kind::Music, &[]),
        ("mureka-progress", None, Kind::Music, &[]),
        ("mureka-speech-completed", DONE, Kind::Speech, &[UNKNOWN]),
        ("pixverse-completed", DONE, Kind::Video, &[CLEAN]),
        ("pixverse-failed", FAILED, Kind::Video, &[]),
        ("pixverse-image-completed", DONE, Kind::Image, &[CLEAN]),
        ("pixverse-moderated", REFUSED, Kind::Image, &[]),
        ("pixverse-music-completed", DONE, Kind::Music, &[UNKNOWN]),
        ("pixverse-music-failed", FAILED, Kind::Music, &[]),
        ("pixverse-progress", None, Kind::Video, &[]),
        ("pixverse-speech-completed", DONE, Kind::Speech, &[UNKNOWN]),
        ("runwayml-completed", DONE, Kind::Video, &[CLEAN]),
        ("runwayml-failed", FAILED, Kind::Other, &[]),
        ("runwayml-image-completed", DONE, Kind::Image, &[UNKNOWN, UNKNOWN]),
        ("runwayml-moderated", FAILED, Kind::Other, &[]),
        ("runwayml-progress", None, Kind::Other, &[]),
        ("tempolor-completed", DONE, Kind::Music, &[UNKNOWN]),
        ("tempolor-failed", FAILED, Kind::Music, &[]),
        ("tempolor-moderated", FAILED, Kind::Music, &[]),
        ("tempolor-progress", None, Kind::Music, &[]),
    ]
};

#[test]
fn each_body_of_the_providers_pages_ends_as_its_page_says() {
    let fixtures = fixtures();
    assert_eq!(fixtures.len(), EXPECTED.len());
    for ((name, body), (expected, outcome, kind, variants)) in fixtures.iter().zip(EXPECTED) {
        assert_eq!(name, expected);
        let found = observed(body);
        let media = found.assets.iter().filter(|asset| asset.role == Role::Media);
        let best: Vec<_> = media.filter_map(|asset| Some(asset.candidates.first()?.variant)).collect();
        let of_id = found.job.kind();
        let found_kind = if of_id == Kind::Other { found.kind.unwrap_or(of_id) } else { of_id };
        let (says, provider) = ((found.outcome, found_kind, &best[..]), found.job.provider());
        assert_eq!((says, &*provider), ((*outcome, *kind, *variants), api_of(name)), "{name}");
        let is_row = name.ends_with("history-row");
        assert_eq!(found.reply_ref.is_some(), !is_row, "{name}");
        let empty = ["faceswap-command-completed", "gemini-notebook-text-completed"].contains(&&**name);
        assert_eq!(found.may_be_empty, empty, "{name}");
        if let Some(Outcome::Failed | Outcome::Moderated) = found.outcome {
            assert!(
                found.error.is_some()
                    || name.starts_with("tempolor-")
                    || name == "pixverse-failed"
                    || name == "pixverse-moderated",
                "{name}"
            );
        }
    }
}

#[test]
fn what_needs_the_token_is_asked_for_at_checked_addresses_alone() {
    let bodies = fixtures();
    let candidates = |name: &str| {
        let (_, body) = bodies.iter().find(|(found, _)| found == name).unwrap();
        let assets = observed(body).assets;
        let all = assets.into_iter().flat_map(|asset| asset.candidates);
        all.filter(|candidate| candidate.access != Access::Public)
            .map(|candidate| (candidate.access, candidate.url.expose().to_string()))
            .collect::<Vec<_>>()
    };
    let at = |path: &str| format!("https://provider.invalid/v1/{path}");
    let own = "user%3A4821-studio%40example.com";
    assert_eq!(
        candidates("kling-completed"),
        [(Access::Lookup, at("kling/assets/download?workIds=285018480001&fileTypes=MP4"))]
    );
    let song = "tempolor/music/download/user:4821-tempolor:620418873305-job:9f31c07be2a44d18?file_format=";
    assert_eq!(
        candidates("tempolor-completed"),
        ["wav", "mp3"].map(|format| (Access::Lookup, at(&format!("{song}{format}"))))
    );
    let video = format!("google-vids/media/{own}-video%3A5a7c9e1b-0d2f-4b6a-8c3e-7f9a1b3d5e70");
    assert_eq!(candidates("google-vids-completed"), [(Access::Provider, at(&video))]);
    let artifact =
        format!("{own}-artifact%3A2f4c4c2e-9a53-4a52-8f0f-6a9be3b8f0c7%3A7c9e1f3a-2b4d-4e6f-8091-a2b3c4d5e6f7");
    let audio = format!("gemini-notebook/artifacts/download?artifact={artifact}&format=m4a");
    assert_eq!(candidates("gemini-notebook-completed"), [(Access::Provider, at(&audio))]);
    assert_eq!(candidates("google-flow-image-inline"), [(Access::Inline, "https://body.invalid/0".to_owned())]);
    // Ids of another form lead nowhere.
    for (name, from, to) in [
        ("kling-completed", "285018480001", "\"1&fileTypes=x\""),
        ("google-vids-completed", "-video:5a7c9e1b-0d2f-4b6a-8c3e-7f9a1b3d5e70", "-video:../../accounts"),
        ("gemini-notebook-completed", "\"format\": \"m4a\"", "\"format\": \"m4a&x=1\""),
        ("gemini-notebook-completed", "-artifact:2f4c4c2e", "-artifact:../2f4c"),
    ] {
        let (_, body) = bodies.iter().find(|(found, _)| found == name).unwrap();
        let text = String::from_utf8(body.clone()).unwrap();
        assert!(text.contains(from), "{name}: {from}");
        let assets = observed(text.replace(from, to).as_bytes()).assets;
        let mut all = assets.iter().flat_map(|asset| &asset.candidates);
        assert!(all.all(|candidate| candidate.access == Access::Public), "{name}: {to}");
    }
}

#[test]
fn what_names_a_job_alone_is_read_as_that_job() {
    for (name, body) in fixtures() {
        let found = observed(&body);
        let named = Answer::naming(&found.job, found.reply_ref.as_ref());
        let again = observed(&named.body);
        assert_eq!((&again.job, &again.reply_ref, again.outcome), (&found.job, &found.reply_ref, None), "{name}");
        assert_eq!((&again.job, again.assets.len()), (&named.observation.job, 0), "{name}");
        let again: crate::domain::JobId = found.job.as_str().parse().unwrap();
        assert!(super::of(&again).is_some_and(|api| api.job_path(&again).is_some()), "{name}");
    }
}

#[test]
fn the_answer_to_a_call_that_waits_is_its_jobs_end() {
    let (_, body) = fixtures().into_iter().find(|(name, _)| name == "google-flow-image-inline").unwrap();
    let record: Value = serde_json::from_slice(&body).unwrap();
    let media = &record["response"]["media"];
    let answer = serde_json::json!({"jobId": record["jobid"], "media": media, "remainingCredits": 1}).to_string();
    let (called_back, answered) = (observed(&body), observed(answer.as_bytes()));
    assert_eq!((&answered.job, answered.outcome), (&called_back.job, Some(Outcome::Completed)));
    assert_eq!(answered.assets, called_back.assets);
    let place = &answered.assets[0].candidates[0].url;
    assert!(crate::provider::inline_media(answer.as_bytes(), place).is_some());
}

#[test]
fn research_ends_with_words_alone() {
    let job = "job:7b1f0e62-54c3-4f0c-9a7d-1f2b3c4d5e6f-user:4821-studio@example.com-bot:gemini_notebook";
    let result = serde_json::json!({"report": {"markdown": "# Tides"}, "sources": []});
    for kind in [Value::from("deep"), Value::from("of another name"), Value::Null] {
        let body = serde_json::json!({"jobid": job, "type": kind, "status": "completed", "result": result});
        let found = observed(body.to_string().as_bytes());
        assert_eq!((found.outcome, found.may_be_empty), (Some(Outcome::Completed), true), "{kind}");
    }
}

#[test]
fn types_that_no_page_describes_are_kept_aside() {
    for (name, from, to) in [
        ("google-vids-progress", r#""type": "video""#, r#""type": "avatar""#),
        ("mureka-completed", r#""jobType": "music""#, r#""jobType": "stems""#),
        ("gemini-notebook-completed", r#""type": "audio""#, r#""type": "hologram""#),
        ("google-flow-completed", r#""type": "video""#, r#""type": "scene""#),
        ("kling-completed", r#""contentType": "video""#, r#""contentType": "model""#),
    ] {
        let (_, body) = fixtures().into_iter().find(|(found, _)| found == name).unwrap();
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(from), "{name}");
        let changed = text.replace(from, to);
        assert_eq!(read(changed.as_bytes()).unwrap(), Parsed::Unrecognised(Unrecognised::UnknownShape), "{name}");
    }
}

#[test]
fn each_list_says_where_its_next_page_begins() {
    let kling = |made: u64| serde_json::json!({"status_final": true, "status_name": "succeed", "works": [], "task": {"id": made, "createTime": made}});
    let pixverse =
        |own: u64| serde_json::json!({"video_id": format!("user:1-pixverse:a@b.c-video:{own}"), "video_status": 1});
    let runway = |own: &str| serde_json::json!({"taskId": format!("user:1-runwayml:a@b.c-task:{own}-6f0b-4c0e-8f4e-71b2a2f3c9d0"), "status": "SUCCEEDED"});
    let speech =
        serde_json::json!({"audio_id": "user:1-minimax:2-audio:6", "audio_url": "https://h/s.mp3", "status": 0});
    let (late, early) = (1_795_172_650_120, 1_795_172_640_000);
    for (api, list, body, jobs, first, next) in [
        (
            "kling",
            "tasks",
            serde_json::json!({"history": [kling(late), kling(early), {}]}),
            2,
            "tasks",
            "tasks?createdBefore=1795172640001",
        ),
        ("kling", "tasks", serde_json::json!({"history": []}), 0, "tasks", ""),
        (
            "pixverse",
            "videos",
            serde_json::json!({"data": [pixverse(1)], "next_offset": 40}),
            1,
            "videos?offset=0",
            "videos?offset=40",
        ),
        (
            "pixverse",
            "videos",
            serde_json::json!({"data": [pixverse(1)], "next_offset": null}),
            1,
            "videos?offset=0",
            "",
        ),
        (
            "runwayml",
            "tasks",
            serde_json::json!({"tasks": [runway("9a4d7c12"), runway("9a4d7c13")]}),
            2,
            "tasks?limit=20&offset=0",
            "tasks?limit=20&offset=2",
        ),
        (
            "tempolor",
            "songs",
            serde_json::json!({"records": [], "cursor": "a&b"}),
            0,
            "music?type=song",
            "music?type=song&cursor=a%26b",
        ),
        (
            "minimax",
            "speech",
            serde_json::json!({"audio_list": [speech], "has_more": true}),
            1,
            "speech",
            "speech?page=2",
        ),
        ("faceswap", "swaps", serde_json::json!([]), 0, "jobs", ""),
    ] {
        let list = super::JobList::of(api).into_iter().find(|found| found.as_str() == list).unwrap();
        let page = list.page(None, &bytes::Bytes::from(body.to_string())).unwrap();
        let below = |path: String| path.split_once('/').unwrap().1.split_once('/').unwrap().1.to_owned();
        let next_path = page.next.as_ref().map(|next| below(list.path(None, Some(next)))).unwrap_or_default();
        assert_eq!((page.jobs.len(), &*below(list.path(None, None)), &*next_path), (jobs, first, next), "{api}");
    }
    // Jobs of another API in it are not this list's.
    let kling_list = super::JobList::of("kling")[0];
    let page =
        kling_list.page(None, &bytes::Bytes::from(serde_json::json!({"history": [pixverse(1)]}).to_string())).unwrap();
    assert_eq!(page.jobs, []);
}

/// Where what tells the APIs apart stands.
const TELLING: [&str; 14] = [
    "videoId", "imageId", "jobId", "musicId", "audioId", "audio_id", "jobid", "video_id", "image_id", "taskId",
    "job_id", "verb", "task", "works",
];

proptest! {
    /// Whatever else of another API's body is mixed in, and whatever is taken out or replaced by noise.
    #[test]
    fn no_body_is_taken_for_another_apis(
        one in any::<proptest::sample::Index>(),
        other in any::<proptest::sample::Index>(),
        noise in "[a-z0-9:@-]{0,40}",
        field in any::<proptest::sample::Index>(),
        takes_out in any::<bool>(),
    ) {
        let fixtures = fixtures();
        let (name, body) = &fixtures[one.index(fixtures.len())];
        let (_, other) = &fixtures[other.index(fixtures.len())];
        let mut body: Value = serde_json::from_slice(body).unwrap();
        let other: Value = serde_json::from_slice(other).unwrap();
        let members = body.as_object_mut().unwrap();
        for (key, value) in other.as_object().unwrap() {
            if !TELLING.contains(&&**key) && !members.contains_key(key) {
                members.insert(key.clone(), value.clone());
            }
        }
        let api = api_of(name);
        let keys: Vec<String> = members.keys().filter(|key| TELLING.contains(&&***key)).cloned().collect();
        let key = &keys[field.index(keys.len())];
        if takes_out {
            members.remove(key);
        }
        if let Parsed::Job(found) = read(body.to_string().as_bytes()).unwrap() {
            prop_assert_eq!(found.job.provider(), api);
        }
        let members = body.as_object_mut().unwrap();
        members.insert(key.clone(), Value::String(noise));
        if let Parsed::Job(found) = read(body.to_string().as_bytes()).unwrap() {
            prop_assert_eq!(found.job.provider(), api);
        }
    }

    /// Whatever in a body is taken out, renamed or replaced, however deep it stands, it is read without a panic, and if it is
    /// still taken for a job's, then for one of its own API.
    #[test]
    fn a_changed_body_is_its_own_apis_or_nobodys(
        one in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0_u8..6, "[ -~]{0,20}"), 1..8),
    ) {
        let fixtures = fixtures();
        let (name, body) = &fixtures[one.index(fixtures.len())];
        let mut body: Value = serde_json::from_slice(body).unwrap();
        for (place, change, noise) in changes {
            let mut paths = Vec::new();
            pointers(&body, "", &mut paths);
            let path = &paths[place.index(paths.len())];
            let Some((parent, key)) = path.rsplit_once('/') else { continue };
            let value = body.pointer(path).cloned().unwrap_or_default();
            let Some(Value::Object(members)) = body.pointer_mut(parent) else { continue };
            match change {
                0 => drop(members.remove(key)),
                1 => {
                    members.remove(key);
                    members.insert(format!("{key}2"), value);
                }
                2 => drop(members.insert(key.to_owned(), Value::String(noise))),
                3 => drop(members.insert(key.to_owned(), serde_json::json!([value, {"noise": noise}]))),
                4 => drop(members.insert(key.to_owned(), Value::Null)),
                _ => drop(members.insert(key.to_owned(), serde_json::json!(-1.5e300))),
            }
        }
        if let Parsed::Job(found) = read(body.to_string().as_bytes()).unwrap() {
            prop_assert_eq!(found.job.provider(), api_of(name));
        }
    }
}

fn pointers(value: &Value, path: &str, into: &mut Vec<String>) {
    into.push(path.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| pointers(value, &format!("{path}/{name}"), into));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, value)| pointers(value, &format!("{path}/{place}"), into));
        }
        _ => {}
    }
}
