use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;

use super::auth::Caller;
use super::{Api, ApiError, job_view};
use crate::domain::JobState;
use crate::http::ErrorBody;
use crate::state::{ChangeNotice, JobChanged, State};

/// Proxies close connections that are silent for long.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The jobs that one listener is still to be told of, each once, and no more than a number of each: what a job is like is read
/// when it is told.
struct Told {
    changes: broadcast::Receiver<ChangeNotice>,
    /// With the number of the change that first told of it: what is told later was not told before.
    waiting: VecDeque<(u64, u64)>,
    known: HashSet<u64>,
    missed: u64,
    ended: bool,
}

/// What is told next.
enum Next {
    /// Its sequence, and the number of the change.
    Job(u64, u64),
    Missed(u64),
    End,
}

impl Told {
    /// So many jobs may wait; beyond it changes stay where all listeners share them, until they are too many there.
    const MAX_WAITING: usize = 1024;

    fn new(changes: broadcast::Receiver<ChangeNotice>) -> Self {
        Self { changes, waiting: VecDeque::new(), known: HashSet::new(), missed: 0, ended: false }
    }

    /// May be dropped while it waits, without losing anything.
    async fn next(&mut self) -> Next {
        loop {
            self.take_all();
            // Before any job from behind the gap: who comes back with that job's id is told nothing of the gap.
            if self.missed > 0 {
                return Next::Missed(std::mem::take(&mut self.missed));
            }
            if let Some((sequence, number)) = self.waiting.pop_front() {
                self.known.remove(&sequence);
                return Next::Job(sequence, number);
            }
            if self.ended {
                return Next::End;
            }
            let change = self.changes.recv().await;
            self.take(change);
        }
    }

    /// Takes what has changed since. A job that changes several times before it is told is told once.
    fn take_all(&mut self) {
        while !self.ended && self.waiting.len() < Self::MAX_WAITING {
            match self.changes.try_recv() {
                Ok(change) => self.take(Ok(change)),
                Err(TryRecvError::Lagged(missed)) => self.take(Err(RecvError::Lagged(missed))),
                Err(TryRecvError::Closed) => self.take(Err(RecvError::Closed)),
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn take(&mut self, change: Result<ChangeNotice, RecvError>) {
        match change {
            Ok(ChangeNotice::Job(JobChanged { sequence, number, .. })) => {
                if self.known.insert(sequence) {
                    self.waiting.push_back((sequence, number));
                }
            }
            Ok(ChangeNotice::Gap) => self.missed += 1,
            Err(RecvError::Lagged(missed)) => self.missed += missed,
            Ok(ChangeNotice::End) | Err(RecvError::Closed) => self.ended = true,
        }
    }
}

/// What a listener heard last, as [`event_id`] writes it.
fn read_event_id(run: u32, text: &str) -> Option<u64> {
    let (of, number) = text.split_once('-')?;
    (u32::from_str_radix(of, 16).ok()? == run).then(|| number.parse().ok())?
}

/// Names this process and one of its changes.
fn event_id(run: u32, number: u64) -> String {
    format!("{run:08x}-{number}")
}

/// Tells of jobs as they change: server-sent events named `job`, each with the job as it is when it is told. A job that
/// changes several times before that is told once. An event `missed` says how many changes could not be told because the
/// listener was too slow, before any job that changed behind them.
///
/// Who comes back with `Last-Event-ID` is told of the jobs that changed meanwhile; where that is not known any more, after some
/// thousand changes or a restart, an event `reset` says that lists should be read anew.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "jobs",
    params(("Last-Event-ID" = Option<String>, Header, description = "the `id` of the last event that was heard")),
    responses(
        (status = 200, description = "a stream without an end", content_type = "text/event-stream", body = String),
        (status = 429, description = "too many streams are open with this token", body = ErrorBody),
    )
)]
pub(super) async fn events(request: HttpRequest, api: Data<Api>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let place = api.inner.places.stream(&caller.name).await?;
    let run = api.inner.run;
    let mut told = Told::new(api.state().changes());
    // Listening before looking back, so that nothing falls in between.
    let last_id = request.headers().get("Last-Event-ID").and_then(|id| id.to_str().ok());
    let (now, mut greeting) = (api.state().last_change(), String::new());
    if let Some(last_id) = last_id {
        match read_event_id(run, last_id).and_then(|number| changes_since(api.state(), number)) {
            Some(changes) => changes.for_each(|change| told.take(Ok(ChangeNotice::Job(change)))),
            None => greeting = "event: reset\ndata: lists should be read anew\n".to_owned(),
        }
    }
    // Who is told of jobs from before comes back for them if the connection breaks at once.
    if told.waiting.is_empty() {
        greeting = format!("id: {}\n{greeting}", event_id(run, now));
    }
    greeting = if greeting.is_empty() { ":\n\n".to_owned() } else { format!(":\n\n{greeting}\n") };
    let changed = stream::unfold((told, api, place), move |(mut told, api, place)| async move {
        let text = match timeout(HEARTBEAT, told.next()).await {
            Ok(Next::Job(sequence, number)) => match tell(&api, sequence).await {
                // One line: serde_json escapes what would end it.
                Ok(Some(job)) => format!("event: job\nid: {}\ndata: {job}\n\n", event_id(run, number)),
                Ok(None) => ":\n\n".to_owned(),
                // The state is opened anew: what it is like then is told with its next change.
                Err(_) => "event: missed\ndata: 1\n\n".to_owned(),
            },
            Ok(Next::Missed(missed)) => format!("event: missed\ndata: {missed}\n\n"),
            Ok(Next::End) => return None,
            Err(_) => ":\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (told, api, place)))
    });
    let greeting = stream::once(async { Ok(Bytes::from(greeting)) });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx would wait for more than there is.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(greeting.chain(changed)))
}

/// The changes behind the one with this number, if they are known and few enough to be told one by one.
fn changes_since(state: &State, number: u64) -> Option<impl Iterator<Item = JobChanged> + use<>> {
    const MAX_TOLD_ANEW: usize = 4096;
    let sequences = state.changed_since(number).filter(|sequences| sequences.len() <= MAX_TOLD_ANEW)?;
    // What state it was in then is nobody's question: it is read when it is told.
    let change = |(sequence, number)| JobChanged { sequence, state: JobState::Running, number, is_retry: false };
    Some(sequences.into_iter().zip(number + 1..).map(change))
}

async fn tell(api: &Api, sequence: u64) -> Result<Option<String>, ApiError> {
    let read = move |state: &State| state.job_at(sequence)?.map(|record| job_view(state, &record)).transpose();
    let Some(mut job) = api.read(read).await? else { return Ok(None) };
    api.add_links(std::slice::from_mut(&mut job), false).await?;
    Ok(Some(serde_json::to_string(&job).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(sequence: u64) -> ChangeNotice {
        ChangeNotice::Job(JobChanged { sequence, state: JobState::Running, number: sequence, is_retry: false })
    }

    #[tokio::test]
    async fn a_job_that_changes_often_before_it_is_told_is_told_once() {
        let changes = broadcast::Sender::new(4096);
        let mut told = Told::new(changes.subscribe());
        for round in 0..3000 {
            changes.send(changed(round % 3)).unwrap();
        }
        changes.send(ChangeNotice::End).unwrap();
        for expected in 0..3 {
            assert!(matches!(told.next().await, Next::Job(sequence, _) if sequence == expected));
        }
        assert!(matches!(told.next().await, Next::End));
    }

    #[tokio::test]
    async fn a_gap_is_told_before_any_job_that_waits() {
        let changes = broadcast::Sender::new(16);
        let mut told = Told::new(changes.subscribe());
        for notice in [changed(1), ChangeNotice::Gap, changed(3)] {
            changes.send(notice).unwrap();
        }
        assert!(matches!(told.next().await, Next::Missed(1)));
        for expected in [1, 3] {
            assert!(matches!(told.next().await, Next::Job(sequence, _) if sequence == expected));
        }
    }

    #[tokio::test]
    async fn of_more_changes_than_can_wait_the_number_is_told() {
        let changes = broadcast::Sender::new(16);
        let mut told = Told::new(changes.subscribe());
        for sequence in 0..100 {
            changes.send(changed(sequence)).unwrap();
        }
        assert!(matches!(told.next().await, Next::Missed(84)), "before the jobs behind the gap");
        for expected in 84..100 {
            assert!(matches!(told.next().await, Next::Job(sequence, _) if sequence == expected));
        }
        for sequence in 0..5000 {
            changes.send(changed(sequence)).unwrap();
            told.take_all();
        }
        assert_eq!((told.waiting.len(), told.known.len()), (Told::MAX_WAITING, Told::MAX_WAITING));
    }
}
