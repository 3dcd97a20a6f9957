//! Where each setting comes from, so that an error can name the place.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Error;
use super::keys;

/// The file that was read, and the place each setting in it or in the environment comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    file: Option<String>,
    places: BTreeMap<String, String>,
    /// What a variable says otherwise than the file.
    outranked: BTreeSet<String>,
}

impl Sources {
    pub(super) fn of_file(name: &str, table: &toml::Table) -> Self {
        let mut sources = Self { file: Some(name.to_owned()), ..Self::default() };
        for (section, keys) in table {
            for key in keys.as_table().into_iter().flat_map(toml::Table::keys) {
                sources.set(section, key, name);
            }
        }
        sources
    }

    pub(super) fn set(&mut self, section: &str, key: &str, place: &str) {
        self.places.insert(format!("{section}.{key}"), place.to_owned());
    }

    pub(super) fn note_outranked(&mut self, section: &str, key: &str) {
        self.outranked.insert(format!("{section}.{key}"));
    }

    /// Whether a variable says of `section.key` otherwise than the file.
    pub(super) fn is_outranked(&self, key: &str) -> bool {
        self.outranked.contains(key)
    }

    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The place of `section.key`; `None` when it is the default.
    pub(super) fn place(&self, key: &str) -> Option<&str> {
        self.places.get(key).map(String::as_str)
    }

    /// An error about `path`, which is a key or something inside its value. A secret's value is cut off.
    pub(super) fn error(&self, path: &str, message: &str) -> Error {
        let key = path.split('.').take(2).collect::<Vec<_>>().join(".");
        let key = key.split('[').next().unwrap_or_default();
        let place = self.place(key).or(self.file()).unwrap_or("built-in defaults").to_owned();
        let mut problem = expected_first(message);
        if keys::is_secret(path) {
            problem.truncate(problem.find(", found ").unwrap_or(problem.len()));
        }
        Error { place, key: Some(path.to_owned()), problem }
    }
}

/// serde's own words in the order of all the others.
fn expected_first(message: &str) -> String {
    let message = message.trim();
    let rest = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    match rest.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => {
            let expected = match expected {
                "a sequence" => "a list such as [\"…\"]",
                "a string" | "path string" => "a text in quotes",
                "a boolean" => "true or false",
                other => other,
            };
            format!("expected {expected}, found {found}")
        }
        None => message.replace("unknown field", "unknown key").replace("missing field", "missing key"),
    }
}

/// A file that is not TOML.
pub(super) fn syntax_error(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or(name.to_owned(), |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{name}:{line}:{column}")
    });
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    Error { place, key: None, problem: format!("expected TOML: {message}") }
}

/// Finds keys that do not exist.
pub(super) fn check_keys(table: &toml::Table, sources: &Sources) -> Result<(), Error> {
    let known = keys::sections();
    for (name, keys) in table {
        let Some(section) = known.iter().find(|(known, _)| known == name) else {
            return Err(sources.error(name, &keys::unknown_section(name)));
        };
        let Some(keys) = keys.as_table() else {
            return Err(sources.error(name, &format!("expected a section: [{name}]")));
        };
        for key in keys.keys() {
            if let Some(problem) = keys::unknown_key(*section, key) {
                return Err(sources.error(&format!("{name}.{key}"), &problem));
            }
        }
    }
    Ok(())
}
