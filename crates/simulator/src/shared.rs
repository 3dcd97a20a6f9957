use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::Uri;
use parking_lot::{Mutex, RwLock};
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account_data::Belongings;
use super::callbacks;
use super::cdn::SignedLinks;
use super::clock::Clock;
use super::faults::{Fault, Faults};
use super::job::{Job, Request};
use super::json_noise::Odd;
use super::seeded_rng::Dice;
use super::stats::Counters;
use super::store::Store;

/// What handlers and callback tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) faults: Faults,
    pub(super) read_faults: RwLock<Faults>,
    pub(super) pace: Duration,
    pub(super) video_bytes: Option<u64>,
    pub(super) tokens: Vec<SecretString>,
    pub(super) clock: Clock,
    pub(super) dice: Dice,
    pub(super) links: SignedLinks,
    pub(super) store: Store,
    pub(super) belongings: Belongings,
    pub(super) stats: Counters,
    pub(super) calls: AtomicU64,
    pub(super) creates: AtomicU64,
    pub(super) cdn_turns: Mutex<HashMap<String, u64>>,
    pub(super) reads: AtomicU64,
    pub(super) client: reqwest::Client,
    /// Where callbacks are sent from; handlers run on the server's own, which ends before the last of them may.
    pub(super) runtime: Handle,
    pub(super) tasks: Mutex<JoinSet<()>>,
    pub(super) outstanding: watch::Sender<usize>,
}

impl Shared {
    /// Makes `count` jobs and starts their callbacks; `None` when there are too many already.
    pub(super) fn create(self: Arc<Self>, request: Request, count: u64) -> Option<Vec<Arc<Job>>> {
        // Eighteen digits, as the provider's.
        let base = 400_000_000_000_000_000 + self.dice.number("ids", "", 0) % 10_000_000_000 * 10_000_000;
        let made = self.store.add(|number| {
            let batch = format!("3{:017}", self.dice.number("batch", "", number) % 100_000_000_000_000_000);
            let created = self.clock.now();
            let job =
                |n| Job::new(base + number + n, &batch, request.clone(), created, self.dice, &self.faults, self.pace);
            (0..count).map(job).collect()
        });
        let jobs = made.ok().filter(|jobs: &Vec<_>| !jobs.is_empty())?;
        self.stats.jobs.add(jobs.len() as u64);
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        for job in &jobs {
            let outstanding = Outstanding::new(&self);
            let (shared, job) = (Arc::clone(&self), Arc::clone(job));
            let callbacks = async move {
                callbacks::run(shared, job).await;
                drop(outstanding);
            };
            tasks.spawn_on(callbacks, &self.runtime);
        }
        drop(tasks);
        Some(jobs)
    }

    /// The running number of a call of the API.
    pub(super) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether what a call for `uri` answers is to be odd: always the same for the same URI.
    pub(super) fn is_odd(&self, uri: &Uri) -> bool {
        self.dice.hits(self.faults.chance(Fault::Odd), Fault::Odd.name(), &uri.to_string(), 0)
    }

    pub(super) fn odd<'a>(&self, subject: &'a str) -> Odd<'a> {
        Odd::new(self.dice, subject)
    }

    /// An id of eighteen digits, as the provider's.
    pub(super) fn id(&self, what: &str, number: u64) -> String {
        format!("{}", 200_000_000_000_000_000 + self.dice.number(what, "", number) % 100_000_000_000_000_000)
    }

    /// How long a job has been running by the clock that answers show, as `mm:ss`.
    pub(super) fn elapsed(&self, job: &Job) -> String {
        let seconds = self.clock.now().since(job.created).as_secs();
        format!("{:02}:{:02}", seconds / 60, seconds % 60)
    }

    /// Links as a call that makes or ends a job tells them first: past their time where that is asked for.
    pub(super) fn first_links(&self, job: &Job) -> Cow<'_, SignedLinks> {
        let is_stale = self.dice.hits(self.faults.chance(Fault::Stale), Fault::Stale.name(), job.id.as_str(), 0);
        if is_stale { Cow::Owned(self.links.expired()) } else { Cow::Borrowed(&self.links) }
    }

    /// The running number of a call that would make something.
    pub(super) fn next_create(&self) -> u64 {
        self.creates.fetch_add(1, Ordering::Relaxed)
    }

    /// Which of `faults` this GET of a job or a list meets, if any.
    pub(super) fn read_fault(&self, faults: &[Fault]) -> Option<Fault> {
        let turn = self.reads.fetch_add(1, Ordering::Relaxed);
        let chances = self.read_faults.read();
        faults.iter().copied().find(|fault| self.dice.hits(chances.chance(*fault), fault.name(), "read", turn))
    }

    /// The running number of a request for this file.
    pub(super) fn cdn_turn(&self, path: &str) -> u64 {
        let mut turns = self.cdn_turns.lock();
        let turn = turns.entry(path.to_owned()).or_insert(0);
        *turn += 1;
        *turn
    }
}

/// Counts one job's callbacks as outstanding while it lives, whichever way its task ends.
struct Outstanding(Arc<Shared>);

impl Outstanding {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.outstanding.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.send_modify(|count| *count -= 1);
    }
}
