//! The keys of archived segments. Each object has a key of its own, derived from one of these and a random salt.

use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use secrecy::{ExposeSecret, SecretString};

/// What archived segments are encrypted with: the first key encrypts, all of them decrypt.
#[derive(Clone)]
pub struct ArchiveKeys(Vec<(KeyId, SecretString)>);

/// Tells which key an object was encrypted with. Says nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyId(pub(super) [u8; 8]);

/// Bytes of an object's salt.
pub(super) const SALT: usize = 32;

impl ArchiveKeys {
    /// Keys with the UTF-8 bytes of each text. `None` without any.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Option<Self> {
        let keys: Vec<_> = secrets.into_iter().map(|secret| (KeyId::of(secret), secret.clone())).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The first one's id, and what it makes of a salt.
    pub(super) fn sealing(&self, salt: &[u8; SALT]) -> Option<(KeyId, LessSafeKey)> {
        let (id, secret) = self.0.first()?;
        Some((*id, object_key(secret, salt)?))
    }

    /// What the key with this id makes of a salt.
    pub(super) fn opening(&self, id: KeyId, salt: &[u8; SALT]) -> Option<LessSafeKey> {
        let (_, secret) = self.0.iter().find(|(known, _)| *known == id)?;
        object_key(secret, salt)
    }

    /// Whether this is the id of the key that encrypts.
    pub(super) fn seals_with(&self, id: KeyId) -> bool {
        self.0.first().is_some_and(|(first, _)| *first == id)
    }

    /// Their ids, for people.
    pub(super) fn ids(&self) -> String {
        self.0.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(", ")
    }
}

impl KeyId {
    fn of(secret: &SecretString) -> Self {
        let mut id = [0; 8];
        // An output of this length is never refused.
        let _ = derive(secret, b"", b"replyvault:journal:key-id:v1", &mut id);
        Self(id)
    }
}

fn object_key(secret: &SecretString, salt: &[u8; SALT]) -> Option<LessSafeKey> {
    let mut bytes = [0; 32];
    derive(secret, salt, b"replyvault:journal:segment:v1", &mut bytes)?;
    UnboundKey::new(&AES_256_GCM, &bytes).ok().map(LessSafeKey::new)
}

fn derive(secret: &SecretString, salt: &[u8], info: &[u8], out: &mut [u8]) -> Option<()> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let key = Salt::new(HKDF_SHA256, salt).extract(secret.expose_secret().as_bytes());
    key.expand(&[info], Length(out.len())).and_then(|okm| okm.fill(out)).ok()
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ArchiveKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ArchiveKeys({})", self.ids())
    }
}
