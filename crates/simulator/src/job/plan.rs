use std::time::Duration;

use crate::faults::{Fault, Faults};
use crate::seeded_rng::Dice;
use replyvault_domain::{JobId, Kind};

use super::Request;

/// How a job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With media.
    Completed,
    /// Without.
    Failed,
    /// Refused by the provider's moderation; an agent job shows this as failed.
    Moderated,
    /// Made, then taken down unannounced: no final callback, and GET answers 404.
    Removed,
}

/// What the provider says of a file's watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// That there is none.
    Clean,
    /// Nothing.
    Unknown,
    /// That there is one.
    Watermarked,
}

/// Which variants of its files a job offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Clean,
    NoClean,
    WatermarkOnly,
}

/// How far a running job is, from `at` on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) at: Duration,
    pub(crate) status: u8,
    pub(crate) percent: u8,
    pub(crate) message: &'static str,
}

/// What becomes of a job, decided when it is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) outcome: Outcome,
    pub(crate) offer: Offer,
    pub(crate) progress: Vec<Progress>,
    pub(crate) ends: Duration,
    /// From when on every attachment is there: later than `ends` where one is still being processed then.
    pub(crate) settles: Duration,
    /// Whether its files stand in the body itself, where its API does that.
    pub(crate) is_inline: bool,
    /// The numeric status that says moderated, of the several there are.
    pub(crate) moderated_status: u8,
    /// What a failed agent job gives as its error's status, and to a caller who waited for it.
    pub(crate) failure_status: u16,
}

impl Plan {
    pub(super) fn new(id: &JobId, request: &Request, dice: Dice, faults: &Faults, pace: Duration) -> Self {
        let happens = |fault: Fault| dice.hits(faults.chance(fault), fault.name(), id.as_str(), 0);
        let retired = request.form.is_none() && matches!(id.kind(), Kind::Music | Kind::Speech);
        let outcome = match () {
            // Their create calls answer with the URL at once.
            () if retired => Outcome::Completed,
            () if request.fails_with.is_some() || happens(Fault::Fail) => Outcome::Failed,
            () if happens(Fault::Moderate) => Outcome::Moderated,
            () if happens(Fault::Remove) => Outcome::Removed,
            () => Outcome::Completed,
        };
        let offer = match () {
            () if happens(Fault::WatermarkOnly) => Offer::WatermarkOnly,
            () if happens(Fault::NoClean) => Offer::NoClean,
            () => Offer::Clean,
        };
        let ends =
            if retired { Duration::ZERO } else { pace.mul_f64(0.75 + 0.25 * dice.share("pace", id.as_str(), 0)) };
        let can_be_late = id.kind() == Kind::Agent || request.form.is_some_and(|form| form.is_late);
        let late = can_be_late && outcome == Outcome::Completed && happens(Fault::Processing);
        let jitter = |turn| (dice.number("percent", id.as_str(), turn) % 20) as u8;
        let step =
            |share: f64, status, percent, message| Progress { at: ends.mul_f64(share), status, percent, message };
        let calls_progress = request.form.and_then(|form| form.api()).is_some_and(|api| api.calls_progress);
        let progress = match id.kind() {
            _ if request.form.is_some() && !calls_progress => Vec::new(),
            _ if request.form.is_some() => {
                vec![step(0.1, 11, 0, "In the queue"), step(0.5, 1, 10 + jitter(1), "Rendering")]
            }
            Kind::Video | Kind::Image => vec![
                step(0.1, 11, 0, "In the queue"),
                step(0.35, 1, 10 + jitter(1), "Rendering"),
                step(0.6, 1, 40 + jitter(2), "Rendering"),
                step(0.85, 12, 75 + jitter(3), "Almost there"),
            ],
            Kind::Agent | Kind::Music | Kind::Speech | Kind::Other => Vec::new(),
        };
        let settles = if late { ends + pace } else { ends };
        let moderated_status = [5, 7, 14][(dice.number("moderated", id.as_str(), 0) % 3) as usize];
        let failure_status = if dice.hits(0.5, "timeout", id.as_str(), 0) { 504 } else { 500 };
        let failure_status = request.fails_with.unwrap_or(failure_status);
        let is_inline = happens(Fault::Inline);
        Self { outcome, offer, progress, ends, settles, is_inline, moderated_status, failure_status }
    }
}
