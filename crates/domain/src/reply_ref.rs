use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::JobId;
use super::redact::without_signatures;

/// A caller's own reference for a job: any text of 1 to [`ReplyRef::MAX_CHARS`] characters.
///
/// The bound is the provider's for `replyRef`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyRef(Box<str>);

/// The text is not a valid name of its kind; says what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct TextIdError(&'static str);

impl ReplyRef {
    /// The longest reference, in Unicode characters.
    pub const MAX_CHARS: usize = 1024;

    /// Checks the length; the text itself is free.
    ///
    /// # Errors
    /// When it is empty or longer than [`ReplyRef::MAX_CHARS`] characters.
    pub fn new(text: &str) -> Result<Self, TextIdError> {
        if text.is_empty() || text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(TextIdError("a replyRef of 1 to 1024 characters"));
        }
        Ok(Self(text.into()))
    }

    /// The text as the caller gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same as anybody may see it: who gives a reply URL of ours as a reference gives its signature away.
    pub fn shown(&self) -> Self {
        Self(without_signatures(&self.0).into())
    }

    /// Whether `other` is the same but for white space around it.
    pub fn is_like(&self, other: &Self) -> bool {
        self.0.trim() == other.0.trim()
    }
}

/// The id of a registered ref: `ref_` and 26 characters, time-ordered.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefId(Box<str>);

impl RefId {
    const EXPECTED: TextIdError = TextIdError("a ref id: ref_ and 26 lower-case letters and digits");

    /// The ref id made of a ULID's text, in either case.
    ///
    /// # Errors
    /// When the text is not 26 ASCII letters and digits.
    pub fn from_ulid(ulid: &str) -> Result<Self, TextIdError> {
        Self::parse(&format!("ref_{}", ulid.to_ascii_lowercase()))
    }

    /// Reads an id.
    ///
    /// # Errors
    /// When it does not have the form of one.
    pub fn parse(text: &str) -> Result<Self, TextIdError> {
        let valid = text.strip_prefix("ref_").is_some_and(|rest| {
            rest.len() == 26 && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        if valid { Ok(Self(text.into())) } else { Err(Self::EXPECTED) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a reply URL names: a channel anyone may share, or one registered ref.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Target {
    /// The channel of the provider's first API, which takes the callbacks of all others, too.
    Channel,
    /// The channel of all of the provider's APIs.
    UseApi,
    /// The URL made for one ref.
    Ref(RefId),
}

impl Target {
    /// The name of the first API's channel.
    pub const CHANNEL: &str = JobId::FIRST_API;
    /// The name of the channel of all APIs.
    pub const USEAPI: &str = "useapi";

    /// Whether it is a channel, which claims no job for a ref.
    pub fn is_channel(&self) -> bool {
        matches!(self, Self::Channel | Self::UseApi)
    }

    /// Reads the `{target}` of a reply URL.
    ///
    /// # Errors
    /// When it is neither a known channel nor of the form of a ref's id.
    pub fn parse(text: &str) -> Result<Self, TextIdError> {
        match text {
            Self::CHANNEL => Ok(Self::Channel),
            Self::USEAPI => Ok(Self::UseApi),
            _ => RefId::parse(text).map(Self::Ref).map_err(|_| TextIdError("the channel useapi or a ref id")),
        }
    }

    /// The text that stands in the URL and is signed.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Channel => Self::CHANNEL,
            Self::UseApi => Self::USEAPI,
            Self::Ref(id) => id.as_str(),
        }
    }
}

macro_rules! text_form {
    ($type:ty, $parse:path) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.as_str().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

text_form!(ReplyRef, ReplyRef::new);
text_form!(RefId, RefId::parse);
text_form!(Target, Target::parse);

/// Escaped, since a caller may have written control characters.
impl fmt::Debug for ReplyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Debug for RefId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_shown_as_it_is_unless_it_has_a_whole_signature() {
        let (hex, id) = ("9f86d081884c7d65".repeat(4), "ref_01hzy3v7q8r9s0t1u2v3w4x5y6");
        for text in [format!("minimax/{hex}"), format!("useapi/{}", "a".repeat(44)), format!("{id}/{}", "b".repeat(60))]
        {
            assert_eq!(ReplyRef::new(&text).unwrap().shown().as_str(), text);
        }
        let signed = ReplyRef::new(&format!("https://vault.example.com/reply/{id}/{}", "c".repeat(43))).unwrap();
        assert_eq!(signed.shown().as_str(), format!("https://vault.example.com/reply/{id}/…"));
    }

    #[test]
    fn reply_refs_are_bounded_in_characters_not_bytes() {
        assert!(ReplyRef::new(&"✓".repeat(1024)).is_ok());
        assert!(ReplyRef::new(&"a".repeat(1025)).is_err());
        assert!(ReplyRef::new("").is_err());
        assert_eq!(format!("{:?}", ReplyRef::new("a\u{1b}[31m").unwrap()), r#""a\u{1b}[31m""#);
    }

    #[test]
    fn targets_are_the_channel_or_a_ref() {
        assert_eq!(Target::parse("minimax"), Ok(Target::Channel));
        assert_eq!(Target::parse("useapi"), Ok(Target::UseApi));
        let id = RefId::from_ulid("01JD0000000000000000000000").unwrap();
        assert_eq!(Target::parse(id.as_str()), Ok(Target::Ref(id)));
        for bad in ["", "MINIMAX", "ref_", "ref_01JD0000000000000000000000", "ref_../../../../../../../../../x"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
