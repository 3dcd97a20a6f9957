//! Why an attempt at a file failed, and what follows from it.

use std::time::Duration;

use super::retry;
use crate::bucket::{BucketError, KeyParseError};
use crate::domain::{AttemptFailure, StuckReason, Timestamp};
use crate::fetch::{ContainerError, ErrorClass, FetchError, MediaType};
use crate::provider::ProviderError;
use crate::state::{RecordError, StateError};

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    /// The source.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What came is not whole.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// What came is no media.
    #[error("expected media, found {0}")]
    NotMedia(&'static str),
    /// What came is not what a video's subtitles can be.
    #[error("expected subtitles, found {0}")]
    NotSubtitles(&'static str),
    /// The end of the file shows that it is of another type than its upload was begun under.
    #[error("the file turned out to be {0:?} at its end")]
    OtherType(MediaType),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Storage refuses this object and takes others; `for_good` unless that is a matter of permissions.
    #[error("storage takes other objects and not this one: {error}")]
    StorageRefuses {
        /// What it says.
        error: BucketError,
        /// Whether trying again can hardly help.
        for_good: bool,
    },
    /// A key that was recorded is none by the rules of this version.
    #[error(transparent)]
    Key(#[from] KeyParseError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] RecordError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state is being rebuilt: what was recorded will be known when that is done.
    #[error("the state is being rebuilt")]
    Deferred,
    /// The provider, asked for a file or its place.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The file is to be had with our token for the provider, and there is none.
    #[error("this file is to be had with a token alone: set provider.api_token")]
    NeedsToken,
    /// The callback that holds the file cannot be read.
    #[error("the callback that holds this file cannot be read")]
    NotInBody,
    /// Only clean files are wanted.
    #[error("no URL is known to be without a watermark, and only such are wanted")]
    NoCleanUrl,
    /// These bytes must be stored under another key than the one their upload was begun for.
    #[error("the bytes have to be sent again, to {0}")]
    ObjectMissing(String),
    /// The key belongs to other bytes, and so does the one that would take its place.
    #[error("the key {0} belongs to other bytes")]
    KeyTaken(String),
}

impl AttemptError {
    /// True for what was not the file's fault: it must not use up the file's attempts.
    fn is_local_failure(&self) -> bool {
        match self {
            Self::Bucket(error) => error.is_outage(),
            Self::Journal(_) | Self::State(_) | Self::Deferred | Self::ObjectMissing(_) | Self::NeedsToken => true,
            Self::Provider(error) => matches!(error, ProviderError::TokenRefused | ProviderError::OnHold),
            Self::NotInBody
            | Self::Fetch(_)
            | Self::StorageRefuses { .. }
            | Self::Container(_)
            | Self::NotMedia(_)
            | Self::NotSubtitles(_)
            | Self::OtherType(_)
            | Self::NoCleanUrl
            | Self::Key(_)
            | Self::KeyTaken(_) => false,
        }
    }

    /// True when the link may have died, and the provider may name another.
    pub(super) fn is_dead_link(&self) -> bool {
        matches!(self, Self::Fetch(FetchError::Status { status, .. }) if matches!(status.as_u16(), 403 | 404 | 410))
    }

    /// True when the source says that there is no file, or sends something else in its place.
    pub(super) fn says_no_file(&self) -> bool {
        self.is_dead_link() || matches!(self, Self::NotMedia(_) | Self::NotSubtitles(_))
    }

    /// Set when storage as a whole fails.
    pub(super) fn storage_outage(&self) -> Option<&BucketError> {
        match self {
            Self::Bucket(error) if error.is_outage() => Some(error),
            _ => None,
        }
    }

    /// Whether what has been sent so far is good to go on from: true unless the bytes may be wrong, or the upload is lost
    /// or for another key.
    pub(super) fn keeps_upload(&self) -> bool {
        match self {
            Self::Fetch(FetchError::Checksum { .. } | FetchError::Changed) => false,
            Self::Fetch(error) => matches!(error.class(), ErrorClass::Transient | ErrorClass::Gone),
            Self::Bucket(error) => error.is_outage(),
            Self::Journal(_) | Self::State(_) | Self::Deferred | Self::Provider(_) | Self::NeedsToken => true,
            Self::StorageRefuses { .. }
            | Self::NotInBody
            | Self::Container(_)
            | Self::NotMedia(_)
            | Self::NotSubtitles(_)
            | Self::OtherType(_)
            | Self::Key(_)
            | Self::NoCleanUrl
            | Self::ObjectMissing(_)
            | Self::KeyTaken(_) => false,
        }
    }

    /// Whether a download that was gone on with is to be begun anew at once.
    pub(super) fn starts_over(&self) -> bool {
        let is_lost = matches!(self, Self::Fetch(FetchError::Changed) | Self::Bucket(BucketError::UploadLost { .. }));
        is_lost || matches!(self, Self::OtherType(_))
    }

    /// From which attempt on a file that storage refuses is given up.
    fn refused_after(&self, max_attempts: u16) -> Option<u16> {
        /// Each costs a download.
        const MAX_REFUSED_ATTEMPTS: u16 = 3;
        match self {
            Self::StorageRefuses { for_good, .. } => {
                Some(if *for_good { max_attempts.min(MAX_REFUSED_ATTEMPTS) } else { max_attempts })
            }
            _ => None,
        }
    }

    /// Set when no further attempt at the same URL can succeed.
    fn is_permanent(&self) -> Option<StuckReason> {
        match self {
            Self::NoCleanUrl => Some(StuckReason::NoCleanUrl),
            Self::Fetch(FetchError::TooLarge { .. }) => Some(StuckReason::RefusedByPolicy),
            Self::Fetch(error) if error.class() == ErrorClass::Refused => Some(StuckReason::RefusedByPolicy),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fetch(error) => error.retry_after(),
            // Until somebody sets it, or it is good again.
            Self::NeedsToken | Self::Provider(ProviderError::TokenRefused) => Some(Duration::from_secs(600)),
            Self::Provider(ProviderError::OnHold) => Some(Duration::from_secs(1800)),
            Self::Provider(ProviderError::Busy { retry_after }) => retry_after.or(Some(Duration::from_secs(30))),
            _ => None,
        }
    }

    /// From which attempt on the next best URL is tried too, when this one fails like this. A link that has only just
    /// been made may not be everywhere yet, and a host may be down for minutes: a worse file is better than none, but
    /// not better than a short wait.
    fn falls_back_from(&self) -> u16 {
        if self.is_permanent().is_some() {
            return 1;
        }
        match self {
            Self::Fetch(error) if error.class() == ErrorClass::Transient => 6,
            Self::Provider(ProviderError::NoAnswer(_) | ProviderError::Unreachable(_) | ProviderError::Failed(_)) => 6,
            // "Not yet" for some minutes, where a file is made only when it is asked for.
            Self::Provider(ProviderError::Gone) => 8,
            // It only wants patience.
            Self::Provider(ProviderError::Busy { .. } | ProviderError::OnHold) => u16::MAX,
            Self::NeedsToken | Self::Provider(ProviderError::TokenRefused | ProviderError::Forbidden) => 1,
            _ => 3,
        }
    }

    /// Whether the next best URL is to be tried in the same attempt, the `attempt`-th of at most `max_attempts`.
    pub(super) fn falls_back(&self, attempt: u16, max_attempts: u16) -> bool {
        let is_ours = self.is_local_failure() && !matches!(self, Self::NeedsToken | Self::Provider(_));
        !is_ours && !matches!(self, Self::StorageRefuses { .. }) && attempt >= self.falls_back_from().min(max_attempts)
    }

    /// What to record after the `attempt`-th attempt at a file failed with this, and when to try again. One that `progressed`
    /// is not counted, and the delays begin anew: a file has an end, so there are only so many of those. A link that would die
    /// before that, at `dies`, is tried once more shortly before it does, unless the server asks for patience.
    pub(super) fn failure(
        &self,
        attempt: u16,
        max_attempts: u16,
        progressed: bool,
        now: Timestamp,
        dies: Option<Timestamp>,
    ) -> (AttemptFailure, Timestamp) {
        let attempt = if progressed { 1 } else { attempt };
        let counted = !self.is_local_failure() && !progressed;
        let exhausted = (counted && attempt >= max_attempts).then_some(StuckReason::AttemptsExhausted);
        let refused = self.refused_after(max_attempts).filter(|most| counted && attempt >= *most);
        let stuck = self.is_permanent().or(refused.map(|_| StuckReason::RefusedByStorage)).or(exhausted);
        let delay = if self.is_local_failure() { retry::pause() } else { retry::delay(attempt) };
        let left = dies.map(|dies| dies.since(now));
        let delay = left.map_or(delay, |left| retry::before_expiry(delay, left));
        let delay = delay.max(self.retry_after().unwrap_or_default());
        (AttemptFailure::new(self.to_string(), counted, stuck), now.after(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<Duration>) -> AttemptError {
        FetchError::Status { status: crate::egress::StatusCode::from_u16(status).unwrap(), retry_after }.into()
    }

    #[test]
    fn only_what_the_source_did_uses_up_attempts() {
        let now = Timestamp::from_millis_clamped(0);
        let outage = AttemptError::Bucket(BucketError::Unavailable("503".to_owned()));
        let (failure, due) = outage.failure(12, 12, false, now, None);
        assert_eq!((failure.counted, failure.stuck), (false, None));
        assert!(due.millis() < 10_000);
        let (failure, due) = status(500, None).failure(2, 12, false, now, None);
        assert_eq!((failure.counted, failure.stuck), (true, None));
        assert!((1600..2400).contains(&due.millis()));
        let (failure, _) = status(500, None).failure(12, 12, false, now, None);
        assert_eq!(failure.stuck, Some(StuckReason::AttemptsExhausted));
        let (_, due) = status(429, Some(Duration::from_secs(900))).failure(1, 12, false, now, None);
        assert_eq!(due.millis(), 900_000);
        // The link dies in ten minutes: a last try before that, but not against the server's wish.
        let dies = Some(now.after(Duration::from_secs(600)));
        let (_, due) = status(500, None).failure(9, 12, false, now, dies);
        assert_eq!(due.millis(), 540_000);
        let (_, due) = status(429, Some(Duration::from_secs(900))).failure(9, 12, false, now, dies);
        assert_eq!(due.millis(), 900_000);
        let (failure, due) = status(500, None).failure(12, 12, true, now, None);
        assert_eq!((failure.counted, failure.stuck), (false, None));
        assert!((800..1200).contains(&due.millis()), "the delays begin anew");
    }

    #[test]
    fn only_bytes_that_are_good_are_gone_on_from() {
        let lost = BucketError::UploadLost { key: "a/b".parse().unwrap(), reason: String::new() };
        for (error, keeps) in [
            (status(503, None), true),
            (status(404, None), true),
            (FetchError::Length { declared: 2, received: 1 }.into(), true),
            (FetchError::Checksum { header: "x" }.into(), false),
            (FetchError::Changed.into(), false),
            (FetchError::TooLarge { limit: 1 }.into(), false),
            (BucketError::Unavailable(String::new()).into(), true),
            (lost.into(), false),
            (AttemptError::Deferred, true),
            (AttemptError::ObjectMissing(String::new()), false),
        ] {
            assert_eq!(error.keeps_upload(), keeps, "{error}");
        }
    }

    #[test]
    fn a_provider_that_wants_patience_is_no_reason_for_a_worse_url() {
        let busy = AttemptError::Provider(ProviderError::Busy { retry_after: None });
        assert!(!busy.falls_back(11, 12) && busy.falls_back(12, 12), "the last attempt leaves nothing out");
        assert!(!AttemptError::Provider(ProviderError::Gone).falls_back(7, 12), "it may still be made");
        assert!(AttemptError::Provider(ProviderError::Forbidden).falls_back(1, 12));
    }

    #[test]
    fn a_worse_url_is_tried_at_once_only_when_the_better_one_never_can_be() {
        let refused = AttemptError::Fetch(FetchError::TooLarge { limit: 1 });
        assert!(refused.falls_back(1, 12));
        assert!(!status(404, None).falls_back(2, 12) && status(404, None).falls_back(3, 12));
        assert!(!status(500, None).falls_back(5, 12) && status(500, None).falls_back(6, 12));
        assert!(status(500, None).falls_back(2, 2), "the last attempt leaves nothing out");
        assert!(!AttemptError::Bucket(BucketError::Full(String::new())).falls_back(12, 12));
    }
}
