//! JSON as it comes from outside, read level by level without copying.
//!
//! The levels below the one being read are only checked against the grammar, which serde_json does without recursion:
//! no depth can exhaust the stack. Strings may hold escaped lone surrogates, which are legal by the grammar and no
//! Unicode text; they are read as U+FFFD.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The text is not JSON; says where it stops being JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a JSON document: {0}")]
pub struct NotJson(String);

/// Room for as many as most callbacks have.
const USUAL_MEMBERS: usize = 24;
/// The most that are told apart: a body of 64 MiB could have ten millions. Those behind are only checked.
const MAX_MEMBERS: usize = 1 << 16;

/// A value that is known to be JSON by the grammar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a>(&'a RawValue);

/// The members of an object; of members with the same name the last counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, [u8]>, &'a RawValue)>);

pub(super) fn parse(body: &[u8]) -> Result<Value<'_>, NotJson> {
    value(text(body)?)
}

/// The members of a document that is an object, which are checked as they are found; `None` when it is not one.
pub(super) fn parse_object(body: &[u8]) -> Result<Option<Object<'_>>, NotJson> {
    let text = text(body)?;
    match serde_json::from_str::<Object<'_>>(text) {
        Ok(object) if !object.has_control_characters() => Ok(Some(object)),
        // Something else than an object, no JSON, or names as bytes, in which serde_json lets control characters pass.
        _ => value(text).map(Value::object),
    }
}

fn text(body: &[u8]) -> Result<&str, NotJson> {
    const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
    let mut body = body;
    // Whoever puts texts together may put several in front.
    while let Some(rest) = body.strip_prefix(BYTE_ORDER_MARK) {
        body = rest;
    }
    std::str::from_utf8(body).map_err(|error| NotJson(error.to_string()))
}

fn value(text: &str) -> Result<Value<'_>, NotJson> {
    serde_json::from_str(text).map(Value).map_err(|error| NotJson(error.to_string()))
}

impl<'a> Value<'a> {
    pub(super) fn of(raw: &'a RawValue) -> Self {
        Self(raw)
    }

    /// The JSON text.
    pub(super) fn raw(self) -> &'a str {
        self.0.get()
    }

    pub(super) fn object(self) -> Option<Object<'a>> {
        serde_json::from_str(self.raw()).ok()
    }

    /// Shows the items of an array, one after the other; none of anything else.
    pub(super) fn each_item(self, see: impl FnMut(Value<'a>)) {
        let mut deserializer = serde_json::Deserializer::from_str(self.raw());
        // It is JSON; what fails is that it is no array.
        let _ = deserializer.deserialize_seq(EachItem(see));
    }

    /// The first `most` items of an array; the others are only checked.
    pub(super) fn items_up_to(self, most: usize) -> Option<Vec<Value<'a>>> {
        let mut deserializer = serde_json::Deserializer::from_str(self.raw());
        deserializer.deserialize_seq(FirstItems(most)).ok()
    }

    /// A string that is not empty, or a number as it is written.
    pub(super) fn text(self) -> Option<String> {
        let text = match self.raw().as_bytes().first()? {
            b'"' => String::from_utf8_lossy(&serde_json::from_str::<Text<'_>>(self.raw()).ok()?.0).into_owned(),
            b'-' | b'0'..=b'9' => self.raw().to_owned(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The bytes of a string, without a copy where it has no escapes.
    pub(super) fn bytes(self) -> Option<Cow<'a, [u8]>> {
        serde_json::from_str::<Text<'_>>(self.raw()).ok().map(|text| text.0)
    }

    /// A number, or a string that holds one; fractions are cut off.
    pub(super) fn integer(self) -> Option<i64> {
        let text = self.text()?;
        let text = text.trim();
        text.parse()
            .ok()
            .or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i64))
    }

    /// A boolean, or a string that holds one.
    pub(super) fn boolean(self) -> Option<bool> {
        match self.raw() {
            "true" | "\"true\"" => Some(true),
            "false" | "\"false\"" => Some(false),
            _ => None,
        }
    }
}

impl<'a> Object<'a> {
    /// A member that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        let (_, value) = self.0.iter().rev().find(|(key, _)| **key == *name.as_bytes())?;
        (value.get() != "null").then_some(Value(value))
    }

    /// The members' values, without their names.
    pub(super) fn values(&self) -> impl Iterator<Item = Value<'a>> {
        self.0.iter().map(|(_, value)| Value(value))
    }

    fn has_control_characters(&self) -> bool {
        self.0.iter().any(|(name, _)| name.iter().any(u8::is_ascii_control))
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.text()
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.integer()
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.get(name)?.boolean()
    }

    pub(super) fn object(&self, name: &str) -> Option<Object<'a>> {
        self.get(name)?.object()
    }
}

struct EachItem<F>(F);

impl<'de, F: FnMut(Value<'de>)> Visitor<'de> for EachItem<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(Value(item));
        }
        Ok(())
    }
}

struct FirstItems(usize);

impl<'de> Visitor<'de> for FirstItems {
    type Value = Vec<Value<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.0 {
            let Some(item) = items.next_element()? else { return Ok(first) };
            first.push(Value(item));
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }
}

/// A string as bytes, in which serde_json lets lone surrogates pass.
struct Text<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(bytes)))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(bytes.to_owned())))
            }
        }
        deserializer.deserialize_bytes(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(USUAL_MEMBERS);
                while let Some(Text(name)) = map.next_key()? {
                    let value = map.next_value()?;
                    let is_bad = || members.len() == MAX_MEMBERS && name.iter().any(u8::is_ascii_control);
                    if members.len() < MAX_MEMBERS || is_bad() {
                        members.push((name, value));
                    }
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same_verdict(body: &[u8]) {
        let shape = |object: Option<Object<'_>>| object.map(|object| object.0.len());
        let expected = parse(body).map(Value::object).map(shape);
        assert_eq!(parse_object(body).map(shape), expected, "{}", body.escape_ascii());
    }

    #[test]
    fn an_object_is_read_at_once_only_if_all_of_it_is_json() {
        for body in [
            "{}",
            "[]",
            "1",
            "",
            "{",
            "{}x",
            r#"{"a":1,"a":{"b":[1,2]}}"#,
            r#"{"a":}"#,
            "{\"a\nb\":1}",
            "{\"\u{7f}\":1}",
            r#"{"a\nb":1}"#,
            r#"{"\ud800":"\ud800"}"#,
            r#"{"\x":1}"#,
            "{\"a\":\"b\nc\"}",
            "\u{feff}{\"a\":01}",
            "\u{feff}\u{feff}{\"a\":1}",
        ] {
            same_verdict(body.as_bytes());
        }
        assert!(parse_object(b"{\"a\nb\":1}").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_by_the_grammar(
            mut body in r#"\{("[a-z\\u0-9]{0,6}":("[a-z]{0,3}"|[0-9.e-]{1,4}|\[\]|\{"a":1\}|null),?){0,4}\}?"#,
            noise in proptest::option::of((any::<proptest::sample::Index>(), 0u8..0x80)),
        ) {
            if let Some((at, byte)) = noise {
                let at = at.index(body.len());
                body.replace_range(at..=at, &char::from(byte).to_string());
            }
            same_verdict(body.as_bytes());
        }
    }
}
