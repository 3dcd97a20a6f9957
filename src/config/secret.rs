use secrecy::{ExposeSecret, SecretString};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is never shown: neither by `Debug`, nor by `config show`, nor in an error.
#[derive(Clone, Debug)]
pub struct Secret(pub SecretString);

impl Secret {
    /// What stands where it would be shown.
    pub(super) const MASK: &'static str = "…";

    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) if !text.is_empty() => Ok(Self(text.into())),
            toml::Value::String(_) => Err(D::Error::custom("expected a text that is not empty")),
            _ => Err(D::Error::custom("expected a text in quotes")),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::MASK.serialize(serializer)
    }
}
