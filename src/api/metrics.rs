//! Numbers for Prometheus, gathered when they are asked for.

use std::sync::atomic::AtomicU64;

use actix_web::HttpResponse;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Data;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Api;
use super::stats::Snapshot;
use crate::cluster::Cluster;
use crate::domain::{JobState, Timestamp};
use crate::reconcile::ProviderAccount;

/// How many answers there were of each class of status.
pub(super) type Answers = Family<[(&'static str, &'static str); 1], Counter>;

/// To be called with every answer: counts it, and tells browsers to take it for what it says it is and to tell nobody
/// where they came from.
pub fn observe<B>(response: &mut ServiceResponse<B>) {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(api) = response.request().app_data::<Data<Api>>() {
        let class = ["1xx", "2xx", "3xx", "4xx", "5xx"].get(usize::from(response.status().as_u16() / 100) - 1);
        api.inner.answers.get_or_create(&[("class", class.copied().unwrap_or("other"))]).inc();
    }
}

/// The numbers, in the OpenMetrics form of Prometheus' text.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, description = "the numbers", body = String, content_type = "application/openmetrics-text"),
        (status = 500, description = "the numbers cannot be written"),
    )
)]
pub(super) async fn metrics(api: Data<Api>) -> HttpResponse {
    let snapshot = api.snapshot().await.ok();
    let mut text = String::new();
    if text::encode(&mut text, &registry(&api, snapshot.as_ref())).is_err() {
        return HttpResponse::InternalServerError().finish();
    }
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(text)
}

/// Without a snapshot, all that does not come from the state.
fn registry(api: &Api, snapshot: Option<&Snapshot>) -> Registry {
    let mut registry = Registry::with_prefix("replyvault");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What is running", build);
    registry.register("http_answers", "Answers by class of status", api.inner.answers.clone());
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(value));
    let journal_ok = u64::from(api.journal_problem().is_none());
    gauge("journal_ok", "1 while the last write to the journal succeeded", journal_ok);
    gauge("state_ok", "1 while the state can be read; without it most numbers are missing", snapshot.is_some().into());
    if let Some(reconciler) = &api.inner.reconciler {
        let on_hold = reconciler.accounts_on_hold() as u64;
        gauge(
            "provider_accounts_on_hold",
            "Accounts that the provider has put on hold and that are left alone",
            on_hold,
        );
        let without_credits = reconciler.accounts_without_credits() as u64;
        gauge(
            "provider_accounts_without_credits",
            "Accounts that calls through the gateway were lately told have no credits",
            without_credits,
        );
        let refused = u64::from(reconciler.is_token_refused());
        gauge("provider_token_refused", "1 while the provider refuses the token", refused);
        gauge("provider_ok", "0 while the provider answers nobody", u64::from(!reconciler.is_outage()));
        register_accounts(&mut registry, &reconciler.provider_accounts());
    }
    if let Some(cluster) = api.intake().log().cluster() {
        register_cluster(&mut registry, cluster);
    }
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(value));
    let Some(snapshot) = snapshot else { return registry };
    let counters = &snapshot.counters;
    let age = snapshot.oldest_due.map(|due| Timestamp::now().since(due)).unwrap_or_default();
    gauge("queue_depth", "Jobs that are due now or later, or to be confirmed", snapshot.queue_depth());
    gauge("unconfirmed", "Jobs with final callbacks that the provider has still to confirm", counters.unconfirmed);
    let unconfirmed = snapshot.oldest_ask.map(|due| Timestamp::now().since(due)).unwrap_or_default();
    let help = "How long the question about a final callback that is due the longest has been so";
    gauge("oldest_question_age_seconds", help, unconfirmed.as_secs());
    gauge("oldest_due_age_seconds", "How long the job that is due the longest has been so", age.as_secs());
    let expiring = "Jobs of the queue with a link that says it dies within the hour";
    gauge("queue_expiring_within_hour", expiring, snapshot.expiring);
    gauge("fetching", "Files being fetched now", snapshot.fetching);
    gauge("objects", "Objects in the content-hash index", counters.objects);
    gauge("stored_bytes", "Bytes of those objects", counters.bytes_stored);
    gauge("deduplicated_bytes", "Bytes that did not have to be stored again", counters.bytes_deduplicated);
    gauge("quarantined", "Bodies in quarantine", counters.quarantined);
    gauge("quarantined_bytes", "Bytes of those bodies", counters.quarantined_bytes);
    gauge("refs", "Refs that are not deleted", counters.refs);
    gauge("journal_bytes", "Bytes of the journal on the disk", snapshot.journal_bytes);
    gauge("outbox_pending", "Callbacks that wait to be passed on", counters.outbox);
    gauge("notifications_pending", "Events that are to be sent", counters.notifications_pending);
    let help = "Of the events that nobody took, how many are remembered";
    gauge("notifications_dead", help, counters.notifications_dead);
    gauge("waiting", "Answers that wait until something has ended", api.state().waiters() as u64);
    gauge("journal_segments_unreadable", "Segments of the journal that cannot be read", snapshot.unreadable_segments);
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("outbox_delivered", "Callbacks that were passed on", counters.passed_on);
    counter("outbox_given_up", "Callbacks that were not passed on and are not tried again", counters.not_passed_on);
    counter("notifications_delivered", "Events that were delivered", counters.notified);
    let help = "Events that were not delivered and are not tried again unless somebody asks for it";
    counter("notifications_given_up", help, counters.not_notified);
    counter("callbacks", "Callbacks understood, repeats included", counters.callbacks);
    let jobs = Family::<[(&'static str, &'static str); 1], Gauge<u64, AtomicU64>>::default();
    for state in JobState::ALL {
        jobs.get_or_create(&[("state", state.as_str())]).set(snapshot.jobs(state));
    }
    registry.register("jobs", "Jobs by state", jobs);
    registry
}

/// This replica among the others.
fn register_cluster(registry: &mut Registry, cluster: &Cluster) {
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(value));
    let health = cluster.health();
    gauge("cluster_log_ok", "1 while the log that replicas share takes entries", health.away.is_none().into());
    gauge(
        "cluster_callbacks_waiting",
        "Callbacks on this disk alone, until the shared log can be reached",
        health.waiting,
    );
    gauge("cluster_member", "1 while this replica is a member", cluster.epoch().borrow().is_some().into());
    let (_, shards) = cluster.shares().held();
    gauge("cluster_shards", "Shards of the work that are this replica's, of 64", shards.count_ones().into());
    let help =
        "Where in the shared log the state of this replica is: the others' differ by how far one is behind, in bytes";
    gauge("cluster_position", help, cluster.applied());
}

/// The provider's accounts, with a label for each: there are few.
fn register_accounts(registry: &mut Registry, accounts: &[ProviderAccount]) {
    const MAX_ACCOUNTS: usize = 100;
    let expires = Family::<[(&'static str, String); 1], Gauge<u64, AtomicU64>>::default();
    let credits = Family::<[(&'static str, String); 1], Gauge<u64, AtomicU64>>::default();
    for account in accounts.iter().take(MAX_ACCOUNTS) {
        let label = [("account", account.account.clone())];
        if let Some(at) = account.login_expires_at {
            expires.get_or_create(&label).set(at.millis() / 1000);
        }
        if let Some(left) = account.credits {
            credits.get_or_create(&label).set(left);
        }
    }
    let help = "When the login of a provider account expires, in seconds since 1970";
    registry.register("provider_account_expires_timestamp_seconds", help, expires);
    registry.register("provider_account_credits", "What a provider account can still spend", credits);
}
