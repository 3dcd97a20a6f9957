//! `replyvault connect`: the default replyUrl of the provider's account.

use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use actix_web::HttpResponse;
use serde_json::{Value, json};

use crate::cli::{Ended, Place};
use crate::gateway::provider::{Asked, Provider};

const TOKEN: &str = "user:4821-the-token-of-the-account";
const OLD: &str = "https://old.example/hook?key=1";

/// The account at the provider, and a place whose configuration has a token for it.
struct Account {
    setting: Arc<Mutex<Value>>,
    provider: Provider,
    place: Arc<Place>,
}

impl Account {
    fn new(setting: Value) -> Self {
        let setting = Arc::new(Mutex::new(setting));
        let kept = setting.clone();
        Self {
            setting,
            ..Self::answering(move |asked| {
                let mut setting = kept.lock().unwrap();
                if asked.target != "/v2/account" || asked.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
                    return HttpResponse::Unauthorized().json(json!({"error": "Unauthorized", "code": 401}));
                }
                if asked.method == "POST" {
                    for (name, value) in asked.json().as_object().unwrap() {
                        setting[name] = value.clone();
                    }
                }
                HttpResponse::Ok().json(&*setting)
            })
        }
    }

    fn answering(script: impl Fn(&Asked) -> HttpResponse + Send + Sync + 'static) -> Self {
        let provider = Provider::start(script);
        let place = Place::new(&config("https://vault.example.com/in", &provider.base_url));
        Self { setting: Arc::default(), provider, place: Arc::new(place) }
    }

    async fn run(&self, arguments: &[&'static str]) -> Ended {
        let (place, arguments) = (self.place.clone(), [&["connect"], arguments].concat());
        tokio::task::spawn_blocking(move || place.run(&arguments)).await.unwrap()
    }

    /// The same with a line on stdin.
    async fn run_with(&self, line: &'static str, arguments: &[&'static str]) -> Ended {
        let (place, arguments) = (self.place.clone(), [&["connect"], arguments].concat());
        let run = move || {
            let mut command = place.command(&arguments);
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
            Ended::of(child.wait_with_output().unwrap())
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    fn posts(&self) -> Vec<Value> {
        let asked = self.provider.asked().into_iter();
        asked.filter(|asked| asked.method == "POST").map(|asked| asked.json()).collect()
    }
}

fn config(public_url: &str, base_url: &str) -> String {
    format!("[server]\npublic_url = \"{public_url}\"\n[provider]\nbase_url = \"{base_url}\"\napi_token = \"{TOKEN}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_becomes_the_default_and_what_stood_there_is_shown() {
    let account = Account::new(json!({"name": "Studio", "email": "studio@example.com", "replyUrl": OLD}));
    let shown = account.run(&["--show"]).await;
    assert!(shown.result().contains(&format!("is {OLD}.")), "{shown:?}");
    let connected = account.run(&["--yes"]).await;
    let text = connected.result();
    let posts = account.posts();
    let url = posts[0]["replyUrl"].as_str().unwrap();
    assert!(url.starts_with("https://vault.example.com/in/reply/useapi/") && url.len() > 70, "{url}");
    // All else stays as it was, and neither token nor signature is shown.
    assert_eq!(posts, [json!({"name": "Studio", "replyUrl": url})]);
    for expected in
        [OLD, "https://vault.example.com/in/reply/useapi/… (ours, useapi) now", "say so: minimax, runwayml, pixverse"]
    {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let signature = url.rsplit('/').next().unwrap();
    assert!(!text.contains(signature) && !text.contains(TOKEN), "{text}");
    // It is the one that `reply-url` prints, and once it stands there nothing is changed.
    let place = account.place.clone();
    let printed = tokio::task::spawn_blocking(move || place.run(&["reply-url"])).await.unwrap();
    assert_eq!(printed.result().trim_end(), url);
    assert_eq!((account.run(&["--yes"]).await.code, account.posts().len()), (0, 1));
    let cleared = account.run(&["--clear", "--yes"]).await;
    assert!(cleared.result().ends_with("It is not set now.\n"), "{cleared:?}");
    assert_eq!((account.setting.lock().unwrap()["replyUrl"].clone(), account.posts().len()), (json!(""), 2));
    assert_eq!((account.run(&["--clear", "--yes"]).await.code, account.posts().len()), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_that_nobody_agreed_to() {
    let account = Account::new(json!({"replyUrl": OLD}));
    for (arguments, wanted) in [(&["--clear"][..], "not set"), (&[], "https://vault.example.com/in/reply/useapi/…")] {
        let refused = account.run(arguments).await;
        assert_eq!((refused.code, refused.stdout), (2, format!("The account's default replyUrl is {OLD}.\n")));
        let (asked, why) = refused.stderr.split_once('\n').unwrap();
        assert!(asked.starts_with(&format!("Change it to {wanted}")) && asked.ends_with("? [y/N] "), "{asked}");
        assert!(why.starts_with("replyvault: --yes: expected where nobody can be asked"), "{why}");
        for no in ["n\n", "\n", "yesterday\n"] {
            let left = account.run_with(no, arguments).await;
            assert!(left.code == 0 && left.stdout.ends_with("\nNothing was changed.\n"), "{no:?}: {left:?}");
        }
    }
    assert!(account.run(&["--show", "--clear"]).await.line(2).contains("cannot be used with"));
    assert!(account.posts().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_yes_need_not_sit_at_a_terminal() {
    let account = Account::new(json!({"replyUrl": OLD}));
    let connected = account.run_with("y\n", &[]).await;
    assert!(connected.code == 0 && connected.stdout.contains("(ours, useapi) now.\n"), "{connected:?}");
    let cleared = account.run_with("Yes", &["--clear"]).await;
    assert!(cleared.code == 0 && cleared.stdout.ends_with("It is not set now.\n"), "{cleared:?}");
    assert_eq!(account.posts().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_one_line_that_says_what_was_expected() {
    let place = Place::new("[server]\npublic_url = \"https://vault.example.com\"\n");
    let without = tokio::task::spawn_blocking(move || place.run(&["connect", "--yes"])).await.unwrap();
    assert!(without.line(2).contains("provider.api_token: expected a token"), "{without:?}");
    let place = Place::new(&config("http://127.0.0.1:8080", "https://api.example.com"));
    let local = tokio::task::spawn_blocking(move || place.run(&["connect", "--yes"])).await.unwrap();
    assert!(local.line(2).contains("server.public_url: expected a URL that the provider can reach"), "{local:?}");
    let refusal = json!({"error": format!("no account for {TOKEN}"), "code": 402});
    let moved = || HttpResponse::Found().insert_header(("location", "/v2/other")).finish();
    for (answer, expected) in [
        (HttpResponse::Unauthorized as fn() -> _, "provider.api_token: expected a token that the provider accepts"),
        (HttpResponse::BadRequest, "the provider answers 400 Bad Request: replyUrl is too long (status 400)"),
        (HttpResponse::Ok, "expected the account as a JSON object"),
        (HttpResponse::PaymentRequired, "the provider answers 402 Payment Required"),
        (HttpResponse::Found, "a status that nobody expects"),
    ] {
        let refusal = refusal.clone();
        let account = Account::answering(move |_| {
            let mut builder = answer();
            let status = builder.finish().status().as_u16();
            match status {
                200 => answer().body("<html>"),
                302 => moved(),
                402 => answer().json(&refusal),
                _ => answer().json(json!({"error": "replyUrl is too long", "code": 400})),
            }
        });
        let failed = account.run(&["--yes"]).await;
        assert!(failed.line(1).contains(expected) && !failed.stderr.contains(TOKEN), "{failed:?}");
        assert_eq!(account.provider.asked().len(), 1, "{expected}");
    }
    // The provider says yes and keeps what it had.
    let deaf = Account::answering(|_| HttpResponse::Ok().json(json!({"replyUrl": OLD})));
    let failed = deaf.run(&["--yes"]).await;
    assert_eq!(failed.code, 1);
    assert!(
        failed.stderr.contains("expected https://vault.example.com/in/reply/useapi/…") && failed.stderr.contains(OLD),
        "{failed:?}"
    );
}
