use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::Digest;
use crate::egress::header::{HeaderMap, HeaderName};
use crate::fetch::container::tests::{any_file, verdict};
use crate::fetch::download::tests::server::{Act, send, server};
use crate::fetch::download::tests::{fetcher, ok, rest};
use crate::fetch::{ContainerError, Summary};

fn entity(headers: &[(&'static str, String)]) -> Entity {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    Entity::of_headers(&headers, None)
}

fn again(point: &ResumePoint) -> (Entity, BodyHashes, Container) {
    let recorded = serde_json::to_string(point).unwrap();
    let read: ResumePoint = serde_json::from_str(&recorded).unwrap();
    assert_eq!(read, *point);
    read.restore().unwrap()
}

/// What a body turns out to be when it is taken in up to each of `cuts`, recorded there and gone on with.
fn in_pieces(
    entity: &Entity,
    body: &[u8],
    cuts: &[usize],
) -> (Result<Summary, FetchError>, Result<Option<&'static str>, ContainerError>) {
    let (mut entity, mut checks, mut container) = (entity.clone(), BodyHashes::new(entity.declared), Container::new());
    let mut from = 0;
    for cut in cuts.iter().copied().chain([body.len()]) {
        checks.update(&body[from..cut]);
        container.update(&body[from..cut]);
        from = cut;
        if let Some(point) = ResumePoint::of(&entity, &checks, &container) {
            assert_eq!(point.offset(), cut as u64);
            let before = entity;
            (entity, checks, container) = again(&point);
            assert_eq!(entity, before);
        }
    }
    (checks.finish(), container.finish(true).map(|found| found.map(|found| found.extension)))
}

proptest! {
    #[test]
    fn a_body_cut_and_recorded_anywhere_is_what_it_is(
        file in any_file(),
        more in 0usize..9000,
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        truncated in any::<bool>(),
        wrong in any::<bool>(),
    ) {
        let mut body = file;
        body.extend(vec![0; more]);
        if truncated {
            body.truncate(body.len() / 2 + 1);
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        let mut crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Xz, &body);
        crc64 ^= u64::from(wrong);
        let md5 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, md5_of(&body));
        let declared = [
            ("etag", "\"v1\"".to_owned()),
            ("content-md5", md5),
            ("x-oss-hash-crc64ecma", crc64.to_string()),
        ];
        let (summary, found) = in_pieces(&entity(&declared), &body, &cuts);
        let expected = Summary { digest: Digest::of(&body), bytes: body.len() as u64 };
        prop_assert_eq!(summary.map_err(|error| error.name()), if wrong { Err("checksum") } else { Ok(expected) });
        prop_assert_eq!(found.map_err(|error| error.name()), verdict(&body));
    }

    #[test]
    fn an_invalid_upload_checkpoint_is_refused_without_panic(text in "\\PC{0,80}", sha256 in "[0-9a-f]{0,240}") {
        prop_assert!(serde_json::from_str::<ResumePoint>(&text).is_err());
        let mut point = serde_json::to_value(point_in_the_middle()).unwrap();
        point["checks"]["sha256"] = sha256.into();
        let _ = serde_json::from_value::<ResumePoint>(point).unwrap().restore();
    }
}

fn md5_of(body: &[u8]) -> [u8; 16] {
    use md5::Digest as _;
    md5::Md5::digest(body).into()
}

fn point_in_the_middle() -> ResumePoint {
    let entity = entity(&[
        ("etag", "\"v1\"".to_owned()),
        ("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==".to_owned()),
        ("x-oss-hash-crc64ecma", "7".to_owned()),
    ]);
    let (mut checks, mut container) = (BodyHashes::new(entity.declared), Container::new());
    let head = [b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2\0\0\x27\x10mdat".as_slice(), &[7; 5000]].concat();
    checks.update(&head);
    container.update(&head);
    ResumePoint::of(&entity, &checks, &container).unwrap()
}

/// A change of the hashes' crates that reads old states otherwise would give old downloads wrong digests.
#[test]
fn a_recorded_point_is_read_as_it_was_meant() {
    let recorded = include_str!("point.json").trim();
    let point: ResumePoint = serde_json::from_str(recorded).unwrap();
    assert_eq!(point, point_in_the_middle());
    assert_eq!(serde_json::to_string(&point).unwrap(), recorded);
    assert!(recorded.len() < 1200);
}

#[test]
fn there_is_no_point_where_going_on_cannot_be_proven_or_is_of_no_use() {
    let mut container = Container::new();
    let tagged = entity(&[("etag", "\"v1\"".to_owned())]);
    let checks = BodyHashes::new(tagged.declared);
    assert_eq!(ResumePoint::of(&tagged, &checks, &container), None, "its kind is not known yet");
    container.update(&[0x47, 0x01].repeat(2500));
    assert!(ResumePoint::of(&tagged, &checks, &container).is_some());
    for weak in [entity(&[]), entity(&[("etag", "W/\"v1\"".to_owned())])] {
        assert_eq!(ResumePoint::of(&weak, &checks, &container), None);
    }
    let mut damaged = Container::new();
    damaged.update(&[b"\x89PNG\r\n\x1a\n".as_slice(), &[0; 5000]].concat());
    assert_eq!(ResumePoint::of(&tagged, &checks, &damaged), None);
}

/// Takes in 5,000 bytes of noise in two requests, the second from a point that was written down.
async fn resumed(second: Vec<Act>) -> (Result<Summary, FetchError>, String) {
    let body = "x".repeat(5000);
    let whole = "Content-Length: 5000\r\nETag: \"v1\"\r\n";
    let (url, requests) = server(vec![vec![ok(whole, &body)], second]).await;
    let fetcher = Fetcher { max_size: 10_000, ..fetcher() };
    let (mut download, mut container) = (fetcher.open(&url).await.unwrap(), Container::new());
    while download.received() < 4500 {
        let left = usize::try_from(4500 - download.received()).unwrap();
        container.update(&download.next_within(left).await.unwrap().unwrap());
    }
    let recorded = serde_json::to_string(&download.point(&container).unwrap()).unwrap();
    drop(download);
    let point: ResumePoint = serde_json::from_str(&recorded).unwrap();
    assert_eq!(point.offset(), 4500);
    let summary = match fetcher.resume(&url, &point).await {
        Ok((mut download, _)) => loop {
            match download.next().await {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(download.summary().unwrap()),
                Err(error) => break Err(error),
            }
        },
        Err(error) => Err(error),
    };
    let request = requests.lock().unwrap()[1].clone();
    (summary, request)
}

#[tokio::test]
async fn a_recorded_download_goes_on_where_it_was() {
    let tail = "x".repeat(500);
    let (summary, request) = resumed(vec![rest("bytes 4500-4999/5000", "ETag: \"v1\"\r\n", &tail)]).await;
    let body = Bytes::from("x".repeat(5000));
    assert_eq!(summary, Ok(Summary { digest: Digest::of(&body), bytes: 5000 }));
    assert!(request.contains("range: bytes=4500-\r\n") && request.contains("if-range: \"v1\"\r\n"), "{request}");
}

#[tokio::test]
async fn a_download_restarts_when_the_file_changed_and_resumes_after_a_passing_error() {
    let tail = "x".repeat(500);
    for (answer, name) in [
        (ok("Content-Length: 5000\r\nETag: \"v1\"\r\n", "whole"), "changed"),
        (ok("Content-Length: 3\r\nETag: \"v2\"\r\n", "new"), "changed"),
        (rest("bytes 4500-4999/5000", "ETag: \"v2\"\r\n", &tail), "changed"),
        (rest("bytes 4500-4999/6000", "ETag: \"v1\"\r\n", &tail), "changed"),
        (send("HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n"), "changed"),
        (send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "status"),
        (send("HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n"), "status"),
    ] {
        assert_eq!(resumed(vec![answer]).await.0.unwrap_err().name(), name);
    }
}
