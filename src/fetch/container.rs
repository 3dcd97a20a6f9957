use serde::{Deserialize, Serialize};

use super::media_type::{Format, MediaType};
use super::sniff::{self, SNIFF_LENGTH};

mod asf;
mod bmff;
mod checker;
mod ebml;
mod flac;
mod flv;
mod frames;
mod gif;
mod jpeg;
mod long_chunks;
mod ogg;
mod packets;
mod png;
mod riff;
mod tail;
mod tracks;

use checker::Checker;

/// Why bytes are not a whole file of their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It ends before its own structure says it does.
    #[error("the file is cut short, expected {expected}")]
    Truncated {
        /// What was still to come.
        expected: &'static str,
    },
    /// A JPEG without its end: whether it is whole, [`ends_in_a_whole_picture`](super::ends_in_a_whole_picture) can tell.
    #[error("the file is cut short, expected segments and scans up to EOI")]
    WithoutEnd,
    /// Its structure does not fit.
    #[error("the file is damaged, expected {expected}")]
    Malformed {
        /// What should have been there.
        expected: &'static str,
    },
}

impl ContainerError {
    /// The stable name, for records and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated { .. } | Self::WithoutEnd => "truncated",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// What should have been there. A name of its own, since such states are never recorded.
type Expected = &'static str;

/// Checks, while the bytes go by and in constant memory, that a file is whole by its own structure, and finds out what it is.
/// What is checked of which format, and what is not, `docs/formats.md` says.
#[derive(Debug, Default)]
pub struct Container {
    total: u64,
    stage: Stage,
}

/// How far the check of a file is, beyond the bytes that its kind is recognised by: what it can be gone on with from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerState {
    /// Of the rules that made this state. Older ones are not gone on with.
    rules: u32,
    total: u64,
    stage: Stage,
}

/// To be raised when a state would mean something else than before.
const RULES: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// What the kind is recognised by, up to [`SNIFF_LENGTH`].
    #[serde(skip)]
    Head {
        bytes: Vec<u8>,
        /// How many tags, and stretches of padding behind one, stood before it.
        tags: u8,
    },
    /// A tag in front of the file.
    Tag {
        left: u64,
        #[serde(default)]
        tags: u8,
    },
    Body(Body),
}

/// Each is looked at like a whole head. More than these no file has, unless it is made to take up time.
const MAX_TAGS: u8 = 8;

impl Default for Stage {
    fn default() -> Self {
        Self::Head { bytes: Vec::new(), tags: 0 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    #[serde(with = "recorded")]
    media_type: Option<MediaType>,
    /// The bytes from the first one that the checker has seen.
    length: u64,
    checker: Checker,
}

impl Container {
    /// A checker that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes, in pieces of any size.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            match &mut self.stage {
                Stage::Body(body) => return body.update(bytes),
                Stage::Tag { left, tags } => {
                    skip(left, &mut bytes);
                    if *left == 0 {
                        self.stage = Stage::Head { bytes: Vec::new(), tags: *tags };
                    }
                }
                Stage::Head { bytes: head, .. } => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(SNIFF_LENGTH - head.len()));
                    head.extend_from_slice(taken);
                    bytes = rest;
                    if head.len() == SNIFF_LENGTH {
                        self.stage = std::mem::take(&mut self.stage).after_head();
                    }
                }
            }
        }
    }

    /// What it is, as far as it can be told from what has come: what stands at the end of a file can change it.
    pub fn found(&self) -> Option<MediaType> {
        match &self.stage {
            Stage::Body(body) => body.found(),
            Stage::Tag { .. } => MediaType::by_extension("mp3"),
            Stage::Head { .. } => self.stage.clone().settled().and_then(|body| body.found()),
        }
    }

    /// Where the check is. `None` while the kind is not recognised, and when what came is damaged already: then going on is
    /// of no use.
    pub(super) fn checked(&self) -> Option<ContainerState> {
        let is_good = match &self.stage {
            Stage::Head { .. } => false,
            Stage::Tag { .. } => true,
            Stage::Body(body) => !body.checker.is_malformed(),
        };
        is_good.then(|| ContainerState { rules: RULES, total: self.total, stage: self.stage.clone() })
    }

    /// Goes on from where a check was; `None` for what was recorded by other rules.
    pub(super) fn resume(checked: &ContainerState) -> Option<Self> {
        (checked.rules == RULES).then(|| Self { total: checked.total, stage: checked.stage.clone() })
    }

    /// Says what it was and that it is whole; `Ok(None)` for a kind that is not known. `is_proven` when the server told the
    /// length or a checksum, and it was right: then an odd end is how the file was made.
    ///
    /// # Errors
    /// When it is empty, cut short or damaged.
    pub fn finish(self, is_proven: bool) -> Result<Option<MediaType>, ContainerError> {
        if self.total == 0 {
            return Err(ContainerError::Empty);
        }
        let Some(body) = self.stage.settled() else {
            return Err(ContainerError::Truncated { expected: "what the tag in front belongs to" });
        };
        body.checker.finish(body.length, is_proven)?;
        Ok(body.found())
    }
}

impl Stage {
    /// What follows a head that is full, or all there is.
    fn after_head(self) -> Self {
        let Self::Head { bytes, tags } = self else { return self };
        if tags == MAX_TAGS {
            return Self::Body(Body::start(&bytes, true));
        }
        match sniff::id3_length(&bytes) {
            Some(length) if length >= bytes.len() => {
                Self::Tag { left: (length - bytes.len()) as u64, tags: tags + 1 }.begun()
            }
            Some(length) => Self::Head { bytes: bytes[length..].to_vec(), tags: tags + 1 },
            // Padding that the tag's length does not count.
            None if tags > 0 && bytes.first() == Some(&0) && sniff::sniff(&bytes).is_none() => {
                let padding = bytes.iter().take_while(|byte| **byte == 0).count();
                // Where all of it is, it goes on behind this.
                let tags = if padding == bytes.len() { tags } else { tags + 1 };
                Self::Head { bytes: bytes[padding..].to_vec(), tags }
            }
            None => Self::Body(Body::start(&bytes, tags > 0)),
        }
    }

    /// A tag of which nothing is left is over.
    fn begun(self) -> Self {
        match self {
            Self::Tag { left: 0, tags } => Self::Head { bytes: Vec::new(), tags },
            stage => stage,
        }
    }

    /// The body, when nothing more is to come; `None` when there is nothing but tags.
    fn settled(mut self) -> Option<Body> {
        loop {
            match &self {
                Self::Body(_) => break,
                Self::Tag { .. } => return None,
                Self::Head { bytes, tags } if bytes.is_empty() && *tags > 0 => return None,
                Self::Head { .. } => self = self.after_head(),
            }
        }
        match self {
            Self::Body(body) => Some(body),
            _ => None,
        }
    }
}

impl Body {
    fn start(head: &[u8], tagged: bool) -> Self {
        let media_type = if tagged { sniff::sniff_tagged(head) } else { sniff::sniff(head) };
        let checker = Checker::new(media_type.map_or(Format::Other, |media_type| media_type.format), media_type, head);
        let mut body = Self { media_type, length: 0, checker };
        body.update(head);
        body
    }

    fn update(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        self.checker.update(bytes);
    }

    fn found(&self) -> Option<MediaType> {
        self.media_type.map(|media_type| self.checker.refined(media_type))
    }
}

/// Passes over what is left of something, as far as it has come.
fn skip(left: &mut u64, bytes: &mut &[u8]) {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= taken as u64;
    *bytes = &bytes[taken..];
}

/// Fills `buffer` up to its end; true once it is full.
fn fill(buffer: &mut [u8], filled: &mut usize, bytes: &mut &[u8]) -> bool {
    let taken = bytes.len().min(buffer.len() - *filled);
    buffer[*filled..*filled + taken].copy_from_slice(&bytes[..taken]);
    *filled += taken;
    *bytes = &bytes[taken..];
    *filled == buffer.len()
}

/// A type by its MIME type and extension.
mod recorded {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use super::MediaType;

    pub(super) fn serialize<S: Serializer>(found: &Option<MediaType>, serializer: S) -> Result<S::Ok, S::Error> {
        found.map(|found| (found.mime, found.extension)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
        match Option::<(String, String)>::deserialize(deserializer)? {
            None => Ok(None),
            Some((mime, extension)) => {
                let found = MediaType::find(&mime, &extension);
                found.map(Some).ok_or_else(|| D::Error::custom("expected a type that this version knows"))
            }
        }
    }
}

#[cfg(test)]
pub(super) mod make;
#[cfg(test)]
pub(super) mod tests;
