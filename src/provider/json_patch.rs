//! Changes single members of a JSON text and leaves every other byte of it as it came: the order of members, the
//! spelling of numbers, the space between.
//!
//! The texts here are known to be JSON. They are walked once and without recursion, so that no depth can exhaust the
//! stack.

use std::borrow::Cow;
use std::ops::Range;

/// Members deeper than this are passed over: the provider nests some ten levels.
const MAX_DEPTH: usize = 64;
/// What may stand between the parts of a JSON text.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A member of an object somewhere in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// 1 for members of the outermost object.
    pub depth: usize,
    /// Its value.
    pub value: Scalar<'a>,
    /// Where its name begins, quote included, and its value ends.
    span: Range<usize>,
    /// Where its value begins.
    begins: usize,
}

/// The value of a member, as far as it can be read at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string, its escapes resolved.
    Text(Cow<'a, str>),
    /// A number, true, false or null, as it is written.
    Literal(&'a str),
    /// An object or a list.
    Nested,
}

/// What becomes of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its value becomes this string.
    Text(String),
    /// It goes.
    Remove,
}

/// A body that is JSON, without its byte order mark and with the space around it. `None` if it is not.
pub fn json_text(body: &[u8]) -> Option<&str> {
    super::json::parse(body).ok()?;
    std::str::from_utf8(body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)).ok()
}

/// Shows every member of every object in a JSON text, in order.
pub fn members<'a>(text: &'a str, mut visit: impl FnMut(Member<'a>)) {
    let bytes = text.as_bytes();
    let (mut frames, mut deeper) = (Vec::<Frame>::new(), 0_usize);
    let mut name: Option<Range<usize>> = None;
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => string_end(bytes, at),
            b'{' | b'[' | b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => at + 1,
            _ => word_end(bytes, at),
        };
        match bytes[at] {
            b'{' | b'[' if deeper > 0 || frames.len() == MAX_DEPTH => deeper += 1,
            b'}' | b']' if deeper > 0 => deeper -= 1,
            _ if deeper > 0 => {}
            opening @ (b'{' | b'[') => {
                if let Some(name) = name.take() {
                    visit(Member::new(text, frames.len(), name, at..at, Scalar::Nested));
                }
                let is_object = opening == b'{';
                frames.push(Frame { is_object, expects_name: is_object });
            }
            b'}' | b']' => {
                frames.pop();
            }
            b',' => {
                if let Some(frame) = frames.last_mut() {
                    frame.expects_name = frame.is_object;
                }
            }
            b'"' if frames.last().is_some_and(|frame| frame.expects_name) => {
                name = Some(at..end);
                if let Some(frame) = frames.last_mut() {
                    frame.expects_name = false;
                }
            }
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            first => {
                if let Some(name) = name.take() {
                    let value = &text[at..end];
                    let value = if first == b'"' { Scalar::Text(unquoted(value)) } else { Scalar::Literal(value) };
                    visit(Member::new(text, frames.len(), name, at..end, value));
                }
            }
        }
        at = end;
    }
}

/// A text with some members changed, none of them an object or a list. `None` when none is to be.
pub fn changed(text: &str, mut decide: impl FnMut(&Member<'_>) -> Option<Change>) -> Option<String> {
    let mut changes = Vec::new();
    members(text, |member| {
        if let Some(change) = decide(&member).filter(|_| member.value != Scalar::Nested) {
            changes.push((member.span, member.begins, change));
        }
    });
    if changes.is_empty() {
        return None;
    }
    let (mut left, mut at) = (String::with_capacity(text.len()), 0);
    for (span, begins, change) in changes {
        match change {
            Change::Text(value) => {
                left.push_str(&text[at..begins]);
                left.push_str(&quoted(&value));
                at = span.end;
            }
            Change::Remove => {
                left.push_str(&text[at..span.start]);
                at = behind_comma(text.as_bytes(), span.end).unwrap_or_else(|| {
                    drop_comma(&mut left);
                    span.end
                });
            }
        }
    }
    left.push_str(&text[at..]);
    Some(left)
}

/// An object with members set to strings: in their places where they are there, else behind the others. Of several of one
/// name, the first is left. `None` when the text is no object.
pub fn with_members(text: &str, set: &[(&str, &str)]) -> Option<String> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let value_of = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let mut present: Vec<String> = Vec::new();
    let mut is_empty = true;
    let changed = changed(text, |member| {
        is_empty = false;
        let is_meant = member.depth == 1 && member.value != Scalar::Nested;
        let value = is_meant.then(|| value_of(&member.name)).flatten()?;
        if present.iter().any(|present| *present == member.name) {
            return Some(Change::Remove);
        }
        present.push(member.name.clone().into_owned());
        Some(Change::Text(value))
    });
    let mut text = changed.unwrap_or_else(|| text.to_owned());
    let mut added = String::new();
    for (name, value) in set.iter().filter(|(name, _)| !present.iter().any(|present| present == name)) {
        let comma = if is_empty && added.is_empty() { "" } else { "," };
        added.push_str(&format!("{comma}{}:{}", quoted(name), quoted(value)));
    }
    let closing = text.rfind('}').unwrap_or(text.len());
    let behind_last = text[..closing].trim_end_matches(SPACE).len();
    text.insert_str(behind_last, &added);
    Some(text)
}

struct Frame {
    is_object: bool,
    expects_name: bool,
}

impl<'a> Member<'a> {
    fn new(text: &'a str, depth: usize, name: Range<usize>, value: Range<usize>, scalar: Scalar<'a>) -> Self {
        let (begins, span) = (value.start, name.start..value.end);
        Self { name: unquoted(&text[name]), depth, value: scalar, span, begins }
    }
}

/// The place behind a string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(byte) = bytes.get(end) {
        match byte {
            b'"' => return end + 1,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    bytes.len()
}

fn word_end(bytes: &[u8], at: usize) -> usize {
    let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
    bytes[at..].iter().position(ends).map_or(bytes.len(), |length| at + length)
}

fn unquoted(string: &str) -> Cow<'_, str> {
    let inside = string.strip_prefix('"').and_then(|string| string.strip_suffix('"')).unwrap_or(string);
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    // What holds half a character is no text that anybody here looks for.
    serde_json::from_str(string).map_or(Cow::Borrowed(inside), Cow::Owned)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where the next member begins, if a comma follows a member that ends at `end`.
fn behind_comma(bytes: &[u8], end: usize) -> Option<usize> {
    let is_space = |byte: &&u8| SPACE.contains(&char::from(**byte));
    let next = |from: usize| from + bytes[from..].iter().take_while(is_space).count();
    let comma = next(end);
    (bytes.get(comma) == Some(&b',')).then(|| next(comma + 1))
}

/// Takes off the comma behind the last member, and the space behind that.
fn drop_comma(text: &mut String) {
    let comma = text.trim_end_matches(SPACE);
    if let Some(left) = comma.strip_suffix(',') {
        text.truncate(left.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn without(text: &str, name: &str) -> String {
        changed(text, |member| (member.name == name).then_some(Change::Remove)).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn members_are_set_in_their_places_and_all_else_stays() {
        let text =
            "{ \"n\": 12345678901234567890.10, \"replyUrl\" : null,\"a\":[{\"replyUrl\":1}],\r\n \"z\":\"\\u00e9\" }\n";
        let expected = "{ \"n\": 12345678901234567890.10, \"replyUrl\" : \"u/\\\"\",\"a\":[{\"replyUrl\":1}],\r\n \"z\":\"\\u00e9\",\"replyRef\":\"r\" }\n";
        assert_eq!(with_members(text, &[("replyUrl", "u/\""), ("replyRef", "r")]).unwrap(), expected);
        assert_eq!(with_members(" {} ", &[("a", "1"), ("b", "2")]).unwrap(), " {\"a\":\"1\",\"b\":\"2\"} ");
        assert_eq!(with_members("{\"x\":{\"y\":{}}}", &[("a", "1")]).unwrap(), "{\"x\":{\"y\":{}},\"a\":\"1\"}");
        assert_eq!(with_members("{\"x\":\"}\"}", &[("a", "1")]).unwrap(), "{\"x\":\"}\",\"a\":\"1\"}");
        assert_eq!(with_members("[{}]", &[("a", "1")]), None);
        assert_eq!(with_members("{\"a\":2,\"b\":3,\"a\":4}", &[("a", "1")]).unwrap(), "{\"a\":\"1\",\"b\":3}");
    }

    #[test]
    fn many_members_below_a_long_name_are_changed_in_one_walk() {
        let text = format!("{{\"{}\":{{{}\"a\":2}}}}", "\\u0061".repeat(1 << 16), "\"r\":1,".repeat(300_000));
        let began = std::time::Instant::now();
        let left = without(&text, "r");
        assert!(left.ends_with("\":{\"a\":2}}") && left.len() < 7 << 16);
        // To read the name for each member, or to move what follows one, takes minutes.
        assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    }

    #[test]
    fn a_removed_member_takes_its_comma_along() {
        for (text, expected) in [
            ("{\"r\":1}", "{}"),
            ("{\"r\":1,\"a\":2}", "{\"a\":2}"),
            ("{\"a\":2,\"r\":1}", "{\"a\":2}"),
            ("{\"a\":2, \"r\" : \"x\" , \"b\":3}", "{\"a\":2, \"b\":3}"),
            ("{\n  \"a\": 2,\n  \"r\": 1\n}", "{\n  \"a\": 2\n}"),
            ("[{\"r\":1},{\"b\":{\"r\":null,\"r\":2}}]", "[{},{\"b\":{}}]"),
            ("{\"a\":2 , \"r\":1 , \"r\":3 }", "{\"a\":2  }"),
            ("[1, {\"r\":1,\"r\":3,\"a\":\",\"}]", "[1, {\"a\":\",\"}]"),
        ] {
            assert_eq!(without(text, "r"), expected);
        }
    }

    #[test]
    fn a_member_says_where_it_is() {
        let mut seen = Vec::new();
        members("{\"a\":{\"b\":\"x\\/y\"},\"c\":[{\"d\":-1e5}],\"e\":{}}", |member| {
            seen.push(format!("{}@{}: {:?}", member.name, member.depth, member.value));
        });
        let expected = ["a@1: Nested", "b@2: Text(\"x/y\")", "c@1: Nested", "d@3: Literal(\"-1e5\")", "e@1: Nested"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_depth_is_too_deep() {
        let depth = 200_000;
        let text = format!("{{\"a\":{}{},\"r\":2}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(without(&text, "r").len(), text.len() - ",\"r\":2".len());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\{}\\[\\],:]{0,12}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("(r|[a-c\"\\\\,:]{1,3})", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn without_r(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("r");
                map.values_mut().for_each(without_r);
            }
            Value::Array(items) => items.iter_mut().for_each(without_r),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn removing_scalars_is_what_removing_from_the_value_is(value in value(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let left = changed(&text, |member| {
                (member.name == "r" && member.value != Scalar::Nested).then_some(Change::Remove)
            });
            let mut left: Value = serde_json::from_str(&left.unwrap_or(text)).unwrap();
            let mut expected = value;
            // Nested ones stay in both.
            without_r(&mut left);
            without_r(&mut expected);
            prop_assert_eq!(left, expected);
        }

        #[test]
        fn settings_that_are_given_replace_their_defaults_alone(value in value(), new in "\\PC{0,8}") {
            let text = json!({"a": value, "r": 1}).to_string();
            let set = with_members(&text, &[("r", &new), ("s", "t")]).unwrap();
            let expected = json!({"a": value, "r": new, "s": "t"});
            prop_assert_eq!(serde_json::from_str::<Value>(&set).unwrap(), expected);
        }

        #[test]
        fn any_text_at_all_is_walked(text in "[\\[\\]{}\",:\\\\ a1\n]{0,40}") {
            members(&text, |_| ());
        }
    }
}
