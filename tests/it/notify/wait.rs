//! Answers that wait, and the commands that use them.

use super::*;
use crate::support::child::Program;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_until_a_job_or_all_of_a_refs_jobs_have_ended() {
    let bench = Bench::start(|_| {}).await;
    let id = video_id(1);
    let path = format!("/api/v1/jobs/{id}");
    assert_eq!(bench.vault.get(&format!("{path}?wait=60s")).await.0, 404, "nothing to wait for");
    bench.vault.callback(json!({"videoId": id, "status": 1, "percent": 1, "replyRef": "ref-1"})).await;
    let refs = bench.vault.get("/api/v1/refs?replyRef=ref-1").await.1;
    let of_ref = format!("/api/v1/refs/{}", refs["items"][0]["refId"].as_str().unwrap());
    let late = bench.vault.get(&format!("{path}?wait=50ms")).await;
    assert_eq!((late.0.as_u16(), &late.1["state"]), (200, &json!("running")));
    let (of_job, of_jobs) = (format!("{path}?wait=60s"), format!("{of_ref}?wait=60s"));
    let waiting = async { tokio::join!(bench.vault.get(&of_job), bench.vault.get(&of_jobs)) };
    let ending = async {
        while bench.vault.running().intake().log().state().waiters() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.vault.callback(bench.video(1)).await
    };
    let ((job, jobs), _) = tokio::join!(waiting, ending);
    assert_eq!((&job.1["state"], &jobs.1["jobs"][0]["state"]), (&json!("archived"), &json!("archived")));
    assert_eq!(jobs.1["ended"], true);
    assert_eq!(bench.vault.running().intake().log().state().waiters(), 0);
    assert_eq!(bench.vault.get(&of_job).await.1["state"], "archived", "at once");
    for bad in ["wait=soon", "links=all", "what=1"] {
        assert_eq!(bench.vault.get(&format!("{path}?{bad}")).await.0, 400, "{bad}");
    }
    // A directory has no links of its own.
    let job = bench.vault.get(&format!("{path}?links=presigned")).await.1;
    assert_eq!(job["assets"][0]["links"]["presigned"], Value::Null);
}

/// Speech has two ids.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_job_by_its_other_id_is_answered_at_its_end() {
    let bench = Bench::start(|_| {}).await;
    let (own, other) = ("user:1-minimax:2-audio:a7", "user:1-minimax:2-audio:991");
    let running = json!({"audioId": own, "audio_id": other, "statusLabel": "processing", "statusFinal": false});
    bench.vault.callback(running).await;
    // Far longer than this test has patience.
    let path = format!("/api/v1/jobs/{other}?wait=10m");
    let ending = async {
        while bench.vault.running().intake().log().state().waiters() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.vault.callback(json!({"audioId": own, "statusLabel": "failed", "statusFinal": true})).await
    };
    let both = async { tokio::join!(bench.vault.get(&path), ending) };
    let ((status, job), _) = tokio::time::timeout(PATIENCE, both).await.expect("it is not told of the end");
    assert_eq!((status.as_u16(), &job["state"], &job["jobId"]), (200, &json!("failed"), &json!(own)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_those_who_wait() {
    let mut bench = Bench::start(|settings| settings.shutdown_grace = Duration::from_secs(30)).await;
    bench.vault.callback(json!({"videoId": video_id(1), "status": 1, "percent": 1})).await;
    let url = bench.vault.url(&format!("/api/v1/jobs/{}?wait=60s", video_id(1)));
    let asked = bench.vault.client.get(url).bearer_auth(crate::support::vault::TOKEN).send();
    let asked = tokio::spawn(asked);
    let state = bench.vault.running().intake().log().state().clone();
    while state.waiters() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.vault.stop().await;
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_event_is_listed_and_sent_again_when_somebody_asks_for_it() {
    let receiver = Receiver::start();
    receiver.answer(&[410]);
    let bench = Bench::start(|settings| settings.notify.endpoints = vec![endpoint("a", &receiver.url("/"))]).await;
    bench.vault.callback(json!({"videoId": video_id(1), "status": 3})).await;
    let told = events(&receiver, 1, SECRET).await;
    assert_eq!(bench.settled().await, (0, 1));
    let (_, page) = bench.vault.get("/api/v1/notifications?state=dead").await;
    let dead = &page["items"][0];
    assert_eq!(
        (&dead["id"], &dead["type"], &dead["endpoint"], &dead["reason"], &dead["jobId"]),
        (&json!(told[0].0), &json!("job.failed"), &json!("a"), &json!("gone"), &json!(video_id(1)))
    );
    let retry = format!("/api/v1/notifications/{}/retry", told[0].0);
    let (status, now) = bench.vault.send("POST", &retry, &Value::Null).await;
    assert_eq!((status.as_u16(), &now["id"]), (202, &dead["id"]));
    let again = events(&receiver, 2, SECRET).await;
    assert!(bench.settled().await.0 == 1 && again[0] == again[1], "the same id and body");
    assert_eq!(bench.vault.send("POST", &retry, &Value::Null).await.0, 409);
    let unknown = "/api/v1/notifications/msg_00000000000000000000000000000000/retry";
    assert_eq!(bench.vault.send("POST", unknown, &Value::Null).await.0, 404);
    let (_, page) = bench.vault.get("/api/v1/notifications?limit=1").await;
    assert_eq!((&page["items"][0]["state"], &page["items"][0]["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(bench.vault.get("/api/v1/notifications?state=lost").await.0, 400);
    let metrics = bench.vault.client.get(bench.vault.url("/metrics")).send().await.unwrap().text().await.unwrap();
    for line in ["notifications_pending 0", "notifications_delivered_total 1", "notifications_given_up_total 1"] {
        assert!(metrics.contains(&format!("replyvault_{line}\n")), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_wait_download_and_try_out_endpoints() {
    let (dir, media, receiver) = (tempfile::tempdir().unwrap(), MediaServer::start(), Receiver::start());
    let mut program = Program::new(dir.path());
    program.set("SERVER__LISTEN", crate::support::free_address().to_string());
    let endpoint = |name: &str| format!("{{ name = {name:?}, url = {:?}, secret = {SECRET:?} }}", receiver.url("/"));
    program.set("NOTIFY__ENDPOINTS", format!("[{}, {}]", endpoint("a"), endpoint("b")));
    let run = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        tokio::task::spawn_blocking(move || {
            let out = command.output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (out.status.code(), text(&out.stdout), text(&out.stderr))
        })
    };
    receiver.answer(&[200, 500]);
    let (code, out, _) = run(&["notify", "test"]).await.unwrap();
    assert!(code == Some(1) && out.contains("a: 200, msg_") && out.contains("b: 500, msg_"), "{out}");
    let told = events(&receiver, 2, SECRET).await;
    assert_eq!((&told[0].1["type"], &told[1].1["data"]["endpoint"]), (&json!("test"), &json!("b")));
    assert_eq!(run(&["notify", "test", "--endpoint", "b"]).await.unwrap().0, Some(0));
    assert_eq!(run(&["notify", "test", "--endpoint", "c"]).await.unwrap().0, Some(2));
    let process = program.start().await;
    process.post_until_accepted(&json!({"videoId": video_id(1), "status": 1, "replyRef": "ref-1"})).await;
    let (code, _, why) = run(&["wait", "ref-1", "--timeout", "50ms"]).await.unwrap();
    assert!(code == Some(1) && why.contains("it has not ended: running"), "{why}");
    let (waiting, id) = (run(&["wait", "ref-1"]), video_id(1));
    let bytes = mp4(1, 300_000);
    process.post_until_accepted(&completed(1, &media.put("/1.mp4", bytes.clone(), "video/mp4"))).await;
    let (code, out, why) = waiting.await.unwrap();
    assert_eq!((code, out.as_str()), (Some(0), format!("{id} archived\n").as_str()), "{why}");
    let into = dir.path().join("got");
    let (code, out, why) = run(&["get", &id, "-o", into.to_str().unwrap()]).await.unwrap();
    assert_eq!((code, out), (Some(0), format!("{}\n", into.join("video.mp4").display())), "{why}");
    assert!(std::fs::read(into.join("video.mp4")).unwrap() == bytes);
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 1);
    process.post_until_accepted(&json!({"videoId": video_id(2), "status": 3, "replyRef": "r", "error": "no"})).await;
    let (code, _, why) = run(&["get", &video_id(2)]).await.unwrap();
    assert!(code == Some(1) && why.contains("failed: no"), "{why}");
    assert_eq!(run(&["wait", "nobody"]).await.unwrap().0, Some(1));
    assert_eq!(process.terminate().await, Some(0));
}
