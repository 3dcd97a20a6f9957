use std::time::Duration;

use crate::job::{Links, Published};
use crate::seeded_rng::Dice;
use replyvault_domain::Timestamp;

/// Links to the CDN: plain, or signed and good for a while.
#[derive(Clone, Debug)]
pub(crate) struct SignedLinks {
    base: String,
    dice: Dice,
    expire: Option<Duration>,
}

impl SignedLinks {
    pub(crate) fn new(base: String, dice: Dice, expire: Option<Duration>) -> Self {
        Self { base, dice, expire }
    }

    /// The same, with every link past its time.
    pub(crate) fn expired(&self) -> Self {
        Self { base: self.base.clone(), dice: self.dice, expire: self.expire.map(|_| Duration::ZERO) }
    }

    /// What every link starts with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Whether a request for `path` with this query is let through.
    pub(super) fn admits(&self, path: &str, query: &str) -> bool {
        if self.expire.is_none() {
            return true;
        }
        let parameter = |name| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let expires = parameter("Expires").and_then(|text| text.parse().ok()).and_then(Timestamp::from_millis);
        expires.is_some_and(|expires| {
            expires > Timestamp::now() && parameter("Signature") == Some(self.signature(path, expires).as_str())
        })
    }

    fn signature(&self, path: &str, expires: Timestamp) -> String {
        format!("{:016x}", self.dice.number("signature", path, expires.millis()))
    }
}

impl Links for SignedLinks {
    fn base(&self) -> &str {
        &self.base
    }

    fn url(&self, published: &Published) -> String {
        let (base, path) = (&self.base, &published.path);
        let Some(expire) = self.expire else { return format!("{base}{path}") };
        let expires = Timestamp::now().after(expire);
        let signature = self.signature(path, expires);
        format!("{base}{path}?Expires={}&OSSAccessKeyId=simulator&Signature={signature}", expires.millis())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::media::{File, Form};

    #[test]
    fn a_signed_link_is_good_for_its_path_and_time_only() {
        let published = Published { path: "/cdn/a".into(), file: Arc::new(File::new(Form::Mp3, "a", None)) };
        let links = SignedLinks::new("http://h".into(), Dice::new(1), Some(Duration::from_secs(60)));
        let url = links.url(&published);
        let query = url.split_once('?').unwrap().1;
        assert!(links.admits("/cdn/a", query));
        assert!(links.admits("/cdn/a", &format!("{query}&x-oss-process=image/resize")));
        assert!(!links.admits("/cdn/b", query));
        assert!(!links.admits("/cdn/a", ""));
        assert!(!links.admits("/cdn/a", &query.replace("Expires=1", "Expires=2")));

        let spent = SignedLinks::new("http://h".into(), Dice::new(1), Some(Duration::ZERO));
        assert!(!spent.admits("/cdn/a", spent.url(&published).split_once('?').unwrap().1));
        let plain = SignedLinks::new("http://h".into(), Dice::new(1), None);
        assert_eq!(plain.url(&published), "http://h/cdn/a");
        assert!(plain.admits("/cdn/a", ""));
    }
}
