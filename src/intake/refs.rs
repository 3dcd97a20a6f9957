use std::collections::BTreeMap;

use super::{Intake, Refused};
use crate::domain::{RefId, ReplyRef, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{Applied, RefRecord};

/// A ref to register.
#[derive(Clone, Debug, Default)]
pub struct NewRef {
    /// The caller's reference; one is made when there is none.
    pub reply_ref: Option<ReplyRef>,
    /// Where to tell of changes.
    pub notify_url: Option<String>,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
}

/// Why a ref was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The reference is registered with other content.
    #[error("this replyRef is registered with another notifyUrl or other labels")]
    Conflict,
    /// It could not be recorded.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Intake {
    /// Registers a ref, durably. The flag is false when the same was registered already.
    ///
    /// # Errors
    /// When the reference is registered with other content, or it cannot be recorded.
    pub async fn register(&self, new: NewRef) -> Result<(RefRecord, bool), RegisterError> {
        let ulid = ulid::Ulid::generate().to_string();
        let expected = "a ULID is a valid name";
        let reply_ref = match new.reply_ref {
            Some(reply_ref) => reply_ref,
            None => ReplyRef::new(&ulid.to_ascii_lowercase()).unwrap_or_else(|_| unreachable!("{expected}")),
        };
        let id = RefId::from_ulid(&ulid).unwrap_or_else(|_| unreachable!("{expected}"));
        let NewRef { notify_url, labels, .. } = new;
        if let Some(known) = self.state().reply_ref_named(&reply_ref).ok().flatten() {
            // Decided again, in order, when it is recorded; this spares the journal what changes nothing.
            let same = known.notify_url == notify_url && known.labels == labels;
            return if same { Ok((known, false)) } else { Err(RegisterError::Conflict) };
        }
        let event = Event::RefAdded { at: Timestamp::now(), id, reply_ref, notify_url, labels };
        match self.inner.ledger.record(event, Durability::Synced).await.map_err(Refused::from)? {
            Applied::Ref { record, created } => Ok((*record, created)),
            Applied::RefConflict => Err(RegisterError::Conflict),
            _ => Err(Refused::Unavailable("the state is being rebuilt").into()),
        }
    }

    /// Deletes a ref, durably: its URL is no longer accepted, its jobs stay. False when there is none.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn remove_ref(&self, id: &RefId) -> Result<bool, Refused> {
        let known = self.state().reply_ref(id)?;
        if known.is_none() {
            return Ok(false);
        }
        let event = Event::RefRemoved { at: Timestamp::now(), id: id.clone() };
        self.inner.ledger.record(event, Durability::Synced).await?;
        Ok(true)
    }
}
