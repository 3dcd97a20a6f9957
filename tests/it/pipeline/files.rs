//! What is kept of what servers send, under which name and type.

use std::sync::Arc;
use std::time::Duration;

use replyvault::bucket::Bucket;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::accept;
use crate::support::media::{MediaServer, mp4, png};
use crate::support::s3::S3Server;
use crate::support::vault::{TOKEN, Vault, completed, video_id, with_bucket};

/// Answers every request with these bytes, without a length, and closes.
async fn unmeasured(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let body = Arc::new(body);
    tokio::spawn(async move {
        loop {
            let mut stream = accept(&listener).await;
            let body = Arc::clone(&body);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await?;
                stream.write_all(&body).await?;
                stream.shutdown().await
            });
        }
    });
    url
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(8 + content.len() as u32).to_be_bytes()[..], kind, content].concat()
}

/// Sound in an MP4 whose movie comes last.
fn sound(brand: &[u8; 4], size: usize) -> Vec<u8> {
    let handler = [&[0; 8][..], b"soun", &[0; 13]].concat();
    let track = boxed(b"trak", &boxed(b"mdia", &boxed(b"hdlr", &handler)));
    let ftyp = boxed(b"ftyp", &[&brand[..], b"\0\0\x02\0", brand].concat());
    [ftyp, boxed(b"mdat", &vec![7; size]), boxed(b"moov", &track)].concat()
}

fn gif() -> Vec<u8> {
    let picture = [&b",\0\0\0\0\x01\0\x01\0\0\x02\xff"[..], &[7; 255], b"\xff", &[8; 255], b"\0;"].concat();
    [&b"GIF89a\x01\0\x01\0\0\0\0"[..], &picture].concat()
}

fn agent_id(number: u32) -> String {
    format!("p{number}-u1-a2-bot:minimax")
}

fn agent(number: u32, attachments: &[Value]) -> Value {
    json!({"jobId": agent_id(number), "status": "completed", "response": {"attachments": attachments}})
}

fn attachment(name: &str, url: &str) -> Value {
    json!({"attachmentID": name, "status": 3, "file": {"fileName": name, "fileUrl": url}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_text_is_not_archived_and_the_next_url_is_tried() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let utf16: Vec<u8> = "Link expired".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let texts: [(&[u8], &'static str); 6] = [
        (b"Link expired", "text/plain"),
        (b"Link expired", "video/mp4"),
        (b"null", "application/json"),
        (b"<!-- cache --><html><body>403</body></html>", "text/html"),
        (b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>", "application/xml"),
        (&utf16, "application/octet-stream"),
    ];
    for (number, (text, content_type)) in (1..).zip(texts) {
        let bad = media.put(&format!("/{number}/bad"), text.to_vec(), content_type);
        let bytes = mp4(number, 100);
        let good = media.put(&format!("/{number}/good"), bytes.clone(), "video/mp4");
        let (id, alone) = (video_id(number), video_id(number + 100));
        vault.callback(json!({"videoId": id, "status": 2, "downloadURL": bad, "videoURL": good})).await;
        vault.callback(json!({"videoId": alone, "status": 2, "downloadURL": bad})).await;
        let job = vault.archived(&id).await;
        vault.assert_stored(&job, &bytes).await;
        assert_eq!(job["assets"][0]["variant"], "unknown");
        let stuck = vault.job_in(&alone, &["stuck"]).await;
        assert!(stuck["assets"][0]["lastError"].as_str().unwrap().starts_with("expected media, found"), "{stuck:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_connection_ends_early_is_not_archived() {
    let vault = Vault::start().await;
    let picture = gif();
    for (number, body, state) in [(1, picture.clone(), "archived"), (2, picture[..picture.len() / 2].to_vec(), "stuck")]
    {
        let url = unmeasured(body).await;
        let id = format!("user:1-minimax:2-image:{number}");
        vault.callback(json!({"imageId": id, "status": 2, "statusFinal": true, "downloadURL": url})).await;
        let job = vault.job_in(&id, &["archived", "stuck"]).await;
        assert_eq!(job["state"], state, "{job:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_named_by_what_its_end_shows() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    // Parts are of one MiB here, so an upload is begun long before the end is seen.
    let frames = [&b"\xff\xf1\x50\x80\x0c\x9f\xfc"[..], &[0x55; 93]].concat().repeat(3);
    let tagged = [&b"ID3\x04\0\0\x01\x20\0\0"[..], &vec![0x33; (1 << 21) + (32 << 14)], &frames].concat();
    for (number, bytes, file, content_type) in [
        (1, sound(b"isom", 2_500_000), "video.m4a", "audio/mp4"),
        (2, tagged, "video.aac", "audio/aac"),
        (3, mp4(1, 2_500_000), "video.mp4", "video/mp4"),
    ] {
        let url = media.put(&format!("/{number}"), bytes.clone(), "application/octet-stream");
        vault.callback(completed(number, &url)).await;
        let job = vault.archived(&video_id(number)).await;
        vault.assert_stored(&job, &bytes).await;
        let asset = &job["assets"][0];
        assert_eq!((&asset["file"], &asset["contentType"]), (&json!(file), &json!(content_type)), "{job:#}");
        assert!(asset["key"].as_str().unwrap().ends_with(file), "{job:#}");
        assert_eq!(asset["attempts"], 0, "{job:#}");
    }
    assert_eq!(vault.keys().await.len(), 6, "nothing is left of what was begun");
}

/// Sound alone in a 3GP has the extension that moving pictures have, and another type.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_objects_type_is_what_the_api_says() {
    let (media, s3) = (MediaServer::start(), S3Server::start().await);
    let vault = Vault::start_with(with_bucket(s3.config(""))).await;
    for (number, brand, content_type) in [(1, b"3gp4", "audio/3gpp"), (2, b"3g2a", "audio/3gpp2")] {
        // More than one part.
        let bytes = sound(brand, 6 << 20);
        let url = media.put(&format!("/{number}"), bytes.clone(), "application/octet-stream");
        vault.callback(completed(number, &url)).await;
        let job = vault.archived(&video_id(number)).await;
        vault.assert_stored(&job, &bytes).await;
        let asset = &job["assets"][0];
        assert_eq!((&asset["contentType"], &asset["attempts"]), (&json!(content_type), &json!(0)), "{job:#}");
        let bucket = Bucket::open(&s3.config("")).unwrap();
        let key = asset["key"].as_str().unwrap().parse().unwrap();
        let link = bucket.presign(&key, Duration::from_secs(60), None).await.unwrap().unwrap();
        let object = vault.client.get(link).send().await.unwrap();
        assert_eq!(object.headers()["content-type"].to_str().unwrap(), content_type);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_not_there_does_not_hold_its_job() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.intake.sidecars = true).await;
    let video = media.put("/v.mp4", mp4(1, 100), "video/mp4");
    vault
        .callback(json!({"videoId": video_id(1), "status": 2, "videoURL": video, "coverURL": media.url("/none.jpg")}))
        .await;
    let job = vault.archived(&video_id(1)).await;
    assert_eq!((&job["assets"][0]["state"], &job["assets"][1]["state"]), (&json!("stored"), &json!("stuck")));
    assert!(job["assets"][1]["lastError"].as_str().unwrap().contains("404"), "{job:#}");

    let error = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>";
    let subtitles = "1\n00:00:01,000 --> 00:00:02,000\nHello\n";
    for (number, text, state) in [(1, error, "stuck"), (2, "<html>403</html>", "stuck"), (3, subtitles, "stored")] {
        let url = media.put(&format!("/{number}.srt"), text, "text/plain");
        let video = media.put(&format!("/{number}.mp4"), mp4(number.into(), 99), "video/mp4");
        let file = json!({"fileName": "rain.mp4", "fileUrl": video, "extra": {"subtitle_path": url}});
        vault.callback(agent(number, &[json!({"attachmentID": "a", "status": 3, "file": file})])).await;
        let job = vault.archived(&agent_id(number)).await;
        let subtitle = job["assets"].as_array().unwrap().iter().find(|asset| asset["role"] == "subtitle").unwrap();
        assert_eq!(subtitle["state"], state, "{job:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_missing_poster_among_many_files_does_not_hold_their_job() {
    let media = MediaServer::start();
    let vault = Vault::start_with(|settings| settings.intake.sidecars = true).await;
    let attachments: Vec<_> = (1..=3)
        .map(|number| {
            let mut file = attachment(
                &format!("{number}.mp4"),
                &media.put(&format!("/{number}.mp4"), mp4(number, 100), "video/mp4"),
            );
            let poster = match number {
                2 => media.url("/none.png"),
                _ => media.put(&format!("/{number}.png"), png(number), "image/png"),
            };
            file["file"]["posterUrl"] = poster.into();
            file
        })
        .collect();
    vault.callback(agent(1, &attachments)).await;
    let job = vault.archived(&agent_id(1)).await;
    let assets = job["assets"].as_array().unwrap();
    let in_state = |state: &str| assets.iter().filter(|asset| asset["state"] == state).count();
    assert_eq!((in_state("stored"), in_state("stuck")), (5, 1), "{job:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_documents_keep_their_names() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    // More than one part: its upload is named before its end is seen.
    let large = "RUN true\n".repeat(200_000);
    let documents = [
        ("map.geojson", "{\"type\":\"FeatureCollection\"}", "", "application/geo+json"),
        ("book.ipynb", "{\"cells\":[]}", "application/json", "application/x-ipynb+json"),
        ("notes.md", "<h1 align=center>Notes</h1>", "text/markdown", "text/markdown"),
        ("num.csv", "1\n00:00:01,000 --> 00:00:02,000\n", "text/csv", "text/csv"),
        ("logo.svg", "<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "", "image/svg+xml"),
        ("report.pdf", "%PDF-1.4\n%%EOF\n", "application/pdf", "application/pdf"),
        ("LICENSE", "MIT License\n", "", "text/plain"),
        ("Dockerfile", large.as_str(), "", "text/plain"),
        ("app.webmanifest", "{\"name\":\"Boats\"}", "application/manifest+json", "application/manifest+json"),
    ];
    let attachments: Vec<_> = documents
        .iter()
        .map(|(name, text, declared, _)| {
            attachment(name, &media.put(&format!("/{name}"), (*text).to_owned(), declared))
        })
        .collect();
    vault.callback(agent(1, &attachments)).await;
    let job = vault.archived(&agent_id(1)).await;
    for (place, (name, _, _, content_type)) in documents.iter().enumerate() {
        let asset = &job["assets"][place];
        let expected = (json!(format!("{:02}-{name}", place + 1)), json!(content_type));
        assert_eq!((asset["file"].clone(), asset["contentType"].clone()), expected, "{job:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_has_one_type_whatever_a_second_server_says_of_it() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let bytes = b"PAR1\x15\x04\x15\0\0\0PAR1".to_vec();
    for (number, name, declared) in
        [(1, "table.odd", "application/octet-stream"), (2, "table.parquet", "application/x-parquet")]
    {
        let url = media.put(&format!("/{number}/{name}"), bytes.clone(), declared);
        vault.callback(agent(number, &[attachment(name, &url)])).await;
        let job = vault.archived(&agent_id(number)).await;
        let asset = &job["assets"][0];
        let path = format!("/api/v1/media/{}/content", asset["sha256"].as_str().unwrap());
        let content = vault.client.get(vault.url(&path)).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(content.status(), StatusCode::OK);
        assert_eq!(asset["contentType"], content.headers()["content-type"].to_str().unwrap());
        let (_, index) = vault.get(&format!("/api/v1/media/{}", asset["sha256"].as_str().unwrap())).await;
        assert_eq!(asset["contentType"], index["contentType"]);
        assert_eq!((&asset["file"], &asset["deduplicated"]), (&json!(format!("01-{name}")), &json!(number == 2)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jpeg_that_lacks_only_its_end_is_archived() {
    let media = MediaServer::start();
    let vault = Vault::start().await;
    let whole: &[u8] = include_bytes!("../../../crates/simulator/src/media/poster.jpg");
    let without_end = &whole[..whole.len() - 2];
    for (number, bytes, state) in [(1, without_end, "archived"), (2, &whole[..whole.len() / 2], "stuck")] {
        let url = media.put(&format!("/{number}.jpg"), bytes.to_vec(), "image/jpeg");
        let id = format!("user:1-minimax:2-image:{number}");
        vault.callback(json!({"imageId": id, "status": 2, "statusFinal": true, "downloadURL": url})).await;
        let job = vault.job_in(&id, &["archived", "stuck"]).await;
        assert_eq!(job["state"], state, "{job:#}");
    }
    let url = media.put("/3.png", png(1), "image/jpeg");
    vault.callback(completed(3, &url)).await;
    assert_eq!(vault.archived(&video_id(3)).await["assets"][0]["contentType"], "image/png");
}
