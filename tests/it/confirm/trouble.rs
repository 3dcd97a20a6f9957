//! A provider that gives no answer: whatever waits goes on waiting, and nothing is lost.

use super::*;

async fn retry(bench: &Bench, video: &str) {
    let url = bench.vault.url(&format!("/api/v1/jobs/{}/retry", video.replace(':', "%3A")));
    let answer = bench.vault.client.post(url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_out_of_reach_means_wait() {
    // No patience at all: only what the provider says uses it up.
    for fault in ["get-500=1", "get-reset=1", "get-429=1", "get-401=1", "get-596=1"] {
        let mut bench = Bench::start("drop=1", Duration::ZERO).await;
        let video = bench.video().await;
        let truth = bench.truth(&video).await;
        bench.simulator.set_read_faults(fault.parse().unwrap());
        bench.vault.callback(truth).await;
        let waits_for_long = matches!(fault, "get-401=1" | "get-596=1");
        bench.asked(if waits_for_long { 1 } else { 2 }).await;
        assert_eq!(bench.vault.job(&video).await["state"], "running", "{fault}");
        let stats = bench.vault.get("/api/v1/stats").await.1;
        assert_eq!((&stats["queueDepth"], &stats["quarantined"]), (&json!(1), &json!(0)), "{fault}");
        assert_eq!(bench.vault.get("/readyz").await.0, 200, "{fault}");
        bench.simulator.set_read_faults("".parse().unwrap());
        if waits_for_long {
            bench.rebuild().await;
            retry(&bench, &video).await;
        }
        bench.vault.archived(&video).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_at_the_providers_address_means_wait() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let vault = Vault::start_with(|settings| {
        settings.intake.confirm = true;
        settings.provider = Some(provider(&format!("http://{address}")));
        settings.confirm_patience = Duration::ZERO;
    })
    .await;
    let config = Config { faults: "drop=1".parse().unwrap(), listen: address, ..Config::default() };
    let body = json!({"videoId": "user:1-minimax:2-video:3", "status": 3});
    vault.callback(body).await;
    let simulator = Simulator::start(config).await.unwrap();
    let waited = async {
        while vault.get("/api/v1/stats").await.1["quarantined"] == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("it is not asked again");
    assert_eq!(simulator.stats().reads, 1, "nothing was used up while nobody answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_on_hold_is_left_alone_and_others_are_not() {
    let bench = Bench::start("drop=1", NEVER).await;
    let (first, second) = (bench.video().await, bench.video().await);
    let truths = [bench.truth(&first).await, bench.truth(&second).await];
    bench.simulator.set_read_faults("get-596=1".parse().unwrap());
    for truth in truths {
        bench.vault.callback(truth).await;
        bench.asked(1).await;
    }
    bench.simulator.set_read_faults("".parse().unwrap());
    retry(&bench, &second).await;
    let other = json!({"prompt": "a boat", "account": "5", "replyRef": "other"});
    let other = bench.create("videos/create", other).await["videoId"].as_str().unwrap().to_owned();
    let truth = bench.truth(&other).await;
    bench.vault.callback(truth).await;
    bench.vault.archived(&other).await;
    assert_eq!(bench.vault.job(&second).await["state"], "running");
    assert_eq!(bench.questions(), 2, "the one that was answered 596, and the one about the other account");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_believed_once_confirm_is_switched_off() {
    let mut bench = Bench::start("drop=1", NEVER).await;
    let video = bench.video().await;
    let truth = bench.truth(&video).await;
    bench.simulator.set_read_faults("get-running=1".parse().unwrap());
    bench.vault.callback(truth).await;
    bench.asked(1).await;
    bench.vault.stop().await;
    bench.vault.settings.intake.confirm = false;
    bench.vault.start_again().await;
    retry(&bench, &video).await;
    bench.vault.archived(&video).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowding_out_takes_many_and_loses_nothing() {
    let bench = Bench::start("drop=1,get-500=1", NEVER).await;
    let video = bench.video().await;
    let body = |message: u64| json!({"videoId": video, "status": 3, "message": message});
    for message in 0..4 {
        bench.vault.callback(body(message)).await;
    }
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["quarantined"], 0);
    bench.vault.callback(body(4)).await;
    let id = bench.quarantined().await["quarantineId"].as_str().unwrap().to_owned();
    assert_eq!(bench.vault.get(&format!("/api/v1/quarantine/{id}")).await.1["body"], body(0));
    // A repeat of one that waits is counted and not kept again.
    bench.vault.callback(body(4)).await;
    assert_eq!(bench.vault.job(&video).await["callbacks"], 6);
    assert_eq!(bench.vault.get("/api/v1/stats").await.1["quarantined"], 1);
}
