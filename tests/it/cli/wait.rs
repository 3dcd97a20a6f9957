//! Waiting for jobs and getting their files.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::support::media::{MediaServer, mp4};
use crate::support::vault::{completed, video_id};

const NONE: (&str, &str) = ("200 OK", r#"{"items":[],"nextCursor":null}"#);
const UNKNOWN: (&str, &str) = ("404 Not Found", r#"{"error":{"code":"not_found","message":"no such job"}}"#);
const JOB: (&str, &str) = ("200 OK", r#"{"jobId":"user:1-minimax:2-video:1","state":"archived"}"#);
const REBUILDING: (&str, &str) =
    ("503 Service Unavailable\r\nretry-after: 1", r#"{"error":{"code":"unavailable","message":"rebuilding"}}"#);
/// The connection is closed.
const NO_ANSWER: (&str, &str) = ("", "");

/// Gives each request the next of `answers`; gives what was asked.
fn answering_in_turn(answers: Vec<(&'static str, &'static str)>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer_all = move || {
        let answered = answers.iter().map(|next| match *next {
            NO_ANSWER => {
                drop(listener.accept().unwrap());
                String::new()
            }
            (status, body) => answer(&listener, status, body),
        });
        answered.collect::<Vec<_>>()
    };
    (address, std::thread::spawn(answer_all))
}

/// A service for `wait` to ask.
fn asking(address: &str) -> Place {
    Place::new(&format!("[server]\nlisten = \"{address}\"\n[auth]\napi_tokens = [\"0123456789abcdef\"]"))
}

#[test]
fn wait_with_a_timeout_waits_for_what_is_not_known_yet() {
    let known = r#"{"items":[{"refId":"ref_01jd0000000000000000000000"}],"nextCursor":null}"#;
    let ended = r#"{"jobs":[{"jobId":"user:1-minimax:2-video:1","state":"archived"}]}"#;
    let (address, asked) = answering_in_turn(vec![NONE, ("200 OK", known), ("200 OK", ended)]);
    let waited = asking(&address).run(&["wait", "boat", "--timeout", "60s"]);
    assert_eq!(waited.result(), "user:1-minimax:2-video:1 archived\n");
    let asked = asked.join().unwrap();
    assert!(asked[1].starts_with("GET /api/v1/refs?replyRef=boat HTTP/1.1\r\n") && asked[0] == asked[1], "{asked:?}");

    let (address, asked) = answering_in_turn(vec![UNKNOWN, NONE, JOB]);
    let waited = asking(&address).run(&["wait", "user:1-minimax:2-video:1", "--timeout", "60s"]);
    assert_eq!(waited.result(), "user:1-minimax:2-video:1 archived\n");
    assert!(asked.join().unwrap()[2].starts_with("GET /api/v1/jobs/user%3A1-minimax%3A2-video%3A1?wait="));
}

#[test]
fn wait_finds_a_reference_that_looks_like_an_id() {
    let known = ("200 OK", r#"{"items":[{"refId":"ref_01jd0000000000000000000000"}],"nextCursor":null}"#);
    let ended = ("200 OK", r#"{"jobs":[{"jobId":"user:1-minimax:2-video:1","state":"archived"}]}"#);
    for (reference, path, encoded) in [
        ("kling:scene 4+", "jobs/kling%3Ascene%204%2B", "kling%3Ascene%204%2B"),
        ("ref_abcdefghijklmnopqrstuvwxyz", "refs/ref_abcdefghijklmnopqrstuvwxyz", "ref_abcdefghijklmnopqrstuvwxyz"),
    ] {
        let (address, asked) = answering_in_turn(vec![UNKNOWN, known, ended]);
        let waited = asking(&address).run(&["wait", reference]);
        assert_eq!(waited.result(), "user:1-minimax:2-video:1 archived\n");
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with(&format!("GET /api/v1/{path}?wait=")), "{asked:?}");
        assert!(asked[1].starts_with(&format!("GET /api/v1/refs?replyRef={encoded} HTTP/1.1\r\n")), "{asked:?}");
        assert!(asked[2].starts_with("GET /api/v1/refs/ref_01jd0000000000000000000000?wait="), "{asked:?}");
    }
}

#[test]
fn wait_outlives_a_service_that_is_away_or_rebuilds_its_state() {
    for (answers, timeout) in [
        (vec![NO_ANSWER, REBUILDING, JOB], &["--timeout", "10m"][..]),
        (vec![REBUILDING, NO_ANSWER, JOB], &["--timeout", "10m"]),
        (vec![REBUILDING, REBUILDING, NO_ANSWER, JOB], &[]),
    ] {
        let (address, _asked) = answering_in_turn(answers);
        let waited = asking(&address).run(&[&["wait", "user:1-minimax:2-video:1"][..], timeout].concat());
        assert_eq!(waited.result(), "user:1-minimax:2-video:1 archived\n");
    }
}

#[test]
fn wait_gives_up_after_its_timeout_also_while_the_service_is_away() {
    let running = ("200 OK", r#"{"jobId":"user:1-minimax:2-video:1","state":"running"}"#);
    for (answers, timeout) in [
        (vec![running], &["--timeout", "1s"][..]),
        (vec![NO_ANSWER], &["--timeout", "1s"]),
        // Nothing says that it was ever there.
        (vec![NO_ANSWER], &[]),
    ] {
        let (address, _asked) = answering_in_turn(answers);
        let begun = Instant::now();
        let waited = asking(&address).run(&[&["wait", "user:1-minimax:2-video:1"][..], timeout].concat());
        waited.line(1);
        assert!(begun.elapsed() < Duration::from_secs(50), "{waited:?}");
    }
}

#[test]
fn wait_needs_no_more_than_a_token_for_reading() {
    let (address, asked) = answering_in_turn(vec![JOB]);
    let token = r#"{ name = "reader", token = "0123456789abcdef", scope = "read" }"#;
    let place = Place::new(&format!("[server]\nlisten = \"{address}\"\n[auth]\ntokens = [{token}]"));
    assert_eq!(place.run(&["wait", "user:1-minimax:2-video:1"]).result(), "user:1-minimax:2-video:1 archived\n");
    assert!(asked.join().unwrap()[0].contains("authorization: Bearer 0123456789abcdef\r\n"));
}

#[test]
fn wait_ends_at_once_or_after_its_timeout_where_nothing_is_known() {
    let (address, asked) = answering_in_turn(vec![NONE]);
    let waited = asking(&address).run(&["wait", "boat"]);
    assert_eq!(waited.line(1), "boat: no such job or ref");
    asked.join().unwrap();
    let (address, _asked) = answering_in_turn(vec![NONE, NONE]);
    let waited = asking(&address).run(&["wait", "boat", "--timeout", "1s"]);
    assert_eq!(waited.line(1), "boat: no such job or ref");
}

#[test]
fn wait_takes_the_ref_that_answers_to_a_name_before_those_of_calls_that_repeat_it() {
    let newest = r#"{"items":[{"refId":"ref_01jd0000000000000000000002","origin":"gateway"}],"nextCursor":"next"}"#;
    let registered =
        r#"{"items":[{"refId":"ref_01jd0000000000000000000001","origin":"registered"}],"nextCursor":null}"#;
    let repeated = r#"{"items":[{"refId":"ref_01jd0000000000000000000001","origin":"gateway"}],"nextCursor":null}"#;
    let ended = r#"{"jobs":[{"jobId":"user:1-minimax:2-video:1","state":"archived"}]}"#;
    for (second, number) in [(registered, 1), (repeated, 2)] {
        let (address, asked) = answering_in_turn(vec![("200 OK", newest), ("200 OK", second), ("200 OK", ended)]);
        let waited = asking(&address).run(&["wait", "boat"]);
        assert_eq!(waited.result(), "user:1-minimax:2-video:1 archived\n");
        let asked = asked.join().unwrap();
        let page = "GET /api/v1/refs?replyRef=boat&cursor=next HTTP/1.1\r\n";
        assert!(asked[1].starts_with(page), "{asked:?}");
        assert!(asked[2].starts_with(&format!("GET /api/v1/refs/ref_01jd{number:022}?wait=")), "{asked:?}");
    }
}

/// A ref is shown with its newest 100 jobs.
#[tokio::test(flavor = "multi_thread")]
async fn wait_and_get_count_every_job_of_a_ref() {
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let mut program = Program::new(dir.path());
    let free = crate::support::free_address();
    program.set("SERVER__LISTEN", free.to_string());
    let run = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        tokio::task::spawn_blocking(move || {
            let out = command.output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (out.status.code(), text(&out.stdout), text(&out.stderr))
        })
    };
    let process = program.start().await;
    process.post_until_accepted(&json!({"videoId": video_id(1), "status": 1, "replyRef": "boat"})).await;
    let url = media.put("/boat.mp4", mp4(1, 2000), "video/mp4");
    for number in 2..=103 {
        let mut body = completed(number, &url);
        body["replyRef"] = json!("boat");
        process.post_until_accepted(&body).await;
    }
    for number in 2..=103 {
        process.job_in(&video_id(number), "archived").await;
    }
    let (code, _, why) = run(&["wait", "boat", "--timeout", "50ms"]).await.unwrap();
    assert!(code == Some(1) && why.contains("boat: it has not ended: running"), "{why}");
    let waiting = run(&["wait", "boat"]);
    process.post_until_accepted(&json!({"videoId": video_id(1), "status": 3, "error": "no"})).await;
    let (code, out, why) = waiting.await.unwrap();
    assert!(code == Some(1) && why.contains(&format!("{}: failed: no", video_id(1))), "{why}");
    let ids: BTreeSet<_> = out.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(ids, (1..=103).map(video_id).collect::<BTreeSet<_>>());
    let into = dir.path().join("got");
    let (code, out, why) = run(&["get", "boat", "-o", into.to_str().unwrap()]).await.unwrap();
    assert!(code == Some(1) && why.contains("failed: no"), "{why}");
    let paths: BTreeSet<_> = out.lines().collect();
    assert!(paths.iter().all(|path| Path::new(path).is_file()), "{paths:?}");
    assert_eq!(paths.len(), 102);
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn get_keeps_the_files_of_jobs_apart_whose_folders_are_called_alike() {
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let mut program = Program::new(dir.path());
    program.set("SERVER__LISTEN", crate::support::free_address().to_string());
    program.set("STORAGE__KEY", "{job}/x/{file}".to_owned());
    let process = program.start().await;
    let videos = [mp4(1, 2000), mp4(2, 2000)];
    for (number, video) in (1..).zip(&videos) {
        let mut body = completed(number, &media.put(&format!("/{number}.mp4"), video.clone(), "video/mp4"));
        body["replyRef"] = json!("boat");
        process.post_until_accepted(&body).await;
        process.job_in(&video_id(number), "archived").await;
    }
    let into = dir.path().join("got");
    let mut command = program.command(&["get", "boat", "-o", into.to_str().unwrap()]);
    let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let got = Ended::of(out);
    assert_eq!(got.code, 0, "{got:?}");
    let files: BTreeSet<_> = got.stdout.lines().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!((got.stdout.lines().count(), files == BTreeSet::from(videos)), (2, true), "{got:?}");
    assert!(got.stdout.lines().all(|path| Path::new(path).starts_with(&into)), "{got:?}");
    assert_eq!(process.terminate().await, Some(0));
}
