use reqwest::header::{self, HeaderMap, HeaderValue};

use crate::domain::MediaUrl;

/// The most bytes of cookies that are kept for one request.
const MAX_BYTES: usize = 4096;

/// Cookies that were set on the way to one answer, each for the origin that set it. Nothing else of a cookie matters for so
/// short a life.
#[derive(Default)]
pub(super) struct Cookies {
    /// Origin, name, and both together with the value.
    kept: Vec<(String, String, String)>,
}

impl Cookies {
    /// Takes in what the headers of `url`'s answer set.
    pub(super) fn learn(&mut self, headers: &HeaderMap, url: &MediaUrl) {
        let origin = origin(url);
        for cookie in headers.get_all(header::SET_COOKIE) {
            let Ok(cookie) = cookie.to_str() else { continue };
            let pair = cookie.split(';').next().unwrap_or_default().trim();
            let Some((name, _)) = pair.split_once('=') else { continue };
            self.kept.retain(|(of, known, _)| (of, known.as_str()) != (&origin, name));
            let bytes: usize = self.kept.iter().map(|(_, _, pair)| pair.len()).sum();
            if bytes + pair.len() <= MAX_BYTES {
                self.kept.push((origin.clone(), name.to_owned(), pair.to_owned()));
            }
        }
    }

    /// Adds those for `url`, unless the caller has cookies of its own.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, url: &MediaUrl) {
        let origin = origin(url);
        let pairs: Vec<&str> =
            self.kept.iter().filter(|(of, ..)| *of == origin).map(|(_, _, pair)| pair.as_str()).collect();
        if let Ok(value) = HeaderValue::from_str(&pairs.join("; "))
            && !pairs.is_empty()
            && !headers.contains_key(header::COOKIE)
        {
            headers.insert(header::COOKIE, value);
        }
    }
}

fn origin(url: &MediaUrl) -> String {
    url.expose().origin().ascii_serialization()
}
