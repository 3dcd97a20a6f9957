use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a job makes. Decided by the shape of its id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `user:…-minimax:…-video:…`
    Video,
    /// `user:…-minimax:…-image:…`
    Image,
    /// `p…-u…-a…-bot:minimax`: several files of several kinds.
    Agent,
    /// `user:…-minimax:…-music:…`, retired by the provider.
    Music,
    /// `user:…-minimax:…-audio:…`, retired by the provider.
    Speech,
}

impl Kind {
    /// Every kind, in the order in which lists show them.
    pub const ALL: [Self; 5] = [Self::Video, Self::Image, Self::Agent, Self::Music, Self::Speech];

    /// The name used in keys, in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Image => "image",
            Self::Agent => "agent",
            Self::Music => "music",
            Self::Speech => "speech",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The provider's id of a job, such as `user:1-minimax:2-video:3` or `p4-u1-a2-bot:minimax`.
///
/// The numbers in it are decimal, without bound in value but of at most [`JobId::MAX_DIGITS`] digits, and stay text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    text: Box<str>,
    kind: Kind,
}

/// The text has none of the shapes of a job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a job id: user:<digits>-minimax:<digits>-<video|image|music|audio>:<digits> or \
     p<digits>-u<digits>-a<digits>-bot:minimax"
)]
pub struct JobIdParseError;

/// The parts of an id that replyvault uses.
struct Parts<'a> {
    kind: Kind,
    account: &'a str,
    own: &'a str,
}

impl JobId {
    /// The most digits one number of an id may have.
    pub const MAX_DIGITS: usize = 40;

    /// The id as the provider writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the job makes.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The provider whose models make it, by the name in its id.
    pub fn provider(&self) -> &'static str {
        "minimax"
    }

    /// The provider account the job runs on: digits.
    pub fn account(&self) -> &str {
        self.part(|parts| parts.account)
    }

    /// Kind and the provider's own id, as in `video-418200000000000017` or `agent-p551200`: the job's folder.
    pub fn folder(&self) -> String {
        let prefix = if self.kind == Kind::Agent { "p" } else { "" };
        format!("{}-{prefix}{}", self.kind, self.part(|parts| parts.own))
    }

    fn part<'a>(&'a self, pick: impl FnOnce(Parts<'a>) -> &'a str) -> &'a str {
        parse(&self.text).map(pick).unwrap_or_default()
    }
}

fn parse(text: &str) -> Option<Parts<'_>> {
    if let Some(rest) = text.strip_prefix("user:") {
        let (user, rest) = rest.split_once("-minimax:")?;
        let (account, rest) = rest.split_once('-')?;
        let (kind, own) = rest.split_once(':')?;
        let kind = match kind {
            "video" => Kind::Video,
            "image" => Kind::Image,
            "music" => Kind::Music,
            "audio" => Kind::Speech,
            _ => return None,
        };
        return [user, account, own].into_iter().all(is_number).then_some(Parts { kind, account, own });
    }
    let (own, rest) = text.strip_prefix('p')?.split_once("-u")?;
    let (user, rest) = rest.split_once("-a")?;
    let account = rest.strip_suffix("-bot:minimax")?;
    [own, user, account].into_iter().all(is_number).then_some(Parts { kind: Kind::Agent, account, own })
}

fn is_number(text: &str) -> bool {
    (1..=JobId::MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl std::str::FromStr for JobId {
    type Err = JobIdParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Parts { kind, .. } = parse(text).ok_or(JobIdParseError)?;
        Ok(Self { text: text.into(), kind })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_the_provider_is_read() {
        for (text, kind, folder) in [
            ("user:4821-minimax:730015522-video:418200000000000017", Kind::Video, "video-418200000000000017"),
            ("user:1-minimax:2-image:3", Kind::Image, "image-3"),
            ("user:1-minimax:2-music:66", Kind::Music, "music-66"),
            ("user:1-minimax:2-audio:9", Kind::Speech, "speech-9"),
            ("p551200-u4821-a2-bot:minimax", Kind::Agent, "agent-p551200"),
        ] {
            let id: JobId = text.parse().unwrap();
            assert_eq!((id.kind(), id.folder().as_str(), id.as_str()), (kind, folder, text));
        }
        assert_eq!("p551200-u4821-a730-bot:minimax".parse::<JobId>().unwrap().account(), "730");
        assert_eq!("user:1-minimax:22-image:3".parse::<JobId>().unwrap().account(), "22");
    }

    #[test]
    fn other_shapes_are_refused() {
        let long = format!("user:1-minimax:2-video:{}", "9".repeat(JobId::MAX_DIGITS + 1));
        for bad in [
            "",
            "user:1-minimax:2-file:3",
            "user:1-minimax:2-video:",
            "user:1-minimax:2-video:../../etc",
            "user:1-minimax:2-video:3 ",
            "user:-minimax:-image:",
            "user:1-minimax:2-video:٣",
            "p1-u2-a3-bot:other",
            "p-u2-a3-bot:minimax",
            "video:3",
            &long,
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(JobIdParseError), "{bad}");
        }
    }
}
