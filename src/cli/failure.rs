use std::fmt::{self, Display};
use std::process::ExitCode;

/// Why a command ends with another exit code than 0.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// It ran and found something wrong: 1.
    pub(super) fn runtime(message: impl Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Bad usage or configuration: 2.
    pub(super) fn usage(message: impl Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
