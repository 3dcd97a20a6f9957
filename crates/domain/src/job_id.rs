use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a job makes. Where its id does not say it, its callbacks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One or more videos.
    Video,
    /// One or more images.
    Image,
    /// Several files of several kinds, documents among them, or words alone.
    Agent,
    /// One or more songs.
    Music,
    /// Speech.
    Speech,
    /// Not known yet, or none of these, such as the slides of a notebook.
    Other,
}

impl Kind {
    /// Every kind, in the order in which lists show them.
    pub const ALL: [Self; 6] = [Self::Video, Self::Image, Self::Agent, Self::Music, Self::Speech, Self::Other];

    /// The name used in keys, in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Image => "image",
            Self::Agent => "agent",
            Self::Music => "music",
            Self::Speech => "speech",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A job's id, which names the API it belongs to, so that ids of two APIs never collide. As the provider writes it, where it
/// names the API:
///
/// - `user:<user>-<api>:<account>-<noun>:<own>`, such as `user:1-minimax:2-video:3`;
/// - `…-bot:<api>`, such as `p4-u1-a2-bot:minimax` or `job:<uuid>-user:<user>-<e-mail>-bot:<api>`.
///
/// Any other has the API's name and a colon in front: `<api>:<id as the provider writes it>`.
///
/// These forms say nothing of which APIs there are, nor which of the ids each gives: that is for their adapters. All but the
/// last are printable ASCII without `/`, `?`, `#`, `%` and quotes. Ids are case-sensitive, and may hold an account's e-mail
/// address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    text: Box<str>,
    kind: Kind,
    /// Where in the text the API's name stands: its first byte, and that behind it.
    api: (u16, u16),
}

/// The text has none of the shapes of a job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a job id: user:<user>-<api>:<account>-<kind>:<id>, <id>-u<user>-<account>-bot:<api> or <api>:<id>, where <api> \
     is such as minimax"
)]
pub struct JobIdParseError;

/// The parts of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobIdParts<'a> {
    /// The API's name as it stands there.
    pub api: &'a str,
    /// What stands in front of the last part: `video`, `task`; `bot` for ids that end in the API's name, and empty for those
    /// that begin with it.
    pub noun: &'a str,
    /// What stands in front of the account: digits; empty where the id has none.
    pub user: &'a str,
    /// Digits or an e-mail address; empty where the id has none.
    pub account: &'a str,
    /// The job's own part.
    pub own: &'a str,
}

impl JobId {
    /// The most digits one number of an id may have.
    pub const MAX_DIGITS: usize = 40;
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 512;
    /// The API that earlier versions knew alone. What they have written does not name it, and the keys of its jobs do not,
    /// either.
    pub const FIRST_API: &str = "minimax";
    /// The longest own part and account that stand in an object's name as they are, in bytes.
    pub const MAX_NAME_BYTES: usize = 64;

    /// An id that does not name its API, and has the API's name in front therefore: `api` in lower-case letters, digits and
    /// `-`, which begins with a letter; `text` of at most 256 bytes without control characters.
    ///
    /// # Errors
    /// When either is not like that.
    pub fn prefixed(api: &str, text: &str) -> Result<Self, JobIdParseError> {
        format!("{api}:{text}")
            .parse()
            .and_then(|id: Self| if id.is_prefixed() { Ok(id) } else { Err(JobIdParseError) })
    }

    /// Reads an id that names its API.
    ///
    /// # Errors
    /// When it does not.
    pub fn self_named(text: &str) -> Result<Self, JobIdParseError> {
        text.parse().and_then(|id: Self| if id.is_prefixed() { Err(JobIdParseError) } else { Ok(id) })
    }

    fn is_prefixed(&self) -> bool {
        self.api.0 == 0
    }

    fn api(&self) -> &str {
        self.text.get(usize::from(self.api.0)..usize::from(self.api.1)).unwrap_or_default()
    }

    /// The id as it is shown.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id as the provider writes it: without the name in front of one that does not name its API.
    pub fn as_sent(&self) -> &str {
        match self.is_prefixed() {
            true => self.text.split_once(':').map_or(&self.text, |(_, text)| text),
            false => &self.text,
        }
    }

    /// What the job makes, where the id says it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The API that makes it, such as `minimax`.
    pub fn provider(&self) -> String {
        self.api().replace('_', "-")
    }

    /// The provider's account that the job runs on: digits or an e-mail address, empty where the id does not say it.
    pub fn account(&self) -> &str {
        self.parts().account
    }

    /// The account as it may stand in an object's name: an e-mail address as a part of its digest.
    pub fn account_name(&self) -> String {
        match self.account() {
            "" => "none".to_owned(),
            digits if is_number(digits) => digits.to_owned(),
            address => short_digest(address),
        }
    }

    /// The parts of the id.
    pub fn parts(&self) -> JobIdParts<'_> {
        parse(&self.text).unwrap_or(JobIdParts { api: "", noun: "", user: "", account: "", own: "" })
    }

    /// The job's folder: kind, API and the provider's own id, as in `video-kling-285018472933`. The first API's has no name,
    /// as in `video-418200000000000017` or `agent-p551200`. An own part that is no plain name is a part of its digest.
    pub fn folder(&self, kind: Kind) -> String {
        let own = self.parts().own;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let plain = own.len() <= Self::MAX_NAME_BYTES && own.bytes().all(is_plain);
        let own = if plain { own.to_owned() } else { short_digest(own) };
        match self.provider() {
            provider if provider == Self::FIRST_API => format!("{kind}-{own}"),
            provider => format!("{kind}-{provider}-{own}"),
        }
    }
}

fn short_digest(text: &str) -> String {
    super::Digest::of(text.as_bytes()).to_string()[..16].to_owned()
}

fn parse(text: &str) -> Option<JobIdParts<'_>> {
    if text.len() > JobId::MAX_BYTES {
        return None;
    }
    named_inside(text).or_else(|| named_at_end(text)).filter(|parts| is_api(parts.api) && is_url_safe(text)).or_else(
        || {
            let (api, own) = text.split_once(':')?;
            let fits = is_api(api) && !matches!(api, "user" | "job") && (1..=256).contains(&own.len());
            let parts = JobIdParts { api, noun: "", user: "", account: "", own: own_of_foreign(own) };
            (fits && !own.chars().any(char::is_control) && named_at_end(text).is_none()).then_some(parts)
        },
    )
}

/// `user:<user>-<api>:<account>-<noun>:<own>`
fn named_inside(text: &str) -> Option<JobIdParts<'_>> {
    const NOUNS: [&str; 7] = ["video", "image", "music", "audio", "speech", "task", "job"];
    let (user, rest) = text.strip_prefix("user:")?.split_once('-')?;
    let (api, rest) = rest.split_once(':')?;
    let (rest, own) = rest.rsplit_once(':')?;
    let (account, noun) = rest.rsplit_once('-')?;
    let fits = is_number(user) && is_account(account) && NOUNS.contains(&noun) && is_own(own);
    fits.then_some(JobIdParts { api, noun, user, account, own })
}

/// `<own>-u<user>-<account>-bot:<api>` or `job:<own>-user:<user>-<account>-bot:<api>`
fn named_at_end(text: &str) -> Option<JobIdParts<'_>> {
    let (rest, api) = text.rsplit_once("-bot:")?;
    let (own, rest) = match rest.strip_prefix("job:") {
        Some(rest) => rest.split_once("-user:")?,
        None => rest.split_once("-u")?,
    };
    let (user, account) = rest.split_once('-')?;
    let account = account.strip_prefix('a').filter(|digits| is_number(digits)).unwrap_or(account);
    let fits = is_number(user) && is_own(own) && !account.is_empty() && account.len() <= 320;
    fits.then_some(JobIdParts { api, noun: "bot", user, account, own })
}

/// The last part of an id that is of parts, so that no account stands in an object's name.
fn own_of_foreign(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((_, own)) if text.starts_with("user:") => own,
        _ => text,
    }
}

fn is_api(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (2..=32).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(plain)
}

fn is_account(text: &str) -> bool {
    (1..=254).contains(&text.len()) && !text.contains(':')
}

fn is_own(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=JobId::MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

/// What stands as it is in one segment of a path.
fn is_url_safe(text: &str) -> bool {
    let forbidden =
        |byte: u8| matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'%' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'|');
    text.bytes().all(|byte| byte.is_ascii_graphic() && !forbidden(byte))
}

fn is_number(text: &str) -> bool {
    (1..=JobId::MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn kind_of(parts: &JobIdParts<'_>) -> Kind {
    match parts.noun {
        "video" => Kind::Video,
        "image" => Kind::Image,
        "music" => Kind::Music,
        "audio" | "speech" => Kind::Speech,
        // A project's.
        "bot" if parts.own.strip_prefix('p').is_some_and(is_number) => Kind::Agent,
        _ => Kind::Other,
    }
}

impl std::str::FromStr for JobId {
    type Err = JobIdParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = parse(text).ok_or(JobIdParseError)?;
        let start = parts.api.as_ptr().addr() - text.as_ptr().addr();
        let place = |at: usize| u16::try_from(at).map_err(|_| JobIdParseError);
        let api = (place(start)?, place(start + parts.api.len())?);
        Ok(Self { text: text.into(), kind: kind_of(&parts), api })
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
        let mail = "studio-2@example.com";
        for (text, provider, account, folder) in [
            (
                "user:4821-minimax:730015522-video:418200000000000017",
                "minimax",
                "730015522",
                "video-418200000000000017",
            ),
            ("user:1-minimax:2-image:3", "minimax", "2", "image-3"),
            ("user:1-minimax:2-music:66", "minimax", "2", "music-66"),
            ("user:1-minimax:2-audio:b1f0", "minimax", "2", "speech-b1f0"),
            ("p551200-u4821-a2-bot:minimax", "minimax", "2", "agent-p551200"),
            (&format!("user:1-pixverse:{mail}-video:33"), "pixverse", mail, "video-pixverse-33"),
            (&format!("user:1-runwayml:{mail}-task:9a-4d"), "runwayml", mail, "other-runwayml-9a-4d"),
            (&format!("j12v-u4821-US:{mail}-bot:dreamina"), "dreamina", &format!("US:{mail}"), "other-dreamina-j12v"),
            (
                &format!("job:7b-1f-user:4-{mail}-bot:gemini_notebook"),
                "gemini-notebook",
                mail,
                "other-gemini-notebook-7b-1f",
            ),
            ("kling:285018472933", "kling", "", "other-kling-285018472933"),
            (&format!("google-vids:user:4-{mail}-job:3f-6b"), "google-vids", "", "other-google-vids-3f-6b"),
        ] {
            let id: JobId = text.parse().unwrap();
            let found = (id.provider(), id.account().to_owned(), id.folder(id.kind()));
            assert_eq!(found, (provider.to_owned(), account.to_owned(), folder.to_owned()), "{text}");
            assert!(!id.folder(Kind::Video).contains('@') && !id.account_name().contains('@'));
        }
        let kling = JobId::prefixed("kling", "285").unwrap();
        assert_eq!((kling.as_str(), kling.as_sent()), ("kling:285", "285"));
        assert!(JobId::self_named("kling:285").is_err() && JobId::self_named("user:1-minimax:2-video:3").is_ok());
        let opaque = JobId::prefixed("faceswap", "a b/../c").unwrap();
        assert!(opaque.folder(Kind::Image).starts_with("image-faceswap-") && !opaque.folder(Kind::Image).contains('/'));
    }

    #[test]
    fn other_shapes_are_refused() {
        let long = format!("user:1-minimax:2-video:{}", "9".repeat(JobId::MAX_NAME_BYTES + 1));
        for bad in [
            "",
            "user:1-minimax:2-file:3",
            "user:1-minimax:2-video:",
            "user:1-minimax:2-video:../../etc",
            "user:1-minimax:2-video:3 ",
            "user:-minimax:-image:",
            "user:1-minimax:2-video:٣",
            "user:1-a@b.c-job:3",
            "p-u2-a3-bot:Minimax",
            "p1-u2-a3-bot:",
            "Kling:3",
            "kling:",
            "kling:\n",
            "3",
            &long,
        ] {
            assert_eq!(bad.parse::<JobId>(), Err(JobIdParseError), "{bad}");
        }
        assert!(JobId::prefixed("user", "1").is_err());
    }
}
