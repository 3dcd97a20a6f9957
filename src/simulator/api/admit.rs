use serde_json::{Map, Value, json};

use crate::domain::Kind;
use crate::simulator::Shared;
use crate::simulator::faults::Fault;
use crate::simulator::job::{Job, Request};

use super::Refusal;

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
pub(super) fn admit(shared: &Shared, request: &mut Request, count: u64) -> Result<(), Refusal> {
    match (fault(shared), request.kind) {
        (Some(Fault::Create500), Kind::Agent) => request.fails_with = Some(500),
        (Some(Fault::Create504), Kind::Agent) => request.fails_with = Some(504),
        (Some(fault), kind) => return Err(refusal(fault, kind, busy(shared, request))),
        (None, _) => {}
    }
    if shared.faults.credits().is_some_and(|credits| shared.stats.snapshot().jobs + count > credits) {
        return Err(Refusal::NoCredits);
    }
    let limit = request.max_jobs.into_iter().chain(shared.faults.max_jobs()).min();
    if request.kind == Kind::Video && limit.is_some_and(|limit| running(shared, &request.account).len() >= limit) {
        return Err(busy(shared, request));
    }
    Ok(())
}

/// The same for a call that makes something else.
pub(super) fn admit_others(shared: &Shared) -> Result<(), Refusal> {
    match fault(shared) {
        Some(fault) => Err(refusal(fault, Kind::Speech, Refusal::Busy(Kind::Speech))),
        None => Ok(()),
    }
}

fn fault(shared: &Shared) -> Option<Fault> {
    let turn = shared.next_create();
    let happens = |fault: &Fault| shared.dice.hits(shared.faults.chance(*fault), fault.name(), "create", turn);
    FAULTS.iter().copied().find(happens)
}

fn refusal(fault: Fault, kind: Kind, busy: Refusal) -> Refusal {
    match fault {
        Fault::Create400 => Refusal::BadRequest("Told to refuse this".into()),
        Fault::Create401 => Refusal::Unauthorized,
        Fault::Create404 => Refusal::NotFound,
        Fault::Create412 => Refusal::NoCredits,
        Fault::Create422 => Refusal::Moderated(kind),
        Fault::Busy => busy,
        Fault::OnHold => Refusal::OnHold,
        Fault::Create504 => Refusal::TimedOut,
        _ => Refusal::Internal,
    }
}

fn busy(shared: &Shared, request: &Request) -> Refusal {
    if request.kind != Kind::Video {
        return Refusal::Busy(request.kind);
    }
    let account = &request.account;
    Refusal::BusyWith(json!({account: running(shared, account)}))
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
