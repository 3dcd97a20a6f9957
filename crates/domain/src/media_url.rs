mod expiry;
mod path_timestamp;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Position, Url};

use super::redact::redacted_path;

/// An absolute `http` or `https` URL with a host, at most [`MediaUrl::MAX_LENGTH`] bytes long.
///
/// Valid as a URL, not vetted: whether it may be fetched is the outbound policy's to say. Its query can carry the
/// CDN's signature, and so can its path, so `Display` and `Debug` show `…` in its place; only [`MediaUrl::expose`] gives the
/// whole.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaUrl(Url);

/// Why a text is no [`MediaUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaUrlError {
    /// Not a URL by the WHATWG rules.
    #[error("not an absolute URL ({0})")]
    Malformed(String),
    /// Neither `http` nor `https`.
    #[error("expected an http or https URL")]
    Scheme,
    /// Longer than [`MediaUrl::MAX_LENGTH`].
    #[error("a URL of more than {} bytes", MediaUrl::MAX_LENGTH)]
    TooLong,
}

impl MediaUrl {
    /// The longest URL taken, in bytes: beyond what CDNs and proxies accept in a request line.
    pub const MAX_LENGTH: usize = 8192;
    /// Stands for the provider's base URL where a file is to be had from the provider itself. No such host can exist (RFC 2606).
    pub const PROVIDER_HOST: &str = "provider.invalid";
    /// Stands for the callback's own body.
    pub const INLINE_HOST: &str = "body.invalid";

    /// Reads an absolute URL.
    ///
    /// # Errors
    /// When it is malformed, too long, or neither `http` nor `https`.
    pub fn parse(text: &str) -> Result<Self, MediaUrlError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(MediaUrlError::TooLong);
        }
        Self::from_url(Url::parse(text).map_err(|error| MediaUrlError::Malformed(error.to_string()))?)
    }

    /// Wraps a URL that is parsed already.
    ///
    /// # Errors
    /// As for [`MediaUrl::parse`].
    pub fn from_url(url: Url) -> Result<Self, MediaUrlError> {
        if url.as_str().len() > Self::MAX_LENGTH {
            return Err(MediaUrlError::TooLong);
        }
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self(url)),
            _ => Err(MediaUrlError::Scheme),
        }
    }

    /// The whole URL, query included: for sending the request, never for showing.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether both are links to one file: the same but for their queries, in which signatures stand.
    pub fn is_of_same_file(&self, other: &Self) -> bool {
        self.0[..Position::AfterPath] == other.0[..Position::AfterPath]
    }

    /// The same place in the body of the callback recorded at `position` of the journal, where this is a place in a body.
    pub fn in_body_at(&self, position: u64) -> Self {
        let mut url = self.0.clone();
        url.set_path(&format!("{position}/{}", self.file_name()));
        Self(url)
    }

    /// Where in the journal the callback was recorded in whose body it is; `None` when that is not said.
    pub fn body_position(&self) -> Option<u64> {
        let (position, _) = self.0.path().strip_prefix('/')?.split_once('/')?;
        position.parse().ok()
    }

    /// Its length in bytes, query included.
    pub fn length(&self) -> usize {
        self.0.as_str().len()
    }

    /// The host, lower-case; an IP literal as it is written in URLs.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The last segment of the path, percent-encoded as it stands; empty when there is none.
    pub fn file_name(&self) -> &str {
        self.0.path().rsplit('/').next().unwrap_or_default()
    }
}

/// Whether two texts name the same place: as they are, or as URLs.
pub fn is_same_url(one: Option<&str>, other: Option<&str>) -> bool {
    let parsed = |text: Option<&str>| text.and_then(|text| Url::parse(text).ok());
    one == other || (one.is_some() && parsed(one).is_some_and(|one| Some(one) == parsed(other)))
}

impl fmt::Display for MediaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = &self.0[..Position::BeforeUsername];
        let host = &self.0[Position::BeforeHost..Position::BeforePath];
        let path = redacted_path(self.0.path());
        let query = if self.0.query().is_some() { "?…" } else { "" };
        write!(f, "{scheme}{host}{path}{query}")
    }
}

impl fmt::Debug for MediaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The whole URL: for the state's own records, never for the API or a manifest.
impl Serialize for MediaUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MediaUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_and_credentials_are_never_shown() {
        let url = MediaUrl::parse("https://me:pw@cdn.example.com/a/b.mp4?Signature=secret#frag").unwrap();
        assert_eq!(url.to_string(), "https://cdn.example.com/a/b.mp4?…");
        assert_eq!(format!("{url:?}"), "https://cdn.example.com/a/b.mp4?…");
        assert!(url.expose().as_str().contains("secret"));
        assert_eq!((url.host(), url.file_name()), ("cdn.example.com", "b.mp4"));
    }

    #[test]
    fn what_a_path_carries_besides_places_is_hidden_and_can_be_read_again() {
        let reply = format!("/reply/{}", crate::Target::USEAPI);
        let signed = format!("{reply}/secret");
        for (path, shown) in [
            ("/a/b.mp4;jsessionid=secret", "/a/b.mp4;…".to_owned()),
            ("/a/b.mp4%3Fsig=secret", "/a/b.mp4%3F…".to_owned()),
            (&*signed, format!("{reply}/…")),
            ("/a/b@2x.mp4", "/a/b@2x.mp4".to_owned()),
            ("/a:b/token=secret/2024/c.mp4", "/a:b/token=…/2024/c.mp4".to_owned()),
        ] {
            let url = MediaUrl::parse(&format!("https://me:pw@token:8443{path}?x")).unwrap();
            assert_eq!(url.to_string(), format!("https://token:8443{shown}?…"));
            assert_eq!(MediaUrl::parse(&url.to_string()).unwrap().host(), "token");
        }
    }

    #[test]
    fn a_url_that_is_not_http_is_refused() {
        for bad in ["", "cdn.example.com/a", "/a", "file:///etc/passwd", "ftp://h/a", "data:,x", "https://"] {
            assert!(MediaUrl::parse(bad).is_err(), "{bad}");
        }
        let long = format!("https://h/{}", "a".repeat(MediaUrl::MAX_LENGTH));
        assert_eq!(MediaUrl::parse(&long), Err(MediaUrlError::TooLong));
    }
}
