//! Replicas that nothing happens to.

use reqwest::Method;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};

use super::{Replicas, caught_up, seen, until};
use crate::support::child::{Process, TOKEN};
use crate::support::media::mp4;
use crate::support::vault::{completed, video_id};

/// A callback that one replica has answered is seen through every other; each job is archived once, by whoever has its shard;
/// and all views are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_replica_has_answered_is_seen_through_all_and_archived_once() {
    let Some(replicas) = Replicas::prepare(3).await else { return };
    let processes = replicas.start().await;
    let jobs = 60;
    for number in 0..jobs {
        let url = replicas.media.generated(number, 2000);
        let (to, from) = (&processes[number as usize % 3], &processes[(number as usize + 1) % 3]);
        to.post_until_accepted(&completed(number, &url)).await;
        seen(from, to, number).await;
    }
    for number in 0..jobs {
        processes[number as usize % 3].job_in(&video_id(number), "archived").await;
    }
    let objects = replicas.objects();
    assert_eq!(objects.len() as u64, 2 * jobs, "a file and a manifest for each: {objects:#?}");
    let worked: Vec<_> = processes.iter().map(|process| process.log().matches("\"stored\"").count()).collect();
    assert_eq!(worked.iter().sum::<usize>() as u64, jobs, "{worked:?}");
    let said = replicas.programs[0].command(&["cluster", "status"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.matches(": member, ").count(), 3, "{said}");
    until("the work is spread", || async {
        let said =
            replicas.postgres.run("SELECT count(DISTINCT holder) FROM replyvault_lease WHERE holder IS NOT NULL").await;
        said == ["3"]
    })
    .await;
    let metric = async |process: &Process, name: &str| -> u64 {
        let sent = process.client.get(format!("{}/metrics", process.base)).send().await.unwrap();
        let metrics = sent.text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("replyvault_cluster_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
    };
    until("all shards are worked on", || async {
        let mut shards = 0;
        for process in &processes {
            shards += metric(process, "shards").await;
        }
        shards == 64
    })
    .await;
    for process in &processes {
        for (name, value) in [("log_ok", 1), ("member", 1), ("callbacks_waiting", 0)] {
            assert_eq!(metric(process, name).await, value, "{name}");
        }
        assert!(metric(process, "position").await > 0);
    }
    for process in &processes {
        // So that each has read all of it when it stops.
        caught_up(process).await;
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    }
    // Who comes when the tables are just being made says nothing of it.
    assert!(processes.iter().all(|process| !process.log().contains("exist")));
    replicas.assert_alike().await;
}

/// A ref made through one replica is known to the next at once, and its callbacks are taken by any.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ref_made_through_one_replica_takes_callbacks_through_another() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    for number in 0..20 {
        let made = processes[0]
            .client
            .post(format!("{}/api/v1/refs", processes[0].base))
            .bearer_auth(TOKEN)
            .json(&json!({"replyRef": format!("ref-{number}")}))
            .send()
            .await
            .unwrap();
        let made: serde_json::Value = made.json().await.unwrap();
        let path = made["replyUrl"].as_str().unwrap().split_once("/reply/").unwrap().1.to_owned();
        let url = replicas.media.generated(number, 1000);
        let sent = processes[1].client.post(format!("{}/reply/{path}", processes[1].base));
        let sent = sent.body(completed(number, &url).to_string()).send().await.unwrap();
        assert_eq!(sent.status(), 200, "{number}: {}", processes[1].log());
        let job = seen(&processes[0], &processes[1], number).await;
        assert_eq!(job["replyRef"], format!("ref-{number}"));
    }
}

/// Whatever replica a request comes to, it knows the tasks of the others and begins no second one of their kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_of_one_replica_is_shown_by_another_and_has_no_second_beside_it() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    let start = async |process: &Process| {
        let sent = process.client.post(format!("{}/api/v1/tasks/verify", process.base)).bearer_auth(TOKEN);
        let sent = sent.send().await.unwrap();
        (sent.status().as_u16(), sent.json::<Value>().await.unwrap())
    };
    until("it is known where the log is", || async { start(&processes[1]).await.0 == 202 }).await;
    let old = "INSERT INTO replyvault_note SELECT 'task', 'task_00' || number, '{}', clock_timestamp(),
        clock_timestamp() + interval '1 day' FROM generate_series(100, 400) AS number";
    replicas.postgres.run(old).await;
    until("that one has ended", || async { start(&processes[0]).await.0 == 202 }).await;
    let tasks = processes[1].get("/api/v1/tasks").await.unwrap();
    let task = tasks["items"][0]["taskId"].as_str().unwrap().to_owned();
    assert_eq!(processes[0].get("/api/v1/tasks").await.unwrap()["items"][0]["taskId"], task.as_str());
    until("it is done", || async {
        let shown = processes[1].get(&format!("/api/v1/tasks/{task}")).await;
        shown.is_some_and(|shown| shown["kind"] == "verify" && shown["state"] == "done" && shown["endedAt"].is_string())
    })
    .await;
    until("the next may begin", || async {
        replicas.postgres.ask("SELECT count(*) FROM replyvault_note WHERE kind = 'running-task'").await == ["0"]
    })
    .await;
    assert_eq!(replicas.postgres.run("SELECT count(*) FROM replyvault_note WHERE kind = 'task'").await, ["100"]);
    let running = "INSERT INTO replyvault_note VALUES
        ('running-task', 'verify', 'task_of_another', clock_timestamp(), clock_timestamp() + interval '1 hour')";
    replicas.postgres.run(running).await;
    let (status, body) = start(&processes[0]).await;
    assert_eq!((status, body["error"]["code"].as_str()), (409, Some("already_running")), "{body:#}");
    assert!(body.to_string().contains("task_of_another"), "{body:#}");
}

/// Bytes that one replica has claimed and cannot store are stored by another that has them, under the key that was claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_replica_has_claimed_and_cannot_store_another_does() {
    let Some(mut replicas) = Replicas::prepare(2).await else { return };
    // The one stores nothing; the other does not wait a minute for it.
    replicas.programs[0].failure_points = "worker.put=return".to_owned();
    replicas.programs[1].failure_points = "worker.wait_for_another=return".to_owned();
    let pairs = 32;
    let of_other = |number| number + pairs;
    // Some in several parts: those get a key of their own in the end.
    let bytes = |seed: u64| mp4(seed, if seed % 8 == 7 { 6 << 20 } else { 2000 });
    let put = |number: u64, seed| replicas.media.put(&format!("/{number}.mp4"), bytes(seed), "video/mp4");
    let unable = replicas.programs[0].start().await;
    for number in 0..pairs {
        unable.post_until_accepted(&completed(number, &put(number, number))).await;
    }
    // The second attempt comes after the first has claimed.
    until("all is claimed", || async { (0..pairs).all(|number| replicas.media.hits(&format!("/{number}.mp4")) > 1) })
        .await;
    let able = replicas.programs[1].start().await;
    until("the work is spread", || async {
        let said =
            replicas.postgres.run("SELECT count(DISTINCT holder) FROM replyvault_lease WHERE holder IS NOT NULL").await;
        said == ["2"]
    })
    .await;
    for number in 0..pairs {
        able.post_until_accepted(&completed(of_other(number), &put(of_other(number), number))).await;
    }
    let are_archived = async |number: u64| {
        let job = able.job_in(&video_id(of_other(number)), "archived").await;
        let same = able.job_in(&video_id(number), "archived").await;
        assert_eq!(job["assets"][0]["key"], same["assets"][0]["key"], "{job:#}");
    };
    let (large, small): (Vec<_>, Vec<_>) = (0..pairs).partition(|number| number % 8 == 7);
    for number in small {
        are_archived(number).await;
    }
    // What it has claimed and nobody else has goes to the other.
    unable.kill();
    until("its work is taken over", || async {
        able.get("/api/v1/stats").await.is_some_and(|stats| stats["queueDepth"] == 0)
    })
    .await;
    for number in large {
        are_archived(number).await;
    }
    assert_eq!(replicas.objects().len() as u64, 3 * pairs, "a file and two manifests for each pair");
}

/// A session that was ended through one replica is good for nothing on any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_one_replica_has_ended_is_over_on_all() {
    let Some(replicas) = Replicas::prepare(2).await else { return };
    let processes = replicas.start().await;
    let ask = async |process: &Process, method: Method, path: &str, cookie: Option<&str>| {
        let call = process.client.request(method, format!("{}{path}", process.base));
        let call = match cookie {
            Some(cookie) => call.header(COOKIE, cookie),
            None => call.bearer_auth(TOKEN),
        };
        call.send().await.unwrap()
    };
    let opened = ask(&processes[0], Method::POST, "/api/v1/session", None).await;
    let cookie = opened.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    for process in &processes {
        assert_eq!(ask(process, Method::GET, "/api/v1/stats", Some(&cookie)).await.status(), 200);
    }
    assert_eq!(ask(&processes[1], Method::DELETE, "/api/v1/session", Some(&cookie)).await.status(), 204);
    for process in &processes {
        assert_eq!(ask(process, Method::GET, "/api/v1/stats", Some(&cookie)).await.status(), 401);
    }
}
