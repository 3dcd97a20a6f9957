use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;

use super::*;
use crate::support::raw;

fn number(bytes: &[u8], at: usize, length: usize) -> usize {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Name and bytes of each file, found by the directory at the end, with its checksum looked at.
fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let end = archive.len() - 22;
    assert_eq!(&archive[end..end + 4], b"PK\x05\x06");
    let (count, mut at) = (number(archive, end + 10, 2), number(archive, end + 16, 4));
    assert_eq!(at + number(archive, end + 12, 4), end);
    let mut files = Vec::new();
    for _ in 0..count {
        assert_eq!(&archive[at..at + 4], b"PK\x01\x02");
        let (crc, size, name) = (number(archive, at + 16, 4), number(archive, at + 24, 4), number(archive, at + 28, 2));
        let (extra, head) = (number(archive, at + 30, 2), number(archive, at + 42, 4));
        assert_eq!(&archive[head..head + 4], b"PK\x03\x04");
        let begins = head + 30 + number(archive, head + 26, 2) + number(archive, head + 28, 2);
        let bytes = archive[begins..begins + size].to_vec();
        assert_eq!(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &bytes) as usize, crc);
        assert_eq!(number(archive, begins + size + 4, 4), crc, "behind the file, too");
        files.push((String::from_utf8(archive[at + 46..at + 46 + name].to_vec()).unwrap(), bytes));
        at += 46 + name + extra;
    }
    files
}

fn path(ids: &[String]) -> String {
    format!("/api/v1/jobs/zip?ids={}", ids.join(","))
}

/// The same for every store.
async fn conforms(vault: &Vault) {
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    vault.stored(1, b"0123456789", "video/mp4").await;
    vault.stored(2, &large, "video/mp4").await;
    vault.stored(3, b"", "video/mp4").await;
    vault.stored(4, b"0123456789", "video/mp4").await;
    vault.completed(5).await;
    let ids = [3, 1, 2, 1, 5, 4].map(id);
    let answer = vault.request(Method::GET, &path(&ids)).bearer_auth(READ).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, "application/zip"));
    let disposition = header(&answer, "content-disposition");
    assert!(disposition.starts_with("attachment; filename=\"replyvault-20"), "{disposition}");
    let length = header(&answer, "content-length").parse::<usize>().unwrap();
    let archive = answer.bytes().await.unwrap();
    assert_eq!(archive.len(), length);
    let expected: [(&str, &[u8]); 4] = [
        ("video-3/video.mp4", b""),
        ("video-1/video.mp4", b"0123456789"),
        ("video-2/video.mp4", &large),
        ("video-4/video.mp4", b"0123456789"),
    ];
    assert_eq!(files(&archive), expected.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())));
    let head = vault.request(Method::HEAD, &path(&ids)).bearer_auth(READ).send().await.unwrap();
    assert_eq!(header(&head, "content-length"), length.to_string());

    let get =
        async |path: &str| refusal(vault.request(Method::GET, path).bearer_auth(READ).send().await.unwrap()).await;
    assert_eq!(get(&path(&[id(5)])).await, (404, "no_files".to_owned()));
    assert_eq!(get(&path(&[id(1), id(99)])).await, (404, "not_found".to_owned()));
    let many: Vec<String> = (1..=101).map(id).collect();
    for bad in [path(&[]), path(&many), "/api/v1/jobs/zip".to_owned(), format!("{}&all=1", path(&ids))] {
        assert_eq!(get(&bad).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_files_of_several_jobs_are_one_archive_from_memory() {
    conforms(&Vault::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_several_jobs_are_one_archive_from_s3() {
    let s3 = S3Server::start().await;
    conforms(&Vault::with(Options::new(s3.config(""))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_an_archive_is_told_without_reading_a_file() {
    let s3 = S3Server::start().await;
    let vault = Vault::with(Options::new(s3.config(""))).await;
    vault.stored(1, b"0123456789", "video/mp4").await;
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    s3.inject(move |call| {
        if call.method == Method::GET {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    let address = vault.base.strip_prefix("http://").unwrap().parse().unwrap();
    let authorization = format!("Bearer {READ}");
    let headers = [("Authorization", authorization.as_str())];
    let path = path(&[id(1)]);
    // Read until the connection is closed: what the server still does for the answer, it does before that.
    let head = raw::call(address, "HEAD", &path, &headers, b"").await;
    assert_eq!((head.status, head.body.len(), reads.load(Ordering::Relaxed)), (200, 0, 0));
    let whole = raw::call(address, "GET", &path, &headers, b"").await;
    assert_eq!((whole.status, whole.whole, reads.load(Ordering::Relaxed)), (200, true, 1));
    assert_eq!(head.without_date(&whole).headers, whole.headers);
}

#[tokio::test]
async fn an_archive_with_a_file_that_is_gone_ends_early() {
    let vault = Vault::start().await;
    vault.stored(1, b"0123456789", "video/mp4").await;
    let gone = Digest::of(b"gone");
    vault.completed(2).await;
    vault.indexed(2, gone, 4, "video/mp4", "video/2026/11/20/video-2/video.mp4").await;
    let whole = async {
        let answer = vault.request(Method::GET, &path(&[id(1), id(2)])).bearer_auth(READ).send().await?;
        assert_eq!(answer.status(), 200);
        answer.bytes().await
    };
    assert!(whole.await.is_err(), "the length is promised");
}
