use reqwest::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use reqwest::{Method, RequestBuilder};

use super::*;

const GETS: [&str; 9] = [
    "/api/v1/refs",
    "/api/v1/jobs",
    "/api/v1/media",
    "/api/v1/quarantine",
    "/api/v1/stats",
    "/api/v1/tasks",
    "/api/v1/openapi.json",
    "/api/v1/no-such-thing",
    "/api",
];

fn changes() -> [(Method, String); 8] {
    [
        (Method::POST, "/api/v1/refs".to_owned()),
        (Method::DELETE, "/api/v1/refs/ref_01jd0000000000000000000000".to_owned()),
        (Method::POST, format!("/api/v1/jobs/{}/retry", id(1))),
        (Method::POST, "/api/v1/quarantine/q_0000000000000040/replay".to_owned()),
        (Method::DELETE, "/api/v1/quarantine/q_0000000000000040".to_owned()),
        (Method::DELETE, "/api/v1/quarantine".to_owned()),
        (Method::POST, "/api/v1/tasks/verify".to_owned()),
        (Method::PUT, "/api/v1/anything".to_owned()),
    ]
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn without_a_token_that_is_known_everything_is_refused_alike() {
    let vault = Vault::start().await;
    let gets = GETS.map(|path| (Method::GET, path.to_owned()));
    let post = (Method::POST, "/api/v1/session".to_owned());
    for (method, path) in gets.into_iter().chain(changes()).chain([post]) {
        for header in [
            None,
            Some("Bearer wrong".to_owned()),
            Some("Bearer".to_owned()),
            Some("Bearer ".to_owned()),
            Some(format!("Basic {ADMIN}")),
            Some(ADMIN.to_owned()),
            Some(format!("Bearer {ADMIN}x")),
            Some(format!("Bearer {}", &ADMIN[1..])),
        ] {
            let mut request = vault.request(method.clone(), &path);
            if let Some(header) = &header {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(refusal(response).await, (401, "unauthorized".to_owned()), "{method} {path} {header:?}");
        }
    }
    assert!(vault.get("/api/v1/refs").await["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_reader_may_read_and_nothing_else() {
    let vault = Vault::start().await;
    for path in GETS {
        let expected = if path.ends_with("thing") || path == "/api" { 404 } else { 200 };
        assert_eq!(status(vault.request(Method::GET, path).bearer_auth(READ)).await, expected, "{path}");
        assert_eq!(status(vault.request(Method::HEAD, path).bearer_auth(READ)).await, expected, "{path}");
    }
    for (method, path) in changes() {
        let response = vault.request(method, &path).bearer_auth(READ).send().await.unwrap();
        assert_eq!(refusal(response).await, (403, "forbidden".to_owned()), "{path}");
    }
    assert!(vault.get("/api/v1/refs").await["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_scheme_is_read_in_any_case() {
    let vault = Vault::start().await;
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let request = vault.request(Method::GET, "/api/v1/jobs").header(AUTHORIZATION, format!("{scheme} {ADMIN}"));
        assert_eq!(status(request).await, 200, "{scheme}");
    }
}

async fn cookie(vault: &Vault, token: &str) -> (String, String) {
    let response = vault.request(Method::POST, "/api/v1/session").bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let set = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    let expires = response.json::<Value>().await.unwrap()["expiresAt"].as_str().unwrap().to_owned();
    let hours = Timestamp::parse_rfc3339(&expires).unwrap().since(Timestamp::now()).as_secs_f64() / 3600.0;
    assert!((11.9..=12.0).contains(&hours), "{hours}");
    (set.split(';').next().unwrap().to_owned(), set)
}

#[tokio::test]
async fn a_session_is_good_for_reading() {
    let vault = Vault::start().await;
    for token in [ADMIN, READ] {
        let (pair, set) = cookie(&vault, token).await;
        assert!(pair.starts_with("replyvault_session=") && !set.contains(token), "{set}");
        assert!(set.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{set}");
        let with = |method, path: &str| vault.request(method, path).header(COOKIE, format!("a=b; {pair} ;c=d"));
        assert_eq!(status(with(Method::GET, "/api/v1/jobs")).await, 200);
        assert_eq!(status(with(Method::HEAD, "/api/v1/jobs")).await, 200);
        for (method, path) in changes() {
            assert_eq!(status(with(method, &path)).await, 401, "{path}");
        }
        assert_eq!(status(with(Method::POST, "/api/v1/session")).await, 401, "one cookie can't get the next");
        assert_eq!(status(with(Method::GET, "/api/v1/jobs").bearer_auth("wrong")).await, 401);

        let closed = with(Method::DELETE, "/api/v1/session").send().await.unwrap();
        assert_eq!(closed.status(), 204);
        let set = closed.headers()[SET_COOKIE].to_str().unwrap();
        assert!(set.starts_with("replyvault_session=; ") && set.contains("Max-Age=0"), "{set}");
    }
    assert_eq!(status(vault.request(Method::DELETE, "/api/v1/session")).await, 401);
}

#[tokio::test]
async fn a_page_of_ours_acts_over_a_session_and_no_other_page_does() {
    let vault = Vault::start().await;
    let opened = async |token: &str| {
        let (pair, _) = cookie(&vault, token).await;
        let shown = vault.request(Method::GET, "/api/v1/session").header(COOKIE, &pair).send().await.unwrap();
        (pair, shown.json::<Value>().await.unwrap())
    };
    let (pair, session) = opened(ADMIN).await;
    assert_eq!((&session["token"], &session["scope"]), (&json!("ops"), &json!("admin")));
    let csrf = session["csrfToken"].as_str().unwrap();
    let (other_pair, other) = opened(ADMIN).await;
    let register = |pair: &str, csrf: &str| {
        let request =
            vault.request(Method::POST, "/api/v1/refs").header(COOKIE, pair).header("X-Replyvault-Csrf", csrf);
        request.body(r#"{"replyRef":"boat"}"#)
    };
    let host = vault.base.strip_prefix("http://").unwrap();
    for (name, value) in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", "none"),
        ("Origin", "https://evil.example.com"),
        ("Origin", "null"),
        ("Origin", "http://evil.example.com@x"),
    ] {
        assert_eq!(status(register(&pair, csrf).header(name, value)).await, 401, "{name}: {value}");
    }
    let others = other["csrfToken"].as_str().unwrap();
    for wrong in ["", "x", others, &csrf[1..]] {
        assert_eq!(status(register(&pair, wrong)).await, 401, "{wrong}");
    }
    assert_eq!(status(register(&other_pair, csrf)).await, 401);
    assert_eq!(status(register("a=b", csrf)).await, 401);
    assert!(vault.get("/api/v1/refs").await["items"].as_array().unwrap().is_empty());

    let ours = register(&pair, csrf).header("Sec-Fetch-Site", "same-origin").header("Origin", format!("http://{host}"));
    let made = ours.send().await.unwrap();
    assert_eq!(made.status(), 201);
    assert!(made.json::<Value>().await.unwrap()["replyUrl"].is_string());
    let listed = vault.request(Method::GET, "/api/v1/refs").header(COOKIE, &pair).header("X-Replyvault-Csrf", csrf);
    assert!(listed.send().await.unwrap().text().await.unwrap().contains("replyUrl"));
    let prolong =
        vault.request(Method::POST, "/api/v1/session").header(COOKIE, &pair).header("X-Replyvault-Csrf", csrf);
    assert_eq!(status(prolong).await, 401, "one session can't open the next");

    let (pair, session) = opened(READ).await;
    assert_eq!(session["scope"], "read");
    let refused = register(&pair, session["csrfToken"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(refusal(refused).await, (403, "forbidden".to_owned()));
    let bare = vault.request(Method::GET, "/api/v1/session").bearer_auth(READ).send().await.unwrap();
    assert_eq!(refusal(bare).await, (404, "not_found".to_owned()));
}

#[tokio::test]
async fn a_session_cannot_be_made_up_or_prolonged() {
    let vault = Vault::start().await;
    let (pair, _) = cookie(&vault, ADMIN).await;
    let (expires, mac) = pair.strip_prefix("replyvault_session=").unwrap().split_once('.').unwrap();
    let later = expires.parse::<u64>().unwrap() + 1;
    let mut other = mac.to_owned().into_bytes();
    other[5] = if other[5] == b'A' { b'B' } else { b'A' };
    let other = String::from_utf8(other).unwrap();
    for value in [
        format!("{later}.{mac}"),
        format!("1.{mac}"),
        format!("{expires}.{other}"),
        format!("{expires}."),
        expires.to_owned(),
        String::new(),
        ADMIN.to_owned(),
    ] {
        let request = vault.request(Method::GET, "/api/v1/jobs").header(COOKIE, format!("replyvault_session={value}"));
        assert_eq!(status(request).await, 401, "{value}");
    }
    // It is all in the cookie, so that it outlives a restart.
    let again = Vault::start().await;
    assert_eq!(status(again.request(Method::GET, "/api/v1/jobs").header(COOKIE, pair)).await, 200);
}

#[tokio::test]
async fn no_spelling_of_the_path_lets_one_session_open_the_next() {
    let vault = Vault::start().await;
    for path in ["/api/v1/session", "/api/v1/sessio%6e", "/api/%761/session", "/%61pi/v1/%73ession"] {
        let (pair, _) = cookie(&vault, ADMIN).await;
        let with = |method| vault.request(method, path).header(COOKIE, &pair);
        let shown = with(Method::GET).send().await.unwrap().json::<Value>().await.unwrap();
        let csrf = shown["csrfToken"].as_str().unwrap();
        let opened = with(Method::POST).header("X-Replyvault-Csrf", csrf).send().await.unwrap();
        assert!(opened.headers().get(SET_COOKIE).is_none(), "{path}");
        assert_eq!(refusal(opened).await, (401, "unauthorized".to_owned()), "{path}");
        // To a token, and to a session's own end, it is the same path.
        assert_eq!(status(vault.request(Method::POST, path).bearer_auth(READ)).await, 200, "{path}");
        assert_eq!(status(with(Method::DELETE)).await, 204, "{path}");
        assert_eq!(status(with(Method::GET)).await, 401, "{path}");
    }
}

#[tokio::test]
async fn the_description_says_what_each_operation_is_asked_with() {
    let vault = Vault::start().await;
    let document = vault.get("/api/v1/openapi.json").await;
    let (token, cookie) = (json!({"token": []}), json!({"session": []}));
    let acting = json!({"session": [], "csrf": []});
    for (method, path, security) in [
        ("get", "/api/v1/jobs", json!([token, cookie])),
        ("post", "/api/v1/refs", json!([token, acting])),
        ("delete", "/api/v1/refs/{refId}", json!([token, acting])),
        ("post", "/api/v1/session", json!([token])),
        ("delete", "/api/v1/session", json!([token, cookie])),
    ] {
        assert_eq!(document["paths"][path][method]["security"], security, "{method} {path}");
    }
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!((&schemes["csrf"]["in"], &schemes["csrf"]["name"]), (&json!("header"), &json!("x-replyvault-csrf")));
}

#[tokio::test]
async fn a_session_that_was_ended_is_good_for_nothing_and_others_are_let_be() {
    let vault = Vault::start().await;
    // Opened in the same second, with the same token.
    let (ended, _) = cookie(&vault, ADMIN).await;
    let (other, _) = cookie(&vault, ADMIN).await;
    let (of_reader, _) = cookie(&vault, READ).await;
    assert_ne!(ended, other);
    let with = |method: Method, pair: &str| {
        let path = if method == Method::DELETE { "/api/v1/session" } else { "/api/v1/jobs" };
        vault.request(method, path).header(COOKIE, pair)
    };
    assert_eq!(status(with(Method::DELETE, &ended)).await, 204);
    assert_eq!(status(with(Method::GET, &ended)).await, 401);
    assert_eq!(status(with(Method::DELETE, &ended)).await, 401);
    for pair in [&other, &of_reader] {
        assert_eq!(status(with(Method::GET, pair)).await, 200);
    }
    // A token may end a session as well, and needs none.
    assert_eq!(status(with(Method::DELETE, &other).bearer_auth(READ)).await, 204);
    assert_eq!(status(with(Method::GET, &other)).await, 401);
    assert_eq!(status(vault.request(Method::DELETE, "/api/v1/session").bearer_auth(READ)).await, 204);
}

#[tokio::test]
async fn over_https_the_cookie_stays_there() {
    let options = Options { public_url: "https://vault.example.com", ..Options::new(storage("memory:")) };
    let public = Vault::with(options).await;
    assert!(cookie(&public, ADMIN).await.1.ends_with("; Secure"));
    let vault = Vault::start().await;
    let request = vault.request(Method::POST, "/api/v1/session").bearer_auth(ADMIN);
    let response = request.header("X-Forwarded-Proto", "https").send().await.unwrap();
    assert!(response.headers()[SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn reply_urls_are_for_admin_tokens_alone() {
    let vault = Vault::start().await;
    let notify = "https://hooks.example.com/in?token=notify-secret";
    let body = json!({"replyRef": "boat", "notifyUrl": notify}).to_string();
    let (_, made) = vault.post("/api/v1/refs", body).await;
    let path = format!("/api/v1/refs/{}", made["refId"].as_str().unwrap());
    let signature = made["replyUrl"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    vault.completed(1).await;
    let (pair, _) = cookie(&vault, ADMIN).await;
    for path in [&path, "/api/v1/refs", "/api/v1/refs?replyRef=boat", "/api/v1/jobs", "/api/v1/stats"] {
        let reader = vault.request(Method::GET, path).bearer_auth(READ);
        let session = vault.request(Method::GET, path).header(COOKIE, &pair);
        for request in [reader, session] {
            let text = request.send().await.unwrap().text().await.unwrap();
            let hidden = !text.contains("replyUrl") && !text.contains(&signature) && !text.contains("notify-secret");
            assert!(hidden, "{path}: {text}");
        }
    }
    let shown = vault.get(&path).await;
    assert_eq!((&shown["replyUrl"], &shown["notifyUrl"]), (&made["replyUrl"], &json!(notify)));
    let reader = vault.request(Method::GET, &path).bearer_auth(READ).send().await.unwrap();
    let reader: Value = reader.json().await.unwrap();
    assert_eq!(reader["notifyUrl"], "https://hooks.example.com/in?…");
}

#[tokio::test]
async fn a_stranger_s_body_is_not_waited_for() {
    let vault = Vault::start().await;
    let endless = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    let request = vault.request(Method::POST, "/api/v1/refs").body(reqwest::Body::wrap_stream(endless));
    let response = tokio::time::timeout(Duration::from_secs(5), request.send()).await.unwrap().unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn while_the_end_of_a_session_is_written_down_nobody_waits_for_the_disk() {
    let vault = Vault::start().await;
    let (ended, _) = cookie(&vault, READ).await;
    let (other, _) = cookie(&vault, READ).await;
    let get = |pair: &str| status(vault.request(Method::GET, "/api/v1/jobs").header(COOKIE, pair));
    let end = || vault.request(Method::DELETE, "/api/v1/session").header(COOKIE, &ended);
    // Whoever opens it to write waits for a reader.
    let draft = vault.dir.path().join("sessions.json.new");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, draft.as_path(), mode).unwrap();
    let ends = tokio::spawn(end().send());
    let is_over = async {
        while get(&ended).await != 401 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_over).await.expect("it is not ended at once");
    for _ in 0..4 {
        assert_eq!(get(&other).await, 200);
    }
    assert_eq!(status(vault.request(Method::GET, "/healthz")).await, 200);
    vault.completed(1).await;
    assert!(!ends.is_finished());

    // It cannot be synced, and so is not written down.
    let reader = std::fs::File::open(&draft).unwrap();
    assert_eq!(ends.await.unwrap().unwrap().status(), 503);
    drop(reader);
    assert!(!draft.exists());
    assert_eq!(status(end().bearer_auth(READ)).await, 204);
    assert!(vault.dir.path().join("sessions.json").exists());
}
