use reqwest::Method;

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
    let events: Vec<&str> = told.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':')).collect();
    let jobs: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event.strip_prefix("event: job\ndata: ").unwrap()).unwrap())
        .collect();
    assert_eq!(jobs.iter().map(|job| &job["jobId"]).collect::<Vec<_>>(), [&json!(id(1)), &json!(id(2))]);
    assert_eq!(jobs[1], vault.get(&format!("/api/v1/jobs/{}", id(2))).await);

    assert_eq!(refusal(vault.request(Method::GET, "/api/v1/events").send().await.unwrap()).await.0, 401);
}
