//! Every step of confirming can fail once, or be the last before a crash.

use super::*;
use crate::support::child::{Process, Program};

/// The points of this part of the worker.
pub(crate) const POINTS: &[&str] = &["worker.confirm", "worker.confirm.done", "worker.refute", "worker.refute.done"];

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_any_step_of_confirming_changes_no_outcome() {
    for point in POINTS {
        run(&format!("{point}=1*return"), false).await;
        // It waits there until it is killed.
        run(&format!("{point}=1*sleep(3600000)"), true).await;
    }
}

async fn run(failure_points: &str, kill: bool) {
    let simulator = Simulator::start(Config { faults: "drop=1".parse().unwrap(), ..Config::default() }).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("PROVIDER__BASE_URL", simulator.base_url());
    program.set("PROVIDER__API_TOKEN", "token".to_owned());
    program.set("PROVIDER__CONFIRM", "true".to_owned());
    program.failure_points = failure_points.to_owned();
    let mut process = program.start().await;
    let api = format!("{}/v1/minimax", simulator.base_url());
    let create = process.client.post(format!("{api}/videos/create")).bearer_auth("t").json(&json!({"prompt": "a"}));
    let created: Value = create.send().await.unwrap().json().await.unwrap();
    let video = created["videoId"].as_str().unwrap();
    let truth = async {
        loop {
            let get = process.client.get(format!("{api}/videos/{video}")).bearer_auth("t");
            let truth: Value = get.send().await.unwrap().json().await.unwrap();
            if truth["statusFinal"] == true {
                return truth;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let truth = tokio::time::timeout(PATIENCE, truth).await.unwrap();
    let asked = simulator.stats().reads;
    process.post_until_accepted(&json!({"videoId": video, "status": 3})).await;
    process.post_until_accepted(&truth).await;
    if kill {
        let reached = async {
            while simulator.stats().reads == asked {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
        process.kill();
        program.failure_points = String::new();
        process = program.start().await;
    }
    process.job_in(video, "archived").await;
    assert_eq!(quarantined(&process).await, ["not_confirmed"], "{failure_points}");
    let job = process.get(&format!("/api/v1/jobs/{video}")).await.unwrap();
    assert_eq!((&job["outcome"], &job["callbacks"]), (&json!("completed"), &json!(2)), "{failure_points}");
    assert_eq!(process.terminate().await, Some(0));
}

/// The reasons of what is in quarantine, once nothing waits any more.
async fn quarantined(process: &Process) -> Vec<String> {
    let settled = async {
        while process.get("/api/v1/stats").await.is_none_or(|stats| stats["queueDepth"] != 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("something still waits");
    let items = process.get("/api/v1/quarantine").await.unwrap()["items"].clone();
    items.as_array().unwrap().iter().map(|item| item["reason"].as_str().unwrap().to_owned()).collect()
}
