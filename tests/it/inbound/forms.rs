//! Forms that proxies give to a callback on its way.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::vault::{Vault, completed, video_id};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn post(vault: &Vault, url: &str, encoding: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let mut request = vault.client.post(url).body(body);
    if !encoding.is_empty() {
        request = request.header("content-encoding", encoding);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_callback_is_unpacked_whatever_its_header_says() {
    let vault = Vault::start().await;
    let url = vault.channel_url();
    let body = |number| completed(number, "http://127.0.0.1:9/x.mp4").to_string().into_bytes();
    let twice = [gzip(&body(3)[..20]), gzip(&body(3)[20..])].concat();
    let packed = [
        ("gzip", gzip(&body(1))),
        ("x-gzip", gzip(&body(2))),
        ("gzip", twice),
        ("deflate", zlib(&body(4))),
        ("Deflate", deflate(&body(5))),
        ("", gzip(&body(6))),
        ("br", body(7)),
        ("gzip", body(8)),
        ("deflate", body(9)),
    ];
    for (number, (encoding, body)) in (1..).zip(packed) {
        let (status, answer) = post(&vault, &url, encoding, body).await;
        assert_eq!((status.as_u16(), answer["jobId"].as_str()), (200, Some(&*video_id(number))), "{encoding} {answer}");
    }
    // What is kept is what was unpacked: the same again is a repeat, and it is shown as it is.
    assert_eq!(post(&vault, &url, "", body(1)).await.0, 200);
    assert_eq!(vault.job(&video_id(1)).await["callbacks"], 2);
    let (status, answer) = post(&vault, &url, "gzip", gzip(b"{\"what\":\"is this\"}")).await;
    assert_eq!(status, 202);
    let (_, shown) = vault.get(&format!("/api/v1/quarantine/{}", answer["quarantineId"].as_str().unwrap())).await;
    assert_eq!(shown["body"]["what"], "is this", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_unpacks_to_too_much_or_not_at_all_is_refused() {
    let vault = Vault::start_with(|settings| settings.intake.max_callback_size = 1 << 20).await;
    let url = vault.channel_url();
    let bomb = gzip(format!("{{\"x\":\"{}\"}}", " ".repeat(50 << 20)).as_bytes());
    let mut damaged = gzip(b"{}");
    damaged.truncate(14);
    // Blocks that are empty, without end.
    let endless = [&[0x78, 0x9C][..], &[0, 0, 0, 0xFF, 0xFF].repeat(400_000)].concat();
    for (body, code, status) in
        [(bomb, "too_large", 413), (damaged, "invalid_encoding", 400), (endless, "too_large", 413)]
    {
        let (found, answer) = post(&vault, &url, "gzip", body).await;
        assert_eq!((found.as_u16(), answer["error"]["code"].as_str()), (status, Some(code)), "{answer}");
    }
    assert_eq!(vault.get("/api/v1/jobs").await.1["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn slashes_that_proxies_add_to_a_reply_url_do_no_harm() {
    let vault = Vault::start().await;
    let url = vault.channel_url();
    let (base, path) = url.split_at(url.find("/reply/").unwrap());
    for (number, url) in
        (1..).zip([format!("{base}/{path}"), format!("{url}/"), format!("{base}//{path}//"), url.clone()])
    {
        let (status, answer) = vault.post(&url, completed(number, "http://127.0.0.1:9/x.mp4").to_string()).await;
        assert_eq!(status, 200, "{url} {answer}");
    }
    assert_eq!(vault.post(&format!("{base}//reply/minimax/AAAA/"), "{}").await.0, 401);
    for other in ["/replies/a/b", "/x/reply/a/b", "/reply/a", "/reply/a/b/c"] {
        assert_eq!(vault.post(&format!("{base}{other}"), "{}").await.0, 404, "{other}");
    }
    let get = vault.client.get(format!("{url}/")).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_order_marks_in_front_of_a_callback_do_no_harm() {
    let vault = Vault::start().await;
    for marks in 1..4 {
        let body = "\u{feff}".repeat(marks) + &completed(marks as u64, "http://127.0.0.1:9/x.mp4").to_string();
        assert_eq!(vault.post(&vault.channel_url(), body).await.0, 200, "{marks}");
    }
    assert_eq!(vault.post(&vault.channel_url(), "\u{feff}".repeat(9)).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_ref_may_gain_or_lose_white_space_and_is_never_an_object() {
    let vault = Vault::start().await;
    for (number, (given, comes_back)) in (1..).zip([("boat", "boat "), ("tree ", "tree"), ("sea\n", " sea")]) {
        let (_, made) = vault.send("POST", "/api/v1/refs", &json!({"replyRef": given})).await;
        let mut body = completed(number, "http://127.0.0.1:9/x.mp4");
        body["replyRef"] = comes_back.into();
        let (status, answer) = vault.post(made["replyUrl"].as_str().unwrap(), body.to_string()).await;
        assert_eq!((status.as_u16(), answer["replyRef"].as_str()), (200, Some(given)), "{answer}");
        body["replyRef"] = format!("{given}x").into();
        let (status, answer) = vault.post(made["replyUrl"].as_str().unwrap(), body.to_string()).await;
        assert_eq!((status.as_u16(), answer["reason"].as_str()), (202, Some("reply_ref_mismatch")), "{answer}");
    }
    for (number, odd) in (10..).zip([json!({"id": "boat"}), json!(["boat"]), json!([])]) {
        for at in ["/replyRef", "/request/replyRef"] {
            let mut body = json!({"videoId": video_id(number), "status": 1, "request": {}});
            body["request"]["replyRef"] = Value::Null;
            body["replyRef"] = Value::Null;
            *body.pointer_mut(at).unwrap() = odd.clone();
            let (status, answer) = vault.post(&vault.channel_url(), body.to_string()).await;
            assert_eq!((status.as_u16(), answer["reason"].as_str()), (202, Some("invalid_reply_ref")), "{body}");
        }
    }
}
