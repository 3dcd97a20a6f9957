use std::collections::BTreeMap;
use std::fmt::Display;

use super::{Intake, IntakeError};
use crate::domain::{Digest, MediaUrl, Origin, RefId, ReplyRef, Timestamp, is_same_url};
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

impl NewRef {
    const MAX_URL: usize = 1024;
    const MAX_LABELS: usize = 32;
    const MAX_LABEL_NAME: usize = 64;
    const MAX_LABEL_TEXT: usize = 256;

    /// Refuses more than 32 labels, names of other than 1 to 64 characters, texts of more than 256, and a `notify_url` that no
    /// event could ever be sent to: one that is no URL of at most 1,024 characters, or that `allowed` refuses.
    ///
    /// # Errors
    /// With the first of these that is found, and what was expected.
    pub fn check<E: Display>(&self, allowed: impl FnOnce(&MediaUrl) -> Result<(), E>) -> Result<(), String> {
        if let Some(url) = &self.notify_url {
            Self::check_receiver(url, allowed).map_err(|problem| format!("notifyUrl: {problem}"))?;
        }
        if self.labels.len() > Self::MAX_LABELS {
            return Err(format!("labels: expected at most {}", Self::MAX_LABELS));
        }
        for (name, text) in &self.labels {
            if name.is_empty() || !fits(name, Self::MAX_LABEL_NAME) {
                return Err(format!("labels: expected names of 1 to {} characters", Self::MAX_LABEL_NAME));
            }
            if !fits(text, Self::MAX_LABEL_TEXT) {
                return Err(format!("labels.{name}: expected at most {} characters", Self::MAX_LABEL_TEXT));
            }
        }
        Ok(())
    }

    fn check_receiver<E: Display>(text: &str, allowed: impl FnOnce(&MediaUrl) -> Result<(), E>) -> Result<(), String> {
        let is_plain = !text.chars().any(|char| char.is_whitespace() || char.is_control());
        let url = MediaUrl::parse(text)
            .ok()
            .filter(|_| is_plain && fits(text, Self::MAX_URL))
            .ok_or_else(|| format!("expected an absolute http or https URL of at most {} characters", Self::MAX_URL))?;
        allowed(&url).map_err(|refusal| refusal.to_string())
    }
}

fn fits(text: &str, max: usize) -> bool {
    text.chars().nth(max).is_none()
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
    /// Registers a ref that [`NewRef::check`] takes, durably. The flag is false when the same was registered already, or a
    /// callback had made it, which is registered from then on.
    ///
    /// # Errors
    /// When the reference is registered with other content, or it cannot be recorded.
    pub async fn register(&self, new: NewRef) -> Result<(RefRecord, bool), RegisterError> {
        let (id, made) = generate_ref();
        let reply_ref = new.reply_ref.unwrap_or(made);
        let NewRef { notify_url, labels, .. } = new;
        let adopted = match self.state().reply_ref_named(&reply_ref).ok().flatten() {
            Some(known) if known.origin == Origin::Registered => {
                // Decided again, in order, when it is recorded; this spares the journal what changes nothing.
                let same = is_same_url(known.notify_url.as_deref(), notify_url.as_deref()) && known.labels == labels;
                return if same { Ok((known, false)) } else { Err(RegisterError::Conflict) };
            }
            adopted => adopted,
        };
        // Of one that a callback made, the id is known by now. Where that callback is lost, it follows from this alone.
        let id = adopted.map_or(id, |adopted| adopted.id);
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
        self.recorded(self.inner.log.record(event, Durability::Synced)).await?;
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

    /// Whether there is such a ref that is not deleted. While somebody else may know more of refs than the state here, any may
    /// be there that the state does not know: then the signature has to do, since it is ours.
    pub(super) async fn may_be_ref(&self, id: &RefId) -> Result<bool, IntakeError> {
        if self.state().reply_ref(id)?.is_some() {
            return Ok(true);
        }
        let may_be_known_elsewhere = match self.inner.log.cluster() {
            // Another replica may have made it just now.
            Some(cluster) => !cluster.caught_up().await,
            None => self.inner.log.may_lack_refs(),
        };
        // The state may have heard of it meanwhile.
        let known = self.state().ref_including_deleted(id)?;
        Ok(known.map_or(may_be_known_elsewhere, |known| known.removed_at.is_none()))
    }
}

/// A new id, and a reference for a caller who has none.
fn generate_ref() -> (RefId, ReplyRef) {
    let ulid = ulid::Ulid::generate().to_string();
    let expected = "a ULID is a valid name";
    let id = RefId::from_ulid(&ulid).unwrap_or_else(|_| unreachable!("{expected}"));
    (id, ReplyRef::new(&ulid.to_ascii_lowercase()).unwrap_or_else(|_| unreachable!("{expected}")))
}
