use base64::Engine as _;

use super::*;
use crate::egress::{self, AllowedHosts};
use crate::fetch::Config;

pub(crate) mod server;

use server::Act::{self, Pause, Reset};
use server::{send, server};

const LIMIT: u64 = 100;

pub(crate) fn fetcher() -> Fetcher {
    let allowed_hosts = AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]);
    let egress = egress::Config { allowed_hosts, allow_http: true, allow_private_addresses: true };
    let config = Config { egress, max_size: LIMIT, idle_timeout: Duration::from_secs(10), min_speed: 0 };
    Fetcher { reopen_pause: Duration::from_millis(1), ..Fetcher::new(&config).unwrap() }
}

fn impatient_fetcher() -> Fetcher {
    let egress = egress::Config { allowed_hosts: AllowedHosts::Any, allow_http: true, allow_private_addresses: true };
    let config = Config { egress, max_size: LIMIT, idle_timeout: Duration::from_millis(400), min_speed: 0 };
    Fetcher { reopen_pause: Duration::from_millis(1), ..Fetcher::new(&config).unwrap() }
}

async fn receive(fetcher: &Fetcher, url: &MediaUrl) -> Result<(Vec<u8>, Summary), FetchError> {
    let mut download = fetcher.open(url).await?;
    let mut received = Vec::new();
    loop {
        match download.next().await {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty() && download.summary().is_none());
                received.extend_from_slice(&chunk);
            }
            Ok(None) => {
                assert_eq!(download.next().await, Ok(None), "the end stays the end");
                let summary = download.summary().unwrap();
                assert_eq!(summary, Summary { digest: Digest::of(&received), bytes: received.len() as u64 });
                return Ok((received, summary));
            }
            Err(error) => {
                assert_eq!(download.next().await, Err(error.clone()), "a failure stays one");
                assert_eq!(download.summary(), None);
                return Err(error);
            }
        }
    }
}

async fn body(scripts: Vec<Vec<Act>>) -> String {
    let (url, _) = server(scripts).await;
    String::from_utf8(receive(&fetcher(), &url).await.unwrap().0).unwrap()
}

async fn failure(fetcher: &Fetcher, scripts: Vec<Vec<Act>>) -> FetchError {
    let (url, _) = server(scripts).await;
    let error = receive(fetcher, &url).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    error
}

async fn failure_name(scripts: Vec<Vec<Act>>) -> &'static str {
    failure(&fetcher(), scripts).await.name()
}

pub(crate) fn ok(headers: &str, body: &str) -> Act {
    send(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}"))
}

pub(crate) fn rest(range: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    send(&format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: {range}\r\n{headers}\r\n{body}"
    ))
}

const TAGGED: &str = "Content-Length: 10\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";

/// The first half of `0123456789` and then nothing.
fn half() -> Vec<Act> {
    vec![ok(TAGGED, "01234")]
}

#[tokio::test]
async fn a_body_comes_as_it_is_with_its_hash() {
    let script = vec![ok("Content-Length: 5\r\nContent-Type: video/mp4\r\n", "hello")];
    let (url, requests) = server(vec![script]).await;
    let mut download = fetcher().open(&url).await.unwrap();
    assert_eq!((download.declared_length(), download.content_type()), (Some(5), Some("video/mp4")));
    assert_eq!(download.next().await.unwrap().unwrap(), "hello");
    assert_eq!((download.received(), download.summary()), (5, None));
    assert_eq!(download.next().await.unwrap(), None);
    assert_eq!(download.summary().unwrap().digest, Digest::of(b"hello"));
    let request = requests.lock().unwrap()[0].clone();
    assert!(request.contains("accept-encoding: identity\r\n") && !request.contains("range"), "{request}");
}

#[tokio::test]
async fn bodies_of_every_framing_are_read() {
    let chunked = "5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";
    assert_eq!(body(vec![vec![ok("Transfer-Encoding: chunked\r\n", chunked)]]).await, "hello!");
    assert_eq!(body(vec![vec![ok("Connection: close\r\n", "hello")]]).await, "hello");
    assert_eq!(body(vec![vec![ok("Content-Length: 0\r\n", "")]]).await, "");
    assert_eq!(body(vec![vec![ok("Content-Length: 2\r\nContent-Encoding: identity\r\n", "hi")]]).await, "hi");
    let full = "a".repeat(LIMIT as usize);
    assert_eq!(body(vec![vec![ok("Connection: close\r\n", &full)]]).await, full);
}

#[tokio::test]
async fn sizes_are_bounded_declared_or_not() {
    let too_long = "a".repeat(LIMIT as usize + 1);
    assert_eq!(failure_name(vec![vec![ok("Content-Length: 101\r\n", "")]]).await, "too_large");
    assert_eq!(failure_name(vec![vec![ok("Content-Length: 9223372036854775807\r\n", "")]]).await, "too_large");
    assert_eq!(failure_name(vec![vec![ok("Connection: close\r\n", &too_long)]]).await, "too_large");
    let chunked = format!("65\r\n{too_long}\r\n0\r\n\r\n");
    let error = failure(&fetcher(), vec![vec![ok("Transfer-Encoding: chunked\r\n", &chunked)]]).await;
    assert_eq!((error.name(), error.class()), ("too_large", ErrorClass::NotMedia));
}

#[tokio::test]
async fn encodings_nobody_asked_for_are_refused() {
    for encoding in ["gzip", "br", "identity, gzip", "x-gzip"] {
        let headers = format!("Content-Length: 2\r\nContent-Encoding: {encoding}\r\n");
        let error = failure(&fetcher(), vec![vec![ok(&headers, "hi")]]).await;
        assert_eq!((error.name(), error.class()), ("content_encoding", ErrorClass::NotMedia));
    }
}

#[tokio::test]
async fn declared_checksums_are_checked() {
    let md5 =
        base64::engine::general_purpose::STANDARD.encode(hex::decode("25f9e794323b453885f5181f1b624d0b").unwrap());
    let crc64 = 0x995d_c9bb_df19_39fa_u64;
    for (headers, holds) in [
        (format!("Content-MD5: {md5}\r\n"), true),
        (format!("x-oss-hash-crc64ecma: {crc64}\r\n"), true),
        (format!("Content-MD5: {md5}\r\nx-oss-hash-crc64ecma: {crc64}\r\n"), true),
        ("Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==\r\n".into(), false),
        (format!("x-oss-hash-crc64ecma: {}\r\n", crc64 + 1), false),
        (format!("Content-MD5: {md5}\r\nx-oss-hash-crc64ecma: 1\r\n"), false),
    ] {
        // Chunked, so that nothing but the checksum can tell.
        let script = vec![ok(&format!("Transfer-Encoding: chunked\r\n{headers}"), "9\r\n123456789\r\n0\r\n\r\n")];
        if holds {
            assert_eq!(body(vec![script]).await, "123456789");
        } else {
            let error = failure(&fetcher(), vec![script]).await;
            assert_eq!((error.name(), error.class()), ("checksum", ErrorClass::Transient), "{headers}");
        }
    }
}

#[tokio::test]
async fn statuses_say_whether_and_when_to_try_again() {
    for (head, class, seconds) in [
        ("403 Forbidden\r\n", ErrorClass::Gone, None),
        ("404 Not Found\r\n", ErrorClass::Gone, None),
        ("429 Too Many Requests\r\nRetry-After: 7\r\n", ErrorClass::Transient, Some(7)),
        ("503 Service Unavailable\r\nRetry-After: 86400\r\n", ErrorClass::Transient, Some(3600)),
        ("503 Service Unavailable\r\nRetry-After: soon\r\n", ErrorClass::Transient, None),
        ("500 Oops\r\n", ErrorClass::Transient, None),
        ("206 Partial Content\r\nContent-Range: bytes 0-0/2\r\n", ErrorClass::NotMedia, None),
        ("206 Partial Content\r\nContent-Range: bytes 1-1/2\r\n", ErrorClass::NotMedia, None),
        ("206 Partial Content\r\n", ErrorClass::NotMedia, None),
        ("204 No Content\r\n", ErrorClass::NotMedia, None),
    ] {
        let script = vec![send(&format!("HTTP/1.1 {head}Content-Length: 0\r\n\r\n"))];
        let error = failure(&fetcher(), vec![script]).await;
        assert_eq!((error.name(), error.class()), ("status", class), "{head}");
        assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{head}");
    }
}

#[tokio::test]
async fn redirects_are_within_the_policy() {
    let redirect = |location: &str| {
        vec![send(&format!("HTTP/1.1 307 Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))]
    };
    let end = vec![ok("Content-Length: 2\r\n", "hi")];
    assert_eq!(body(vec![redirect("/b"), redirect("/c?x"), end]).await, "hi");
    let error = failure(&fetcher(), vec![redirect("http://evil.example/?Signature=secret")]).await;
    assert_eq!((error.name(), error.class()), ("host_not_allowed", ErrorClass::Refused));
    let mut six = vec![redirect("/again"); 6];
    six.push(vec![ok("Content-Length: 2\r\n", "hi")]);
    assert_eq!(body(six).await, "hi");
    let circle = failure(&fetcher(), vec![redirect("/again"); 12]).await;
    assert_eq!((circle.name(), circle.class()), ("too_many_redirects", ErrorClass::NotMedia), "no policy forbids it");
    let nowhere = vec![vec![send("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")]];
    let nowhere = failure(&fetcher(), nowhere).await;
    assert_eq!((nowhere.name(), nowhere.class()), ("redirect_invalid", ErrorClass::NotMedia));
}

#[tokio::test]
async fn the_whole_is_taken_from_servers_that_say_it_oddly() {
    for head in [
        "203 Non-Authoritative Information\r\nContent-Length: 2\r\n",
        "206 Partial Content\r\nContent-Range: bytes 0-1/2\r\nContent-Length: 2\r\n",
        "206 Partial Content\r\nContent-Range: bytes 0-1/2\r\n",
        "200 OK\r\nX-Cache : HIT\r\nContent-Length: 2\r\n",
        "200 OK\r\nX-Via: one,\r\n two\r\nContent-Length: 2\r\n",
        "200 OK\r\nContent-Length: 2\r\nNo header at all\r\n",
        "200 OK\r\nContent-Length: 2\r\nContent-Encoding: utf-8\r\n",
        "200 OK\r\nContent-Length: 2\r\nContent-Encoding: aws-chunked\r\n",
        "200 OK\r\nContent-Length: 2\r\nContent-Encoding:\r\n",
    ] {
        assert_eq!(body(vec![vec![send(&format!("HTTP/1.1 {head}\r\nhi"))]]).await, "hi", "{head}");
    }
}

#[tokio::test]
async fn a_cookie_that_a_redirect_sets_is_sent_back_to_its_host_alone() {
    let redirect = |location: &str| {
        let cookies = "Set-Cookie: seen=1; Path=/; HttpOnly\r\nSet-Cookie: x=2\r\n";
        vec![send(&format!("HTTP/1.1 302 Found\r\n{cookies}Location: {location}\r\nContent-Length: 0\r\n\r\n"))]
    };
    let end = || vec![ok("Content-Length: 2\r\n", "hi")];
    let (url, requests) = server(vec![redirect("/again"), end(), redirect("/again"), end()]).await;
    for _ in 0..2 {
        receive(&fetcher(), &url).await.unwrap();
    }
    let seen: Vec<bool> = requests.lock().unwrap().iter().map(|it| it.contains("cookie: seen=1; x=2\r\n")).collect();
    assert_eq!(seen, [false, true, false, true], "a further download knows nothing of it");
    let (other, elsewhere) = server(vec![end()]).await;
    let (url, _) = server(vec![redirect(other.expose().as_str())]).await;
    receive(&fetcher(), &url).await.unwrap();
    assert!(!elsewhere.lock().unwrap()[0].contains("cookie"));
}

#[tokio::test]
async fn interrupted_bodies_go_on_where_they_were() {
    let tagged = "ETag: \"v1\"\r\n";
    let chunked = "Transfer-Encoding: chunked\r\nETag: \"v1\"\r\n";
    for (broken, rest, range) in [
        (half(), rest("bytes 5-9/10", tagged, "56789"), "bytes=5-"),
        (vec![ok(TAGGED, "01234"), Pause(200), Reset], rest("bytes 5-9/10", tagged, "56789"), "bytes=5-"),
        (vec![ok(chunked, "5\r\n01234\r\n")], rest("bytes 5-9/10", tagged, "56789"), "bytes=5-"),
        (vec![ok(TAGGED, "")], rest("bytes 0-9/10", tagged, "0123456789"), "bytes=0-"),
    ] {
        let (url, requests) = server(vec![broken, vec![rest]]).await;
        assert_eq!(receive(&fetcher(), &url).await.unwrap().0, b"0123456789");
        let request = requests.lock().unwrap()[1].clone();
        assert!(request.contains(&format!("\r\nrange: {range}\r\n")), "{request}");
        assert!(request.contains("\r\nif-range: \"v1\"\r\n"), "{request}");
    }
}

#[tokio::test]
async fn a_reset_a_short_body_and_a_busy_server_are_survived_in_turn() {
    let tagged = "ETag: \"v1\"\r\n";
    let scripts = vec![
        vec![ok(TAGGED, "012"), Pause(200), Reset],
        vec![send(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 7\r\nContent-Range: bytes 3-9/10\r\nETag: \"v1\"\r\n\r\n34",
        )],
        vec![send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")],
        vec![rest("bytes 5-9/10", tagged, "56789")],
    ];
    assert_eq!(body(scripts).await, "0123456789");
    // A server may send less than the whole rest.
    let scripts = vec![half(), vec![rest("bytes 5-6/10", tagged, "56")], vec![rest("bytes 7-9/10", tagged, "789")]];
    assert_eq!(body(scripts).await, "0123456789");
    // With the last byte here, a connection that breaks before it says so does no harm.
    let unfinished = "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 5-9/10\r\n";
    let unfinished = send(&format!("{unfinished}{tagged}\r\n5\r\n56789\r\n"));
    let (url, requests) = server(vec![half(), vec![unfinished, Pause(200), Reset]]).await;
    assert_eq!(receive(&fetcher(), &url).await.unwrap().0, b"0123456789");
    assert_eq!(requests.lock().unwrap().len(), 2);
    // Without a length at first, the range tells it.
    let chunked = vec![ok("Transfer-Encoding: chunked\r\nETag: \"v1\"\r\n", "5\r\n01234\r\n")];
    assert_eq!(body(vec![chunked, vec![rest("bytes 5-9/10", tagged, "56789")]]).await, "0123456789");
}

#[tokio::test]
async fn going_on_is_bounded() {
    let tagged = "ETag: \"v1\"\r\n";
    let stingy = |at: usize| vec![rest(&format!("bytes {at}-{at}/10"), tagged, &at.to_string())];
    let (url, requests) = server(vec![half(), stingy(5), stingy(6), stingy(7), stingy(8), stingy(9)]).await;
    assert_eq!(receive(&fetcher(), &url).await.unwrap_err().name(), "length");
    assert_eq!(requests.lock().unwrap().len(), 1 + MAX_REOPENINGS as usize);
    // A wait that is too long for a download is left to the caller.
    let busy = vec![send("HTTP/1.1 429 Busy\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n")];
    let error = failure(&fetcher(), vec![half(), busy, vec![]]).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(600)));
    // A link that has died meanwhile is not knocked at again.
    let gone = vec![send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")];
    let (url, requests) = server(vec![half(), gone, half()]).await;
    assert_eq!(receive(&fetcher(), &url).await.unwrap_err().class(), ErrorClass::Gone);
    assert_eq!(requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn another_entity_is_never_glued_on() {
    let tagged = "ETag: \"v1\"\r\n";
    for other in [
        ok("Content-Length: 10\r\nETag: \"v2\"\r\n", "abcdefghij"),
        ok(TAGGED, "0123456789"),
        rest("bytes 5-9/10", "ETag: \"v2\"\r\n", "fghij"),
        rest("bytes 5-9/10", "ETag: W/\"v1\"\r\n", "fghij"),
        rest("bytes 5-9/10", "", "fghij"),
        rest("bytes 5-10/11", tagged, "fghijk"),
        rest("bytes 4-9/10", tagged, "efghij"),
        rest("bytes 6-9/10", tagged, "ghij"),
        rest("bytes 5-9/*", tagged, "fghij"),
        rest("nonsense", tagged, "fghij"),
        send("HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nETag: \"v1\"\r\n\r\nfghij"),
        send("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */4\r\nContent-Length: 0\r\n\r\n"),
        send("HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let error = failure(&fetcher(), vec![half(), vec![other]]).await;
        assert_eq!((error.name(), error.class()), ("changed", ErrorClass::Transient));
    }
    let longer = send(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n56789!",
    );
    assert_eq!(failure_name(vec![half(), vec![longer]]).await, "length");
    let encoded = rest("bytes 5-9/10", "ETag: \"v1\"\r\nContent-Encoding: gzip\r\n", "56789");
    assert_eq!(failure_name(vec![half(), vec![encoded]]).await, "content_encoding");
}

#[tokio::test]
async fn without_a_proof_of_sameness_nothing_is_resumed() {
    let whole_again = || vec![rest("bytes 5-9/10", "", "56789")];
    for headers in [
        "Content-Length: 10\r\n",
        "Content-Length: 10\r\nAccept-Ranges: bytes\r\n",
        "Content-Length: 10\r\nETag: W/\"v1\"\r\nAccept-Ranges: bytes\r\n",
        "Content-Length: 10\r\nETag: \"v1\"\r\nAccept-Ranges: none\r\n",
    ] {
        let (url, requests) = server(vec![vec![ok(headers, "01234")], whole_again()]).await;
        let error = receive(&fetcher(), &url).await.unwrap_err();
        assert_eq!((error.name(), error.class()), ("broken", ErrorClass::Transient));
        assert_eq!(requests.lock().unwrap().len(), 1, "{headers}");
    }
    // A checksum over the whole is a proof too, if only at the end.
    let crc64 = "Content-Length: 9\r\nAccept-Ranges: bytes\r\nx-oss-hash-crc64ecma: 11051210869376104954\r\n";
    let scripts = |end: &str| vec![vec![ok(crc64, "12345")], vec![rest("bytes 5-8/9", "", end)]];
    assert_eq!(body(scripts("6789")).await, "123456789");
    assert_eq!(failure_name(scripts("678X")).await, "checksum");
    let other = rest("bytes 5-8/9", "x-oss-hash-crc64ecma: 1\r\n", "6789");
    assert_eq!(failure_name(vec![vec![ok(crc64, "12345")], vec![other]]).await, "changed");
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_a_slow_consumer_is_not_its_fault() {
    let fetcher = impatient_fetcher();
    assert_eq!(failure(&fetcher, vec![vec![Pause(2000)]]).await.name(), "timed_out");
    let untagged = ok("Content-Length: 10\r\n", "01234");
    assert_eq!(failure(&fetcher, vec![vec![untagged, Pause(2000)]]).await.name(), "timed_out");

    let (url, _) =
        server(vec![vec![ok(TAGGED, "01234"), Pause(2000)], vec![rest("bytes 5-9/10", "ETag: \"v1\"\r\n", "56789")]])
            .await;
    let stalled = receive(&fetcher, &url).await;
    assert_eq!(stalled.unwrap().0, b"0123456789");

    let (url, _) = server(vec![vec![ok("Content-Length: 6\r\n", "abc"), Pause(50), send("def")]]).await;
    let mut download = fetcher.open(&url).await.unwrap();
    let mut received = Vec::new();
    while let Some(chunk) = download.next().await.unwrap() {
        received.extend_from_slice(&chunk);
        sleep(Duration::from_millis(900)).await;
    }
    assert_eq!(received, b"abcdef");
}

#[tokio::test]
async fn a_drip_counts_as_a_stall() {
    let mut drip = vec![ok("Content-Length: 90\r\n", "")];
    drip.extend((0..90).flat_map(|_| [send("x"), Pause(10)]));
    let slow = Fetcher { min_speed: 10_000, speed_window: Duration::from_millis(120), ..fetcher() };
    let error = failure(&slow, vec![drip.clone()]).await;
    assert_eq!((error.name(), error.class()), ("too_slow", ErrorClass::Transient));
    let lenient = Fetcher { min_speed: 5, ..slow };
    let (url, _) = server(vec![drip]).await;
    assert_eq!(receive(&lenient, &url).await.unwrap().1.bytes, 90);
}

#[tokio::test]
async fn chunks_of_one_byte_without_end_count_as_a_stall_however_fast_they_come() {
    let mut crumbs = vec![ok("Transfer-Encoding: chunked\r\n", "")];
    crumbs.extend((0..80).map(|_| send(&"1\r\nx\r\n".repeat(1000))));
    let slow = Fetcher { min_speed: 16 << 10, max_size: 1 << 20, speed_window: Duration::from_secs(2), ..fetcher() };
    let error = failure(&slow, vec![crumbs]).await;
    assert_eq!(error.name(), "too_slow");
}

#[tokio::test]
async fn small_chunks_are_handed_out_together() {
    let chunk = |length: usize| format!("{length:x}\r\n{}\r\n", "x".repeat(length));
    let body = chunk(100).repeat(400) + &chunk(2000) + &chunk(5) + "0\r\n\r\n";
    let (url, _) = server(vec![vec![ok("Transfer-Encoding: chunked\r\n", &body)]]).await;
    let mut download = Fetcher { max_size: 1 << 20, ..fetcher() }.open(&url).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(chunk) = download.next().await.unwrap() {
        sizes.push(chunk.len());
    }
    assert_eq!((sizes.iter().sum::<usize>(), download.summary().unwrap().bytes), (42_005, 42_005));
    assert!(sizes.len() <= 4, "{sizes:?}");
}

#[tokio::test]
async fn a_next_that_was_dropped_half_way_loses_nothing() {
    let rest_head =
        "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/10\r\nETag: \"v1\"\r\n\r\n";
    let scripts = vec![
        vec![ok(TAGGED, "012"), Pause(300), send("34")],
        vec![send(rest_head), Pause(300), send("567"), Pause(300), send("89")],
    ];
    let (url, _) = server(scripts).await;
    let mut download = fetcher().open(&url).await.unwrap();
    let mut received = Vec::new();
    for _ in 0..100 {
        match tokio::time::timeout(Duration::from_millis(150), download.next()).await {
            Ok(Ok(Some(chunk))) => received.extend_from_slice(&chunk),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => assert_eq!(error.name(), "never", "{error}"),
            Err(_) => {}
        }
    }
    assert_eq!(received, b"0123456789");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_an_error() {
    for garbage in ["", "hello\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 99999 OK\r\n\r\n"] {
        assert_eq!(failure(&fetcher(), vec![vec![send(garbage)]]).await.class(), ErrorClass::Transient, "{garbage}");
    }
}
