//! Asks the provider about final callbacks before anything follows from them.
//!
//! What waits is recorded with its job, and so is what becomes of it: a crash between any two steps only makes the
//! provider be asked again. A question without an answer is asked again ever more rarely, and holds up no other. A provider
//! that cannot be connected to uses nothing up and writes nothing: one question at a time looks whether it is back.

mod compare;
mod open_since;
mod question;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::open_since::OpenSince;
use self::question::{AskError, AskResult, Question};
use super::shards;
use crate::cluster::Share;
use crate::domain::Timestamp;
use crate::provider::Client;
use crate::state::{EventLog, State};

/// Confirms or refutes final callbacks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Confirmer {
    inner: Arc<Inner>,
    log: EventLog,
}

/// What all questions share.
#[derive(Debug)]
struct Inner {
    client: Option<Client>,
    patience: Duration,
    open_since: OpenSince,
    stop: watch::Sender<bool>,
}

/// Questions being asked.
#[derive(Default)]
struct InFlight {
    tasks: JoinSet<AskResult>,
    jobs: HashMap<Id, u64>,
    /// Until when nothing is asked because what was said could not be recorded.
    backoff_until: Option<Instant>,
}

impl Confirmer {
    /// How long the provider may take to know of a callback's end of a job; longer, and it is refuted.
    pub const PATIENCE: Duration = Duration::from_secs(300);
    /// Questions at a time.
    const AT_ONCE: usize = 4;
    /// Of what is due, so much is looked at for what is this replica's.
    const LOOKED_AT: usize = 4096;
    /// Between two looks at what cannot be read, or not be recorded.
    const STATE_PAUSE: Duration = Duration::from_secs(2);
    /// No question is put off for longer: an account on hold is left alone for two hours.
    const LONGEST_PAUSE: Duration = Duration::from_secs(3 * 3600);

    /// Asks `client`. Without one whatever waits is believed: it came while the provider was to be asked, and now it is
    /// not to be any more.
    pub fn new(log: EventLog, client: Option<Client>, patience: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let open_since = OpenSince::default();
        Self { inner: Arc::new(Inner { client, patience, open_since, stop }), log }
    }

    /// Asks nothing from now on; [`Confirmer::run`] returns at once.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    fn state(&self) -> &State {
        self.log.state()
    }

    /// Works until [`Confirmer::stop`] is called. A question that is cut off is asked again after the next start.
    pub async fn run(&self) {
        let mut stop = self.inner.stop.subscribe();
        tokio::select! {
            _ = self.log.recovered() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let mut asking = InFlight::default();
        let mut shares = self.log.cluster().map(|cluster| cluster.shares().changes());
        while !*stop.borrow_and_update() {
            let resumed = self.inner.client.as_ref().map(|client| client.circuit_breaker().resumed());
            let at_once = if self.is_unreachable() { 1 } else { Self::AT_ONCE };
            let backoff_until = asking.backoff_until.filter(|until| *until > Instant::now());
            let paused = backoff_until.max(self.paused_until());
            let next = paused.or_else(|| self.dispatch(&mut asking, at_once));
            let has_room = paused.is_none() && asking.tasks.len() < at_once;
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = asking.tasks.join_next_with_id(), if !asking.tasks.is_empty() => {
                    self.ended(&mut asking, ended).await;
                }
                () = self.state().confirmations_changed(), if has_room => {}
                () = shards::changed(&mut shares) => {}
                Some(()) = OptionFuture::from(resumed) => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        asking.tasks.shutdown().await;
    }

    fn paused_until(&self) -> Option<Instant> {
        self.inner.client.as_ref()?.circuit_breaker().paused_until()
    }

    fn is_unreachable(&self) -> bool {
        self.inner.client.as_ref().is_some_and(|client| client.circuit_breaker().is_unreachable())
    }

    /// Asks what is due and has room. Returns when to look again, if that is known.
    fn dispatch(&self, asking: &mut InFlight, at_once: usize) -> Option<Instant> {
        let now = Timestamp::now();
        // Of what is due, some is other replicas'.
        let most = if self.log.cluster().is_some() { Self::LOOKED_AT } else { 2 * Self::AT_ONCE };
        let (due, next) = match self.state().confirmations_due(now, Self::LONGEST_PAUSE, most) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "what waits to be confirmed cannot be read yet");
                return Some(Instant::now() + Self::STATE_PAUSE);
            }
        };
        for sequence in due {
            if asking.tasks.len() >= at_once {
                return None;
            }
            if asking.jobs.values().any(|asked| *asked == sequence) {
                continue;
            }
            let Some(share) = self.state().share(sequence) else { continue };
            let question = self.question(sequence, share.as_ref().map(Share::fence));
            let task = asking.tasks.spawn(async move {
                let _share = share;
                question.ask().await
            });
            asking.jobs.insert(task.id(), sequence);
        }
        next.map(|at| Instant::now() + at.since(now))
    }

    async fn ended(&self, asking: &mut InFlight, ended: Result<(Id, AskResult), JoinError>) {
        let (id, asked) = match ended {
            Ok((id, asked)) => (id, Some(asked)),
            Err(error) => (error.id(), None),
        };
        let sequence = asking.jobs.remove(&id);
        match asked {
            // The client knows how long it is to be left alone.
            Some(Ok(()) | Err(AskError::Provider(_))) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "what the provider says cannot be recorded yet");
                asking.backoff_until = Some(Instant::now() + Self::STATE_PAUSE);
            }
            None => {
                tracing::error!(sequence, "a defect cut a question to the provider off");
                if let Some(sequence) = sequence {
                    // It would strike again at once.
                    let _ = self.question(sequence, None).put_off().await;
                }
            }
        }
    }

    fn question(&self, sequence: u64, fence: Option<u64>) -> Question {
        Question::new(self.inner.clone(), self.log.fenced(fence), sequence)
    }
}
