use std::fmt;

use crate::telemetry::escaped;

/// What is wrong with the configuration: where it was said, which key, what was expected. One line, no secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub(super) place: String,
    pub(super) key: Option<String>,
    pub(super) problem: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
        f.write_str(&escaped(&format!("{}: {key}{}", self.place, self.problem)))
    }
}

impl std::error::Error for Error {}
