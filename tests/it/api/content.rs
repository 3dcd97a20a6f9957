use reqwest::Method;

use super::*;

fn path(sha256: Digest) -> String {
    format!("/api/v1/media/{sha256}/content")
}

async fn with(vault: &Vault, sha256: Digest, headers: &[(&str, &str)]) -> Response {
    let mut request = vault.request(Method::GET, &path(sha256)).bearer_auth(READ);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

/// The same for every store.
async fn conforms(vault: &Vault) {
    let sha256 = vault.stored(1, b"0123456789", "video/mp4").await;
    let tag = format!("\"{sha256}\"");

    let whole = with(vault, sha256, &[]).await;
    assert_eq!(whole.status(), 200);
    for (name, expected) in [
        ("content-type", "video/mp4"),
        ("content-length", "10"),
        ("etag", &*tag),
        ("accept-ranges", "bytes"),
        ("content-disposition", "inline; filename=\"video.mp4\""),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-cache"),
        ("content-range", ""),
    ] {
        assert_eq!(header(&whole, name), expected, "{name}");
    }
    let headers = whole.headers().clone();
    assert_eq!(whole.bytes().await.unwrap(), "0123456789");

    let head = vault.request(Method::HEAD, &path(sha256)).bearer_auth(READ).header("range", "bytes=0-1");
    let head = head.send().await.unwrap();
    let without_date = |mut headers: reqwest::header::HeaderMap| {
        headers.remove("date");
        headers
    };
    assert_eq!((head.status(), without_date(head.headers().clone())), (200.try_into().unwrap(), without_date(headers)));
    assert!(head.bytes().await.unwrap().is_empty());

    for (range, answered, bytes) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=2-5", "bytes 2-5/10", "2345"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=-30", "bytes 0-9/10", "0123456789"),
        ("bytes=5-99", "bytes 5-9/10", "56789"),
    ] {
        let part = with(vault, sha256, &[("range", range)]).await;
        assert_eq!((part.status().as_u16(), header(&part, "content-range")), (206, answered), "{range}");
        assert_eq!(header(&part, "content-length"), bytes.len().to_string(), "{range}");
        assert_eq!((header(&part, "etag"), header(&part, "content-type")), (&*tag, "video/mp4"));
        assert_eq!(part.bytes().await.unwrap(), bytes, "{range}");
    }
    for range in ["bytes=10-", "bytes=99-100", "bytes=-0"] {
        let none = with(vault, sha256, &[("range", range)]).await;
        assert_eq!(header(&none, "content-range"), "bytes */10", "{range}");
        assert_eq!(refusal(none).await, (416, "range_not_satisfiable".to_owned()), "{range}");
    }
    for range in ["bytes=5-2", "bytes=0-1,4-5", "lines=0-1", "bytes=x", ""] {
        let all = with(vault, sha256, &[("range", range)]).await;
        assert_eq!((all.status().as_u16(), all.bytes().await.unwrap().len()), (200, 10), "{range}");
    }
    for (if_range, status) in
        [(&*tag, 206), ("\"other\"", 200), (&*format!("W/{tag}"), 200), ("Sat, 01 Jan 2028 00:00:00 GMT", 200)]
    {
        let answer = with(vault, sha256, &[("range", "bytes=0-1"), ("if-range", if_range)]).await;
        assert_eq!(answer.status(), status, "{if_range}");
    }
    for (if_none_match, status) in [
        (&*tag, 304),
        ("*", 304),
        (&*format!("W/{tag}"), 304),
        (&*format!("\"a\", {tag}"), 304),
        ("\"a\"", 200),
        (&*sha256.to_string(), 200),
    ] {
        let answer = with(vault, sha256, &[("if-none-match", if_none_match), ("range", "bytes=99-")]).await;
        let expected = if status == 304 { 304 } else { 416 };
        assert_eq!(answer.status(), expected, "{if_none_match}");
        if status == 304 {
            assert_eq!(header(&answer, "etag"), tag);
            assert!(answer.bytes().await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn bytes_come_out_of_memory() {
    conforms(&Vault::start().await).await;
}

#[tokio::test]
async fn bytes_come_out_of_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    conforms(&Vault::with(Options::new(storage(&format!("file:{}", directory.path().display())))).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_out_of_s3_and_so_do_links() {
    let server = S3Server::start().await;
    let vault = Vault::with(Options::new(server.config(""))).await;
    conforms(&vault).await;

    let sha256 = Digest::of(b"0123456789");
    let link = with(&vault, sha256, &[]).await;
    assert_eq!(link.status(), 200);
    let request = vault.request(Method::GET, &format!("{}?redirect=true", path(sha256))).bearer_auth(READ);
    let link = request.send().await.unwrap();
    assert_eq!((link.status().as_u16(), header(&link, "cache-control")), (307, "no-store"));
    let location = header(&link, "location");
    assert!(location.starts_with(&server.endpoint), "{location}");
    let got = vault.client.get(location).header("range", "bytes=2-4").send().await.unwrap();
    assert_eq!((got.status().as_u16(), got.text().await.unwrap()), (206, "234".to_owned()));
    let head = vault.request(Method::HEAD, &format!("{}?redirect=true", path(sha256))).bearer_auth(READ);
    assert_eq!(head.send().await.unwrap().status(), 200, "a link is for GET");

    server.break_with(503);
    let response = with(&vault, sha256, &[]).await;
    assert_eq!(header(&response, "retry-after"), "2");
    assert_eq!(refusal(response).await, (503, "unavailable".to_owned()));
}

#[tokio::test]
async fn where_there_are_no_links_the_bytes_come_at_once() {
    let vault = Vault::start().await;
    let sha256 = vault.stored(1, b"0123456789", "video/mp4").await;
    for redirect in ["true", "false", ""] {
        let response = vault.send(Method::GET, &format!("{}?redirect={redirect}", path(sha256))).await;
        assert_eq!((response.status().as_u16(), response.text().await.unwrap()), (200, "0123456789".to_owned()));
    }
    let response = vault.send(Method::GET, &format!("{}?redirect=yes", path(sha256))).await;
    assert_eq!(refusal(response).await, (400, "invalid_request".to_owned()));
}

#[tokio::test]
async fn script_capable_types_are_served_as_downloads() {
    let vault = Vault::start().await;
    let contents: [(&[u8], &str, &str); 8] = [
        (b"a", "image/png", "inline"),
        (b"e", "video/mp4; codecs=\"avc1\"", "inline"),
        (b"b", "image/svg+xml", "attachment"),
        (b"f", "image/x+xml", "attachment"),
        (b"g", "video/foo+xml", "attachment"),
        (b"h", "audio/unheard-of", "attachment"),
        (b"c", "text/html", "attachment"),
        (b"d", "bad\ntype", "attachment"),
    ];
    for (number, (content, content_type, expected)) in contents.into_iter().enumerate() {
        let sha256 = vault.stored(number as u32, content, content_type).await;
        let response = with(&vault, sha256, &[]).await;
        assert_eq!(response.status(), 200);
        assert!(header(&response, "content-disposition").starts_with(&format!("{expected}; ")), "{content_type}");
        let shown = if content_type.contains('\n') { "application/octet-stream" } else { content_type };
        assert_eq!(header(&response, "content-type"), shown);
    }
}

#[tokio::test]
async fn conditions_on_the_bytes_are_obeyed() {
    let vault = Vault::start().await;
    let sha256 = vault.stored(1, b"0123456789", "video/mp4").await;
    let tag = format!("\"{sha256}\"");
    let modified = header(&with(&vault, sha256, &[]).await, "last-modified").to_owned();
    let (before, after) = ("Sat, 01 Jan 2000 00:00:00 GMT", "Sat, 01 Jan 2050 00:00:00 GMT");
    for (conditions, status) in [
        (&[("if-match", &*tag)][..], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", &format!("\"a\", {tag}"))], 200),
        (&[("if-match", "\"a\"")], 412),
        (&[("if-match", &format!("W/{tag}"))], 412),
        (&[("if-match", "\"a\""), ("range", "bytes=0-1")], 412),
        (&[("if-match", &tag), ("if-unmodified-since", before)], 200),
        (&[("if-match", &tag), ("if-none-match", &tag)], 304),
        (&[("if-unmodified-since", before)], 412),
        (&[("if-unmodified-since", &modified)], 200),
        (&[("if-unmodified-since", "yesterday")], 200),
        (&[("if-unmodified-since", after), ("range", "bytes=0-1")], 206),
        (&[("if-modified-since", &modified)], 304),
        (&[("if-modified-since", before)], 200),
        (&[("if-modified-since", after), ("if-none-match", "\"a\"")], 200),
    ] {
        let answer = with(&vault, sha256, conditions).await;
        assert_eq!(answer.status(), status, "{conditions:?}");
        if status == 412 {
            assert_eq!(refusal(answer).await, (412, "precondition_failed".to_owned()));
        }
    }
    let head = vault.request(Method::HEAD, &path(sha256)).bearer_auth(READ).header("if-match", "\"a\"");
    assert_eq!(head.send().await.unwrap().status(), 412);
}

#[tokio::test]
async fn a_lost_object_is_not_passed_off_as_there() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::with(Options::new(storage(&format!("file:{}", directory.path().display())))).await;
    let sha256 = vault.stored(1, b"0123456789", "video/mp4").await;
    let file = directory.path().join("video/2026/11/20/video-1/video.mp4");

    std::fs::write(&file, "0123").unwrap();
    let request = vault.request(Method::GET, &path(sha256)).bearer_auth(READ);
    // The connection may end before its first byte is out.
    let cut = async { request.send().await?.bytes().await };
    assert!(cut.await.is_err(), "too short must not look whole");

    std::fs::remove_file(&file).unwrap();
    assert_eq!(refusal(with(&vault, sha256, &[]).await).await, (404, "object_missing".to_owned()));
    let head = vault.send(Method::HEAD, &path(sha256)).await;
    assert_eq!(head.status(), 404);

    vault.completed(2).await;
    let outside = Digest::of(b"outside");
    vault.indexed(2, outside, 7, "video/mp4", "../../outside").await;
    assert_eq!(refusal(with(&vault, outside, &[]).await).await, (404, "object_missing".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_arrive_whole_and_who_does_not_read_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::with(Options::new(storage(&format!("file:{}", directory.path().display())))).await;
    let content: Vec<u8> = (0..24_000_000_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sha256 = vault.stored(1, &content, "video/mp4").await;
    let whole = with(&vault, sha256, &[]).await.bytes().await.unwrap();
    assert_eq!(Digest::of(&whole), sha256);
    let part = with(&vault, sha256, &[("range", "bytes=300000-20000000")]).await.bytes().await.unwrap();
    assert_eq!(Digest::of(&part), Digest::of(&content[300_000..=20_000_000]));
    // Somebody who asks and does not read holds nobody up.
    let idle = with(&vault, sha256, &[]).await;
    assert_eq!(vault.send(Method::GET, "/healthz").await.status(), 200);
    drop(idle);
}
