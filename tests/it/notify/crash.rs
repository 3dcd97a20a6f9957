//! A receiver that fails as receivers do, and a process that is killed again and again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::support::accept;
use crate::support::child::{Process, Program};

/// The points of telling.
pub(crate) const POINTS: &[&str] = &["notify.send", "notify.sent"];

/// Answers 500, hangs, or drops the connection every other time, until it is told to behave.
#[derive(Default)]
struct Faulty {
    /// Ids by job and type.
    ids: Mutex<HashMap<(String, String), Vec<String>>>,
    requests: AtomicUsize,
    behaves: AtomicBool,
    /// Where the manifest of an event has to be when it arrives.
    bucket: PathBuf,
    faults: Mutex<Vec<String>>,
}

impl Faulty {
    async fn start(bucket: PathBuf) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let faulty = Arc::new(Self { bucket, ..Self::default() });
        let shared = faulty.clone();
        tokio::spawn(async move {
            loop {
                tokio::spawn(shared.clone().serve(accept(&listener).await));
            }
        });
        (faulty, url)
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        while let Some((id, body)) = request(&mut stream).await {
            self.take(&id, &body);
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let answer = if self.behaves.load(Ordering::SeqCst) { 1 } else { number % 6 };
            match answer {
                0 => return,
                2 => std::future::pending().await,
                4 => {
                    let _ = stream.write_all(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
                }
                _ => {
                    let _ = stream.write_all(b"HTTP/1.1 204 Fine\r\n\r\n").await;
                }
            }
        }
    }

    fn take(&self, id: &str, body: &[u8]) {
        let event: Value = serde_json::from_slice(body).unwrap();
        let key = event["data"]["manifestKey"].as_str().map(|key| self.bucket.join(key));
        if !key.is_some_and(|path| path.exists()) {
            self.faults.lock().unwrap().push(format!("before its manifest: {event}"));
        }
        let name = |value: &Value| value.as_str().unwrap().to_owned();
        let mut ids = self.ids.lock().unwrap();
        ids.entry((name(&event["data"]["jobId"]), name(&event["type"]))).or_default().push(id.to_owned());
    }
}

/// A request's id and body.
async fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let header = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            let length: usize = header("content-length:")?.parse().ok()?;
            if bytes.len() >= end + 4 + length {
                return Some((header("webhook-id:")?, bytes[end + 4..end + 4 + length].to_vec()));
            }
        }
        let mut piece = [0; 16 << 10];
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
}

fn with_endpoint(program: &mut Program, url: &str) {
    let endpoint = format!("[{{ name = \"a\", url = {url:?}, secret = {SECRET:?} }}]");
    program.set("NOTIFY__ENDPOINTS", endpoint);
}

/// Waits until so many events have arrived and none is on its way. However much there is to do, it must go on.
async fn told_all(receiver: &Faulty, process: &Process, expected: usize) {
    let (mut last, mut since) = (None, Instant::now());
    loop {
        // Nothing is answered while the state is brought up to date.
        let stats = process.get("/api/v1/stats").await;
        let arrived = receiver.ids.lock().unwrap().len();
        if arrived >= expected && stats.as_ref().is_some_and(|stats| stats["notificationsPending"] == 0) {
            return;
        }
        let reached =
            (arrived, stats.map(|stats| (stats["queueDepth"].clone(), stats["notificationsPending"].clone())));
        if last.as_ref() != Some(&reached) {
            (last, since) = (Some(reached), Instant::now());
        }
        if since.elapsed() >= PATIENCE {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told: Vec<_> = receiver.ids.lock().unwrap().keys().cloned().collect();
    let waiting = process.get("/api/v1/notifications?state=pending").await;
    let jobs = process.get("/api/v1/jobs?limit=200").await;
    panic!("{} of {expected}: {told:?}\n{waiting:#?}\n{jobs:#?}\n{}", told.len(), process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_half_the_time_gets_everything_with_the_same_ids_through_kills() {
    let rounds = crate::crash::kills();
    let (dir, media) = (tempfile::tempdir().unwrap(), MediaServer::start());
    let (receiver, url) = Faulty::start(dir.path().join("bucket")).await;
    let mut program = Program::new(dir.path());
    with_endpoint(&mut program, &url);
    let mut expected = 0;
    for round in 0..rounds {
        let process = program.start().await;
        for number in round * 10..round * 10 + 6 {
            let body = if number % 3 == 2 {
                json!({"videoId": video_id(number), "status": 3, "replyRef": format!("ref-{number}")})
            } else {
                completed(number, &media.put(&format!("/{number}.mp4"), mp4(number, 3000), "video/mp4"))
            };
            process.post_until_accepted(&body).await;
            expected += 1;
        }
        // Somewhere among what follows.
        tokio::time::sleep(Duration::from_millis(17 * (round % 9))).await;
        process.kill();
    }
    receiver.behaves.store(true, Ordering::SeqCst);
    let process = program.start().await;
    told_all(&receiver, &process, expected).await;
    assert_eq!(*receiver.faults.lock().unwrap(), Vec::<String>::new());
    for (event, ids) in &*receiver.ids.lock().unwrap() {
        assert!(ids.iter().all(|id| *id == ids[0]), "{event:?}: {ids:?}");
    }
    let dead = process.get("/api/v1/notifications?state=dead").await.unwrap();
    assert_eq!(dead["items"], json!([]));
    assert_eq!(process.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_delivery_is_cut_off_is_sent_again_with_the_same_id() {
    for point in POINTS {
        for (action, kill) in [("1*return", false), ("1*sleep(3600000)", true)] {
            let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::start());
            let mut program = Program::new(dir.path());
            with_endpoint(&mut program, &receiver.url("/"));
            program.failure_points = format!("{point}={action}");
            let mut process = program.start().await;
            process.post_until_accepted(&json!({"videoId": video_id(1), "status": 3, "replyRef": "one"})).await;
            if kill {
                process.job_in(&video_id(1), "failed").await;
                if *point == "notify.sent" {
                    receiver.bodies(1).await;
                }
                process.kill();
                program.failure_points.clear();
                process = program.start().await;
            }
            let count = if *point == "notify.sent" { 2 } else { 1 };
            let told = events(&receiver, count, SECRET).await;
            assert!(told.iter().all(|event| *event == told[0]), "{point}={action}: {told:?}");
            assert_eq!(process.terminate().await, Some(0));
        }
    }
}

/// A kill between a manifest and the record of its job's end: the next start may learn of the end from the manifest first.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_only_a_manifest_tells_of_is_told() {
    let (dir, media, receiver) = (tempfile::tempdir().unwrap(), MediaServer::start(), Receiver::start());
    let mut program = Program::new(dir.path());
    with_endpoint(&mut program, &receiver.url("/"));
    program.failure_points = "worker.end=1*sleep(3600000)".to_owned();
    let process = program.start().await;
    process.post_until_accepted(&completed(1, &media.put("/1.mp4", mp4(1, 3000), "video/mp4"))).await;
    let written = async {
        while !has_manifest(&dir.path().join("bucket")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("no manifest");
    process.kill();
    std::fs::remove_dir_all(dir.path().join("data/state")).unwrap();
    // The worker does not get there first.
    program.failure_points = "worker.manifest=return".to_owned();
    let process = program.start().await;
    let told = events(&receiver, 1, SECRET).await;
    assert_eq!(
        (&told[0].1["type"], &told[0].1["data"]["state"]),
        (&json!("job.archived"), &json!("archived")),
        "{told:?}"
    );
    assert_eq!(process.terminate().await, Some(0));
}

fn has_manifest(folder: &std::path::Path) -> bool {
    let Ok(items) = std::fs::read_dir(folder) else { return false };
    items.flatten().any(|item| item.file_name() == "manifest.json" || has_manifest(&item.path()))
}
