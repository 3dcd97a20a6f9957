//! Replicas that nothing happens to.

use serde_json::json;

use super::{Replicas, until};
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
        let seen = from.get(&format!("/api/v1/jobs/{}", video_id(number))).await;
        assert!(seen.is_some(), "job {number} is not seen: {}\n{}", to.log(), from.log());
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
    for process in &processes {
        // So that each has read all of it when it stops.
        process.get("/api/v1/stats").await.unwrap();
        assert_eq!(process.terminate().await, Some(0), "{}", process.log());
    }
    let digests = replicas.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:#?}");
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
            .bearer_auth(crate::support::child::TOKEN)
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
        let job = processes[0].get(&format!("/api/v1/jobs/{}", video_id(number))).await.unwrap();
        assert_eq!(job["replyRef"], format!("ref-{number}"));
    }
}
