use std::time::Duration;

use crate::domain::{Kind, Timestamp};

/// Minutes after a job was made. Agent jobs expire after a quarter of an hour; videos take minutes to an hour.
const fn points(kind: Kind) -> &'static [u32] {
    match kind {
        Kind::Agent => &[1, 2, 4, 7, 11, 15, 20, 30, 60],
        Kind::Video => &[2, 5, 10, 15, 20, 30, 45, 60],
        Kind::Image | Kind::Music | Kind::Speech => &[1, 2, 4, 8, 15, 30, 60],
    }
}

/// The provider keeps what it knows of a job this long.
const KEPT_MINUTES: u64 = 31 * 24 * 60;
/// Between two questions at the most.
const DAY_MINUTES: u64 = 24 * 60;

/// When to ask about a job that was made at `made`, for the first time after `after`. Beyond the hour each pause is as long
/// as the job is old, up to a day. `None` when the provider has forgotten it by then.
pub(super) fn next(kind: Kind, made: Timestamp, after: Timestamp, minute: Duration) -> Option<Timestamp> {
    let at = |minutes: u64| made.after(minute.saturating_mul(u32::try_from(minutes).unwrap_or(u32::MAX)));
    let mut last = 0;
    let first = points(kind).iter().copied().map(u64::from).find(|minutes| {
        last = *minutes;
        at(*minutes) > after
    });
    let mut minutes = first.unwrap_or(last);
    while at(minutes) <= after && minutes <= KEPT_MINUTES {
        minutes += minutes.min(DAY_MINUTES);
    }
    (minutes <= KEPT_MINUTES).then(|| at(minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rare_and_end_when_the_provider_forgets() {
        let minute = Duration::from_secs(60);
        let made = Timestamp::from_millis_clamped(1_000_000_000_000);
        let asked = |kind, minutes: u64| {
            let after = made.after(minute * u32::try_from(minutes).unwrap());
            next(kind, made, after, minute).map(|at| at.since(made).as_secs() / 60)
        };
        assert_eq!(
            (asked(Kind::Agent, 0), asked(Kind::Agent, 11), asked(Kind::Video, 0)),
            (Some(1), Some(15), Some(2))
        );
        assert_eq!((asked(Kind::Video, 60), asked(Kind::Video, 130)), (Some(120), Some(240)));
        assert_eq!((asked(Kind::Image, 2000), asked(Kind::Image, 50_000)), (Some(3360), None));
    }
}
