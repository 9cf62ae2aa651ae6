//! How a verb ends: the exit codes of the help text, and errors for people and for programs.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::control::ClientError;

/// The exit codes. Documented in `--help`; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The configuration or the command line is wrong.
    Usage = 2,
    /// A guard or the role does not allow it.
    Refused = 3,
    /// The daemon cannot be reached.
    Unreachable = 4,
    /// Readiness: a plan is not ready.
    NotReady = 5,
    /// Readiness: not everything could be looked at.
    Unknown = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// For programs.
    pub code: String,
    /// For people; empty where everything was said already.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Everything was said already.
    pub fn said(exit: Exit) -> Self {
        Self::new(exit, "", "")
    }

    /// Tells it on standard error, for people or as JSON, and gives the exit code.
    pub fn report(&self, json: bool) -> ExitCode {
        if !self.message.is_empty() {
            let text = if json {
                serde_json::json!({ "code": self.code, "message": self.message }).to_string()
            } else {
                format!("failoverd: {}", self.message)
            };
            // Where even standard error is closed, the exit code is all that is left to say.
            let _closed = writeln!(io::stderr(), "{text}");
        }
        self.exit.into()
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, code) = match &error {
            ClientError::NotRunning { .. } => (Exit::Unreachable, "not_running"),
            ClientError::Broken { .. } => (Exit::Unreachable, "broken"),
            ClientError::Permission { .. } => (Exit::Refused, "permission"),
            ClientError::Answer { .. } => (Exit::Failed, "answer"),
            ClientError::Refused(refusal) => match refusal.code.as_str() {
                "not_found" | "no_route" | "timeout" | "internal" => (Exit::Failed, refusal.code.as_str()),
                "bad_parameters" => (Exit::Usage, refusal.code.as_str()),
                "ending" => (Exit::Unreachable, "ending"),
                "bad_request" | "too_large" | "wrong_method" => (Exit::Usage, refusal.code.as_str()),
                code => (Exit::Refused, code),
            },
        };
        Self::new(exit, code, error.to_string())
    }
}

/// Writes to standard output. A reader that has had enough (`failoverd status | head`) is a good
/// end and not a failure.
///
/// # Errors
/// [`Failure`], silent where the reader is gone.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::said(Exit::Done),
        _ => Failure::new(Exit::Failed, "output", format!("cannot write the output: {error}")),
    })
}

/// Writes a value as JSON to standard output.
///
/// # Errors
/// [`Failure`].
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Exit::Failed, "output", format!("cannot write the output as JSON: {error}")))?;
    print(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Refusal;

    #[test]
    fn refusals_and_absence_have_their_exit_codes() {
        let refused =
            |code: &str| Failure::from(ClientError::Refused(Refusal { code: code.into(), message: "no".into() })).exit;
        assert_eq!(refused("guard"), Exit::Refused);
        assert_eq!(refused("role"), Exit::Refused);
        assert_eq!(refused("point_of_no_return"), Exit::Refused);
        assert_eq!(refused("not_found"), Exit::Failed);
        assert_eq!(refused("bad_request"), Exit::Usage);
        assert_eq!(refused("ending"), Exit::Unreachable);
        let gone = ClientError::NotRunning { socket: "/x".into(), why: "there is no such socket" };
        let failure = Failure::from(gone);
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("systemctl status failoverd"));
    }
}
