//! The commands, as whoever types them meets them.

mod refs;
mod wait;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use replyvault::config::DataDir;
use replyvault::journal::{Journal, Writer};
use tempfile::TempDir;

use crate::support::child::Program;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The one line of a failure.
    #[track_caller]
    pub(crate) fn line(&self, code: i32) -> &str {
        assert_eq!((self.code, self.stderr.lines().count(), self.stdout.as_str()), (code, 1, ""), "{self:?}");
        self.stderr.trim_end().strip_prefix("replyvault: ").unwrap()
    }

    #[track_caller]
    pub(crate) fn result(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        &self.stdout
    }
}

/// A working directory of its own, and nothing of this process's environment.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new(config: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        if !config.is_empty() {
            std::fs::write(place.path("config.toml"), config).unwrap();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replyvault"));
        command.args(arguments).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(&[], arguments)
    }

    pub(crate) fn run_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).envs(environment.iter().copied()).output().unwrap())
    }
}

/// Answers one request; gives what was asked.
fn answering(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, std::thread::spawn(move || answer(&listener, status, body)))
}

fn answer(listener: &TcpListener, status: &str, body: &str) -> String {
    let (mut socket, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        request += &line;
        if line.trim().is_empty() {
            break;
        }
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    socket.write_all((head + body).as_bytes()).unwrap();
    request + &String::from_utf8(sent).unwrap()
}

#[test]
fn help_shows_every_command_and_examples() {
    let place = Place::new("");
    let help = place.run(&["--help"]);
    for text in [
        "serve",
        "demo",
        "simulate",
        "reply-url",
        "connect",
        "refs",
        "verify",
        "rebuild",
        "reconcile",
        "backfill",
        "config",
        "health",
        "--config",
        "Examples:",
        "Exit codes",
    ] {
        assert!(help.result().contains(text), "{text}\n{}", help.stdout);
    }
    assert!(place.run(&["simulate", "--help"]).result().contains("cdn-slow"));
    assert!(place.run(&["refs", "add", "--help"]).result().contains("--reply-ref"));
    assert!(place.run(&["--version"]).result().starts_with("replyvault 0."));
    let bare = place.run(&[]);
    assert!(bare.code == 2 && bare.stderr.contains("Usage:"), "{bare:?}");
}

#[test]
fn wrong_arguments_are_one_line() {
    let place = Place::new("");
    for (arguments, expected) in [
        (&["bogus"][..], "unrecognized subcommand 'bogus'"),
        (&["backfill"], "provider.api_token: expected a token for the provider's API"),
        (&["backfill", "songs"], "list: expected one of videos, images, speech for minimax, or jobs with ids"),
        (&["backfill", "--provider", "mureka"], "provider: expected an API with a list, one of minimax, kling,"),
        (&["backfill", "videos", "--provider", "kling"], "list: expected one of tasks for kling, or jobs with ids"),
        (&["backfill", "videos", "--limit", "0"], "invalid value '0' for '--limit <N>'"),
        (&["backfill", "videos"], "provider.api_token: expected a token for the provider's API"),
        (&["reconcile"], "provider.api_token: expected a token for the provider's API"),
        (&["verify", "--sample", "5"], "expected a share from 0% to 100%"),
        (&["serve", "--bogus"], "unexpected argument '--bogus'"),
        (&["refs", "add"], "the following required arguments were not provided: --reply-ref <R>"),
        (&["refs", "add", "--reply-ref", ""], "a replyRef of 1 to 1024 characters"),
        (&["refs", "add", "--reply-ref", "a", "--label", "b"], "expected key=value"),
        (&["refs", "add", "--reply-ref", "a", "--label", "b=1", "--label", "b=2"], "expected each key only once"),
        (&["refs", "add", "--reply-ref", "a", "--notify-url", "ftp://h"], "expected an http or https URL"),
        (&["simulate", "--faults", "bogus=1"], "unknown fault \"bogus\""),
        (&["simulate", "--listen", "nowhere"], "invalid value 'nowhere'"),
        (&["demo", "--jobs", "0"], "invalid value '0'"),
        (&["demo", "--keep", "/dev/null/x"], "--keep: /dev/null/x: expected a directory that can be made"),
        (&["get", "a", "-o", "/dev/null"], "--output: /dev/null: expected a directory that can be made"),
        (&["wait", "a", "--timeout", "18446744073709551615s1000ms"], "invalid value '18446744073709551615s1000ms'"),
        (&["health", "--url", "nowhere"], "expected an http or https URL"),
        (&["reply-url", "--channel", "veo"], "--channel: expected useapi or minimax, found \"veo\""),
        (&["config", "show", "--config", "none.toml"], "none.toml: expected a configuration file that can be read: "),
    ] {
        let ended = place.run(arguments);
        assert!(ended.line(2).contains(expected), "{arguments:?}: {ended:?}");
    }
    let ended = place.run_with(&[("REPLYVAULT_LOG", "a=b=c")], &["config", "show"]);
    assert!(ended.line(2).starts_with("REPLYVAULT_LOG: expected a filter"), "{ended:?}");
}

#[test]
fn a_reply_url_is_signed_with_the_configured_secret() {
    let place = Place::new(
        "[server]\npublic_url = \"https://vault.example.com/in\"\n[auth]\nreply_secrets = [\"key\", \"old\"]",
    );
    // Computed with another implementation of HMAC-SHA256.
    let expected = "https://vault.example.com/in/reply/useapi/3zJiPXdpes7Fp6Qscmfz9PzAsoKugEeOykF15c8dHkE\n";
    assert_eq!(place.run(&["reply-url"]).result(), expected);
    assert_eq!(place.run(&["reply-url", "--channel", "useapi"]).result(), expected);
    let of_minimax = "https://vault.example.com/in/reply/minimax/hRwoHhjw5qnD8X2Zs24Jm1PgRq93SM9cng4Zx-Ji04g\n";
    assert_eq!(place.run(&["reply-url", "--channel", "minimax"]).result(), of_minimax);
    assert!(!place.path("data").exists());
}

#[test]
fn a_reply_url_stays_the_same_and_its_secret_private() {
    let place = Place::new("");
    let first = place.run(&["reply-url"]);
    assert!(first.result().starts_with("http://127.0.0.1:8080/reply/useapi/"), "{first:?}");
    assert_eq!(place.run(&["reply-url"]).result(), first.stdout);
    let secrets = place.path("data/secrets.toml");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.path("data")), mode(&secrets)), (0o700, 0o600));
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o644)).unwrap();
    for arguments in [&["reply-url"][..], &["config", "check"]] {
        let ended = place.run(arguments);
        let expected = "built-in defaults: data.dir: data/secrets.toml: expected a file that only its owner can read";
        assert!(ended.line(2).starts_with(expected), "{ended:?}");
    }
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::remove_file(&secrets).unwrap();
    assert_ne!(place.run(&["reply-url"]).result(), first.stdout);
}

#[test]
fn refs_add_twice_gives_the_same_ref() {
    let place = Place::new("[auth]\nreply_secrets = [\"0123456789abcdef\"]");
    let add = [
        "refs",
        "add",
        "--reply-ref",
        "boat-17",
        "--label",
        "b=2",
        "--label",
        "a=1=1",
        "--notify-url",
        "https://h/x?y=z",
    ];
    let first = place.run(&add);
    let shown: serde_json::Value = serde_json::from_str(first.result()).unwrap();
    assert_eq!(shown["replyRef"], "boat-17");
    assert_eq!(shown["labels"], serde_json::json!({"a": "1=1", "b": "2"}));
    assert_eq!((&shown["origin"], &shown["state"]), (&"registered".into(), &"active".into()));
    assert_eq!(shown["notifyUrl"], "https://h/x?y=z");
    let url = format!("http://127.0.0.1:8080/reply/{}/", shown["refId"].as_str().unwrap());
    assert!(shown["replyUrl"].as_str().unwrap().starts_with(&url));
    assert!(shown["createdAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(place.run(&add).result(), first.stdout);
    let other = place.run(&["refs", "add", "--reply-ref", "boat-17"]);
    assert!(other.line(1).contains("registered with another notifyUrl or other labels"), "{other:?}");
    let second = place.run(&["refs", "add", "--reply-ref", "boat-18"]);
    assert!(second.result().contains("\"notifyUrl\": null"));
}

#[test]
fn refs_add_asks_the_service_that_holds_the_data() {
    let answer = r#"{"refId":"ref_1","replyRef":"boat","replyUrl":"https://h/r","origin":"registered","state":"active",
                     "labels":{"a":"1"},"createdAt":"2026-11-20T11:04:10.120Z"}"#;
    let (address, asked) = answering("201 Created", answer);
    let config = format!("[server]\nlisten = \"{address}\"\n[auth]\napi_tokens = [\"0123456789abcdef\"]");
    let place = Place::new(&config);
    let _held = DataDir::lock(&place.path("data")).unwrap();
    let ended = place.run(&["refs", "add", "--reply-ref", "boat", "--label", "a=1"]);
    assert!(ended.result().starts_with("{\n  \"refId\": \"ref_1\",\n  \"replyRef\": \"boat\""), "{ended:?}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("POST /api/v1/refs HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("authorization: bearer 0123456789abcdef\r\n"), "{asked}");
    assert!(asked.ends_with(r#"{"labels":{"a":"1"},"notifyUrl":null,"replyRef":"boat"}"#), "{asked}");

    let (address, _asked) = answering("409 Conflict", r#"{"error":{"code":"conflict","message":"not\nthis"}}"#);
    let listen = [("REPLYVAULT_SERVER__LISTEN", address.as_str())];
    let ended = place.run_with(&listen, &["refs", "add", "--reply-ref", "boat"]);
    assert!(ended.line(1).ends_with("/api/v1/refs: 409 Conflict: not\\nthis"), "{ended:?}");
    // Nobody listens there any more.
    let ended = place.run_with(&listen, &["refs", "add", "--reply-ref", "boat"]);
    assert!(ended.line(1).contains(": no answer: "), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_add_refuses_the_same_with_and_without_a_running_service() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    let free = crate::support::free_address();
    program.set("SERVER__LISTEN", free.to_string());
    program.set("FETCH__ALLOW_HTTP", "false".to_owned());
    program.set("FETCH__ALLOW_PRIVATE_ADDRESSES", "false".to_owned());
    let refusals = async || {
        let texts = |count: usize| (0..count).map(|number| format!("--label=l{number}=x")).collect::<Vec<_>>();
        let mut all = Vec::new();
        for (arguments, expected) in [
            (vec!["--notify-url=http://10.0.0.5/x".to_owned()], "notifyUrl: the URL is http, expected https"),
            (vec!["--notify-url=https://10.0.0.5/x".to_owned()], "notifyUrl: host 10.0.0.5 has the private address"),
            (vec![format!("--notify-url=https://h.example/{}", "a".repeat(1024))], "notifyUrl: expected an absolute"),
            (texts(1000), "labels: expected at most 32"),
            (vec![format!("--label={}=x", "a".repeat(65))], "labels: expected names of 1 to 64 characters"),
            (vec![format!("--label=a={}", "x".repeat(257))], "labels.a: expected at most 256 characters"),
        ] {
            let mut command = program.command(&["refs", "add", "--reply-ref", "boat"]);
            command.args(arguments);
            let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            let why = String::from_utf8(out.stderr).unwrap();
            assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0), "{expected}: {why}");
            all.push(why[why.find(expected).unwrap_or_else(|| panic!("{expected}: {why}"))..].to_owned());
        }
        all
    };
    let without = refusals().await;
    let process = program.start().await;
    assert_eq!(refusals().await, without);
    assert_eq!(process.get("/api/v1/refs").await.unwrap()["items"], serde_json::json!([]));
}

/// What `serve` says of a data directory that another holds.
const HELD: &str = "built-in defaults: data.dir: data: another replyvault is running on this data directory";

#[test]
fn a_data_directory_has_one_service() {
    let place = Place::new("");
    let _held = DataDir::lock(&place.path("data")).unwrap();
    let ended = place.run_with(&[("REPLYVAULT_LOG", "error")], &["serve"]);
    assert_eq!(ended.line(2), HELD);
}

#[test]
fn a_data_directory_has_one_service_also_when_its_lock_file_was_removed() {
    let place = Place::new("");
    let journal = Journal::open_in(&place.path("data")).unwrap();
    let writer = Writer::new(journal, 0).unwrap();
    std::fs::create_dir(place.path("data/state")).unwrap();
    for _ in 0..2 {
        let ended = place.run_with(&[("REPLYVAULT_LOG", "error")], &["serve"]);
        assert_eq!(ended.line(2), HELD);
        std::fs::remove_file(place.path("data/lock")).unwrap();
    }
    drop(writer);
    let mut names: Vec<_> =
        std::fs::read_dir(place.path("data")).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["journal", "state"], "the other's state stays where it is");
}

#[test]
fn health_is_what_readyz_says() {
    let place = Place::new("");
    let (address, asked) = answering("200 OK", "{}");
    let ended = place.run_with(&[("REPLYVAULT_SERVER__LISTEN", &address)], &["health"]);
    assert_eq!(ended.result(), "");
    assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    // A listener on all addresses is reached on this machine's own.
    let (address, asked) = answering("200 OK", "{}");
    let all = address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(place.run_with(&[("REPLYVAULT_SERVER__LISTEN", &all)], &["health"]).result(), "");
    asked.join().unwrap();
    let (address, _asked) = answering("503 Service Unavailable", r#"{"status":"x","checks":{"disk":"full"}}"#);
    let url = format!("http://{address}/");
    let ended = place.run(&["health", "--url", &url]);
    assert!(ended.line(1).ends_with(r#"/readyz: not ready: 503 Service Unavailable, {"disk":"full"}"#), "{ended:?}");
    let ended = place.run(&["health", "--url", &url]);
    assert!(ended.line(1).contains("/readyz: no answer: "), "{ended:?}");
}

#[test]
fn health_waits_no_longer_than_three_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let started = std::time::Instant::now();
    let ended = Place::new("").run(&["health", "--url", &url]);
    assert!(ended.line(1).ends_with("no answer: it took too long"), "{ended:?}");
    assert!((2..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[test]
fn the_simulator_runs_until_it_is_told_to_end() {
    let place = Place::new("");
    let mut command = place.command(&["simulate", "--listen", "127.0.0.1:0", "--faults", "drop=0.5", "--seed", "7"]);
    let mut child = command.env("REPLYVAULT_LOG", "off").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.ends_with("(seed 7, faults drop=0.5). Ctrl-C ends it."), "{first}");
    let base = first.split(' ').find(|word| word.starts_with("http://")).unwrap();
    std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    assert!(lines.any(|line| line.unwrap().contains(&format!("curl {base}/v1/minimax/videos/create"))));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn an_address_that_is_taken_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ended = Place::new("").run(&["simulate", "--listen", &address]);
    assert!(ended.line(2).starts_with(&format!("--listen: can't listen on {address}: ")), "{ended:?}");
}

#[test]
fn nobody_reading_is_no_failure() {
    let place = Place::new("");
    for arguments in [&["config", "show"][..], &["--help"], &["demo", "--jobs", "1"]] {
        let mut command = place.command(arguments);
        command.env("REPLYVAULT_LOG", "off").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    }
}
