use std::collections::BTreeMap;

use super::{Intake, IntakeError};
use crate::domain::{Digest, Origin, RefId, ReplyRef, Timestamp};
use crate::journal::{Durability, Event};
use crate::state::{ApplyOutcome, RefRecord};

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
    IntakeError(#[from] IntakeError),
}

impl Intake {
    /// Registers a ref, durably. The flag is false when the same was registered already, or a callback had made it, which is
    /// registered from then on.
    ///
    /// # Errors
    /// When the reference is registered with other content, or it cannot be recorded.
    pub async fn register(&self, new: NewRef) -> Result<(RefRecord, bool), RegisterError> {
        let (id, made) = generate_ref();
        let reply_ref = new.reply_ref.unwrap_or(made);
        let NewRef { notify_url, labels, .. } = new;
        let known = self.state().reply_ref_named(&reply_ref).ok().flatten();
        if let Some(known) = known.filter(|known| known.origin == Origin::Registered) {
            // Decided again, in order, when it is recorded; this spares the journal what changes nothing.
            let same = known.notify_url == notify_url && known.labels == labels;
            return if same { Ok((known, false)) } else { Err(RegisterError::Conflict) };
        }
        let event = Event::RefAdded { at: Timestamp::now(), id, reply_ref, notify_url, labels };
        match self.recorded(self.inner.log.record(event, Durability::Synced)).await? {
            ApplyOutcome::Ref { record, created } => Ok((*record, created)),
            ApplyOutcome::RefConflict => Err(RegisterError::Conflict),
            _ => Err(IntakeError::Unavailable("the state is being rebuilt").into()),
        }
    }

    /// Makes a ref for one call through the gateway, durably. Without `reply_ref` one is made, and the record says so; what
    /// comes over the ref's URL is passed on to `forward_url`. There may be others with the same reference.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn register_gateway(
        &self,
        reply_ref: Option<ReplyRef>,
        forward_url: Option<String>,
    ) -> Result<RefRecord, IntakeError> {
        let (id, reference) = generate_ref();
        let (at, made) = (Timestamp::now(), reply_ref.is_none());
        let reply_ref = reply_ref.unwrap_or(reference);
        let record = RefRecord {
            id: id.clone(),
            reply_ref: reply_ref.clone(),
            origin: Origin::Gateway,
            notify_url: None,
            labels: BTreeMap::new(),
            made,
            forward_url: forward_url.clone(),
            created_at: at,
            removed_at: None,
        };
        let event = Event::GatewayRefAdded { at, id, reply_ref, made, forward_url };
        // While the state is rebuilt it will be there in the end: its id is new, so nothing can stand in its way.
        self.recorded(self.inner.log.record(event, Durability::Synced)).await?;
        Ok(record)
    }

    /// Remembers the token of a speech stream, durably, by its digest. `ours`: given to a call with the vault's own token.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn stream_token_given(
        &self,
        digest: Digest,
        ours: bool,
        account: Option<String>,
    ) -> Result<(), IntakeError> {
        let event = Event::StreamTokenGiven { at: Timestamp::now(), digest, ours, account };
        self.inner.log.record(event, Durability::Synced).await?;
        Ok(())
    }

    /// Deletes a ref, durably: its URL is no longer accepted, its jobs stay. False when there is none.
    ///
    /// # Errors
    /// When that cannot be recorded.
    pub async fn remove_ref(&self, id: &RefId) -> Result<bool, IntakeError> {
        let known = self.state().reply_ref(id)?;
        if known.is_none() {
            return Ok(false);
        }
        let event = Event::RefRemoved { at: Timestamp::now(), id: id.clone() };
        self.recorded(self.inner.log.record(event, Durability::Synced)).await?;
        Ok(true)
    }
}

/// A new id, and a reference for a caller who has none.
fn generate_ref() -> (RefId, ReplyRef) {
    let ulid = ulid::Ulid::generate().to_string();
    let expected = "a ULID is a valid name";
    let id = RefId::from_ulid(&ulid).unwrap_or_else(|_| unreachable!("{expected}"));
    (id, ReplyRef::new(&ulid.to_ascii_lowercase()).unwrap_or_else(|_| unreachable!("{expected}")))
}
