//! What the provider does not say of one account, or of one job, keeps no other from being found.

use std::net::SocketAddr;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use replyvault::simulator::Config;
use serde_json::{Value, json};

use super::{Bench, SHORT};
use crate::support::stand_in;

const FORBIDDEN: &str = "user:1-minimax:2-video:1";
const RUNNING: &str = "user:1-minimax:2-video:2";

#[tokio::test(flavor = "multi_thread")]
async fn an_account_on_hold_keeps_no_other_accounts_first_page_from_being_read() {
    let config = Config { faults: "drop=1".parse().unwrap(), ..Config::default() };
    let bench = Bench::with(config, |settings| {
        settings.reconcile.minute = SHORT;
        settings.reconcile.reads_lists = true;
        settings.reconcile.adopt_listed = true;
    })
    .await;
    let url = format!("{}/v1/minimax/accounts", bench.simulator.base_url());
    let second = json!({"url": "https://hailuoai.video", "token": "second", "maxJobs": 2});
    let second = bench.vault.client.post(url).bearer_auth("t").json(&second).send().await.unwrap();
    let second: Value = second.json().await.unwrap();
    // The provider names them in this order.
    let mut accounts = ["730015522", second["account"].as_str().unwrap()];
    accounts.sort_unstable();
    let [on_hold, other] = accounts;
    bench.simulator.set_read_faults("get-596=1".parse().unwrap());
    // No list shows it: only a question about it tells of the hold.
    let held = format!("user:4821-minimax:{on_hold}-video:99");
    bench.vault.callback(json!({"videoId": held, "status": 1})).await;
    bench.readyz(Some("an account is on hold")).await;
    // Asked about by its id, a job is said to run on: only the list tells its end.
    bench.simulator.set_read_faults("get-running=1".parse().unwrap());
    let unknown = bench.create_unheard("videos/create", json!({"prompt": "x", "account": other})).await;
    bench.vault.archived(unknown["videoId"].as_str().unwrap()).await;
    assert_eq!(bench.vault.job(&held).await["state"], "running");
}

/// A provider that works on two videos, and forbids the question about the first. To that about agent jobs it answers with
/// this status.
fn forbidding_provider(agent_jobs: StatusCode) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(move || {
        App::new().default_service(web::to(move |request: HttpRequest| async move {
            match request.path() {
                "/v1/minimax/scheduler/" => {
                    HttpResponse::Ok().json(json!([{"videoId": FORBIDDEN}, {"videoId": RUNNING}]))
                }
                "/v1/minimax/agent/jobs" => HttpResponse::build(agent_jobs).finish(),
                path if path.ends_with(FORBIDDEN) => HttpResponse::Forbidden().finish(),
                path if path.ends_with(RUNNING) => HttpResponse::Ok().json(json!({"videoId": RUNNING, "status": 1})),
                _ => HttpResponse::NotFound().finish(),
            }
        }))
    });
    tokio::spawn(stand_in(server).listen(listener).unwrap().run());
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_question_about_one_job_or_list_keeps_no_other_job_from_being_found() {
    for (agent_jobs, state) in [(StatusCode::NOT_FOUND, "done"), (StatusCode::FORBIDDEN, "failed")] {
        let address = forbidding_provider(agent_jobs);
        let bench = Bench::with(Config::default(), |settings| {
            settings.provider.as_mut().unwrap().base_url = format!("http://{address}").parse().unwrap();
        });
        let bench = bench.await;
        let task = bench.task("reconcile", json!({})).await;
        assert_eq!(task["state"], state, "{task:#}");
        assert_eq!(bench.vault.job(RUNNING).await["state"], "running");
    }
}
