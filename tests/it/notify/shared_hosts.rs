//! Receivers at one host, of which one refuses.

use super::*;

/// As long as a receiver may ask to be left alone.
const DAY: u64 = 86_400;

impl Bench {
    /// A job that failed, over a ref's URL.
    async fn failed(&self, url: &str, number: u64) {
        let body = json!({"videoId": video_id(number), "status": 3});
        assert_eq!(self.vault.post(url, body.to_string()).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_whose_receiver_asks_for_a_day_keeps_no_other_ref_at_its_host_waiting() {
    let receiver = Receiver::start();
    receiver.refuse("/one", 429, DAY);
    let bench = Bench::start(|_| {}).await;
    let one = bench.reference("one", &receiver.url("/one")).await;
    let two = bench.reference("two", &receiver.url("/two")).await;
    bench.failed(&one, 1).await;
    receiver.hit("/one", 1).await;
    bench.failed(&two, 2).await;
    receiver.hit("/two", 1).await;
    let (_, page) = bench.vault.get("/api/v1/notifications?state=pending").await;
    let event = page["items"].as_array().unwrap().iter().find(|item| item["jobId"] == video_id(1));
    assert_eq!(receiver.hits("/one"), 1, "it asked for a day");
    // Somebody who does not want to wait for that long need not.
    let retry = format!("/api/v1/notifications/{}/retry", event.expect("it waits")["id"].as_str().unwrap());
    assert_eq!(bench.vault.send("POST", &retry, &Value::Null).await.0, 202);
    receiver.hit("/one", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_keeps_no_other_endpoint_at_its_host_waiting() {
    const JOBS: u64 = 20;
    let receiver = Receiver::start();
    receiver.refuse("/one", 503, DAY);
    let bench = Bench::start(|settings| {
        settings.notify.endpoints =
            vec![endpoint("one", &receiver.url("/one")), endpoint("two", &receiver.url("/two"))];
    })
    .await;
    for number in 1..=JOBS {
        bench.vault.callback(json!({"videoId": video_id(number), "status": 3})).await;
    }
    receiver.hit("/two", JOBS as usize).await;
}
