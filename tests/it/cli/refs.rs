//! Refs that the command registers, and those of the service.

use serde_json::{Value, json};

use super::*;
use crate::support::child::{Process, TOKEN};

async fn register(process: &Process, body: &Value) -> (u16, Value) {
    let request = process.client.post(format!("{}/api/v1/refs", process.base)).bearer_auth(TOKEN).json(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_the_command_registered_is_the_same_to_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::new(dir.path());
    // A parser would put a slash behind the host, and write it small.
    let url = "https://Hooks.example";
    let mut command = program.command(&["refs", "add", "--reply-ref", "boat", "--notify-url", url]);
    let added = tokio::task::spawn_blocking(move || Ended::of(command.output().unwrap())).await.unwrap();
    let added: Value = serde_json::from_str(added.result()).unwrap();
    assert_eq!(added["notifyUrl"], url);
    let process = program.start().await;
    // Nor is the parser's spelling another receiver, as earlier versions registered it.
    for (url, expected) in [(url, 200), ("https://hooks.example/", 200), ("https://hooks.example/x", 409)] {
        let (status, known) = register(&process, &json!({"replyRef": "boat", "notifyUrl": url})).await;
        assert_eq!(status, expected, "{known}");
        assert!(status == 409 || known["refId"] == added["refId"], "{known}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_urls_start_with_the_public_url_that_is_set_even_at_a_free_port() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("SERVER__PUBLIC_URL", "https://vault.example.com/in".to_owned());
    let process = program.start().await;
    let (_, made) = register(&process, &json!({"replyRef": "boat"})).await;
    assert!(made["replyUrl"].as_str().unwrap().starts_with("https://vault.example.com/in/reply/"), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_urls_start_with_an_address_that_can_be_reached_where_all_are_listened_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::new(dir.path());
    program.set("SERVER__LISTEN", "0.0.0.0:0".to_owned());
    // As in the configuration that comes along: of this machine, and of another port.
    program.set("SERVER__PUBLIC_URL", "http://127.0.0.1:8080".to_owned());
    let process = program.start().await;
    let (_, port) = process.base.rsplit_once(':').unwrap();
    let (_, made) = register(&process, &json!({"replyRef": "boat"})).await;
    assert!(made["replyUrl"].as_str().unwrap().starts_with(&format!("http://127.0.0.1:{port}/reply/")), "{made}");
}
