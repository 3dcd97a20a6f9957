//! A job: what was asked, what will become of it, and the files it makes. What it is at a moment follows from the
//! clock alone, so that answers don't depend on whether callbacks got through.

mod assets;
mod plan;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use replyvault_domain::{JobId, JobIdParseError, Kind, Timestamp};

use super::apis;
use super::faults::Faults;
use super::seeded_rng::Dice;
pub(super) use assets::{Asset, Form, Links, Published};
pub(super) use plan::{Offer, Plan, Progress};
pub use plan::{Outcome, Variant};

/// The one user, and the account of a caller who names none.
pub(super) const USER: &str = "4821";
pub(super) const ACCOUNT: &str = "730015522";

/// The same user where the provider shows a number: beyond what many languages hold exactly, as the provider's are.
pub(super) const USER_ID: u64 = 923_847_293_472_394_001;

/// What a caller asked for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// What becomes of it, where that is in the table of APIs.
    pub(super) form: Option<&'static apis::Form>,
    pub(super) kind: Kind,
    pub(super) account: String,
    pub(super) prompt: String,
    /// The models an agent may use; one, or none, for the rest.
    pub(super) models: Vec<String>,
    pub(super) title: String,
    pub(super) aspect_ratio: String,
    pub(super) reply_url: Option<String>,
    pub(super) reply_ref: Option<String>,
    /// An agent's `async`, where it was given.
    pub(super) background: Option<bool>,
    /// What the caller sent along, as an agent job shows it.
    pub(super) files: Vec<Value>,
    /// The uploaded file that a video starts from.
    pub(super) input: Option<String>,
    /// How large the job's MP4s are to be.
    pub(super) size: Option<u64>,
    /// How many videos the account may have running with this one.
    pub(super) max_jobs: Option<usize>,
    /// Decided already: it fails, with this HTTP status.
    pub(super) fails_with: Option<u16>,
}

impl Request {
    /// `replyUrl` and `replyRef` as far as they were given.
    pub(super) fn reply(&self) -> impl Iterator<Item = (String, Value)> {
        let reply = [("replyUrl", &self.reply_url), ("replyRef", &self.reply_ref)];
        reply.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())))
    }
}

/// The moment a job is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    Running(Progress),
    /// Over. Not `whole` while an agent's first attachment is still being processed.
    Final {
        whole: bool,
    },
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    /// The last number of the id.
    pub(super) own: String,
    /// The same.
    pub(super) number: u64,
    /// Images made by one call share this.
    pub(super) batch: String,
    pub(super) created: Timestamp,
    pub(super) request: Request,
    pub(super) plan: Plan,
    pub(super) assets: Vec<Asset>,
    started: Instant,
    deleted: AtomicBool,
    untracked: AtomicBool,
    heard: AtomicBool,
    /// When after its creation the caller gave it up.
    cancelled: OnceLock<Duration>,
}

impl Job {
    pub(super) fn new(
        own: u64,
        batch: &str,
        request: Request,
        created: Timestamp,
        dice: Dice,
        faults: &Faults,
        pace: Duration,
    ) -> Result<Self, JobIdParseError> {
        let account = &request.account;
        let of_user = |name| format!("user:{USER}-minimax:{account}-{name}:{own}");
        let id = match request.form {
            Some(form) => form.job_id(own)?,
            None => match request.kind {
                Kind::Video | Kind::Other => of_user("video"),
                Kind::Image => of_user("image"),
                Kind::Music => of_user("music"),
                Kind::Speech => of_user("audio"),
                Kind::Agent => format!("p{own}-u{USER}-a{account}-bot:minimax"),
            }
            .parse()?,
        };
        let plan = Plan::new(&id, &request, dice, faults, pace);
        let assets = assets::of(&id, own, created, &request, &plan);
        Ok(Self {
            own: own.to_string(),
            number: own,
            batch: batch.into(),
            created,
            plan,
            assets,
            started: Instant::now(),
            deleted: AtomicBool::new(false),
            untracked: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            cancelled: OnceLock::new(),
            id,
            request,
        })
    }

    pub(super) fn kind(&self) -> Kind {
        self.request.kind
    }

    /// Whether an API makes it.
    pub(super) fn is_of(&self, api: &str) -> bool {
        self.request.form.map_or(JobId::FIRST_API, |form| form.api) == api
    }

    /// When, after its creation, something of the job happens.
    pub(super) fn at(&self, offset: Duration) -> Instant {
        self.started + offset
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage_after(self.started.elapsed())
    }

    pub(super) fn stage_after(&self, elapsed: Duration) -> Stage {
        if elapsed >= self.plan.ends || self.cancelled.get().is_some_and(|at| elapsed >= *at) {
            return Stage::Final { whole: elapsed >= self.plan.settles };
        }
        let reached = self.plan.progress.iter().rev().find(|progress| progress.at <= elapsed);
        Stage::Running(reached.cloned().unwrap_or_default())
    }

    pub(super) fn is_final(&self) -> bool {
        matches!(self.stage(), Stage::Final { .. })
    }

    /// How it ends, as far as is known by now.
    pub(super) fn outcome(&self) -> Outcome {
        if self.was_cancelled() { Outcome::Failed } else { self.plan.outcome }
    }

    /// Whether the provider denies that the job exists. Deleted images can still be read by their id.
    pub(super) fn is_gone(&self) -> bool {
        let is_deleted = self.kind() != Kind::Image && self.deleted.load(Ordering::Relaxed);
        let hides = |form: &apis::Form| {
            form.hides_running && !self.is_final()
                || form.hides_moderated && self.outcome() == Outcome::Moderated && self.is_final()
        };
        is_deleted || self.outcome() == Outcome::Removed && self.is_final() || self.request.form.is_some_and(hides)
    }

    /// Ends it as failed, unless it is over.
    pub(super) fn cancel(&self) {
        if !self.is_final() {
            let _ = self.cancelled.set(self.started.elapsed());
        }
    }

    pub(super) fn was_cancelled(&self) -> bool {
        self.cancelled.get().is_some()
    }

    pub(super) fn delete(&self) {
        self.deleted.store(true, Ordering::Relaxed);
    }

    /// Whether lists show it.
    pub(super) fn is_listed(&self) -> bool {
        let is_removed = self.outcome() == Outcome::Removed && self.is_final();
        !self.deleted.load(Ordering::Relaxed) && !is_removed
    }

    /// Ends the callbacks; false when there were none to end.
    pub(super) fn untrack(&self) -> bool {
        self.is_tracked() && !self.untracked.swap(true, Ordering::Relaxed)
    }

    /// Whether callbacks are due.
    pub(super) fn is_tracked(&self) -> bool {
        !self.untracked.load(Ordering::Relaxed) && !self.is_final()
    }

    pub(super) fn was_untracked(&self) -> bool {
        self.untracked.load(Ordering::Relaxed)
    }

    /// A final callback was answered with 2xx.
    pub(super) fn set_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}
