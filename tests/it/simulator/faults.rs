use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_decides_the_same() {
    async fn run(seed: u64) -> (Vec<(String, Outcome, Vec<Digest>)>, Vec<u64>) {
        let faults = "drop=0.3,repeat=0.3,disorder=0.3,fail=0.2,moderate=0.2,no-clean=0.5";
        let bench = Bench::with(Config { seed, faults: faults.parse().unwrap(), ..Config::default() }).await;
        for n in 0..12 {
            bench.video(&n.to_string()).await;
        }
        bench.settled().await;
        let digests = |job: &Expected| job.files.iter().map(|file| file.sha256).collect();
        let truth = bench.simulator.truth();
        let truth = truth.iter().map(|job| (job.job_id.to_string(), job.outcome, digests(job))).collect();
        let s = bench.simulator.stats();
        let counts = vec![s.callbacks_sent, s.callbacks_dropped, s.callbacks_repeated, s.callbacks_disordered];
        assert!(counts.iter().all(|count| *count > 0));
        bench.stop().await;
        (truth, counts)
    }
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await.0, run(8).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_can_come_twice_late_or_never_and_are_not_sent_again() {
    let bench = Bench::start("disorder=1,repeat=1").await;
    bench.video("x").await;
    let callbacks = bench.settled().await;
    assert_eq!(callbacks.len(), 10);
    assert_eq!(callbacks[0]["statusFinal"], true);
    assert!(callbacks.iter().filter(|callback| **callback == callbacks[0]).count() == 2);
    bench.stop().await;

    let bench = Bench::start("drop=1").await;
    bench.video("x").await;
    assert_eq!(bench.settled().await, Vec::<Value>::new());
    let truth = bench.simulator.truth();
    assert_eq!((bench.simulator.stats().callbacks_dropped, truth[0].heard, truth[0].files.len()), (5, false, 1));
    bench.stop().await;

    let mut bench = Bench::start("").await;
    bench.receiver = Receiver::start(StatusCode::SERVICE_UNAVAILABLE).await;
    bench.video("x").await;
    assert_eq!(bench.settled().await.len(), 5);
    assert_eq!((bench.simulator.stats().callbacks_refused, bench.simulator.truth()[0].heard), (5, false));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_can_end_without_media() {
    let bench = Bench::start("fail=1").await;
    bench.video("x").await;
    let last = bench.settled().await.pop().unwrap();
    assert_eq!(keys(&last), [".id", ".replyRef", ".replyUrl", ".status", ".statusFinal", ".statusLabel", ".videoId"]);
    assert_eq!(last["status"], 3);
    let (status, failed) = bench.post("agent", json!({"prompt": "x", "models": "hailuo-2.3"})).await;
    assert_eq!((&json!(status), text(&failed, "status")), (&failed["error"]["status"], "failed"));
    bench.stop().await;

    let bench = Bench::start("moderate=1").await;
    bench.video("x").await;
    let last = bench.settled().await.pop().unwrap();
    assert!([5, 7, 14].contains(&last["status"].as_u64().unwrap()));
    assert_eq!((text(&last, "statusLabel"), text(&last, "videoURL")), ("moderated", ""));
    assert_eq!(bench.simulator.truth()[0].outcome, Outcome::Moderated);
    bench.agent("hailuo-2.3").await;
    assert!(bench.settled().await.pop().unwrap()["error"].is_string());
    bench.stop().await;

    let bench = Bench::start("remove=1").await;
    let id = text(&bench.video("x").await, "videoId").to_owned();
    assert!(bench.settled().await.iter().all(|callback| callback["statusFinal"] == false));
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(bench.get(&format!("videos/{id}")).await.0, 404);
    assert_eq!((bench.simulator.truth()[0].outcome, bench.simulator.truth()[0].files.len()), (Outcome::Removed, 0));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_variants_can_be_missing() {
    for (faults, video, image) in [
        ("no-clean=1", Variant::Watermarked, Variant::Unknown),
        ("watermark-only=1", Variant::Watermarked, Variant::Watermarked),
    ] {
        let bench = Bench::start(faults).await;
        bench.video("x").await;
        bench.post("images/create", json!({"prompt": "x", "replyUrl": bench.receiver.url})).await;
        bench.agent("hailuo-2.3,kolors,speech-2.5-hd-preview").await;
        let callbacks = bench.settled().await;
        let all = Value::from(callbacks.clone()).to_string();
        assert!(!all.contains("-clean."), "{faults}");
        let truth = bench.simulator.truth();
        let variants: Vec<_> = truth.iter().take(2).map(|job| job.files[0].variant).collect();
        assert_eq!(variants, [video, image]);
        for job in &truth {
            assert!(job.files.iter().all(|file| all.contains(&file.url)), "{faults} {:?}", job.kind);
            bench.check_files(job).await;
        }
        if faults == "watermark-only=1" {
            let image =
                callbacks.iter().find(|body| body["imageId"].is_string() && body["statusFinal"] == true).unwrap();
            assert_eq!(image["downloadURL"], image["videoURLs"]["downloadURLWithWatermark"]);
        }
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_can_finish_before_its_first_attachment() {
    let bench = Bench::with(Config {
        pace: Duration::from_millis(300),
        faults: "processing=1".parse().unwrap(),
        ..Config::default()
    })
    .await;
    let started = bench.agent("hailuo-2.3,kolors").await;
    let [done] = bench.settled().await.try_into().unwrap();
    let first = |body: &Value| body["response"]["attachments"][0].clone();
    assert_eq!((&first(&done)["status"], &first(&done)["file"]["fileUrl"]), (&json!(2), &json!("")));
    assert_eq!(bench.simulator.truth()[0].files.len(), 2);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (_, later) = bench.get(&format!("agent/{}", text(&started, "jobId"))).await;
    assert_eq!(first(&later)["status"], 3);
    bench.stop().await;
}
