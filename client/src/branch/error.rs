//! Why a command did not do what it says, with what to do next.

use std::fmt;

use protocol::answer::AnswerError;
use protocol::connection::CallError;

use crate::error::ExitStatus;

/// Why a command failed at the branch or on the way to it.
#[derive(Debug)]
pub enum BranchError {
    /// The branch refused.
    Refused {
        /// What it said.
        error: AnswerError,
        /// What to do next, where the client knows it.
        hint: Option<String>,
    },
    /// The branch does not hold the key.
    Stranger {
        /// Host and port.
        address: String,
        /// The file of the key.
        key: String,
    },
    /// No answer came, and nothing was done.
    NoAnswer {
        /// Whether something was to be done.
        is_write: bool,
        /// Host and port.
        address: String,
        /// What went wrong the last time.
        cause: String,
    },
    /// No answer came to a write. It may have been carried out.
    OutcomeUnknown {
        /// Host and port.
        address: String,
        /// What went wrong the last time.
        cause: String,
        /// The command line that finds out.
        again: String,
    },
    /// An answer came that is none.
    NotUnderstood {
        /// Host and port.
        address: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl BranchError {
    /// The exit status that goes with it.
    #[must_use]
    pub const fn status(&self) -> ExitStatus {
        match self {
            Self::Refused { .. } => ExitStatus::Refused,
            Self::Stranger { .. }
            | Self::NoAnswer { .. }
            | Self::OutcomeUnknown { .. }
            | Self::NotUnderstood { .. } => ExitStatus::ConnectionFailed,
        }
    }
}

impl fmt::Display for BranchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { error, hint: None } => error.fmt(f),
            Self::Refused { error, hint: Some(hint) } => write!(f, "{error}: {hint}"),
            Self::Stranger { address, key } => write!(
                f,
                "the branch at {address} does not hold the key of {key}: check --host and --port, or name the bank's \
                 key with --key"
            ),
            Self::NoAnswer { is_write, address, cause } => {
                let nothing = if *is_write { ", so nothing was done" } else { "" };
                write!(
                    f,
                    "no answer came from {address} ({cause}){nothing}: try again, allow more with --timeout, or check \
                     that --port names a branch and not its menu"
                )
            }
            Self::OutcomeUnknown { address, cause, again } => write!(
                f,
                "no final answer came from {address} ({cause}), and it is not known whether this was done. This finds out, \
                 and does it only if it was not done yet:\n  {again}"
            ),
            Self::NotUnderstood { address, cause } => write!(
                f,
                "what answers at {address} is no branch that this program understands ({cause}): check --port, and \
                 the versions of both programs"
            ),
        }
    }
}

impl std::error::Error for BranchError {}

/// What went wrong with a call, for the middle of a sentence.
#[must_use]
pub fn cause(error: &CallError) -> String {
    match error {
        CallError::Frame(protocol::frame::FrameError::Io(error))
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            "it said nothing in time".into()
        }
        CallError::Refused(_) | CallError::Stranger | CallError::Closed | CallError::Frame(_) | CallError::Json(_) => {
            error.to_string()
        }
    }
}
