//! What has to go of the quarantine, and what stays.

use std::path::Path;

use proptest::prelude::*;
use secrecy::SecretString;

use super::*;
use crate::intake::{Config, ReplyKeys, ReplyUrls};
use crate::journal::{CallbackEntry, Entry, Journal};
use crate::state::EventLog;

const HOUR: Duration = Duration::from_secs(3600);

fn log_in(dir: &Path, state: &str) -> EventLog {
    let journal = Journal::open(&dir.join("journal")).unwrap();
    EventLog::open(journal, &dir.join(state), Intake::parse_callback).unwrap()
}

/// An intake with so many different bodies of about 500 bytes in quarantine.
async fn with_bodies(dir: &Path, quarantine: QuarantineLimits, bodies: usize) -> Intake {
    let secret = SecretString::from("secret");
    let urls = ReplyUrls::new("http://127.0.0.1".parse().unwrap(), ReplyKeys::new([&secret]).unwrap());
    let config = Config {
        max_callback_size: 1 << 20,
        body_time: Config::BODY_TIME,
        adopt_unknown_refs: true,
        sidecars: false,
        confirm: false,
        quarantine,
    };
    let intake = Intake::new(config, urls, log_in(dir, "state"), &dir.join("spool"));
    intake.log().recovered().await.unwrap();
    for number in 0..bodies {
        let body = format!("{{\"odd\":\"{number:0500}\"}}");
        let accepted = intake.accept(Target::Channel, body.into()).await.unwrap();
        assert!(matches!(accepted, Accepted::Quarantined { .. }), "{accepted:?}");
    }
    assert_eq!(kept(intake.log()), bodies as u64);
    intake
}

fn kept(log: &EventLog) -> u64 {
    log.state().counters().unwrap().quarantined
}

#[tokio::test]
async fn a_body_stays_in_quarantine_as_long_as_it_may_and_no_longer() {
    let age = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let intake = with_bodies(dir.path(), QuarantineLimits { age, ..QuarantineLimits::default() }, 2).await;
    let gone = async {
        while kept(intake.log()) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = intake.bound_quarantine_every(Duration::from_millis(5)) => unreachable!("it has no end"),
        gone = timeout(Duration::from_secs(60), gone) => gone.expect("they stay"),
    }
    // The system's clock, which the age is by, may differ a little.
    assert!(begun.elapsed() > age / 2, "{:?}", begun.elapsed());
    intake.log().close();
    let anew = log_in(dir.path(), "anew");
    anew.recovered().await.unwrap();
    assert_eq!(kept(&anew), 0);
    anew.close();
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_takes_nothing_out_of_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let limits = QuarantineLimits { age: Duration::ZERO, ..QuarantineLimits::default() };
    let intake = with_bodies(dir.path(), limits, 2).await;
    // As if the system's clock had been a day behind a moment ago.
    let day_ago = Timestamp::from_millis_clamped(Timestamp::now().millis() - 24 * 3_600_000);
    let mut clock = SteadyClock { since: Instant::now(), at: day_ago };
    intake.bound_once(&mut clock, Duration::ZERO).await.unwrap();
    // It is watched from then on.
    intake.bound_once(&mut clock, HOUR).await.unwrap();
    assert_eq!(kept(intake.log()), 2);
    let gone = async {
        while kept(intake.log()) > 0 {
            intake.bound_once(&mut clock, Duration::ZERO).await.unwrap();
        }
    };
    timeout(Duration::from_secs(60), gone).await.expect("they stay");
    intake.log().close();
}

#[tokio::test]
async fn a_body_that_came_while_the_clock_was_behind_stays_in_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let intake = with_bodies(dir.path(), QuarantineLimits::default(), 1).await;
    let body = Bytes::from_static(br#"{"odd":"of 1970"}"#);
    let parsed = Intake::parse_callback(&body);
    let entry = CallbackEntry {
        at: Timestamp::from_millis_clamped(1),
        target: Target::Channel,
        adopt: true,
        sidecars: false,
        confirm: false,
        asked: false,
        foreign: false,
        replay_of: None,
        body,
    };
    intake.log().record_callback(Entry::Callback(entry), parsed).await.unwrap();
    intake.bound_once(&mut SteadyClock::start(), Duration::ZERO).await.unwrap();
    assert_eq!(kept(intake.log()), 2);
    intake.log().close();
}

#[test]
fn a_position_tells_when_a_body_came_unless_it_is_ahead_of_the_time() {
    let time = Timestamp::from_millis_clamped;
    // In milliseconds: by the position, by the clock, and what counts at the time 1000.
    for (by_position, at, came) in [(500, 1, 500), (500, 600, 600), (1000, 1, 1000), (1001, 1, 1), (1001, 900, 900)] {
        let record = QuarantineRecord {
            position: by_position * POSITIONS_PER_MS + 7,
            at: time(at),
            target: Target::Channel,
            reason: QuarantineReason::UnknownShape,
            job_id: None,
            bytes: 2,
        };
        assert_eq!(came_at(&record, time(1000)), time(came), "{by_position} {at}");
    }
}

#[tokio::test]
async fn a_quarantine_with_too_many_bytes_loses_the_oldest_bodies() {
    let dir = tempfile::tempdir().unwrap();
    let limits = QuarantineLimits { bytes: 4000, ..QuarantineLimits::default() };
    let intake = with_bodies(dir.path(), limits, 20).await;
    let before = intake.state().quarantine(20, None).unwrap().items;
    let removed = intake.bound_once(&mut SteadyClock::start(), HOUR).await.unwrap();
    let left = intake.state().quarantine(20, None).unwrap().items;
    assert!(removed > 0 && !left.is_empty());
    assert_eq!(left, before[..20 - removed as usize]);
    assert!(intake.state().counters().unwrap().quarantined_bytes <= 4000);
    intake.log().close();
}

proptest! {
    #[test]
    fn a_sender_below_an_equal_share_of_the_quarantine_loses_nothing(
        sent in proptest::collection::vec((0..6_usize, 1..5000_u64), 0..300),
        items in 16..200_u64,
        bytes in 1000..200_000_u64,
    ) {
        let limits = QuarantineLimits { items, bytes, age: Duration::MAX };
        let all: Vec<Kept> = sent.iter().enumerate()
            .map(|(position, (target, bytes))| Kept { position: position as u64, target: *target, bytes: *bytes })
            .collect();
        let gone = surplus(all.clone(), limits);
        let left = || all.iter().filter(|kept| !gone.contains(&kept.position));
        prop_assert!(left().count() as u64 <= items && left().map(|kept| kept.bytes).sum::<u64>() <= bytes);
        let targets = all.iter().map(|kept| kept.target).collect::<std::collections::HashSet<_>>();
        for target in &targets {
            let own: Vec<_> = all.iter().filter(|kept| kept.target == *target).collect();
            let parts = targets.len() as u64;
            let is_small = own.len() as u64 * parts <= items - items / 16
                && own.iter().map(|kept| kept.bytes).sum::<u64>() * parts <= bytes - bytes / 16;
            let lost = own.iter().filter(|kept| gone.contains(&kept.position)).count();
            prop_assert!(!is_small || lost == 0, "a small sender lost {lost}");
            prop_assert!(own[..lost].iter().all(|kept| gone.contains(&kept.position)), "the oldest first");
        }
    }
}
