//! One suite for every store: a directory, memory, and S3 over the wire.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use replyvault::bucket::{Bucket, BucketError, Config, ObjectFolder, ObjectKey, OpenError, PartId, Upload};
use replyvault::domain::{Digest, FileName};
use tempfile::TempDir;

use crate::support::s3::{S3Server, config};

const PART: usize = S3Server::PART_SIZE as usize;

fn directory() -> (TempDir, Bucket) {
    let directory = tempfile::tempdir().unwrap();
    let bucket = Bucket::open(&config(&format!("file:{}/made/bucket", directory.path().display()))).unwrap();
    (directory, bucket)
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn chunks(text: &str) -> Vec<Bytes> {
    text.as_bytes().chunks(3).map(Bytes::copy_from_slice).collect()
}

async fn text(bucket: &Bucket, key: &ObjectKey, range: Option<std::ops::Range<u64>>) -> Result<String, BucketError> {
    let pieces: Vec<Bytes> = bucket.read(key, range).await?.try_collect().await?;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

async fn listed(bucket: &Bucket, folder: Option<&str>) -> Vec<(String, u64)> {
    let folder: Option<ObjectFolder> = folder.map(|it| it.parse().unwrap());
    let found: Vec<_> = bucket.list(folder.as_ref()).try_collect().await.unwrap();
    let mut found: Vec<_> = found.into_iter().map(|(key, bytes)| (key.to_string(), bytes)).collect();
    found.sort();
    found
}

/// Bytes that differ from part to part and from place to place.
fn noise(length: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

async fn conforms(bucket: &Bucket) {
    bucket.probe().await.unwrap();
    objects_are_written_and_read(bucket).await;
    uploads_appear_at_their_end(bucket).await;
    uploads_can_be_given_up(bucket).await;
    parts_are_bounded(bucket).await;
    listings_are_by_folder(bucket).await;
}

async fn objects_are_written_and_read(bucket: &Bucket) {
    let key = key("video/2026/11/20/video-3/video.mp4");
    assert_eq!(bucket.size(&key).await, Ok(None));
    assert_eq!(bucket.meta(&key).await, Ok(None));
    assert_eq!(bucket.digest(&key).await, Ok(None));
    assert_eq!(text(bucket, &key, None).await, Err(BucketError::NotFound(key.clone())));
    assert_eq!(text(bucket, &key, Some(0..1)).await, Err(BucketError::NotFound(key.clone())));

    bucket.put(&key, chunks("an older and longer text"), "text/plain").await.unwrap();
    bucket.put(&key, chunks("0123456789"), "video/mp4").await.unwrap();
    assert_eq!(bucket.size(&key).await, Ok(Some(10)));
    assert_eq!(text(bucket, &key, None).await.unwrap(), "0123456789");
    assert_eq!(bucket.digest(&key).await, Ok(Some((Digest::of(b"0123456789"), 10))));
    let meta = bucket.meta(&key).await.unwrap().unwrap();
    assert!(meta.bytes == 10 && meta.etag.is_some() && meta.last_modified.date().0 >= 2024, "{meta:?}");

    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9"), (8..400, "89")] {
        assert_eq!(text(bucket, &key, Some(range)).await.as_deref(), Ok(expected));
    }
    #[allow(clippy::reversed_empty_ranges)]
    for range in [10..11, 400..500, 3..3, 7..3] {
        assert_eq!(text(bucket, &key, Some(range)).await, Err(BucketError::InvalidRange(key.clone())));
    }

    let empty: ObjectKey = "empty/video-4/manifest.json".parse().unwrap();
    bucket.put(&empty, Vec::new(), "application/json").await.unwrap();
    assert_eq!(bucket.size(&empty).await, Ok(Some(0)));
    assert_eq!(bucket.digest(&empty).await, Ok(Some((Digest::of(b""), 0))));
}

async fn uploads_appear_at_their_end(bucket: &Bucket) {
    let key = key("big/video-5/video.mp4");
    let parts = [noise(PART, 1), noise(PART, 2), noise(1000, 3)];
    let upload = bucket.start_upload(&key, "video/mp4").await.unwrap();
    let upload: Upload = serde_json::from_str(&serde_json::to_string(&upload).unwrap()).unwrap();
    assert_eq!(upload.part_size, PART as u64);
    let mut ids: [Option<PartId>; 3] = [None, None, None];
    for index in [2, 0, 1] {
        let pieces = parts[index].chunks(700_001).map(Bytes::copy_from_slice).collect();
        ids[index] = Some(bucket.put_part(&upload, index, pieces).await.unwrap());
        assert_eq!(bucket.size(&key).await, Ok(None));
        assert_eq!(listed(bucket, Some("big")).await, []);
    }
    // Sent again, as after a lost answer.
    ids[1] = Some(bucket.put_part(&upload, 1, vec![parts[1].clone()]).await.unwrap());
    let ids: Vec<PartId> = serde_json::from_str(&serde_json::to_string(&ids).unwrap()).unwrap();

    let whole = parts.concat();
    let digest = Digest::of(&whole);
    bucket.complete_upload(&upload, ids.clone(), &digest).await.unwrap();
    let stored = Ok(Some((Digest::of(&whole), whole.len() as u64)));
    assert_eq!(bucket.digest(&key).await, stored);
    let middle = PART as u64 - 5..PART as u64 + 5;
    let pieces: Vec<Bytes> = bucket.read(&key, Some(middle)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), whole[PART - 5..PART + 5]);

    bucket.complete_upload(&upload, ids.clone(), &digest).await.unwrap();
    // Another object of the same size is not taken for it.
    bucket.put(&key, vec![noise(whole.len(), 9)], "video/mp4").await.unwrap();
    let error = bucket.complete_upload(&upload, ids, &digest).await.unwrap_err();
    assert!(matches!(error, BucketError::UploadLost { .. }), "{error}");
    bucket.put(&key, vec![whole.into()], "video/mp4").await.unwrap();
    bucket.abort_upload(&upload).await.unwrap();
    assert_eq!(bucket.digest(&key).await, stored);
}

async fn uploads_can_be_given_up(bucket: &Bucket) {
    let key = key("given-up/video-6/video.mp4");
    let upload = bucket.start_upload(&key, "video/mp4").await.unwrap();
    let part = bucket.put_part(&upload, 0, chunks("soon gone")).await.unwrap();
    bucket.abort_upload(&upload).await.unwrap();
    bucket.abort_upload(&upload).await.unwrap();
    let lost = |result: Result<(), BucketError>| {
        assert!(matches!(&result, Err(BucketError::UploadLost { .. })), "{result:?}");
    };
    lost(bucket.put_part(&upload, 1, chunks("late")).await.map(drop));
    lost(bucket.complete_upload(&upload, vec![part], &Digest::of(b"soon gone")).await);
    assert_eq!(bucket.size(&key).await, Ok(None));

    let other = bucket.start_upload(&key, "video/mp4").await.unwrap();
    bucket.abort_upload(&upload).await.unwrap();
    let part = bucket.put_part(&other, 0, chunks("another")).await.unwrap();
    bucket.complete_upload(&other, vec![part], &Digest::of(b"another")).await.unwrap();
    assert_eq!(text(bucket, &key, None).await.unwrap(), "another");
}

async fn parts_are_bounded(bucket: &Bucket) {
    let upload = bucket.start_upload(&key("bounds/video-7/video.mp4"), "video/mp4").await.unwrap();
    let part = |bytes| PartId { tag: "\"x\"".to_owned(), bytes };
    for result in [
        bucket.put_part(&upload, 10_000, chunks("one too many")).await.map(drop),
        bucket.put_part(&upload, 0, Vec::new()).await.map(drop),
        bucket.put_part(&upload, 0, vec![noise(PART + 1, 1)]).await.map(drop),
        bucket.complete_upload(&upload, Vec::new(), &Digest::of(b"")).await,
        bucket.complete_upload(&upload, vec![part(7), part(7)], &Digest::of(b"")).await,
        bucket.complete_upload(&upload, vec![part(PART as u64), part(PART as u64 + 1)], &Digest::of(b"")).await,
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, BucketError::InvalidPart(_)) && !error.is_outage(), "{error}");
    }
    bucket.abort_upload(&upload).await.unwrap();
}

async fn listings_are_by_folder(bucket: &Bucket) {
    for name in ["list/a/1.mp4", "list/a/b/2.mp4", "list/ab/3.mp4"] {
        bucket.put(&key(name), chunks(name), "video/mp4").await.unwrap();
    }
    let journal = ObjectKey::journal(&FileName::clean("00000001.log"));
    bucket.put(&journal, chunks("journal"), "application/octet-stream").await.unwrap();
    let expected = [("list/a/1.mp4".to_owned(), 12), ("list/a/b/2.mp4".to_owned(), 14)];
    assert_eq!(listed(bucket, Some("list/a")).await, expected);
    assert_eq!(listed(bucket, Some("nothing/here")).await, []);
    let all: Vec<String> = listed(bucket, None).await.into_iter().map(|(key, _)| key).collect();
    assert!(all.contains(&"list/ab/3.mp4".to_owned()) && !all.iter().any(|key| key.starts_with("_journal")), "{all:?}");
    let segments: Vec<_> = bucket.list(Some(&ObjectFolder::journal())).try_collect().await.unwrap();
    assert_eq!(segments, [(journal, 7)]);
}

#[tokio::test]
async fn a_directory_conforms() {
    let (root, bucket) = directory();
    conforms(&bucket).await;
    assert_eq!(bucket.presign(&key("a"), Duration::from_secs(60), None).await, Ok(None));
    assert!(!files(root.path()).iter().any(|name| name.contains('#')), "{:?}", files(root.path()));
}

#[tokio::test]
async fn memory_conforms() {
    let bucket = Bucket::open(&config("memory:")).unwrap();
    conforms(&bucket).await;
    assert_eq!(bucket.presign(&key("a"), Duration::from_secs(60), None).await, Ok(None));
}

#[tokio::test]
async fn s3_conforms_with_and_without_a_prefix() {
    let server = S3Server::start().await;
    let outer = Bucket::open(&server.config("")).unwrap();
    let inner = Bucket::open(&server.config("tenants/one")).unwrap();
    conforms(&inner).await;
    assert_eq!(server.unfinished_uploads(), Vec::<std::path::PathBuf>::new());
    let all: Vec<_> = listed(&outer, None).await.into_iter().map(|(key, _)| key).collect();
    assert!(!all.is_empty() && all.iter().all(|key| key.starts_with("tenants/one/")), "{all:?}");
    conforms(&outer).await;
    let other = Bucket::open(&server.config("tenants/on")).unwrap();
    assert_eq!(listed(&other, None).await, []);
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn presigned_links_give_the_bytes_and_the_content_type() {
    let server = S3Server::start().await;
    let bucket = Bucket::open(&server.config("a/b")).unwrap();
    let key = key("video/x=1,y@2+(3)!/video-3/video.mp4");
    bucket.put(&key, chunks("0123456789"), "video/mp4").await.unwrap();
    let disposition = "attachment; filename=\"rain (1).mp4\"";
    for disposition in [None, Some(disposition)] {
        let url = bucket.presign(&key, Duration::from_secs(60), disposition).await.unwrap().unwrap();
        assert!(!url.as_str().contains(&server.secret_key));
        assert_eq!(url.as_str().contains("response-content-disposition"), disposition.is_some());
        let client = client();
        let answer = client.get(url.clone()).header("range", "bytes=2-4").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (206, "234"));
        let answer = client.get(url.clone()).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, "video/mp4"));
        assert_eq!(answer.text().await.unwrap(), "0123456789");
        let forged = url.as_str().replace("video-3", "video-4");
        assert_eq!(client.get(forged).send().await.unwrap().status().as_u16(), 403);
    }
}

#[tokio::test]
async fn a_completed_upload_has_its_content_type() {
    let server = S3Server::start().await;
    let bucket = Bucket::open(&server.config("")).unwrap();
    let key = key("video-3/video.webm");
    let upload = bucket.start_upload(&key, "video/webm").await.unwrap();
    let part = bucket.put_part(&upload, 0, chunks("short")).await.unwrap();
    assert!(!server.unfinished_uploads().is_empty());
    bucket.complete_upload(&upload, vec![part], &Digest::of(b"")).await.unwrap();
    let url = bucket.presign(&key, Duration::from_secs(60), None).await.unwrap().unwrap();
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"].to_str().unwrap(), "video/webm");
}

/// "Not found" is said only of objects: taking a store that is gone for an empty one would lose the index.
#[tokio::test]
async fn a_store_that_is_gone_is_not_an_empty_one() {
    let (root, local) = directory();
    std::fs::remove_dir_all(root.path().join("made")).unwrap();
    let server = S3Server::start().await;
    let remote = Bucket::open(&server.config("a")).unwrap();
    std::fs::remove_dir(server.root.path().join(&server.bucket)).unwrap();
    for bucket in [local, remote] {
        let key = key("video-3/video.mp4");
        for error in [
            bucket.probe().await.unwrap_err(),
            bucket.size(&key).await.unwrap_err(),
            bucket.digest(&key).await.unwrap_err(),
            bucket.read(&key, Some(0..5)).await.map(drop).unwrap_err(),
        ] {
            assert!(error.is_outage() && !error.to_string().is_empty(), "{error:?}");
        }
    }
}

#[tokio::test]
async fn outages_are_told_from_answers_and_show_no_secret() {
    let server = S3Server::start().await;
    let bucket = Bucket::open(&server.config("")).unwrap();
    let key = key("video-3/video.mp4");
    for (status, expected) in [(403, "Denied"), (401, "Denied"), (400, "Refused"), (507, "Full"), (404, "Unavailable")]
    {
        server.break_with(status);
        let error = bucket.put(&key, chunks("x"), "video/mp4").await.unwrap_err();
        assert!(error.is_outage() && format!("{error:?}").starts_with(expected), "{status}: {error:?}");
        assert!(error.to_string().contains("Broken") && !error.to_string().contains(&server.secret_key), "{error}");
    }
    server.break_with(0);
    bucket.put(&key, chunks("x"), "video/mp4").await.unwrap();

    let wrong = Config { secret_access_key: Some("other-secret".into()), ..server.config("") };
    let error = Bucket::open(&wrong).unwrap().put(&key, chunks("y"), "video/mp4").await.unwrap_err();
    assert!(matches!(&error, BucketError::Denied(text) if text.contains("SignatureDoesNotMatch")), "{error:?}");
    assert!(!error.to_string().contains("other-secret"));
    assert_eq!(text(&bucket, &key, None).await.unwrap(), "x");
}

#[tokio::test]
async fn a_server_error_that_passes_is_not_noticed_and_one_that_stays_is_an_outage() {
    let server = S3Server::start().await;
    let bucket = Bucket::open(&server.config("")).unwrap();
    let key = key("video-3/video.mp4");
    server.break_with(503);
    let put = bucket.put(&key, chunks("x"), "video/mp4");
    let mend = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.break_with(0);
    };
    tokio::join!(put, mend).0.unwrap();
    server.break_with(500);
    let error = bucket.size(&key).await.unwrap_err();
    assert!(matches!(error, BucketError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_outage() {
    let server = S3Server::start().await;
    let config = server.config("");
    drop(server);
    let bucket = Bucket::open(&config).unwrap();
    let error = bucket.probe().await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
}

/// The names of all files below a directory, by their path in it.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn staging_files_of_a_crash_are_no_objects_and_only_own_ones_are_removed() {
    let (root, bucket) = directory();
    let mine = key("video-3/a.mp4");
    // A crash: the uploads are never completed, a single put never renamed.
    let upload = bucket.start_upload(&mine, "video/mp4").await.unwrap();
    bucket.put_part(&upload, 0, chunks("half")).await.unwrap();
    bucket.start_upload(&mine, "video/mp4").await.unwrap();
    std::fs::write(root.path().join("made/bucket/video-3/a.mp4#1"), "half of a put").unwrap();
    std::fs::write(root.path().join("made/bucket/video-3/a.mp4#x"), "someone else's").unwrap();
    let elsewhere = bucket.start_upload(&key("video-4/a.mp4"), "video/mp4").await.unwrap();
    assert_eq!(listed(&bucket, Some("video-3")).await, []);
    assert_eq!(bucket.size(&mine).await, Ok(None));
    assert!("video-3/a.mp4#1".parse::<ObjectKey>().is_err());

    bucket.put(&mine, chunks("whole"), "video/mp4").await.unwrap();
    bucket.remove_staging(&"video-3".parse().unwrap(), &[]).await.unwrap();
    bucket.remove_staging(&"nothing/here".parse().unwrap(), &[]).await.unwrap();
    let left = files(root.path());
    let expected = [
        "made/bucket/video-3/a.mp4".to_owned(),
        "made/bucket/video-3/a.mp4#x".to_owned(),
        format!("made/bucket/video-4/a.mp4#{}", elsewhere.id),
    ];
    assert_eq!(left, expected);
}

/// A recorded upload goes on as it began, whatever the configuration says after a restart.
#[tokio::test]
async fn an_upload_keeps_its_part_size() {
    let root = tempfile::tempdir().unwrap();
    let open =
        |part_size| Bucket::open(&Config { part_size, ..config(&format!("file:{}", root.path().display())) }).unwrap();
    let (before, after) = (open(4), open(6));
    let key = key("video-3/a.mp4");
    let upload = before.start_upload(&key, "video/mp4").await.unwrap();
    let first = before.put_part(&upload, 0, chunks("0123")).await.unwrap();
    assert!(matches!(after.put_part(&upload, 1, chunks("456789")).await, Err(BucketError::InvalidPart(_))));
    let second = after.put_part(&upload, 1, chunks("45")).await.unwrap();
    after.complete_upload(&upload, vec![first, second], &Digest::of(b"")).await.unwrap();
    assert_eq!(text(&after, &key, None).await.unwrap(), "012345");
}

#[tokio::test]
async fn a_staging_file_that_lost_bytes_does_not_become_an_object() {
    let (root, bucket) = directory();
    let key = key("video-3/a.mp4");
    let upload = bucket.start_upload(&key, "video/mp4").await.unwrap();
    let part = bucket.put_part(&upload, 0, chunks("0123456789")).await.unwrap();
    let staging = root.path().join(format!("made/bucket/{key}#{}", upload.id));
    std::fs::OpenOptions::new().write(true).open(staging).unwrap().set_len(9).unwrap();
    let error = bucket.complete_upload(&upload, vec![part], &Digest::of(b"")).await.unwrap_err();
    assert!(matches!(error, BucketError::UploadLost { .. }), "{error:?}");
    assert_eq!(bucket.size(&key).await, Ok(None));
}

#[tokio::test]
async fn s3_settings_that_can_not_work_are_said_at_once() {
    let server = S3Server::start().await;
    let good = server.config("");
    let opened = |config: Config| Bucket::open(&config).unwrap_err();
    assert!(matches!(opened(Config { allow_http: false, ..good.clone() }), OpenError::Endpoint(_)));
    assert!(matches!(opened(Config { secret_access_key: None, ..good.clone() }), OpenError::Credentials(..)));
    assert_eq!(Bucket::open(&Config { part_size: 1, ..good }).unwrap().part_size(), PART as u64);
}

/// Names that replyvault gave to nothing end no listing.
pub(crate) fn put_odd_names(root: &std::path::Path) {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for name in [
        &b"\xff\xfe.mp4"[..],
        b"a\nb.mp4",
        b"tab\there",
        b"\x7f",
        b"\xe2\x80\xaeltr.mp4",
        b"with space.mp4",
        b"caf\xe9/latin.mp4",
        b"bell\x07/video.mp4",
        b"video/\xf0\x9f/manifest.json",
        b"_journal/\xff\xff.journal.enc",
        b"video.mp4#12345",
        b"back\\slash",
    ] {
        let path = root.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "odd").unwrap();
    }
    std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
    std::os::unix::fs::symlink(root, root.join("loop")).unwrap();
}

#[tokio::test]
async fn names_that_no_key_has_are_passed_over_in_a_directory() {
    let (root, bucket) = directory();
    for name in ["0.mp4", "video/1/video.mp4", "zz/2.mp4"] {
        bucket.put(&key(name), chunks(name), "video/mp4").await.unwrap();
    }
    bucket
        .put(&ObjectKey::journal(&FileName::clean("7.log")), chunks("journal"), "application/octet-stream")
        .await
        .unwrap();
    put_odd_names(&root.path().join("made/bucket"));
    let expected =
        [("0.mp4", 5), ("video/1/video.mp4", 17), ("zz/2.mp4", 8)].map(|(name, bytes)| (name.to_owned(), bytes));
    assert_eq!(listed(&bucket, None).await, expected);
    assert_eq!(listed(&bucket, Some("video")).await, expected[1..2]);
    let segments: Vec<_> = bucket.list_journal(&FileName::clean("0")).try_collect().await.unwrap();
    assert_eq!(segments.len(), 1);
    let none: Vec<_> = bucket.list_journal(&FileName::clean("8")).try_collect().await.unwrap();
    assert_eq!(none, []);
}
