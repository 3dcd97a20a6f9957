use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::provider::{Parsed, read};

const VIDEO: &str = "user:1-minimax:2-video:3";
const IMAGE: &str = "user:1-minimax:2-image:4";
const AGENT: &str = "p5-u1-a2-bot:minimax";

fn shown(body: &Json) -> Vec<Answer> {
    parse_jobs(&Bytes::from(body.to_string()))
}

fn shown_ids(body: &Json) -> Vec<String> {
    shown(body).into_iter().map(|answer| answer.observation.job.to_string()).collect()
}

fn told(body: &Json) -> Vec<(String, Option<String>, Option<String>)> {
    let told = mentioned_jobs(body.to_string().as_bytes()).into_iter();
    let text = |reply: ReplyRef| reply.as_str().to_owned();
    told.map(|told| (told.job.to_string(), told.reply_ref.map(text), told.reply_url)).collect()
}

#[test]
fn each_list_of_the_provider_shows_its_jobs() {
    let video = json!({"videoId": VIDEO, "status": 1, "statusLabel": "processing", "statusFinal": false, "desc": ""});
    let image = json!({"imageId": IMAGE, "status": 2, "videoURL": "https://h/i.png", "extra": {"promptStruct": "{}"}});
    let song = json!({"musicId": "user:1-minimax:2-music:5", "audioURL": "https://h/s.mp3", "status": 2});
    let speech = json!({"audio_id": "user:1-minimax:2-audio:6", "audio_url": "https://h/s.mp3", "audio_review": 0});
    let agent = json!({"jobId": AGENT, "status": "failed", "error": {"message": "late", "status": 504}, "request": {}});
    for (body, jobs) in [
        (json!([video, video, image]), vec![&video, &video, &image]),
        (json!({"images": [image, {"imageId": "?"}, 7, image], "hasPre": false, "total": 2}), vec![&image, &image]),
        (json!([song]), vec![&song]),
        (json!({"audio_list": [speech], "total": 1, "has_more": true}), vec![&speech]),
        (agent.clone(), vec![&agent]),
        (song.clone(), vec![&song]),
        (json!([]), vec![]),
        (json!({"error": "Unauthorized", "code": 401}), vec![]),
    ] {
        let parts: Vec<Json> =
            shown(&body).iter().map(|answer| serde_json::from_slice(&answer.body).unwrap()).collect();
        assert_eq!(parts.iter().collect::<Vec<_>>(), jobs, "{body}");
    }
}

#[test]
fn a_body_that_only_names_jobs_holds_none() {
    let entry = |id: &str| {
        json!({"videoId": id, "started": "2024-09-25T01:55:16.128Z", "elapsed": "03:57",
        "replyUrl": "https://h/r", "replyRef": "boat"})
    };
    let named = |id: &str| (id.to_owned(), Some("boat".to_owned()), Some("https://h/r".to_owned()));
    let bare = |id: &str| (id.to_owned(), None, None);
    let other = "p6-u1-a3-bot:minimax";
    for (body, jobs) in [
        (json!([entry(VIDEO), entry(IMAGE)]), vec![named(VIDEO), named(IMAGE)]),
        (json!({"executing": [entry(VIDEO)], "available": [{"account": "2", "maxJobs": 5}]}), vec![named(VIDEO)]),
        (json!({"error": "busy", "runningVideos": {"2": [entry(VIDEO)]}}), vec![named(VIDEO)]),
        (
            json!({"accounts": ["2", "3"], "summary": {"2": {"executing": 1}}, "executing": {
                "2": [{"jobId": AGENT, "elapsed": "02:15"}], "3": [{"jobId": other, "elapsed": "00:45"}]}}),
            vec![bare(AGENT), bare(other)],
        ),
        (
            json!({"id": "9", "task": {"batchID": "9", "videoIDs": ["9"]}, "videoId": VIDEO, "replyUrl": "", "replyRef": ""}),
            vec![bare(VIDEO)],
        ),
        (
            json!({"imageIds": [IMAGE, "?", IMAGE], "replyUrl": "https://h/r", "replyRef": "boat", "code": 200}),
            vec![named(IMAGE), named(IMAGE)],
        ),
        (json!({"fileID": "user:1-minimax:2-file:3", "voice_id": "user:1-minimax:2-audio:3"}), vec![]),
    ] {
        assert_eq!(told(&body), jobs, "{body}");
        assert_eq!(shown_ids(&body), [""; 0], "{body}");
    }
    let started =
        json!({"jobId": AGENT, "status": "started", "request": {"replyUrl": "https://h/r", "replyRef": "boat"}});
    assert_eq!((told(&started), shown_ids(&started)), (vec![named(AGENT)], vec![AGENT.to_owned()]));
}

#[test]
fn more_jobs_than_the_bound_and_any_depth_are_left() {
    let job = json!({"videoId": VIDEO, "status": 1});
    let many: Vec<_> = std::iter::repeat_n(&job, MAX_JOBS + 5).collect();
    assert_eq!(shown_ids(&json!(many)).len(), MAX_JOBS);
    assert_eq!(shown_ids(&json!({"images": many, "audio_list": many})).len(), MAX_JOBS);
    assert_eq!(told(&json!({"executing": {"2": many, "3": many}, "imageIds": vec![IMAGE; MAX_JOBS]})).len(), MAX_JOBS);
    let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(300_000), "]".repeat(300_000));
    assert_eq!(parse_jobs(&Bytes::from(deep(""))), []);
    let beside = format!("\u{feff} {{\"images\": [{job}, {}], \"executing\": {}}} ", deep("1"), deep(""));
    let answers = parse_jobs(&Bytes::from(beside));
    assert_eq!(answers.iter().map(|answer| &answer.body[..]).collect::<Vec<_>>(), [job.to_string().as_bytes()]);
}

#[test]
fn a_page_says_whether_there_is_another_if_it_does() {
    let images = crate::provider::JobList::of(JobId::FIRST_API)[1];
    let page = |body: Json| images.page(None, &Bytes::from(body.to_string()));
    let job = json!({"videoId": VIDEO, "status": 1});
    let shape = |body| page(body).map(|page| (page.jobs.len(), page.has_next));
    assert_eq!(shape(json!([job])), Ok((1, None)));
    assert_eq!(shape(json!([])), Ok((0, None)));
    assert_eq!(shape(json!({"images": [job], "hasNext": true})), Ok((1, Some(true))));
    assert_eq!(shape(json!({"images": [], "hasNext": "false"})), Ok((0, Some(false))));
    assert_eq!(shape(json!({"error": "no"})), Err("it is no list"));
    assert_eq!(images.page(None, &Bytes::from_static(b"<html>")), Err("it is not JSON"));
}

#[test]
fn accounts_are_numbers() {
    let body = json!({"executing": [], "available": [{"account": "12"}, {"account": 34}, {"account": "5&a=b"}, {}]});
    assert_eq!(accounts(body.to_string().as_bytes()), Ok(vec!["12".to_owned(), "34".to_owned()]));
    assert_eq!(accounts(b"{}"), Err("it shows no accounts"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = mentioned_jobs(&bytes);
        let _ = parse_jobs(&Bytes::from(bytes));
    }

    #[test]
    fn a_list_reads_as_its_jobs_one_by_one(jobs in proptest::collection::vec(any_job(), 0..40), wrapped: bool) {
        let texts: Vec<String> = jobs.iter().map(|job| if wrapped { job.to_string() } else { format!("{job:#}") }).collect();
        let list = format!("[{}]", texts.join(if wrapped { "," } else { " ,\r\n" }));
        let list = if wrapped { format!("{{\"total\": 1, \"images\": {list}, \"hasNext\": true}}") } else { list };
        let answers = parse_jobs(&Bytes::from(list));
        prop_assert_eq!(answers.len(), jobs.len());
        for (answer, text) in answers.iter().zip(texts) {
            prop_assert_eq!(&answer.body[..], text.as_bytes());
            let Ok(Parsed::Job(alone)) = read(text.as_bytes()) else { panic!("a job") };
            prop_assert_eq!(&answer.observation, &alone);
        }
    }
}

fn any_job() -> impl Strategy<Value = Json> {
    let ids = prop_oneof![
        "[0-9]{1,20}".prop_map(|own| ("videoId", format!("user:1-minimax:2-video:{own}"))),
        "[0-9]{1,20}".prop_map(|own| ("imageId", format!("user:1-minimax:2-image:{own}"))),
        "[0-9]{1,20}".prop_map(|own| ("audio_id", format!("user:1-minimax:2-audio:{own}"))),
    ];
    (ids, 0..15i64, ".{0,20}", any::<u64>()).prop_map(|((field, id), status, text, number)| {
        json!({field: id, "status": status, "desc": text, "userID": number, "videoURL": "https://h/v", "replyRef": text})
    })
}
