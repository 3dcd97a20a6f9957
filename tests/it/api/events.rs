use reqwest::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

#[tokio::test]
async fn changes_are_told_as_they_happen_until_the_end() {
    let vault = Vault::start().await;
    let response = vault.request(Method::GET, "/api/v1/events").bearer_auth(READ).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "text/event-stream"));
    assert_eq!(header(&response, "cache-control"), "no-store");
    let told = tokio::spawn(response.text());
    vault.completed(1).await;
    vault.callback(json!({"videoId": id(2), "status": 1, "prompt": "two\nlines"})).await;
    vault.intake.log().state().end_changes();
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap().unwrap().unwrap();
    let jobs: Vec<Value> = jobs_told(&told).into_iter().map(|(_, job)| job).collect();
    assert_eq!(jobs.iter().map(|job| &job["jobId"]).collect::<Vec<_>>(), [&json!(id(1)), &json!(id(2))]);
    assert_eq!(jobs[1], vault.get(&format!("/api/v1/jobs/{}", id(2))).await);

    assert_eq!(refusal(vault.request(Method::GET, "/api/v1/events").send().await.unwrap()).await.0, 401);
}

/// The jobs that a stream told of, each with the event's id.
fn jobs_told(stream: &str) -> Vec<(String, Value)> {
    let events = stream.split("\n\n").filter_map(|event| event.strip_prefix("event: job\nid: "));
    let read = |event: &str| {
        let (id, job) = event.split_once("\ndata: ").unwrap();
        (id.to_owned(), serde_json::from_str(job).unwrap())
    };
    events.map(read).collect()
}

/// What a listener that heard `last_id` is told until the end.
async fn heard_from(vault: &Vault, last_id: &str) -> tokio::task::JoinHandle<Result<String, reqwest::Error>> {
    let request = vault.request(Method::GET, "/api/v1/events").bearer_auth(READ).header("Last-Event-ID", last_id);
    tokio::spawn(request.send().await.unwrap().text())
}

#[tokio::test]
async fn who_comes_back_is_told_what_changed_meanwhile() {
    let vault = Vault::start().await;
    let first = vault.request(Method::GET, "/api/v1/events").bearer_auth(READ).send().await.unwrap();
    let first = tokio::spawn(first.text());
    for number in 1..=3 {
        vault.completed(number).await;
    }
    let second = heard_from(&vault, "nonsense").await;
    let third = heard_from(&vault, "00000000-1").await;
    vault.intake.log().state().end_changes();
    let told = jobs_told(&first.await.unwrap().unwrap());
    assert_eq!(told.iter().map(|(_, job)| &job["jobId"]).collect::<Vec<_>>(), [&id(1), &id(2), &id(3)]);
    for other in [second, third] {
        assert!(other.await.unwrap().unwrap().contains("event: reset\n"), "another process's events are not known");
    }

    let rest = heard_from(&vault, &told[0].0).await;
    vault.intake.log().state().end_changes();
    let rest = rest.await.unwrap().unwrap();
    assert!(!rest.contains("reset"), "{rest}");
    assert_eq!(jobs_told(&rest), told[1..]);
}

#[tokio::test]
async fn one_token_cannot_take_every_event_stream() {
    // Both ends of each are here.
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: own.maximum, ..own }).unwrap();
    let vault = Vault::start().await;
    let listen =
        async |token: &str| vault.request(Method::GET, "/api/v1/events").bearer_auth(token).send().await.unwrap();
    let mut open = Vec::new();
    let refused = loop {
        let answer = listen(READ).await;
        if answer.status() != 200 {
            break answer;
        }
        open.push(answer);
        assert!(open.len() < 1000, "there is no end of them");
    };
    assert!(open.len() > 100, "{}", open.len());
    assert_eq!(refusal(refused).await, (429, "too_many_answers".to_owned()));
    assert_eq!(listen(ADMIN).await.status(), 200);
}
