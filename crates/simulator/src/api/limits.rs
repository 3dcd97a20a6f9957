use serde_json::{Map, Value, json};

use crate::Shared;
use crate::faults::Fault;
use crate::job::{Job, Request};
use replyvault_domain::Kind;

use super::ApiError;

const FAULTS: [Fault; 9] = [
    Fault::Create400,
    Fault::Create401,
    Fault::Create404,
    Fault::Create412,
    Fault::Create422,
    Fault::OnHold,
    Fault::Busy,
    Fault::Create500,
    Fault::Create504,
];

/// Lets a call that would make `count` jobs through, or says what it meets instead.
///
/// An agent job that is to fail is let through to do so, as the provider's 500 and 504 tell of a whole job.
pub(super) fn admit(shared: &Shared, request: &mut Request, count: u64) -> Result<(), ApiError> {
    match (fault(shared), request.kind) {
        (Some(Fault::Create500), Kind::Agent) => request.fails_with = Some(500),
        (Some(Fault::Create504), Kind::Agent) => request.fails_with = Some(504),
        (Some(fault), kind) => return Err(refusal(fault, kind, busy(shared, request))),
        (None, _) => {}
    }
    if shared.faults.credits().is_some_and(|credits| shared.stats.snapshot().jobs + count > credits) {
        return Err(ApiError::NoCredits);
    }
    let limit = request.max_jobs.into_iter().chain(shared.faults.max_jobs()).min();
    if request.kind == Kind::Video && limit.is_some_and(|limit| running(shared, &request.account).len() >= limit) {
        return Err(busy(shared, request));
    }
    Ok(())
}

/// The same for a call that makes something else.
pub(super) fn admit_others(shared: &Shared) -> Result<(), ApiError> {
    match fault(shared) {
        Some(fault) => Err(refusal(fault, Kind::Speech, ApiError::Busy(Kind::Speech))),
        None => Ok(()),
    }
}

fn fault(shared: &Shared) -> Option<Fault> {
    let turn = shared.next_create();
    let happens = |fault: &Fault| shared.dice.hits(shared.faults.chance(*fault), fault.name(), "create", turn);
    FAULTS.iter().copied().find(happens)
}

fn refusal(fault: Fault, kind: Kind, busy: ApiError) -> ApiError {
    match fault {
        Fault::Create400 => ApiError::BadRequest("Told to refuse this".into()),
        Fault::Create401 => ApiError::Unauthorized,
        Fault::Create404 => ApiError::NotFound,
        Fault::Create412 => ApiError::NoCredits,
        Fault::Create422 => ApiError::Moderated(kind),
        Fault::Busy => busy,
        Fault::OnHold => ApiError::OnHold,
        Fault::Create504 => ApiError::TimedOut,
        _ => ApiError::Internal,
    }
}

fn busy(shared: &Shared, request: &Request) -> ApiError {
    if request.kind != Kind::Video {
        return ApiError::Busy(request.kind);
    }
    let account = &request.account;
    ApiError::BusyWith(json!({account: running(shared, account)}))
}

fn running(shared: &Shared, account: &str) -> Vec<Value> {
    let jobs = shared.store.running(&[Kind::Video]);
    jobs.iter().filter(|job| job.request.account == account).map(|job| entry(job)).collect()
}

fn entry(job: &Job) -> Value {
    let mut entry = Map::from_iter([
        ("account".to_owned(), json!(job.request.account)),
        ("id".to_owned(), json!(job.own)),
        ("scheduledVideo".to_owned(), json!(job.batch)),
        ("videoId".to_owned(), json!(job.id)),
        ("started".to_owned(), json!(job.created)),
    ]);
    entry.extend(job.request.reply());
    Value::Object(entry)
}
