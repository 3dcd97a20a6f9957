use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use url::Url;

use crate::domain::Target;

/// The keys of reply URLs: the first signs, all are accepted, so that keys can be changed without losing callbacks.
#[derive(Clone)]
pub struct ReplyKeys(Vec<Hmac<Sha256>>);

impl ReplyKeys {
    /// Keys made of the UTF-8 bytes of each secret. `None` without any.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Option<Self> {
        let keys: Vec<_> = secrets
            .into_iter()
            .filter_map(|secret| Hmac::new_from_slice(secret.expose_secret().as_bytes()).ok())
            .collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    fn sign(&self, target: &Target) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(mac(&self.0[0], target.as_str()).finalize().into_bytes())
    }

    /// Takes the same time whichever key matches and however much of a signature is right.
    fn verify(&self, target: &str, signature: &str) -> bool {
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else { return false };
        let matches = self.0.iter().map(|key| mac(key, target).verify_slice(&signature).is_ok());
        matches.fold(false, |any, matches| any | matches)
    }
}

fn mac(key: &Hmac<Sha256>, target: &str) -> Hmac<Sha256> {
    key.clone().chain_update(b"replyvault:reply:v1:").chain_update(target.as_bytes())
}

impl fmt::Debug for ReplyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplyKeys({} keys)", self.0.len())
    }
}

/// Makes and checks the URLs that a provider calls.
#[derive(Clone, Debug)]
pub struct ReplyUrls {
    public_url: Url,
    keys: ReplyKeys,
}

impl ReplyUrls {
    /// URLs that start with `public_url`.
    pub fn new(public_url: Url, keys: ReplyKeys) -> Self {
        Self { public_url, keys }
    }

    /// The same with another start.
    #[must_use]
    pub fn with_public_url(self, public_url: Url) -> Self {
        Self { public_url, ..self }
    }

    /// What they start with, without a slash at its end.
    pub fn public_url(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }

    /// The URL to give to the provider. Its signature is a secret.
    pub fn reply_url(&self, target: &Target) -> String {
        format!("{}/reply/{}/{}", self.public_url(), target.as_str(), self.keys.sign(target))
    }

    /// The target of what may be one of these URLs, whatever it starts with: the service may have been known by another
    /// name when it was signed. A query, a fragment, slashes at the end and escapes change nothing: a callback to such a URL
    /// is accepted as well.
    pub fn parse(&self, url: &str) -> Option<Target> {
        let path = url.trim().split(['?', '#']).next()?.trim_end_matches('/');
        let mut segments = path.rsplit('/').map(|segment| percent_decode_str(segment).decode_utf8_lossy());
        let (signature, target) = (segments.next()?, segments.next()?);
        if segments.next()? != "reply" {
            return None;
        }
        self.verify(&target, &signature)
    }

    /// The target, if the signature is one of ours for it.
    pub fn verify(&self, target: &str, signature: &str) -> Option<Target> {
        // Both are looked at whatever the other says, so that the answer's time tells nothing.
        let authentic = self.keys.verify(target, signature);
        let target = Target::parse(target).ok();
        target.filter(|_| authentic)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn urls(secrets: &[&str]) -> ReplyUrls {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| (*secret).into()).collect();
        ReplyUrls::new(Url::parse("https://vault.example.com/in/").unwrap(), ReplyKeys::new(&secrets).unwrap())
    }

    fn signature(url: &str) -> &str {
        url.rsplit('/').next().unwrap()
    }

    #[test]
    fn a_url_is_what_the_contract_says() {
        // HMAC-SHA256(key "key", "replyvault:reply:v1:minimax"), computed with another implementation.
        let url = urls(&["key"]).reply_url(&Target::Channel);
        assert_eq!(url, "https://vault.example.com/in/reply/minimax/hRwoHhjw5qnD8X2Zs24Jm1PgRq93SM9cng4Zx-Ji04g");
    }

    #[test]
    fn keys_can_be_changed_without_losing_callbacks() {
        let (old, both, new) = (urls(&["old"]), urls(&["new", "old"]), urls(&["new"]));
        let issued = old.reply_url(&Target::Channel);
        assert_eq!(both.verify("minimax", signature(&issued)), Some(Target::Channel));
        assert_eq!(both.reply_url(&Target::Channel), new.reply_url(&Target::Channel));
        assert_eq!(new.verify("minimax", signature(&issued)), None);
    }

    #[test]
    fn a_signature_is_good_for_its_target_alone() {
        let urls = urls(&["key"]);
        let target = Target::parse("ref_01jd0000000000000000000000").unwrap();
        let url = urls.reply_url(&target);
        assert!(url.len() < 200);
        assert_eq!(urls.verify(target.as_str(), signature(&url)), Some(target));
        assert_eq!(urls.verify("minimax", signature(&url)), None);
        assert!(!format!("{urls:?}").contains("key\""));
    }

    #[test]
    fn a_url_of_ours_is_known_whatever_it_starts_with() {
        let target = Target::parse(&format!("ref_{:026}", 7)).unwrap();
        let url = urls(&["old"]).reply_url(&target);
        let now = urls(&["new", "old"]).with_public_url(Url::parse("http://127.0.0.1:8080/").unwrap());
        assert_eq!(now.parse(&url), Some(target));
        assert_eq!(urls(&["new"]).parse(&url), None);
        for other in [
            "",
            "/reply/",
            "https://vault.example.com/in/reply/minimax",
            &format!("{url}/x"),
            &url.replace("/reply/", "/other/"),
            &format!("https://relay.example.com/?to={url}"),
        ] {
            assert_eq!(now.parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_url_of_ours_is_known_however_the_route_lets_it_be_written() {
        let urls = urls(&["key"]);
        let target = Target::parse(&format!("ref_{:026}", 7)).unwrap();
        let url = urls.reply_url(&target);
        for written in [
            format!("{url}/"),
            format!("{url}//?job=7"),
            format!("{url}?to=/reply/minimax/x"),
            format!("{url}#x"),
            format!(" {url}\n"),
            url.replace("/in/reply/", "//reply/"),
            url.replace("ref_", "ref%5F"),
            url.replace("/reply/", "/%72eply/"),
        ] {
            assert_eq!(urls.parse(&written), Some(target.clone()), "{written}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_passes(target in ".{0,40}", signature in ".{0,60}") {
            prop_assert_eq!(urls(&["key"]).verify(&target, &signature), None);
        }

        #[test]
        fn one_changed_bit_is_enough(byte in 0usize..32, bit in 0u8..8) {
            let urls = urls(&["key"]);
            let url = urls.reply_url(&Target::Channel);
            let mut mac = BASE64_URL_SAFE_NO_PAD.decode(signature(&url)).unwrap();
            mac[byte] ^= 1 << bit;
            prop_assert_eq!(urls.verify("minimax", &BASE64_URL_SAFE_NO_PAD.encode(mac)), None);
        }
    }
}
