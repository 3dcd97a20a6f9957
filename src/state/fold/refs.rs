//! Refs: registered, adopted from callbacks, made for calls through the gateway.
//!
//! One that was registered or adopted answers to its replyRef. Those of the gateway do not: callers may repeat a
//! replyRef, and none of them stands in the way of one that is registered.

use super::super::StateError;
use super::super::keys;
use super::super::records::RefRecord;
use super::super::txn::Txn;
use super::ApplyOutcome;
use crate::domain::{Origin, RefId, ReplyRef, Timestamp, is_same_url};

pub(super) fn register(txn: &mut Txn<'_>, wanted: RefRecord) -> Result<ApplyOutcome, StateError> {
    if let Some(known) = named(txn, &wanted.reply_ref)? {
        if known.origin == Origin::Adopted {
            // A callback was faster than whoever registers it: nobody has said anything else of it yet.
            let record = RefRecord { id: known.id, made: known.made, created_at: known.created_at, ..wanted };
            txn.put(keys::reply_ref_id(&record.id), &record)?;
            txn.meta.counters.refs_labelled += u64::from(!record.labels.is_empty());
            return Ok(ApplyOutcome::Ref { record: Box::new(record), created: false });
        }
        let same =
            is_same_url(known.notify_url.as_deref(), wanted.notify_url.as_deref()) && known.labels == wanted.labels;
        return Ok(if same {
            ApplyOutcome::Ref { record: Box::new(known), created: false }
        } else {
            ApplyOutcome::RefConflict
        });
    }
    make(txn, wanted)
}

pub(super) fn make(txn: &mut Txn<'_>, record: RefRecord) -> Result<ApplyOutcome, StateError> {
    put(txn, &record)?;
    Ok(ApplyOutcome::Ref { record: Box::new(record), created: true })
}

/// A ref written again: taken over where nothing is known of it and of its reference.
pub(super) fn kept(txn: &mut Txn<'_>, record: RefRecord) -> Result<ApplyOutcome, StateError> {
    let is_free = record.origin == Origin::Gateway || !txn.contains(&keys::ref_name(&record.reply_ref))?;
    let is_known = txn.contains(&keys::reply_ref_id(&record.id))? || txn.contains(&keys::removed_ref(&record.id))?;
    if is_free && !is_known {
        put(txn, &record)?;
    }
    Ok(ApplyOutcome::Done)
}

/// A ref that is not deleted.
pub(super) fn live(txn: &Txn<'_>, id: &RefId) -> Result<Option<RefRecord>, StateError> {
    txn.get(&keys::reply_ref_id(id))
}

/// The ref that answers to a replyRef.
pub(super) fn named(txn: &Txn<'_>, name: &ReplyRef) -> Result<Option<RefRecord>, StateError> {
    match txn.get::<RefId>(&keys::ref_name(name))? {
        Some(id) => live(txn, &id),
        None => Ok(None),
    }
}

pub(super) fn remove(txn: &mut Txn<'_>, id: &RefId, at: Timestamp) -> Result<ApplyOutcome, StateError> {
    let Some(mut record) = live(txn, id)? else {
        let removed = txn.get(&keys::removed_ref(id))?;
        return Ok(removed
            .map_or(ApplyOutcome::Unknown, |record| ApplyOutcome::Ref { record: Box::new(record), created: false }));
    };
    record.removed_at = Some(at);
    // Out of the way of who lists those that are left.
    txn.remove(keys::reply_ref_id(id));
    txn.put(keys::removed_ref(id), &record)?;
    let counters = &mut txn.meta.counters;
    counters.refs = counters.refs.saturating_sub(1);
    counters.refs_removed += 1;
    if record.origin == Origin::Gateway {
        counters.refs_of_gateway = counters.refs_of_gateway.saturating_sub(1);
        txn.remove(keys::gateway_ref(&record.reply_ref, id));
    } else {
        txn.remove(keys::ref_name(&record.reply_ref));
    }
    Ok(ApplyOutcome::Ref { record: Box::new(record), created: false })
}

pub(super) fn put(txn: &mut Txn<'_>, record: &RefRecord) -> Result<(), StateError> {
    txn.put(keys::reply_ref_id(&record.id), record)?;
    txn.meta.counters.refs += 1;
    txn.meta.counters.refs_labelled += u64::from(!record.labels.is_empty());
    if record.origin == Origin::Gateway {
        txn.mark(keys::gateway_ref(&record.reply_ref, &record.id));
        txn.meta.counters.refs_of_gateway += 1;
        Ok(())
    } else {
        txn.put(keys::ref_name(&record.reply_ref), &record.id)
    }
}
