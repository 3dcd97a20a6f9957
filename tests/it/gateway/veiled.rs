//! No signature of a reply URL reaches a caller, whatever it asks and however the provider writes it.

use actix_http::ws::OpCode;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use replyvault::api::{Scope, Token};
use replyvault::domain::Target;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::provider::{Asked, CALLERS_TOKEN, PROVIDER_TOKEN, Provider, vault};
use crate::support::vault::{TOKEN, Vault, video_id};
use crate::support::web_socket::WebSocket;
use crate::support::{accept, raw};

fn signature(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// URLs of ours: a gateway's ref's, a registered ref's, the channel's.
async fn urls(vault: &Vault) -> [String; 3] {
    let intake = vault.running().intake();
    let made = intake.register_gateway(None, Some("https://caller.example/x".to_owned())).await.unwrap();
    let registered = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "other"})).await.1["replyUrl"].clone();
    let url = |target| intake.urls().reply_url(&target);
    [url(Target::Ref(made.id)), registered.as_str().unwrap().to_owned(), url(Target::Channel)]
}

/// What a caller sees of an answer: its head and its body.
async fn seen(vault: &Vault, method: &str, path: &str) -> raw::Raw {
    let authorization = format!("Bearer {CALLERS_TOKEN}");
    let headers = [("Authorization", authorization.as_str())];
    raw::call(vault.running().address(), method, path, &headers, b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_path_shows_no_signed_url_and_reaches_the_provider_in_normal_form() {
    let shown = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let url = shown.clone();
    let provider = Provider::start(move |_| {
        HttpResponse::Ok().json(json!({"videoId": video_id(1), "status": 1, "replyUrl": *url.lock().unwrap()}))
    });
    let vault = vault(&provider.base_url).await;
    for url in urls(&vault).await {
        shown.lock().unwrap().clone_from(&url);
        let id = video_id(1);
        for path in [
            format!("/v1/minimax/vide%6Fs/{id}"),
            format!("/v1/minimax/%76ideos/{id}"),
            format!("/v1/minimax//videos//{id}"),
            format!("/v1/minimax/VIDEOS/{id}"),
            format!("/v1/minimax/other/{id}"),
            format!("/v1/minimax/videos/{id}/"),
        ] {
            for method in ["GET", "POST", "DELETE", "PUT"] {
                let answer = seen(&vault, method, &path).await;
                assert_eq!(answer.status, 200, "{method} {path}");
                assert!(!answer.text().contains(signature(&url)), "{method} {path}: {}", answer.text());
                let target = provider.last().target;
                assert!(!target.contains('%') && !target.contains("//"), "{target}");
            }
        }
        // Its job was made known all the same, whatever the path looked like.
        assert_eq!(vault.job(&id).await["state"], "running");
    }
    for path in
        ["videos%2F1", "videos%5c1", "vide%256Fs/1", "videos;a=b/1", "videos/1%00", "%2e%2e/x", "videos\\1", "a%"]
    {
        let before = provider.asked().len();
        let answer = seen(&vault, "GET", &format!("/v1/minimax/{path}")).await;
        assert_eq!((answer.status, provider.asked().len()), (400, before), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_shows_a_signature_whatever_its_type_size_and_escapes() {
    let answers = std::sync::Arc::new(std::sync::Mutex::new((String::new(), Vec::<u8>::new())));
    let given = answers.clone();
    let provider = Provider::start(move |_| {
        let (content_type, body) = given.lock().unwrap().clone();
        HttpResponse::Ok().content_type(content_type).append_header(("X-Length", body.len())).body(body)
    });
    let vault = vault(&provider.base_url).await;
    for url in urls(&vault).await {
        let escaped: String = url.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        let percent: String = url.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let entities = url.replace('/', "&#x2F;").replace('_', "&lowbar;");
        let wide: Vec<u8> = json!({"u": url}).to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let far = format!("[{}{{\"deep\":\"{url}\"}}{}]", "[".repeat(500), "]".repeat(500));
        let large = format!("[\"{}\",\"{url}\"]", "x".repeat((16 << 20) - 30));
        for (content_type, body) in [
            (
                "application/json",
                json!([{"a": {"b": [url]}, url.clone(): 1, "text": format!("see {url}?x#y")}]).to_string(),
            ),
            ("application/json", format!("{{\"a\":\"{escaped}\",\"b\":\"{}\"}}", url.replace('/', "\\/"))),
            ("application/json", json!({"nested": json!({"replyUrl": url}).to_string()}).to_string()),
            ("application/json", far),
            ("application/json; charset=utf-8", large),
            ("application/problem+json", json!({"detail": url}).to_string()),
            ("text/plain", url.clone()),
            ("text/html", format!("<a href=\"{entities}\">{percent}</a>")),
            ("application/x-www-form-urlencoded", format!("a=1&u={percent}")),
            ("text/event-stream", format!("data: {{\"u\":\"{url}\"}}\n\ndata:{escaped}\n\n")),
            ("image/png", format!("\u{1}\u{2}\u{fffd}{url}\u{0}\u{fffd}")),
            ("", format!("{}{url}", "y".repeat(70_000))),
            ("application/octet-stream", String::from_utf8_lossy(&wide).into_owned()),
        ] {
            *answers.lock().unwrap() = (content_type.to_owned(), body.clone().into_bytes());
            let paths = ["videos", "accounts", "scheduler", "llm", "videos/x"];
            for path in &paths[..if body.len() > 1 << 20 { 1 } else { paths.len() }] {
                let answer = seen(&vault, "GET", &format!("/v1/minimax/{path}")).await;
                let text = String::from_utf8_lossy(&answer.body).replace('\0', "");
                let plain = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().replace("\\/", "/");
                assert_eq!(answer.status, 200, "{content_type} {path}");
                for text in [&text, &plain] {
                    assert!(!text.contains(signature(&url)), "{content_type} {path}");
                    assert!(!text.contains(&escaped[escaped.len() - 43 * 6..]), "{content_type} {path}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_looked_through_and_those_that_act_in_our_name_stay_away() {
    let url = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let shown = url.clone();
    let provider = Provider::start(move |_| {
        let url = shown.lock().unwrap().clone();
        HttpResponse::SeeOther()
            .insert_header(("Location", url.clone()))
            .insert_header(("X-Callback", url.replace('/', "%2F")))
            .insert_header(("X-Accel-Redirect", "/private"))
            .insert_header(("X-Sendfile", "/etc/passwd"))
            .insert_header(("Clear-Site-Data", "\"cookies\""))
            .insert_header(("Alt-Svc", "h3=\":443\""))
            .insert_header(("Refresh", "0; url=https://h"))
            .append_header(("Set-Cookie", "replyvault_session=theirs; Path=/"))
            .append_header(("Set-Cookie", "mine=1"))
            .insert_header(("X-Mine", "1"))
            .finish()
    });
    let vault = vault(&provider.base_url).await;
    for ours in urls(&vault).await {
        url.lock().unwrap().clone_from(&ours);
        let answer = seen(&vault, "GET", "/v1/minimax/accounts").await;
        let head = format!("{:?}", answer.headers);
        assert!(!head.contains(signature(&ours)), "{head}");
        assert!(answer.headers["location"].contains("/reply/") && answer.headers["x-mine"] == "1", "{head}");
        assert_eq!(answer.headers["set-cookie"], "mine=1");
        for name in ["x-accel-redirect", "x-sendfile", "clear-site-data", "alt-svc", "refresh"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_unreadable_codings_are_asked_for_plain_or_refused() {
    let provider = Provider::start(|asked: &Asked| match &*asked.target {
        "/v1/minimax/gzip" => HttpResponse::Ok().insert_header(("Content-Encoding", "gzip")).body("x"),
        "/v1/minimax/odd" => HttpResponse::Ok().insert_header(("Content-Encoding", "rot13")).body("x"),
        "/v1/minimax/part" => HttpResponse::build(StatusCode::PARTIAL_CONTENT).body("x"),
        _ => HttpResponse::Ok().insert_header(("Content-Encoding", "identity")).body("x"),
    });
    let vault = vault(&provider.base_url).await;
    let get = async |path: &str| {
        let request = vault.client.get(vault.url(&format!("/v1/minimax/{path}"))).bearer_auth(TOKEN);
        let request =
            request.header("Accept-Encoding", "gzip, br").header("Range", "bytes=40-").header("If-Range", "\"x\"");
        request.header("X-HTTP-Method-Override", "DELETE").header("X-Original-URL", "/other").send().await.unwrap()
    };
    for path in ["gzip", "odd", "part"] {
        let answer = get(path).await;
        assert_eq!(answer.status(), 502, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "provider_unreadable");
    }
    assert_eq!(get("plain").await.status(), 200);
    let asked = provider.last();
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    for name in ["range", "if-range", "x-http-method-override", "x-original-url"] {
        assert_eq!(asked.header(name), None, "{name}");
    }
}

/// A provider that answers each connection's first request with these bytes, piece by piece.
async fn answering(pieces: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let mut stream = accept(&listener).await;
            let pieces = pieces.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                stream.set_nodelay(true)?;
                for piece in pieces {
                    stream.write_all(&piece).await?;
                    stream.flush().await?;
                    tokio::task::yield_now().await;
                }
                stream.shutdown().await
            });
        }
    });
    base_url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_that_nobody_asked_for_is_an_error() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello".to_vec();
    let vault = vault(&answering(vec![switch]).await).await;
    assert_eq!(seen(&vault, "GET", "/v1/minimax/accounts").await.status, 502);
    assert_eq!(seen(&vault, "GET", "/v1/minimax/audio/wss").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_compressed_on_its_way_is_refused() {
    for (coding, status) in [
        ("gzip, chunked", 502),
        ("gzip\r\nTransfer-Encoding: chunked", 502),
        ("chunked, identity", 502),
        ("identity, Chunked", 200),
    ] {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n";
        let answer = format!("{head}Transfer-Encoding: {coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n");
        let vault = vault(&answering(vec![answer.into_bytes()]).await).await;
        let answer = seen(&vault, "GET", "/v1/minimax/accounts").await;
        assert_eq!(answer.status, status, "{coding}: {}", answer.text());
        assert_eq!(answer.text().contains("provider_unreadable"), status == 502, "{coding}: {}", answer.text());
    }
}

/// The channel's URL at every vault of these tests, known before there is one.
fn channel_url() -> String {
    let settings = crate::support::vault::settings(std::path::Path::new("/nowhere"));
    settings.reply_urls.reply_url(&Target::Channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_token_shows_no_signature_in_the_receivers_of_refs() {
    const READER: &str = "reader-token-0123456789";
    let vault = Vault::start_with(|settings| {
        settings.api.tokens.push(Token { name: "reader".to_owned(), token: READER.into(), scope: Scope::Read });
    })
    .await;
    let url = vault.channel_url();
    let receiver = format!("{url}/next");
    vault.running().intake().register_gateway(None, Some(receiver.clone())).await.unwrap();
    let registered = vault.send("POST", "/api/v1/refs", &json!({"replyRef": "other", "notifyUrl": receiver})).await;
    assert_eq!(registered.0, 201, "{}", registered.1);
    let list = async |token: &str| {
        let answer = vault.client.get(vault.url("/api/v1/refs")).bearer_auth(token).send().await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(list(TOKEN).await.matches(signature(&url)).count(), 2);
    let shown = list(READER).await;
    assert!(!shown.contains(signature(&url)), "{shown}");
    assert_eq!(shown.matches(&receiver.replace(signature(&url), "…")).count(), 2, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_hidden_across_the_pieces_of_a_stream() {
    let url = channel_url();
    let text = format!("data: {{\"text\":\"{url}\"}}\n\n");
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n".to_vec();
    let bytes = text.as_bytes().chunks(1).map(<[u8]>::to_vec);
    let base_url = answering(std::iter::once(head).chain(bytes).collect()).await;
    let vault = vault(&base_url).await;
    let answer = seen(&vault, "GET", "/v1/minimax/llm").await;
    let expected = text.replace(signature(&url), &"*".repeat(43));
    assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_hidden_in_web_socket_frames() {
    let url = channel_url();
    let frame = |opcode: u8, payload: &[u8]| [&[opcode, payload.len() as u8][..], payload].concat();
    let (one, two) = url.as_bytes().split_at(url.len() - 20);
    let frames = [frame(0x01, one), frame(0x89, b"?"), frame(0x80, two), frame(0x81, b"{}"), frame(0x88, &[3, 232])];
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    let base_url = answering(std::iter::once(switch.to_vec()).chain(frames).collect()).await;
    let vault = vault(&base_url).await;
    let path = "/v1/minimax/audio/wss?token=x";
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut socket = match WebSocket::open_with(vault.running().address(), path, &token).await {
        Ok((socket, _)) => socket,
        Err(refused) => panic!("{refused:?}"),
    };
    let mut message = Vec::new();
    while let Some((opcode, data)) = socket.receive().await {
        if matches!(opcode, OpCode::Text | OpCode::Continue) {
            message.extend_from_slice(&data);
        }
        if opcode == OpCode::Close {
            break;
        }
    }
    assert_eq!(String::from_utf8(message).unwrap(), url.replace(signature(&url), &"*".repeat(43)) + "{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_may_ask_and_read() {
    let provider = Provider::start(|_| {
        let mut answer = HttpResponse::Ok();
        answer.insert_header(("Access-Control-Allow-Credentials", "true"));
        answer.insert_header(("Access-Control-Allow-Origin", "https://page.example")).json(json!({}))
    });
    let vault = vault(&provider.base_url).await;
    let url = vault.url("/v1/minimax/videos/create");
    let ask =
        |method: &str| vault.client.request(method.parse().unwrap(), &url).header("Origin", "https://page.example");
    let asked = ask("OPTIONS").header("Access-Control-Request-Method", "POST");
    let answer = asked.header("Access-Control-Request-Headers", "authorization,content-type").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    let header = |answer: &reqwest::Response, name: &str| {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header(&answer, "access-control-allow-origin").unwrap(), "*");
    assert!(header(&answer, "access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(header(&answer, "access-control-allow-headers").unwrap(), "authorization,content-type");
    assert!(provider.asked().is_empty(), "nothing is sent on without a token");

    for (request, status) in [(ask("POST").bearer_auth(TOKEN).body("{}"), 200), (ask("POST").body("{}"), 401)] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers().get_all("access-control-allow-origin").iter().count(), 1);
        assert_eq!(header(&answer, "access-control-allow-origin").unwrap(), "*");
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
    }
    assert_eq!(provider.last().header("authorization").unwrap(), format!("Bearer {PROVIDER_TOKEN}"));
    // Without a page that asks, OPTIONS is a call like any other.
    let plain = vault.client.request("OPTIONS".parse().unwrap(), &url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!((plain.status().as_u16(), provider.last().method.as_str()), (200, "OPTIONS"));
}
