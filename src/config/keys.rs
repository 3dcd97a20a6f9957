//! Which keys there are. The structs themselves say it, so that no second list can differ from them.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use strsim::levenshtein;

use super::sections::{Auth, Cluster, Data, Fetch, Gateway, Notify, Provider, Server, Storage};

type Section = (&'static str, &'static [&'static str]);

/// All sections with their keys, in the order in which they are shown.
pub(super) fn sections() -> [Section; 9] {
    [
        ("server", fields::<Server>()),
        ("data", fields::<Data>()),
        ("auth", fields::<Auth>()),
        ("storage", fields::<Storage>()),
        ("fetch", fields::<Fetch>()),
        ("provider", fields::<Provider>()),
        ("gateway", fields::<Gateway>()),
        ("notify", fields::<Notify>()),
        ("cluster", fields::<Cluster>()),
    ]
}

/// Whether nothing of what is said at this key may be repeated in an error.
pub(super) fn is_secret(key: &str) -> bool {
    let secret = [
        "auth.api_tokens",
        "auth.reply_secrets",
        "auth.tokens",
        "storage.access_key_id",
        "storage.secret_access_key",
        "provider.api_token",
        "gateway.provider_tokens",
        "notify.endpoints",
        "notify.secret",
        "cluster.postgres",
    ];
    secret.into_iter().any(|secret| key.starts_with(secret))
}

/// Why `section` is none.
pub(super) fn unknown_section(section: &str) -> String {
    let names = sections().map(|(name, _)| name);
    match nearest(section, names) {
        Some(near) => format!("unknown section, did you mean {near}?"),
        None => format!("unknown section, expected one of {}", names.join(", ")),
    }
}

/// Why `key` is none of `section`; `None` when it is one.
pub(super) fn unknown_key(section: Section, key: &str) -> Option<String> {
    let (name, keys) = section;
    if keys.contains(&key) {
        return None;
    }
    let elsewhere = || sections().into_iter().find(|(_, keys)| keys.contains(&key)).map(|(other, _)| (other, key));
    let near = nearest(key, keys.iter().copied()).map(|near| (name, near)).or_else(elsewhere);
    Some(match near {
        Some((section, key)) => format!("unknown key, did you mean {section}.{key}?"),
        None => format!("unknown key, expected one of {}", keys.join(", ")),
    })
}

/// The name that may have been meant.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Whatever is longer than all names is near to none.
    let name = &name[..name.floor_char_boundary(64)];
    let near = known.into_iter().map(|other| (levenshtein(name, other), other)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, other)| *distance <= (other.len() / 3).max(1)).map(|(_, other)| other)
}

/// The names of a struct's fields, as serde reads them.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // Always an error: there is nothing to read.
    let _ = T::deserialize(Fields(&mut fields));
    fields
}

struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        Err(Error::custom("nothing to read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_meant_is_named_when_it_is_near() {
        let section = |name: &str| sections().into_iter().find(|(other, _)| *other == name).unwrap();
        for (name, key, expected) in [
            ("server", "listn", "server.listen?"),
            ("fetch", "maxsize", "fetch.max_size?"),
            ("server", "max_size", "fetch.max_size?"),
            ("fetch", "endpoint", "storage.endpoint?"),
            ("notify", "colour", "expected one of secret, endpoints"),
        ] {
            let message = unknown_key(section(name), key).unwrap();
            assert!(message.ends_with(expected), "{name}.{key}: {message}");
        }
        assert_eq!(unknown_key(section("server"), "listen"), None);
        assert!(unknown_section("servr").ends_with("did you mean server?"));
        assert!(unknown_section(&"✓".repeat(100)).contains("expected one of server, data"));
    }
}
