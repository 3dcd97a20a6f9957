use super::*;
use std::time::Instant;

async fn one_file(bench: &Bench) -> replyvault::simulator::ExpectedFile {
    bench.video("x").await;
    bench.settled().await;
    bench.simulator.truth().remove(0).files.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_file_can_be_had_and_are_declared() {
    let bench = Bench::start("").await;
    let file = one_file(&bench).await;
    let get = || bench.client.get(&file.url);
    let whole = get().send().await.unwrap();
    let etag = whole.headers()["etag"].clone();
    assert!(etag.to_str().unwrap().starts_with('"'));
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(whole.headers()["content-md5"].len(), 24);
    whole.headers()["x-oss-hash-crc64ecma"].to_str().unwrap().parse::<u64>().unwrap();
    let bytes = whole.bytes().await.unwrap();

    let part = get().header("range", "bytes=26000-").header("if-range", &etag).send().await.unwrap();
    assert_eq!(part.status(), 206);
    let shown = format!("bytes 26000-{}/{}", bytes.len() - 1, bytes.len());
    assert_eq!(part.headers()["content-range"], shown);
    assert_eq!(part.bytes().await.unwrap(), bytes[26000..]);
    let changed = get().header("range", "bytes=26000-").header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!((changed.status().as_u16(), changed.bytes().await.unwrap()), (200, bytes.clone()));
    let beyond = get().header("range", "bytes=99999999-").send().await.unwrap();
    assert_eq!(
        (beyond.status().as_u16(), beyond.headers()["content-range"].to_str().unwrap().to_owned()),
        (416, format!("bytes */{}", bytes.len()))
    );

    let head = bench.client.head(&file.url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], bytes.len().to_string());
    assert_eq!(head.headers()["etag"], etag);
    assert_eq!(bench.client.get(format!("{}x", file.url)).send().await.unwrap().status(), 404);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_are_served_without_being_held_or_hashed() {
    let bench = Bench::with(Config { video_bytes: Some(70 << 20), ..Config::default() }).await;
    let (_, created) = bench.post("videos/create", json!({"prompt": "a size=5GiB boat"})).await;
    bench.post("videos/create", json!({"prompt": "a boat"})).await;
    bench.simulator.idle().await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (_, video) = bench.get(&format!("videos/{}", text(&created, "videoId"))).await;
    let get = || bench.client.get(text(&video, "downloadURL"));
    let started = Instant::now();
    let head = bench.client.head(text(&video, "downloadURL")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], (5_u64 << 30).to_string());
    assert!(!head.headers().contains_key("content-md5"));
    let end = get().header("range", "bytes=-10").send().await.unwrap();
    assert_eq!(end.bytes().await.unwrap().len(), 10);
    assert!(started.elapsed() < Duration::from_secs(5));
    let (_, list) = bench.get("videos").await;
    let head = bench.client.head(text(&list[0], "downloadURL")).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], (70_u64 << 20).to_string());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cdn_fails_in_every_way_it_is_told_to() {
    for (faults, status) in [("cdn-500=1", 500), ("cdn-404=1", 404)] {
        let bench = Bench::start(faults).await;
        let file = one_file(&bench).await;
        assert_eq!(bench.client.get(&file.url).send().await.unwrap().status(), status);
        assert_eq!(bench.simulator.stats().cdn_faults, 1);
        bench.stop().await;
    }
    let bench = Bench::start("cdn-html=1").await;
    let file = one_file(&bench).await;
    let answer = bench.client.get(&file.url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().starts_with("<!doctype")), (200, true));
    bench.stop().await;

    let bench = Bench::start("cdn-reset=1").await;
    let file = one_file(&bench).await;
    let answer = bench.client.get(&file.url).send().await.unwrap();
    assert_eq!(answer.content_length(), Some(file.bytes));
    assert!(answer.bytes().await.is_err());
    bench.stop().await;

    let bench = Bench::start("cdn-short=1").await;
    let file = one_file(&bench).await;
    let answer = bench.client.get(&file.url).send().await.unwrap();
    assert_eq!((answer.content_length(), answer.headers().contains_key("content-md5")), (None, true));
    assert_eq!(answer.bytes().await.unwrap().len() as u64, file.bytes / 2);
    bench.stop().await;

    let bench = Bench::start("cdn-stall=1").await;
    let file = one_file(&bench).await;
    let answer = bench.client.get(&file.url).send().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), answer.bytes()).await.is_err());
    bench.stop().await;

    let bench = Bench::start("cdn-slow=40KiB/s").await;
    let (file, started) = (one_file(&bench).await, Instant::now());
    let bytes = bench.client.get(&file.url).send().await.unwrap().bytes().await.unwrap();
    assert!(started.elapsed() > Duration::from_millis(500) && Digest::of(&bytes) == file.sha256);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_expire_and_asking_again_gives_fresh_ones() {
    let bench = Bench::start("expire=1500ms").await;
    let id = text(&bench.video("x").await, "videoId").to_owned();
    let last = bench.settled().await.pop().unwrap();
    let url = text(&last, "downloadURL");
    let status = async |url: &str| bench.client.get(url).send().await.unwrap().status().as_u16();
    assert_eq!(status(url).await, 200);
    assert_eq!(status(url.split_once('?').unwrap().0).await, 403);
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(status(url).await, 403);
    let (_, fresh) = bench.get(&format!("videos/{id}")).await;
    assert_eq!(status(text(&fresh, "downloadURL")).await, 200);
    assert_eq!(status(text(&fresh, "coverURL")).await, 200);
    assert_eq!(bench.simulator.stats().cdn_expired, 2);
    bench.stop().await;
}
