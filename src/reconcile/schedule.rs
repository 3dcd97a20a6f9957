use std::time::Duration;

use crate::domain::{Job, JobState, Kind, StuckReason, Timestamp};
use crate::provider::kept_days;

/// Minutes after a job was made. Agent jobs expire after a quarter of an hour; videos take minutes to an hour.
const fn points(kind: Kind) -> &'static [u32] {
    match kind {
        Kind::Agent => &[1, 2, 4, 7, 11, 15, 20, 30, 60],
        Kind::Video => &[2, 5, 10, 15, 20, 30, 45, 60],
        Kind::Image | Kind::Music | Kind::Speech | Kind::Other => &[1, 2, 4, 8, 15, 30, 60],
    }
}

/// Between two questions at the most.
const DAY_MINUTES: u64 = 24 * 60;

/// How long a result that is missing is asked for.
const MISSING_MINUTES: u64 = DAY_MINUTES;

/// The states of jobs that may be asked about.
pub(super) const ASKED_ABOUT: [JobState; 2] = [JobState::Running, JobState::Stuck];

/// Whether the provider may have more to say of a job: it runs, or was called completed without all its results.
pub(super) fn awaits_result(job: &Job) -> bool {
    match job.state {
        JobState::Running => true,
        JobState::Stuck => {
            matches!(job.reason, Some(StuckReason::StillProcessing | StuckReason::NoMediaUrl))
        }
        JobState::Archiving | JobState::Archived | JobState::Failed => false,
    }
}

/// When to ask about a job for the first time after `after`, if it is to be asked about: a running one until the provider
/// has forgotten it, one without its results for a day from when it was called completed.
pub(super) fn next(job: &Job, after: Timestamp, minute: Duration) -> Option<Timestamp> {
    if !awaits_result(job) {
        return None;
    }
    match job.state {
        // The provider's clock may be ahead.
        JobState::Running => point(
            job.kind(),
            job.created_at.min(job.updated_at),
            after,
            minute,
            u64::from(kept_days(&job.id)) * DAY_MINUTES,
        ),
        _ => point(job.kind(), job.updated_at, after, minute, MISSING_MINUTES),
    }
}

/// The first point after `after` of those that follow `from`. Beyond the hour each pause is as long as has passed since
/// then, up to a day. The last one is `last`; `None` when that is over, too.
fn point(kind: Kind, from: Timestamp, after: Timestamp, minute: Duration, last: u64) -> Option<Timestamp> {
    let at = |minutes: u64| from.after(minute.saturating_mul(u32::try_from(minutes).unwrap_or(u32::MAX)));
    let points = points(kind);
    let first = points.iter().copied().map(u64::from).find(|minutes| at(*minutes) > after);
    let mut minutes = first.or_else(|| points.last().copied().map(u64::from)).unwrap_or(DAY_MINUTES);
    while at(minutes) <= after && minutes <= last {
        minutes += minutes.min(DAY_MINUTES);
    }
    Some(at(minutes.min(last))).filter(|at| *at > after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT_MINUTES: u64 = 31 * DAY_MINUTES;

    #[test]
    fn questions_become_rare_and_end_when_the_provider_forgets() {
        let minute = Duration::from_secs(60);
        let made = Timestamp::from_millis_clamped(1_000_000_000_000);
        let asked = |kind, minutes: u64| {
            let after = made.after(minute * u32::try_from(minutes).unwrap());
            point(kind, made, after, minute, KEPT_MINUTES).map(|at| at.since(made).as_secs() / 60)
        };
        assert_eq!(
            (asked(Kind::Agent, 0), asked(Kind::Agent, 11), asked(Kind::Video, 0)),
            (Some(1), Some(15), Some(2))
        );
        assert_eq!((asked(Kind::Video, 60), asked(Kind::Video, 130)), (Some(120), Some(240)));
        assert_eq!((asked(Kind::Image, 2000), asked(Kind::Image, 50_000)), (Some(3360), None));
        let last = u32::try_from(KEPT_MINUTES).unwrap();
        assert_eq!(
            (asked(Kind::Agent, u64::from(last) - 1), asked(Kind::Agent, u64::from(last))),
            (Some(KEPT_MINUTES), None)
        );
    }

    #[test]
    fn results_that_are_missing_are_asked_for_and_not_for_ever() {
        let minute = Duration::from_secs(60);
        let ended = Timestamp::from_millis_clamped(1_000_000_000_000);
        let mut job = Job::new("user:1-minimax:2-image:3".parse().unwrap(), ended);
        job.state = JobState::Stuck;
        let after = |minutes: u32| ended.after(minute * minutes);
        for (reason, asked) in [
            (StuckReason::NoMediaUrl, Some(after(1))),
            (StuckReason::StillProcessing, Some(after(1))),
            (StuckReason::AttemptsExhausted, None),
            (StuckReason::RefusedByPolicy, None),
        ] {
            job.reason = Some(reason);
            assert_eq!(next(&job, ended, minute), asked, "{reason:?}");
        }
        job.reason = Some(StuckReason::NoMediaUrl);
        assert_eq!(
            (next(&job, after(61), minute), next(&job, after(1000), minute)),
            (Some(after(120)), Some(after(1440)))
        );
        assert_eq!(next(&job, after(1440), minute), None);
        job.state = JobState::Archived;
        assert_eq!(next(&job, ended, minute), None);
    }
}
