//! The same JSON in another dress: members in another order, blanks where grammar allows them, characters escaped that
//! need not be, and a number that no common type holds. Whoever passes it on has to leave it so.

use std::fmt::Write;

use serde_json::Value;

use super::seeded_rng::Dice;

/// More digits than 64 bits or a double hold.
const LONG_NUMBER: &str = "9007199254740993.5000000000000000001e-1";
const LONG_INTEGER: &str = "98765432109876543210987";

/// Writes JSON so. The same subject and value always come out the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odd<'a> {
    dice: Dice,
    subject: &'a str,
}

impl<'a> Odd<'a> {
    pub(super) const fn new(dice: Dice, subject: &'a str) -> Self {
        Self { dice, subject }
    }

    pub(super) fn write(self, value: &Value) -> String {
        let mut writer = Writer { odd: self, turn: 0, text: String::new() };
        writer.value(value, true);
        writer.text
    }
}

struct Writer<'a> {
    odd: Odd<'a>,
    turn: u64,
    text: String,
}

impl Writer<'_> {
    fn choose(&mut self, among: usize) -> usize {
        self.turn += 1;
        (self.odd.dice.number("odd", self.odd.subject, self.turn) % among.max(1) as u64) as usize
    }

    fn blank(&mut self) {
        let blank = ["", "", " ", "\n  ", "\t", " \r\n"][self.choose(6)];
        self.text.push_str(blank);
    }

    fn value(&mut self, value: &Value, outermost: bool) {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                let first = self.choose(fields.len());
                fields.rotate_left(first);
                self.text.push('{');
                if outermost {
                    let _ = write!(self.text, "\"traceNumbers\" :[{LONG_INTEGER}, {LONG_NUMBER},-0 ]");
                    self.text.push_str(if fields.is_empty() { "" } else { "," });
                }
                for (place, (name, value)) in fields.into_iter().enumerate() {
                    self.text.push_str(if place == 0 { "" } else { "," });
                    self.blank();
                    self.string(name);
                    self.blank();
                    self.text.push(':');
                    self.blank();
                    self.value(value, false);
                }
                self.blank();
                self.text.push('}');
            }
            Value::Array(items) => {
                self.text.push('[');
                for (place, item) in items.iter().enumerate() {
                    self.text.push_str(if place == 0 { "" } else { "," });
                    self.blank();
                    self.value(item, false);
                }
                self.blank();
                self.text.push(']');
            }
            Value::String(text) => self.string(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                let _ = write!(self.text, "{value}");
            }
        }
    }

    /// Slashes escaped in one string and not in the next, and all but ASCII always.
    fn string(&mut self, text: &str) {
        let escapes_slashes = self.choose(2) == 0;
        let plain = Value::from(text).to_string();
        for character in plain.chars() {
            match character {
                '/' if escapes_slashes => self.text.push_str("\\/"),
                character if character.is_ascii() => self.text.push(character),
                character => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04X}");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_means_the_same_and_is_always_the_same() {
        let value =
            json!({"a": "https://h/x?q=\"1\"", "b": [1, -2.5, null, true, {}], "ünï ✓😀": {"c": "\n"}, "z": []});
        let text = Odd::new(Dice::new(1), "x").write(&value);
        assert_eq!(text, Odd::new(Dice::new(1), "x").write(&value));
        assert_ne!(text, Odd::new(Dice::new(1), "y").write(&value));
        assert!(text.is_ascii() && text.contains(LONG_INTEGER));
        let mut read: Value = serde_json::from_str(&text).unwrap();
        read.as_object_mut().unwrap().remove("traceNumbers");
        assert_eq!(read, value);
    }
}
