//! Asks the provider about final callbacks before anything follows from them.
//!
//! What waits is recorded with its job, and so is what becomes of it: a crash between any two steps only makes the
//! provider be asked again. A question without an answer is asked again ever more rarely, and holds up no other. A provider
//! that cannot be connected to uses nothing up and writes nothing: one question at a time looks whether it is back.
//!
//! The holder of a reply URL may invent jobs without end. So the targets over which callbacks came take turns, and none has more
//! than three quarters of the places. Since the provider is asked one question at a time about each of its accounts, no more
//! than one question about an account takes a place.

mod backlog;
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

use self::backlog::{Backlog, Turn};
use self::open_since::OpenSince;
use self::question::{AskError, AskResult, Question};
use super::shards;
use crate::cluster::Share;
use crate::domain::{Target, Timestamp};
use crate::provider::{Client, turn_of};
use crate::state::{EventLog, State, StateError};

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

/// Questions that are due, and those being asked.
#[derive(Default)]
struct Questions {
    tasks: JoinSet<AskResult>,
    in_flight: HashMap<Id, InFlight>,
    backlog: Backlog,
    /// Where the last look at what is due ended; `None` when it came to the end.
    looked_to: Option<(Timestamp, u64)>,
    /// When the next look may be.
    look_at: Option<Instant>,
    /// Until when nothing is asked because what was said could not be recorded.
    backoff_until: Option<Instant>,
}

/// A question being asked.
struct InFlight {
    sequence: u64,
    turn: Turn,
}

impl Confirmer {
    /// How long the provider may take to know of a callback's end of a job; longer, and it is refuted.
    pub const PATIENCE: Duration = Duration::from_secs(300);
    /// Questions at a time.
    const AT_ONCE: usize = 4;
    /// Of these, questions for one target.
    const OF_ONE_TARGET: usize = Self::AT_ONCE - Self::AT_ONCE.div_ceil(4);
    /// Of what is due, so many jobs are read in one look; the next begins behind them. Where more are due, one that becomes due
    /// waits until the looks come to it: a second for each 5,000 of the others.
    const LOOKED_AT: usize = 256;
    /// Between two looks.
    const LOOK_PAUSE: Duration = Duration::from_millis(50);
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
        let mut questions = Questions::default();
        let mut shares = self.log.cluster().map(|cluster| cluster.shares().changes());
        while !*stop.borrow_and_update() {
            let resumed = self.inner.client.as_ref().map(|client| client.circuit_breaker().resumed());
            let at_once = if self.is_unreachable() { 1 } else { Self::AT_ONCE };
            let backoff_until = questions.backoff_until.filter(|until| *until > Instant::now());
            let paused = backoff_until.max(self.paused_until());
            let next = paused.or_else(|| self.dispatch(&mut questions, at_once));
            let has_room = paused.is_none() && questions.tasks.len() < at_once;
            tokio::select! {
                _ = stop.changed() => {}
                Some(ended) = questions.tasks.join_next_with_id(), if !questions.tasks.is_empty() => {
                    self.ended(&mut questions, ended).await;
                }
                () = self.state().confirmations_changed(), if has_room => {}
                () = shards::changed(&mut shares) => {}
                Some(()) = OptionFuture::from(resumed) => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        questions.tasks.shutdown().await;
    }

    fn paused_until(&self) -> Option<Instant> {
        self.inner.client.as_ref()?.circuit_breaker().paused_until()
    }

    fn is_unreachable(&self) -> bool {
        self.inner.client.as_ref().is_some_and(|client| client.circuit_breaker().is_unreachable())
    }

    /// Asks what is due and has room. Returns when to look again, if that is known.
    fn dispatch(&self, questions: &mut Questions, at_once: usize) -> Option<Instant> {
        self.ask_due(questions, at_once).unwrap_or_else(|error| {
            tracing::debug!(%error, "what waits to be confirmed cannot be read yet");
            Some(Instant::now() + Self::STATE_PAUSE)
        })
    }

    fn ask_due(&self, questions: &mut Questions, at_once: usize) -> Result<Option<Instant>, StateError> {
        let now = Timestamp::now();
        let next = self.look(questions, now)?;
        while questions.tasks.len() < at_once {
            let in_flight = &questions.in_flight;
            let may_ask = |target: &Target, account: &str| Self::may_ask(in_flight, target, account);
            let Some((turn, sequence)) = questions.backlog.pop(may_ask) else { break };
            self.begin(questions, turn, sequence, now)?;
        }
        Ok(next)
    }

    /// Reads on in what is due, unless the last look was just now. Returns when to look again, if that is known.
    fn look(&self, questions: &mut Questions, now: Timestamp) -> Result<Option<Instant>, StateError> {
        let instant = Instant::now();
        if let Some(look_at) = questions.look_at.filter(|look_at| *look_at > instant) {
            return Ok(Some(look_at));
        }
        let (state, after) = (self.state(), questions.looked_to);
        let (due, next) = state.confirmations_due(now, Self::LONGEST_PAUSE, after, Self::LOOKED_AT)?;
        let jobs = state.job_batch(due.iter().map(|(_, sequence)| *sequence))?;
        for (at, sequence) in &due {
            if state.share(*sequence).is_none() {
                continue;
            }
            let Some(job) = jobs.without_files(*sequence)? else { continue };
            let account = turn_of(&job.id);
            // A forged callback does not make the true one wait for the turn of the forger.
            for callback in &job.unconfirmed {
                questions.backlog.add(&callback.target, &account, *at, *sequence);
            }
        }
        questions.look_at = Some(instant + Self::LOOK_PAUSE);
        questions.looked_to = due.last().copied().filter(|_| due.len() == Self::LOOKED_AT);
        // What is due and left out has to be found again.
        let is_over = due.is_empty() && after.is_none();
        Ok(if is_over { next.map(|at| instant + at.since(now)) } else { questions.look_at })
    }

    /// Whether there is room for a question for `target` about `account`.
    fn may_ask(in_flight: &HashMap<Id, InFlight>, target: &Target, account: &str) -> bool {
        let turns = || in_flight.values().map(|question| &question.turn);
        turns().all(|turn| turn.account != account)
            && turns().filter(|turn| turn.target == *target).count() < Self::OF_ONE_TARGET
    }

    /// Asks about a job, unless it is another replica's or not due any more.
    fn begin(&self, questions: &mut Questions, turn: Turn, sequence: u64, now: Timestamp) -> Result<(), StateError> {
        let due = self.state().job_without_files(sequence)?.and_then(|job| job.confirm_at);
        if due.is_none_or(|due| !due.has_come(now, Self::LONGEST_PAUSE)) {
            return Ok(());
        }
        let Some(share) = self.state().share(sequence) else { return Ok(()) };
        let question = self.question(sequence, share.as_ref().map(Share::fence));
        let task = questions.tasks.spawn(async move {
            let _share = share;
            question.ask().await
        });
        questions.backlog.take_turn(turn.clone());
        questions.in_flight.insert(task.id(), InFlight { sequence, turn });
        Ok(())
    }

    async fn ended(&self, questions: &mut Questions, ended: Result<(Id, AskResult), JoinError>) {
        let (id, asked) = match ended {
            Ok((id, asked)) => (id, Some(asked)),
            Err(error) => (error.id(), None),
        };
        let sequence = questions.in_flight.remove(&id).map(|question| question.sequence);
        match asked {
            // The client knows how long it is to be left alone.
            Some(Ok(()) | Err(AskError::Provider(_))) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "what the provider says cannot be recorded yet");
                questions.backoff_until = Some(Instant::now() + Self::STATE_PAUSE);
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
