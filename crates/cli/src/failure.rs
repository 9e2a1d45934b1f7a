//! How a run can end early.

use std::process::ExitCode;

use crate::stderr::say;

/// Why a run ended before its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With a message for the user.
    Failed(String),
    /// By Ctrl-C.
    Interrupted,
    /// Whoever read stdout has gone, as in `| head`: no news to them or us.
    OutputClosed,
}

impl Failure {
    /// Tells the user and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Failure::Failed(message) => {
                say(&format!("error: {message}"));
                ExitCode::from(1)
            }
            Failure::Interrupted => {
                say("interrupted");
                // As a shell reports a process that SIGINT (2) ended: 128 + 2.
                ExitCode::from(130)
            }
            Failure::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

/// A write to stdout failed.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Failed(format!("cannot write the result: {error}")),
        }
    }
}
