//! The signature scheme of Standard Webhooks 1.0.0: HMAC-SHA256 over id, time and body.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::domain::{NotificationId, Timestamp};

/// What signs events: one key, or several while a receiver changes from one to the next. All of them sign.
#[derive(Clone)]
pub struct SigningKeys(Vec<Hmac<Sha256>>);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected whsec_ and 24 to 64 bytes in base64")]
pub struct SigningKeysError;

impl SigningKeys {
    const PREFIX: &'static str = "whsec_";
    /// The specification: at least 192 bits, at most 512.
    const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

    /// Reads keys as the specification writes them.
    ///
    /// # Errors
    /// When one is not written so, or there is none.
    pub fn read<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Result<Self, SigningKeysError> {
        let key = |secret: &SecretString| {
            let text = secret.expose_secret().strip_prefix(Self::PREFIX)?;
            let bytes = BASE64_STANDARD.decode(text).ok().filter(|bytes| Self::BYTES.contains(&bytes.len()))?;
            Hmac::new_from_slice(&bytes).ok()
        };
        let keys: Option<Vec<_>> = secrets.into_iter().map(key).collect();
        keys.filter(|keys| !keys.is_empty()).map(Self).ok_or(SigningKeysError)
    }

    /// Makes a key, as the specification writes it.
    pub fn generate() -> SecretString {
        format!("{}{}", Self::PREFIX, BASE64_STANDARD.encode(rand::random::<[u8; 32]>())).into()
    }

    /// The header `webhook-signature`: a signature by each key.
    pub(super) fn sign(&self, id: &NotificationId, at: Timestamp, body: &[u8]) -> String {
        let head = format!("{id}.{}.", at.millis() / 1000);
        let signatures = self.0.iter().map(|key| {
            let mac = key.clone().chain_update(head.as_bytes()).chain_update(body);
            format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the key and the form of the specification; the value was worked out with Python's `hmac`.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let secrets: [SecretString; 2] =
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into(), "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".into()];
        let keys = SigningKeys::read(&secrets).unwrap();
        let id = NotificationId::of_random([7; 16]);
        let at = Timestamp::from_millis(1_674_087_231_999).unwrap();
        let signed = keys.sign(&id, at, br#"{"test": 2432232314}"#);
        assert_eq!(
            signed,
            "v1,8GsLOzbyvxbvUdVBhIjKbGDq1Lb/3hwErqW+0MlSi5g= v1,tdGBl/M7MhMCMGdDa7zVXPbG2MzvOUsGjZu91BmYArY="
        );
        assert_eq!(format!("{keys:?}"), "SigningKeys(2)");
    }

    #[test]
    fn keys_are_written_as_the_specification_has_it() {
        assert!(SigningKeys::read([&SigningKeys::generate()]).is_ok());
        let short = format!("whsec_{}", BASE64_STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", BASE64_STANDARD.encode([1; 65]));
        for bad in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long] {
            assert!(SigningKeys::read([&SecretString::from(bad)]).is_err(), "{bad}");
        }
        assert!(SigningKeys::read([]).is_err());
    }
}
