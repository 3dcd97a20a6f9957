//! Which ref a job belongs to, and what goes to quarantine.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn a_job_belongs_to_the_ref_over_whose_url_it_was_first_named() {
    let bench = Bench::new().await;
    bench.add_ref(1, "one").await;
    bench.add_ref(2, "two").await;
    let (one, two) = (Target::Ref(ref_id(1)), Target::Ref(ref_id(2)));

    // The channel ties a job to a ref and claims nothing.
    bench.post(Target::Channel, done(1, Some("two"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(2)));
    bench.post(one.clone(), progress(1)).await;
    assert_eq!((bench.job(1).ref_id, bench.job(1).reply_ref), (Some(ref_id(1)), ReplyRef::new("one").ok()));

    assert_eq!(reason(&bench.post(two.clone(), done(1, None)).await), Some(QuarantineReason::JobOfAnotherRef));
    assert_eq!(reason(&bench.post(two, done(2, Some("one"))).await), Some(QuarantineReason::ReplyRefMismatch));
    assert!(bench.log.state().job(&id(2)).unwrap().is_none());

    bench.post(Target::Channel, done(1, Some("three"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)));
    assert_eq!(bench.job(1).callbacks, 3, "two were kept aside");

    bench.event(Event::RefRemoved { at: now(), id: ref_id(1) }).await;
    assert_eq!(reason(&bench.post(one, done(1, None)).await), Some(QuarantineReason::RefRemoved));
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)), "its jobs stay");
}

#[tokio::test]
async fn unknown_refs_are_adopted_or_kept_aside_and_looked_at_again() {
    let mut bench = Bench::new().await;
    bench.post(Target::Channel, done(1, Some("new"))).await;
    let adopted = bench.log.state().reply_ref_named(&ReplyRef::new("new").unwrap()).unwrap().unwrap();
    assert_eq!((adopted.origin, bench.job(1).ref_id), (Origin::Adopted, Some(adopted.id.clone())));
    assert!(
        matches!(bench.add_ref(9, "new").await, ApplyOutcome::Ref { created: false, record } if record.id == adopted.id)
    );

    bench.post(Target::Channel, done(6, Some("fast"))).await;
    bench.adopt = false;
    // It was adopted, and then registered.
    bench.post(Target::Channel, done(7, Some("new"))).await;
    assert_eq!(bench.job(7).ref_id, Some(adopted.id));
    for (number, name) in [(2, None), (3, Some("fast")), (4, Some("nobody"))] {
        assert_eq!(
            reason(&bench.post(Target::Channel, done(number, name)).await),
            Some(QuarantineReason::UnknownReplyRef)
        );
    }
    bench.add_ref(5, "nobody").await;
    let page = bench.log.state().quarantine(10, None).unwrap();
    assert_eq!(page.items.len(), 3);
    let kept = &page.items[0];
    assert_eq!((kept.job_id.clone(), kept.reason), (Some(id(4)), QuarantineReason::UnknownReplyRef));
    let Entry::Callback(original) = bench.log.journal().read(kept.position).unwrap() else { panic!("a callback") };
    let body = serde_json::from_slice(&original.body).unwrap();
    assert!(matches!(bench.post_again(Target::Channel, body, Some(kept.position)).await, ApplyOutcome::Job { .. }));
    assert_eq!(bench.job(4).ref_id, Some(ref_id(5)));
    let again = bench.post_again(Target::Channel, done(2, None), Some(page.items[2].position)).await;
    assert_eq!(
        again,
        ApplyOutcome::Quarantined { position: page.items[2].position, reason: QuarantineReason::UnknownReplyRef }
    );
    assert_eq!(bench.log.state().counters().unwrap().quarantined, 2);
}

#[tokio::test]
async fn the_same_ref_is_registered_once_and_other_content_conflicts() {
    let bench = Bench::new().await;
    assert!(matches!(bench.add_ref(1, "a").await, ApplyOutcome::Ref { created: true, .. }));
    assert!(
        matches!(bench.add_ref(2, "a").await, ApplyOutcome::Ref { created: false, record } if record.id == ref_id(1))
    );
    let labels = [("k".to_owned(), "v".to_owned())].into();
    let other =
        Event::RefAdded { at: now(), id: ref_id(3), reply_ref: ReplyRef::new("a").unwrap(), notify_url: None, labels };
    assert_eq!(bench.event(other).await, ApplyOutcome::RefConflict);
    assert_eq!(bench.log.state().refs(10, None).unwrap().0.len(), 1);
}

#[tokio::test]
async fn refs_of_the_gateway_may_repeat_a_reference_and_take_nothing_from_one_that_is_registered() {
    let bench = Bench::new().await;
    let a = ReplyRef::new("a").unwrap();
    let made = |number| Event::GatewayRefAdded {
        at: now(),
        id: ref_id(number),
        reply_ref: a.clone(),
        made: number == 1,
        forward_url: Some("https://h/x?token=1".to_owned()),
    };
    for number in [1, 2, 5] {
        assert!(matches!(bench.event(made(number)).await, ApplyOutcome::Ref { created: true, .. }));
    }
    assert_eq!(bench.log.state().reply_ref_named(&a).unwrap(), None);
    assert!(matches!(bench.add_ref(3, "a").await, ApplyOutcome::Ref { created: true, .. }));
    bench.post(Target::Channel, done(1, Some("a"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(3)), "only the registered one answers to the reference");
    bench.post(Target::Ref(ref_id(2)), done(2, Some("a"))).await;
    assert_eq!(bench.job(2).ref_id, Some(ref_id(2)));

    // The next start counts them, too.
    let (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.moved_aside, recovery.replayed), (None, 0));
    let listed = |limit, before: Option<u32>| {
        let (items, more) = bench.log.state().refs_named(&a, limit, before.map(ref_id).as_ref()).unwrap();
        (items.into_iter().map(|record| record.id).collect::<Vec<_>>(), more)
    };
    let ids = |numbers: &[u32]| numbers.iter().copied().map(ref_id).collect::<Vec<_>>();
    assert_eq!(listed(9, None), (ids(&[5, 3, 2, 1]), false));
    assert_eq!(listed(4, None), (ids(&[5, 3, 2, 1]), false));
    assert_eq!(listed(2, None), (ids(&[5, 3]), true));
    assert_eq!(listed(1, Some(5)), (ids(&[3]), true));
    assert_eq!(listed(1, Some(3)), (ids(&[2]), true));
    assert_eq!(listed(1, Some(2)), (ids(&[1]), false));
    bench.event(Event::RefRemoved { at: now(), id: ref_id(2) }).await;
    bench.event(Event::RefRemoved { at: now(), id: ref_id(3) }).await;
    assert_eq!(listed(9, None), (ids(&[5, 1]), false));
    let record = bench.log.state().ref_including_deleted(&ref_id(2)).unwrap().unwrap();
    assert_eq!((record.made, record.forward_url.as_deref()), (false, Some("https://h/x?token=1")));
    let (_, recovery) = bench.reopen().await;
    assert_eq!(recovery.moved_aside, None);
}

#[tokio::test]
async fn labels_of_many_jobs_are_those_of_each() {
    const JOBS: u32 = 200;
    let bench = Bench::new().await;
    for number in 1..=JOBS {
        let labels = [("number".to_owned(), number.to_string())].into();
        let reply_ref = ReplyRef::new(&format!("boat-{number}")).unwrap();
        bench.event(Event::RefAdded { at: now(), id: ref_id(number), reply_ref, notify_url: None, labels }).await;
        // Every third job has the ref of the one before it, every fifth has none.
        let over = Target::Ref(ref_id(if number.is_multiple_of(3) { number - 1 } else { number }));
        bench.post(if number.is_multiple_of(5) { Target::Channel } else { over }, done(number, None)).await;
    }
    for number in (7..=JOBS).step_by(7) {
        bench.event(Event::RefRemoved { at: now(), id: ref_id(number) }).await;
    }
    let state = bench.log.state();
    let (last, every): (Vec<u32>, Vec<u32>) = ((JOBS - 50..=JOBS).collect(), (1..=JOBS).collect());
    for numbers in [every, last, vec![90], (1..=JOBS).step_by(20).collect()] {
        let jobs: Vec<_> = numbers.iter().map(|number| bench.job(*number)).collect();
        let labels = state.labels_of_all(&jobs).unwrap();
        for job in &jobs {
            assert_eq!(labels.of(job), state.labels_of(job).unwrap(), "{}", job.id);
            assert_eq!(labels.of(job).len(), usize::from(job.ref_id.is_some()), "{}", job.id);
        }
    }
}

/// Nothing is read to know that there are none.
#[tokio::test]
async fn the_first_labels_there_are_are_seen_at_once_and_after_every_start() {
    let bench = Bench::new().await;
    let add = async |bench: &Bench, number: u32, labels: BTreeMap<String, String>| {
        let reply_ref = ReplyRef::new(&format!("boat-{number}")).unwrap();
        bench.event(Event::RefAdded { at: now(), id: ref_id(number), reply_ref, notify_url: None, labels }).await;
        bench.post(Target::Ref(ref_id(number)), done(number, None)).await;
    };
    let labels_of = |bench: &Bench, number: u32| {
        let (state, job) = (bench.log.state(), bench.job(number));
        let labels = state.labels_of(&job).unwrap();
        assert_eq!(state.labels_of_all([&job]).unwrap().of(&job), labels);
        labels
    };
    let some: BTreeMap<_, _> = [("project".to_owned(), "harbour".to_owned())].into();
    add(&bench, 1, BTreeMap::new()).await;
    assert!(labels_of(&bench, 1).is_empty() && !bench.log.state().has_labels());
    let (bench, _) = bench.reopen().await;
    assert!(labels_of(&bench, 1).is_empty() && !bench.log.state().has_labels());
    add(&bench, 2, some.clone()).await;
    assert_eq!((labels_of(&bench, 1), labels_of(&bench, 2)), (BTreeMap::new(), some.clone()));
    bench.event(Event::RefRemoved { at: now(), id: ref_id(2) }).await;
    let (bench, recovery) = bench.reopen().await;
    assert_eq!((recovery.moved_aside, labels_of(&bench, 2)), (None, some.clone()));
    bench.log.close();
    std::fs::remove_dir_all(bench.dir.path().join("state")).unwrap();
    let (bench, _) = bench.reopen().await;
    assert_eq!(labels_of(&bench, 2), some);
}

#[tokio::test]
async fn the_answer_to_a_call_ties_its_job_unless_another_ref_has_claimed_it() {
    let bench = Bench::new().await;
    bench.add_ref(1, "one").await;
    bench.add_ref(2, "two").await;
    let answer = async |reference, body: serde_json::Value| {
        let body = Bytes::from(body.to_string());
        let parsed = parse_callback(&body);
        let (at, target) = (now(), Target::Ref(ref_id(reference)));
        let entry = CallbackEntry {
            at,
            target,
            adopt: true,
            sidecars: false,
            confirm: false,
            asked: true,
            foreign: false,
            replay_of: None,
            body,
        };
        bench.log.record_callback(Entry::Callback(entry), parsed).await.unwrap()
    };
    bench.post(Target::Channel, done(1, Some("two"))).await;
    answer(1, progress(1)).await;
    answer(2, progress(1)).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)));
    assert_eq!(
        reason(&bench.post(Target::Ref(ref_id(2)), done(1, None)).await),
        Some(QuarantineReason::JobOfAnotherRef)
    );
    // Deleted meanwhile, or answered with another reference: nothing is kept aside.
    answer(3, progress(3)).await;
    answer(1, done(4, Some("other"))).await;
    assert_eq!((bench.job(3).ref_id, bench.job(4).ref_id), (None, Some(ref_id(1))));
    assert_eq!(bench.log.state().counters().unwrap().quarantined, 1);
}

#[tokio::test]
async fn deleted_refs_are_not_walked_by_who_lists() {
    let bench = Bench::new().await;
    for number in 1..40 {
        bench.add_ref(number, &format!("name-{number}")).await;
    }
    for number in 2..40 {
        bench.event(Event::RefRemoved { at: now(), id: ref_id(number) }).await;
    }
    let state = bench.log.state();
    let table = state.store().unwrap().range(keys::with_prefix(keys::Table::Refs.prefix())).count();
    assert_eq!(table, 1, "what a list walks");
    let (listed, more) = state.refs(9, None).unwrap();
    assert_eq!((listed.len(), more), (1, false));
    assert!(state.reply_ref(&ref_id(2)).unwrap().is_none());
    assert!(state.ref_including_deleted(&ref_id(2)).unwrap().unwrap().removed_at.is_some());
    let again = bench.event(Event::RefRemoved { at: now(), id: ref_id(2) }).await;
    assert!(matches!(again, ApplyOutcome::Ref { created: false, record } if record.id == ref_id(2)));
    // Written again after it was deleted, it stays so.
    let kept = Event::RefKept {
        id: ref_id(2),
        reply_ref: ReplyRef::new("name-2").unwrap(),
        origin: Origin::Registered,
        notify_url: None,
        labels: Default::default(),
        made: false,
        forward_url: None,
        created_at: now(),
    };
    bench.event(kept).await;
    assert!(bench.log.state().reply_ref(&ref_id(2)).unwrap().is_none());
    let (_, recovery) = bench.reopen().await;
    assert_eq!(recovery.moved_aside, None, "the counts are right");
}
