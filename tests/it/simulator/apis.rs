//! The APIs of its table: what each create call leads to.

use replyvault::domain::Access;
use replyvault::provider::{self, Parsed};
use replyvault::simulator::CreateCall;

use super::*;

impl Bench {
    async fn at(&self, path: &str) -> (u16, Value) {
        self.call(self.client.get(format!("{}{path}", self.simulator.base_url()))).await
    }

    async fn make(&self, call: &CreateCall, reply_ref: &str) -> Value {
        let mut body =
            json!({"prompt": "a boat", "text": "a boat", "replyUrl": self.receiver.url, "replyRef": reply_ref});
        if !call.choice.0.is_empty() {
            body[call.choice.0] = json!(call.choice.1);
        }
        let url = format!("{}{}/{}", self.simulator.base_url(), call.base, call.path);
        let (status, answer) = self.call(self.client.post(url).json(&body)).await;
        assert!((200..300).contains(&status), "{call:?}: {status} {answer}");
        answer
    }
}

/// The job that a body is about, by the adapters.
fn read(body: &Value) -> replyvault::domain::Observation {
    match provider::read(body.to_string().as_bytes()).unwrap() {
        Parsed::Job(found) => *found,
        Parsed::Unrecognised(why) => panic!("{why:?}: {body:#}"),
    }
}

fn by_faults(faults: &str) -> Config {
    Config { faults: faults.parse().unwrap(), pace: Duration::from_millis(200), ..Config::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_create_call_makes_jobs_that_call_back_as_their_apis_do() {
    for faults in ["", "no-clean=1,inline=1", "fail=1", "moderate=1"] {
        let bench = Bench::with(by_faults(faults)).await;
        let mut made = 0;
        for (number, call) in Simulator::creates().enumerate() {
            bench.make(&call, &format!("ref-{number}")).await;
            made += call.jobs;
        }
        let callbacks = bench.settled().await;
        let truth = bench.simulator.truth();
        assert_eq!(truth.len() as u64, made);
        for job in &truth {
            let api = job.job_id.provider();
            let own: Vec<_> = callbacks.iter().map(read).filter(|found| found.job == job.job_id).collect();
            let (last, before) = own.split_last().unwrap_or_else(|| panic!("nothing of {}", job.job_id));
            assert!(before.iter().all(|found| found.outcome.is_none()), "{api}");
            let progresses = ["kling", "runwayml", "pixverse", "mureka"].contains(&&*api);
            assert_eq!(!before.is_empty(), progresses, "{api}");
            assert!(last.outcome.is_some() && job.heard, "{}", job.job_id);
            assert_eq!(last.reply_ref.as_ref().map(|found| found.as_str().to_owned()), job.reply_ref, "{api}");
            if api != "minimax" {
                assert_eq!(last.created_at, Some(job.created_at), "{}", job.job_id);
            }
            let media: Vec<_> = last.assets.iter().filter(|asset| !asset.role.is_sidecar()).collect();
            assert_eq!(media.len(), job.files.len(), "{faults}: {}", job.job_id);
            bench.check_files(job).await;
        }
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_answer_as_callbacks_do_and_deny_what_their_pages_say() {
    let bench = Bench::with(by_faults("")).await;
    let of = |api: &str| Simulator::creates().find(|call| call.provider == api).unwrap();
    // A running video of PixVerse is not there yet, and is in the list.
    let video = text(&bench.make(&of("pixverse"), "x").await, "video_id").to_owned();
    let path = format!("/v2/pixverse/videos/{video}");
    assert_eq!(bench.at(&path).await.0, 404);
    assert_eq!(bench.at("/v2/pixverse/videos?limit=5").await.1["data"][0]["video_status_name"], "QUEUED");
    // Its id is refused in the other spelling.
    let flow = text(&bench.make(&of("google-flow"), "x").await, "jobid").to_owned();
    let vids = text(&bench.make(&of("google-vids"), "x").await, "jobid").to_owned();
    let encoded = |id: &str| id.replace(':', "%3A").replace('@', "%40");
    for (path, status) in [
        (format!("/v1/google-flow/jobs/{flow}"), 200),
        (format!("/v1/google-flow/jobs/{}", encoded(&flow)), 400),
        (format!("/v1/google-vids/jobs/{}", encoded(&vids)), 200),
        (format!("/v1/google-vids/jobs/{vids}"), 400),
        (format!("/v1/google-vids/jobs/{}x", encoded(&vids)), 404),
    ] {
        assert_eq!(bench.at(&path).await.0, status, "{path}");
    }
    // By the letter of the id alone there are two of these.
    let dreamina = text(&bench.make(&of("dreamina"), "x").await, "jobid").to_owned();
    assert_eq!(bench.at(&format!("/v1/dreamina/videos/{dreamina}")).await.0, 200);
    assert_eq!(bench.at(&format!("/v1/dreamina/images/{dreamina}")).await.0, 404);
    assert_eq!(bench.at(&format!("/v1/dreamina/videos/{}", dreamina.replace("v-", "V-"))).await.0, 404);
    assert_eq!(bench.at("/v1/dreamina/scheduler").await.1[0]["jobid"], dreamina);
    let kling = bench.make(&of("kling"), "x").await["task"]["id"].to_string();
    assert_eq!(bench.at("/v1/kling/scheduler").await.1[0]["id"].to_string(), kling);
    bench.settled().await;
    assert_eq!(bench.at(&path).await.1["video_id"], video);
    let task = bench.at(&format!("/v1/kling/tasks/{kling}")).await.1;
    assert_eq!((task["task"]["id"].to_string(), &task["status_name"]), (kling.clone(), &json!("succeed")));
    assert!(task.get("replyRef").is_none() && bench.at(&path).await.1["replyRef"] == "x");
    // What needs the token is there for it alone.
    let clean = format!("/v1/kling/assets/download?workIds={kling}1&fileTypes=MP4");
    assert!(text(&bench.at(&clean).await.1, "cdnUrl").ends_with("-clean.mp4"));
    let answer = bench.client.get(format!("{}{clean}", bench.simulator.base_url())).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let done = bench.at(&format!("/v1/google-vids/jobs/{}", encoded(&vids))).await.1;
    let media = format!("/v1/google-vids/media/{}", encoded(text(&done["result"], "mediaId")));
    let url = format!("{}{media}", bench.simulator.base_url());
    let part = bench.client.get(url).bearer_auth("t").header("range", "bytes=4-7").send().await.unwrap();
    assert_eq!((part.status().as_u16(), &part.bytes().await.unwrap()[..]), (206, &b"ftyp"[..]));
    let found = read(&done);
    assert_eq!(found.assets[0].candidates[0].access, Access::Provider);
    bench.stop().await;

    let bench = Bench::with(by_faults("moderate=1")).await;
    let kling = bench.make(&of("kling"), "x").await["task"]["id"].to_string();
    bench.settled().await;
    assert_eq!(bench.at(&format!("/v1/kling/tasks/{kling}")).await.0, 404);
    bench.stop().await;

    let bench = Bench::with(by_faults("no-clean=1,processing=1")).await;
    let kling = bench.make(&of("kling"), "x").await["task"]["id"].to_string();
    let songs = bench.make(&of("tempolor"), "x").await["jobs"].clone();
    bench.settled().await;
    let clean = format!("/v1/kling/assets/download?workIds={kling}1&fileTypes=MP4");
    assert_eq!(bench.at(&clean).await.0, 402);
    let song = songs[1].as_str().unwrap();
    assert_eq!(bench.at(&format!("/v1/tempolor/music/{song}")).await.1["status"], 30);
    // It may be there a moment later than the job is done.
    let there = async {
        while bench.at(&format!("/v1/tempolor/music/download/{song}?file_format=wav")).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::support::vault::PATIENCE, there).await.unwrap();
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_as_their_pages_say() {
    let bench = Bench::with(by_faults("")).await;
    for call in Simulator::creates().filter(|call| ["images/create", "videos/omni", "music/song"].contains(&call.path))
    {
        for _ in 0..3 {
            bench.make(&call, "x").await;
        }
    }
    bench.settled().await;
    let (_, page) = bench.at("/v2/pixverse/images?limit=4").await;
    assert_eq!(
        (page["data"].as_array().unwrap().len(), &page["next_offset"], &page["total"]),
        (4, &json!(4), &json!(6))
    );
    let (_, page) = bench.at("/v2/pixverse/images?limit=4&offset=4").await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["next_offset"]), (2, &Value::Null));
    assert_eq!(bench.at("/v1/runwayml/tasks").await.0, 400);
    let (_, page) = bench.at("/v1/runwayml/tasks?offset=1&limit=20").await;
    assert_eq!(page["tasks"].as_array().unwrap().len(), 2);
    let (_, page) = bench.at("/v1/kling/tasks?pageSize=1").await;
    let before = page["history"][0]["task"]["createTime"].as_u64().unwrap();
    let (_, all) = bench.at("/v1/kling/tasks").await;
    let earlier = all["history"].as_array().unwrap().iter();
    let earlier = earlier.filter(|row| row["task"]["createTime"].as_u64().unwrap() < before).count();
    let (_, page) = bench.at(&format!("/v1/kling/tasks?createdBefore={before}")).await;
    assert_eq!(page["history"].as_array().unwrap().len(), earlier);
    let (_, page) = bench.at("/v1/tempolor/music?type=song").await;
    assert_eq!((page["records"].as_array().unwrap().len(), &page["cursor"]), (6, &Value::Null));
    bench.stop().await;
}
