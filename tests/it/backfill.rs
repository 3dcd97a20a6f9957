//! What was made before, or without, the vault: imported from the provider's lists.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use replyvault::domain::{Digest, Timestamp};
use replyvault::simulator::{Config, Simulator};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::reconcile::Bench;
use crate::support::apis::{create, encoded, fault};
use crate::support::child::Program;
use crate::support::receiver::Receiver;
use crate::support::stand_in;
use crate::support::vault::PATIENCE;

/// A provider whose answers show `time`.
fn provider(faults: &str, time: &str) -> Config {
    Config { faults: faults.parse().unwrap(), clock: Timestamp::parse_rfc3339(time), ..Config::default() }
}

/// Half past eight in the evening in Europe, and the next day in China.
const EVENING: &str = "2026-01-31T20:30:00Z";

async fn call(simulator: &Simulator, method: &str, path: &str, body: &Value) -> Value {
    let url = format!("{}/v1/minimax/{path}", simulator.base_url());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.request(method.parse().unwrap(), url).bearer_auth("t");
    let request = if body.is_null() { request } else { request.json(body) };
    request.send().await.unwrap().json().await.unwrap()
}

/// Makes videos that nobody is called back for, and waits for their end.
async fn finished_videos(simulator: &Simulator, count: usize, account: &str) {
    for number in 0..count {
        let body =
            json!({"prompt": format!("a boat {number}"), "account": account, "replyRef": format!("boat-{number}")});
        let created = call(simulator, "POST", "videos/create", &body).await;
        assert!(created["videoId"].is_string(), "{created}");
    }
    all_ended(simulator, account).await;
}

async fn all_ended(simulator: &Simulator, account: &str) {
    let path = format!("videos/?account={account}&limit=1000");
    let ended = async {
        loop {
            let list = call(simulator, "GET", &path, &Value::Null).await;
            if list.as_array().unwrap().iter().all(|video| video["statusFinal"] == true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the jobs do not end");
}

fn videos() -> Value {
    json!({"kind": "videos"})
}

fn counts(task: &Value) -> [u64; 4] {
    assert_eq!((&task["state"], &task["report"]["complete"]), (&json!("done"), &json!(true)), "{task:#}");
    ["listed", "known", "missing", "imported"].map(|name| task["report"][name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_jobs_are_imported_under_the_day_they_were_made() {
    let config = provider("expire=1h", EVENING);
    let mut bench = Bench::with(config, |settings| settings.intake.adopt_unknown_refs = false).await;
    bench.create_unheard("images/create", json!({"prompt": "a kettle", "quantity": 2, "account": "7"})).await;
    finished_videos(&bench.simulator, 3, "7").await;
    assert_eq!(counts(&bench.task("backfill", videos()).await), [3, 0, 3, 3]);
    assert_eq!(counts(&bench.task("backfill", json!({"kind": "images"})).await), [2, 0, 2, 2]);
    bench.all_archived().await;
    let jobs = bench.vault.get("/api/v1/jobs").await.1["items"].clone();
    assert_eq!(jobs.as_array().unwrap().len(), 5);
    for job in jobs.as_array().unwrap() {
        let folder = format!("{}/2026/01/31/", job["kind"].as_str().unwrap());
        assert!(job["manifestKey"].as_str().unwrap().starts_with(&folder), "{job:#}");
        assert!(job["createdAt"].as_str().unwrap().starts_with("2026-01-31T20:"), "{job:#}");
    }
    assert_eq!(counts(&bench.task("backfill", videos()).await), [3, 3, 0, 0]);
    bench.vault.stop().await;
    std::fs::remove_dir_all(bench.vault.settings.data_dir.join("state")).unwrap();
    bench.vault.start_again().await;
    assert_eq!(bench.vault.get("/api/v1/jobs").await.1["items"], jobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_walked_to_its_end_in_any_order_and_to_what_is_known() {
    for order in ["newest", "shuffled"] {
        let bench = Bench::with(provider(&format!("list-order={order}"), EVENING), |_| {}).await;
        finished_videos(&bench.simulator, 65, "7").await;
        let limited = json!({"kind": "videos", "limit": 20});
        assert_eq!(counts(&bench.task("backfill", limited.clone()).await), [65, 0, 65, 20]);
        // What was taken first is at the far end, so the next run finds what is left.
        let task = bench.task("backfill", limited).await;
        assert_eq!(
            (counts(&task), &task["progress"]),
            ([65, 20, 45, 20], &json!({"done": 20, "total": 20})),
            "{order}"
        );
        // The second page is known as a whole, and what follows it with it.
        assert_eq!(counts(&bench.task("backfill", videos()).await), [60, 35, 25, 25]);
        bench.all_archived().await;
        assert_eq!(counts(&bench.task("backfill", videos()).await), [30, 30, 0, 0]);
        assert_eq!(counts(&bench.task("backfill", json!({"kind": "videos", "all": true})).await), [65, 65, 0, 0]);
        if order == "newest" {
            finished_videos(&bench.simulator, 1, "7").await;
            assert_eq!(counts(&bench.task("backfill", videos()).await), [60, 59, 1, 1]);
            bench.all_archived().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_known_and_have_not_ended_get_their_end() {
    let bench = Bench::with(provider("", EVENING), |_| {}).await;
    finished_videos(&bench.simulator, 2, "7").await;
    let videos_made = bench.simulator.truth();
    bench.vault.callback(json!({"videoId": videos_made[0].job_id, "status": 1, "replyRef": "boat-0"})).await;
    bench.vault.callback(json!({"videoId": videos_made[1].job_id, "status": 3, "replyRef": "boat-1"})).await;
    assert_eq!(counts(&bench.task("backfill", videos()).await), [2, 0, 2, 2]);
    bench.all_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_accounts_has_its_list() {
    let bench = Bench::with(provider("", EVENING), |_| {}).await;
    let other = json!({"url": "https://hailuoai.video", "token": "second", "maxJobs": 2});
    let other = call(&bench.simulator, "POST", "accounts", &other).await["account"].as_str().unwrap().to_owned();
    finished_videos(&bench.simulator, 2, &other).await;
    finished_videos(&bench.simulator, 31, "730015522").await;
    assert_eq!(counts(&bench.task("backfill", videos()).await), [33, 0, 33, 33]);
    bench.all_archived().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backfill_waits_for_a_hold_or_ends_with_the_reason() {
    for (fault, expected) in [
        ("list-596=1", "the provider has put the account on hold; it wants to be left alone for some hours"),
        ("list-401=1", "the provider refuses provider.api_token"),
    ] {
        let bench = Bench::with(provider(fault, EVENING), |_| {}).await;
        let task = bench.task("backfill", videos()).await;
        assert_eq!((&task["state"], &task["error"]), (&json!("failed"), &json!(expected)), "{task:#}");
    }
    // Every other answer: busy for a second, or an error.
    let bench = Bench::with(provider("list-429=0.5,list-500=0.2", EVENING), |_| {}).await;
    let created = call(&bench.simulator, "POST", "videos/create", &json!({"prompt": "a boat"})).await;
    assert!(created["videoId"].is_string());
    bench.simulator.idle().await;
    tokio::time::timeout(PATIENCE, async { while counts(&bench.task("backfill", videos()).await)[3] == 0 {} })
        .await
        .unwrap();
    bench.all_archived().await;
}

/// Answers every list with the same page, whatever comes after what, and says that there is another.
async fn stuttering_provider(page: Value) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(move || {
        let page = page.clone();
        App::new().default_service(web::to(move || {
            let page = page.clone();
            async move { HttpResponse::Ok().json(page) }
        }))
    });
    tokio::spawn(stand_in(server).listen(listener).unwrap().run());
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_begins_anew_is_walked_once() {
    let image = |id: u64, status: u64| json!({"imageId": format!("user:1-minimax:2-image:{id}"), "status": status});
    let items = json!([image(1, 3), image(2, 1), image(1, 3), {"imageId": "?"}, 7]);
    for page in [json!({"images": items, "hasPre": true, "hasNext": true, "total": 1_000_000}), items] {
        let address = stuttering_provider(page).await;
        let bench = Bench::with(Config::default(), |settings| {
            settings.provider.as_mut().unwrap().base_url = format!("http://{address}").parse().unwrap();
        });
        let bench = bench.await;
        let task = bench.task("backfill", json!({"kind": "images", "all": true})).await;
        assert_eq!(counts(&task), [2, 0, 1, 1]);
        assert_eq!(bench.vault.job_in("user:1-minimax:2-image:1", &["failed"]).await["outcome"], "failed");
    }
}

/// A program with a token for the provider, and no service that runs.
fn program(dir: &TempDir, simulator: &Simulator) -> Program {
    let mut program = Program::new(dir.path());
    program.set("PROVIDER__BASE_URL", simulator.base_url());
    program.set("PROVIDER__API_TOKEN", "token".to_owned());
    program
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn run(program: &Program, arguments: &[&str]) -> Output {
    let mut command = program.command(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Whether everything is in the bucket as it was made, by a service that is started for it.
async fn assert_all_archived(program: &Program, simulator: &Simulator) {
    let process = program.start().await;
    for expected in simulator.truth() {
        let job = process.job_in(expected.job_id.as_str(), "archived").await;
        assert_eq!(job["assets"][0]["sha256"], expected.files[0].sha256.to_string());
    }
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_service_the_command_archives_what_it_imports_and_can_be_stopped() {
    let simulator = Simulator::start(provider("slow=300ms,expire=1h", EVENING)).await.unwrap();
    // Their calls are answered as slowly as all others, so all at once.
    let made = (0..62).map(|_| async {
        call(&simulator, "POST", "videos/create", &json!({"prompt": "a boat"})).await;
    });
    futures_util::future::join_all(made).await;
    all_ended(&simulator, "730015522").await;
    let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
    let mut program = program(&dir, &simulator);
    let (url, secret) = (receiver.url("/"), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let endpoint = format!("name = 'a', url = {url:?}, secret = {secret:?}, events = ['job.archived']");
    program.set("NOTIFY__ENDPOINTS", format!("[{{ {endpoint} }}]"));
    let child = program.command(&["backfill", "videos"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = async {
        while simulator.stats().cdn_requests == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, began).await.expect("nothing is imported");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let stopped = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    let (stdout, stderr) = text(&stopped);
    assert_eq!(stopped.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("stopped before the end; run it again to go on"), "{stderr}");
    assert!(stdout.contains("; stopped before the end\n") && !stdout.contains("imported 62"), "{stdout}");

    let ended = run(&program, &["backfill", "videos"]).await;
    let (stdout, stderr) = text(&ended);
    assert_eq!(ended.status.code(), Some(0), "{stdout}{stderr}");
    assert!(
        stdout.contains("jobs listed 62:") && stdout.contains("stuck 0, waiting for another attempt 0"),
        "{stdout}"
    );
    assert_eq!(simulator.stats().cdn_expired, 0);
    // All of it is there already when the service comes up.
    let before = simulator.stats().cdn_requests;
    assert_all_archived(&program, &simulator).await;
    assert_eq!(simulator.stats().cdn_requests, before);
    // It tells of all that was archived in its stead, of each job with one event.
    let process = program.start().await;
    process.get_when("/api/v1/stats", |stats| stats["notificationsPending"] == 0).await;
    let told: BTreeSet<String> = receiver.signed().into_iter().map(|[id, ..]| id).collect();
    assert_eq!(told.len(), 62);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_service_the_commands_have_it_done() {
    let simulator = Simulator::start(provider("drop=1", EVENING)).await.unwrap();
    finished_videos(&simulator, 2, "730015522").await;
    let dir = tempfile::tempdir().unwrap();
    let mut program = program(&dir, &simulator);
    let address = crate::support::free_address();
    program.set("SERVER__LISTEN", address.to_string());
    let process = program.start().await;
    let ended = run(&program, &["backfill", "videos", "--limit", "1", "--all"]).await;
    let (stdout, stderr) = text(&ended);
    assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    assert_eq!(stdout, "jobs listed 2: 0 known, 0 still running, 2 to import\nimported 1\n");
    let first = simulator.truth()[0].job_id.clone();
    process.job_in(first.as_str(), "archived").await;
    let second = simulator.truth()[1].job_id.clone();
    assert_eq!(process.post(&json!({"videoId": second, "status": 1})).await, Some(200));
    let ended = run(&program, &["reconcile"]).await;
    let (stdout, stderr) = text(&ended);
    assert_eq!((ended.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.starts_with("jobs asked about 1: 1 changed, 0 removed, 0 still running\n"), "{stdout}");
    process.job_in(second.as_str(), "archived").await;

    simulator.set_read_faults("list-596=1".parse().unwrap());
    let ended = run(&program, &["backfill", "images"]).await;
    let (_, stderr) = text(&ended);
    assert_eq!(ended.status.code(), Some(1));
    assert!(stderr.contains("the provider has put the account on hold"), "{stderr}");
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_service_a_reconciliation_archives_too() {
    let simulator = Simulator::start(provider("drop=1,expire=1h", EVENING)).await.unwrap();
    finished_videos(&simulator, 2, "730015522").await;
    let dir = tempfile::tempdir().unwrap();
    let program = program(&dir, &simulator);
    let process = program.start().await;
    simulator.set_read_faults("get-500=1".parse().unwrap());
    for expected in simulator.truth() {
        assert_eq!(process.post(&json!({"videoId": expected.job_id, "status": 1})).await, Some(200));
    }
    assert_eq!(process.terminate().await, Some(0));
    simulator.set_read_faults("".parse().unwrap());
    let ended = run(&program, &["reconcile"]).await;
    let (stdout, stderr) = text(&ended);
    assert_eq!(ended.status.code(), Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("archived 2, stuck 0, waiting for another attempt 0\n"), "{stdout}");
    assert_all_archived(&program, &simulator).await;
}

/// Jobs of an API that nobody was called back for, all over.
async fn ended_elsewhere(simulator: &Simulator, provider: &str, path: &str, calls: usize) {
    let call = Simulator::creates().find(|call| call.provider == provider && call.path == path).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for number in 0..calls {
        // Nobody listens there.
        create(&client, simulator, &call, "http://127.0.0.1:9/", &format!("{provider}-{number}")).await;
    }
    simulator.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_of_every_api_is_walked_page_by_page_and_imported() {
    for (provider, list, path, calls, limit) in [
        ("kling", "tasks", "videos/text2video", 43, json!(null)),
        ("runwayml", "tasks", "videos/create", 41, json!(null)),
        ("pixverse", "videos", "videos/create", 42, json!(null)),
        ("pixverse", "images", "images/create", 26, json!(null)),
        ("tempolor", "songs", "music/song", 12, json!(null)),
        ("faceswap", "swaps", "picsi", 3, json!(2)),
        ("minimax", "speech", "speech/create", 21, json!(null)),
    ] {
        let faults = if provider == "minimax" { "" } else { "fail=0.1" };
        let config = Config { faults: faults.parse().unwrap(), ..Config::default() };
        let bench = Bench::with(config, |settings| settings.intake.adopt_unknown_refs = false).await;
        ended_elsewhere(&bench.simulator, provider, path, calls).await;
        let truth = bench.simulator.truth();
        let count = truth.len() as u64;
        let request = json!({"provider": provider, "kind": list, "limit": limit});
        let first = counts(&bench.task("backfill", request.clone()).await);
        assert_eq!(first, [count, 0, count, limit.as_u64().unwrap_or(count)], "{provider} {list}");
        if limit.is_u64() {
            let rest = json!({"provider": provider, "all": true});
            assert_eq!(counts(&bench.task("backfill", rest).await), [count, 2, count - 2, count - 2], "{provider}");
        }
        for wanted in truth {
            let job = bench.vault.job_in(&encoded(wanted.job_id.as_str()), &["archived", "failed"]).await;
            let mut objects = std::collections::HashMap::new();
            for asset in job["assets"].as_array().unwrap() {
                let key = asset["key"].as_str().unwrap().to_owned();
                let digest = Digest::of(&bench.vault.object(&key).await);
                objects.insert(key, digest);
            }
            assert_eq!(fault(&job, &wanted, &mut |key| objects.get(key).copied()), None);
        }
        let [_, known, missing, _] =
            counts(&bench.task("backfill", json!({"provider": provider, "kind": list, "all": true})).await);
        assert_eq!((known, missing), (count, 0), "{provider} {list}");
    }
    let bench = Bench::with(provider("", EVENING), |_| {}).await;
    for (body, says) in [
        (json!({"provider": "mureka"}), "expected an API with a list"),
        (json!({"provider": "kling", "kind": "videos"}), "expected one of tasks for kling"),
        (json!({"provider": "kling", "kind": "jobs", "ids": ["kling:1"]}), "expected only with a list"),
    ] {
        let (status, answer) = bench.vault.send("POST", "/api/v1/tasks/backfill", &body).await;
        assert!(status == 422 && answer.to_string().contains(says), "{status} {answer}");
    }
}
