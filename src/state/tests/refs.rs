//! Which ref a job belongs to, and what goes to quarantine.

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

    assert_eq!(reason(&bench.post(two.clone(), done(1, None)).await), Some(Reason::JobOfAnotherRef));
    assert_eq!(reason(&bench.post(two, done(2, Some("one"))).await), Some(Reason::ReplyRefMismatch));
    assert!(bench.ledger.state().job(&id(2)).unwrap().is_none());

    bench.post(Target::Channel, done(1, Some("three"))).await;
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)));
    assert_eq!(bench.job(1).callbacks, 3, "two were kept aside");

    bench.event(Event::RefRemoved { at: now(), id: ref_id(1) }).await;
    assert_eq!(reason(&bench.post(one, done(1, None)).await), Some(Reason::RefRemoved));
    assert_eq!(bench.job(1).ref_id, Some(ref_id(1)), "its jobs stay");
}

#[tokio::test]
async fn unknown_refs_are_adopted_or_kept_aside_and_looked_at_again() {
    let mut bench = Bench::new().await;
    bench.post(Target::Channel, done(1, Some("new"))).await;
    let adopted = bench.ledger.state().reply_ref_named(&ReplyRef::new("new").unwrap()).unwrap().unwrap();
    assert_eq!((adopted.origin, bench.job(1).ref_id), (Origin::Adopted, Some(adopted.id.clone())));
    assert!(
        matches!(bench.add_ref(9, "new").await, Applied::Ref { created: false, record } if record.id == adopted.id)
    );

    bench.adopt = false;
    for (number, name) in [(2, None), (3, Some("new")), (4, Some("nobody"))] {
        assert_eq!(reason(&bench.post(Target::Channel, done(number, name)).await), Some(Reason::UnknownReplyRef));
    }
    bench.add_ref(5, "nobody").await;
    let page = bench.ledger.state().quarantine(10, None).unwrap();
    assert_eq!(page.items.len(), 3);
    let kept = &page.items[0];
    assert_eq!((kept.job_id.clone(), kept.reason), (Some(id(4)), Reason::UnknownReplyRef));
    let Entry::Callback(original) = bench.ledger.journal().read(kept.position).unwrap() else { panic!("a callback") };
    let body = serde_json::from_slice(&original.body).unwrap();
    assert!(matches!(bench.post_again(Target::Channel, body, Some(kept.position)).await, Applied::Job { .. }));
    assert_eq!(bench.job(4).ref_id, Some(ref_id(5)));
    let again = bench.post_again(Target::Channel, done(2, None), Some(page.items[2].position)).await;
    assert_eq!(again, Applied::Quarantined { position: page.items[2].position, reason: Reason::UnknownReplyRef });
    assert_eq!(bench.ledger.state().counters().unwrap().quarantined, 2);
}

#[tokio::test]
async fn the_same_ref_is_registered_once_and_other_content_conflicts() {
    let bench = Bench::new().await;
    assert!(matches!(bench.add_ref(1, "a").await, Applied::Ref { created: true, .. }));
    assert!(matches!(bench.add_ref(2, "a").await, Applied::Ref { created: false, record } if record.id == ref_id(1)));
    let labels = [("k".to_owned(), "v".to_owned())].into();
    let other =
        Event::RefAdded { at: now(), id: ref_id(3), reply_ref: ReplyRef::new("a").unwrap(), notify_url: None, labels };
    assert_eq!(bench.event(other).await, Applied::RefConflict);
    assert_eq!(bench.ledger.state().refs(10, None).unwrap().0.len(), 1);
}
