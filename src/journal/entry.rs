use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::domain::{JobId, QuarantineReason, Target, Timestamp};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A callback, with its bytes as they came.
    Callback(CallbackEntry),
    /// Anything else.
    Event(Event),
    /// A callback that is still needed, written again before the segment that has it goes.
    Kept(KeptCallback),
}

/// A callback and all that its meaning depends on besides what is already known, so that replay finds the same.
#[derive(Clone, Debug, PartialEq)]
pub struct CallbackEntry {
    /// When it came.
    pub at: Timestamp,
    /// The target of the URL it came over.
    pub target: Target,
    /// Whether a replyRef nobody registered was to be adopted at the time.
    pub adopt: bool,
    /// Whether posters and the like were wanted at the time.
    pub sidecars: bool,
    /// Whether the provider was to be asked before a final callback is believed.
    pub confirm: bool,
    /// Whether it is no callback but what the provider answered when it was asked. It is believed, and claims nothing.
    pub asked: bool,
    /// Whether that answer came to somebody's own token for the provider: then its replyRef ties nothing to a ref that was
    /// registered.
    pub foreign: bool,
    /// Set when this is a body from quarantine, looked at again: the position it was first recorded at.
    pub replay_of: Option<u64>,
    /// The body.
    pub body: Bytes,
}

/// A callback that stood further back.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptCallback {
    /// The position it was first recorded at, by which everything else knows it.
    pub position: u64,
    /// Set when it is in quarantine.
    pub quarantined: Option<Quarantined>,
    /// The callback as it was.
    pub callback: CallbackEntry,
}

/// Why a callback is in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// The reason.
    pub reason: QuarantineReason,
    /// The job it names, if it names one.
    pub job: Option<JobId>,
}

const CALLBACK: u8 = 1;
const EVENT: u8 = 2;
const KEPT: u8 = 3;

const ADOPT: u8 = 1;
const SIDECARS: u8 = 2;
const CONFIRM: u8 = 4;
const ASKED: u8 = 8;
const FOREIGN: u8 = 16;

impl Entry {
    /// The callback, whether it was written for the first time or again.
    pub fn into_callback(self) -> Option<CallbackEntry> {
        match self {
            Self::Callback(callback) => Some(callback),
            Self::Kept(kept) => Some(kept.callback),
            Self::Event(_) => None,
        }
    }

    /// The payload as it is written, for a log that is kept elsewhere.
    pub fn to_payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        self.encode(&mut payload);
        payload
    }

    /// Reads what [`Entry::to_payload`] wrote; `None` when it is damaged, or of a type this version does not know.
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        Self::decode(payload)
    }

    /// Writes the payload: a byte for the type, then for callbacks fixed fields and the raw body, for events JSON,
    /// which later versions can add fields to.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Callback(callback) => {
                buffer.push(CALLBACK);
                callback.encode(buffer);
            }
            Self::Event(event) => {
                buffer.push(EVENT);
                // Plain structs of text and numbers, written to memory: nothing in them can fail to serialize.
                let _ = serde_json::to_writer(buffer, event);
            }
            Self::Kept(KeptCallback { position, quarantined, callback }) => {
                buffer.push(KEPT);
                buffer.extend_from_slice(&position.to_le_bytes());
                let quarantined = serde_json::to_vec(quarantined).unwrap_or_default();
                buffer.extend_from_slice(&(quarantined.len() as u32).to_le_bytes());
                buffer.extend_from_slice(&quarantined);
                callback.encode(buffer);
            }
        }
    }

    /// Reads a payload. A callback's body is copied out of it.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        Self::decode_with(payload, &Bytes::copy_from_slice)
    }

    /// The same; a callback's body shares the payload's memory.
    pub(super) fn decode_shared(payload: &Bytes) -> Option<Self> {
        Self::decode_with(payload, &|body| payload.slice_ref(body))
    }

    fn decode_with(payload: &[u8], own: &dyn Fn(&[u8]) -> Bytes) -> Option<Self> {
        let (kind, rest) = payload.split_first()?;
        match *kind {
            CALLBACK => CallbackEntry::decode(rest, own).map(Self::Callback),
            EVENT => serde_json::from_slice(rest).ok().map(Self::Event),
            KEPT => {
                let (position, rest) = rest.split_first_chunk::<8>()?;
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let (quarantined, rest) = rest.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
                Some(Self::Kept(KeptCallback {
                    position: u64::from_le_bytes(*position),
                    quarantined: serde_json::from_slice(quarantined).ok()?,
                    callback: CallbackEntry::decode(rest, own)?,
                }))
            }
            _ => None,
        }
    }
}

impl CallbackEntry {
    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.at.millis().to_le_bytes());
        let flags = [
            (self.adopt, ADOPT),
            (self.sidecars, SIDECARS),
            (self.confirm, CONFIRM),
            (self.asked, ASKED),
            (self.foreign, FOREIGN),
        ];
        buffer.push(flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag));
        buffer.extend_from_slice(&self.replay_of.map_or(u64::MAX, |position| position).to_le_bytes());
        let target = self.target.as_str().as_bytes();
        buffer.push(target.len() as u8);
        buffer.extend_from_slice(target);
        buffer.extend_from_slice(&self.body);
    }

    fn decode(bytes: &[u8], own: &dyn Fn(&[u8]) -> Bytes) -> Option<Self> {
        let (at, rest) = bytes.split_first_chunk::<8>()?;
        let (flags, rest) = rest.split_first()?;
        let (replay_of, rest) = rest.split_first_chunk::<8>()?;
        let (target_length, rest) = rest.split_first()?;
        let (target, body) = rest.split_at_checked((*target_length).into())?;
        let replay_of = u64::from_le_bytes(*replay_of);
        Some(Self {
            at: Timestamp::from_millis(u64::from_le_bytes(*at))?,
            target: Target::parse(std::str::from_utf8(target).ok()?).ok()?,
            adopt: flags & ADOPT != 0,
            sidecars: flags & SIDECARS != 0,
            confirm: flags & CONFIRM != 0,
            asked: flags & ASKED != 0,
            foreign: flags & FOREIGN != 0,
            replay_of: (replay_of != u64::MAX).then_some(replay_of),
            body: own(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_of_a_callback_is_read_as_it_was_written() {
        for set in 0_u8..32 {
            let is_set = |flag| set & flag != 0;
            let entry = Entry::Callback(CallbackEntry {
                at: Timestamp::from_millis_clamped(1_795_172_334_234),
                target: Target::Channel,
                adopt: is_set(ADOPT),
                sidecars: is_set(SIDECARS),
                confirm: is_set(CONFIRM),
                asked: is_set(ASKED),
                foreign: is_set(FOREIGN),
                replay_of: None,
                body: Bytes::from_static(b"{}"),
            });
            assert_eq!(Entry::from_payload(&entry.to_payload()), Some(entry));
        }
    }
}
