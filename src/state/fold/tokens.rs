//! The tokens of speech streams.

use super::super::StateError;
use super::super::keys::{self, Table};
use super::super::records::StreamTokenRecord;
use super::super::txn::Txn;
use super::ApplyOutcome;
use crate::domain::Digest;

/// How many others are looked at whenever there is a new one. Digests are spread evenly, so none that is over stays for long.
const LOOKED_AT: usize = 64;

pub(super) fn issued(
    txn: &mut Txn<'_>,
    digest: &Digest,
    record: &StreamTokenRecord,
) -> Result<ApplyOutcome, StateError> {
    let key = keys::stream_token(digest);
    for (other, known) in txn.behind::<StreamTokenRecord>(&key, Table::StreamTokens, LOOKED_AT)? {
        if record.at.since(known.at) >= StreamTokenRecord::LIVES {
            txn.remove(other);
        }
    }
    txn.put(key, record)?;
    Ok(ApplyOutcome::Done)
}
