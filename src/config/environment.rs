//! The environment: `REPLYVAULT_SERVER__LISTEN` is `server.listen`.
//!
//! A cluster injects names of its own for a service called replyvault (`REPLYVAULT_PORT`, `REPLYVAULT_SERVICE_HOST`),
//! none of which has two underscores in a row; so only names with them count, and of those all must be known.

use std::ffi::OsString;

use toml::Value;

use super::error::Error;
use super::keys;
use super::source::Sources;
use super::{Config, units};

const PREFIX: &str = "REPLYVAULT_";

/// Puts what the environment says over `table`. An empty value means not set.
pub(super) fn overlay(
    table: &mut toml::Table,
    sources: &mut Sources,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(), Error> {
    let defaults = toml::Table::try_from(Config::default()).unwrap_or_default();
    // In an order of their own, so that one error is said, always the same.
    let mut variables: Vec<_> = environment.into_iter().filter_map(ours).collect();
    variables.sort();
    for (variable, path, value) in variables {
        let fail = |key: &str, problem: String| {
            let problem =
                if keys::is_secret(key) { problem.split(", found ").next().unwrap_or_default() } else { &problem };
            Err(Error { place: variable.clone(), key: Some(key.to_owned()), problem: problem.to_owned() })
        };
        let (name, key) = path.split_once("__").unwrap_or((&path, ""));
        let Some(section) = keys::sections().into_iter().find(|(known, _)| *known == name) else {
            return fail(name, keys::unknown_section(name));
        };
        let dotted = format!("{name}.{key}");
        if let Some(problem) = keys::unknown_key(section, key) {
            return fail(&dotted, problem);
        }
        let Ok(value) = value.into_string() else {
            return fail(&dotted, "expected UTF-8 text".to_owned());
        };
        let value = match typed(&value, defaults.get(name).and_then(|section| section.get(key))) {
            Ok(value) => value,
            Err(problem) => return fail(&dotted, problem),
        };
        let section = table.entry(name).or_insert_with(|| Value::Table(toml::Table::new()));
        if let Value::Table(section) = section {
            let in_file = section.insert(key.to_owned(), value.clone());
            sources.set(name, key, &variable);
            if in_file.is_some_and(|in_file| in_file != value) {
                sources.note_outranked(name, key);
            }
        }
    }
    Ok(())
}

/// A variable that counts: its name, the key in it, and its value.
fn ours((name, value): (OsString, OsString)) -> Option<(String, String, OsString)> {
    let name = name.into_string().ok()?;
    let path = name.strip_prefix(PREFIX).filter(|path| path.contains("__"))?.to_ascii_lowercase();
    (!value.is_empty()).then_some((name, path, value))
}

/// The value, of the default's type. A key without default is text.
fn typed(text: &str, default: Option<&Value>) -> Result<Value, String> {
    let (expected, fits): (_, fn(&Value) -> bool) = match default {
        Some(Value::Boolean(_)) => ("true or false", Value::is_bool),
        Some(Value::Integer(_)) => ("a whole number", Value::is_integer),
        Some(Value::Array(_)) => ("a list in TOML's syntax such as [\"…\", \"…\"]", Value::is_array),
        _ => return Ok(Value::String(text.to_owned())),
    };
    let value = text.trim().parse().ok().filter(fits);
    value.ok_or_else(|| format!("expected {expected}, found {}", units::found(&Value::String(text.to_owned()))))
}
