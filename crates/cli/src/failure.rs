//! How a run can end early.

use std::process::ExitCode;

use crate::stderr::say;

/// Why a run ended before its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// With a message for the user.
    Failed(String),
    /// What was asked for makes no sense, with a message.
    Usage(String),
    /// By Ctrl-C.
    Interrupted,
    /// By a signal, in an orderly way.
    Stopped {
        /// What is left behind.
        message: String,
        /// The signal's number.
        signal: i32,
    },
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
            Failure::Usage(message) => {
                say(&format!("error: {message}"));
                ExitCode::from(2)
            }
            Failure::Stopped { message, signal } => {
                say(message);
                ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
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
