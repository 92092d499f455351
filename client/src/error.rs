//! How the program ends: the exit status, and the sentence that goes with an ending that is none of the bank's
//! doing. Each sentence says what to do next.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use branch_client::ConnectError;
use protocol::Address;
use protocol::answer::AnswerError;
use protocol::io_words::IoWords;

/// The number that a shell adds to a signal's to make an exit status.
const SIGNAL_STATUS_BASE: u8 = 128;
/// SIGPIPE's number, for output that is no longer wanted.
const BROKEN_PIPE_SIGNAL: u8 = 13;

/// What the program tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// All was done.
    AllDone,
    /// The bank refused something.
    Refused,
    /// The connection failed or broke.
    ConnectionFailed,
    /// The command line was wrong (`EX_USAGE` of `sysexits.h`).
    WrongCommandLine,
    /// Standard input or output failed (`EX_IOERR` of `sysexits.h`).
    InputOutput,
    /// Ended by the signal of this number, or as if by it.
    Signal(u8),
}

impl ExitStatus {
    /// The number that the caller sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::AllDone => 0,
            Self::Refused => 1,
            Self::ConnectionFailed => 2,
            Self::WrongCommandLine => 64,
            Self::InputOutput => 74,
            Self::Signal(number) => SIGNAL_STATUS_BASE.saturating_add(number),
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Why the program could not do what it was asked.
#[derive(Debug)]
pub enum ClientError {
    /// No connection came about.
    NotConnected {
        /// The flag that names the port that was wanted.
        port_flag: &'static str,
        /// Where, as it was given.
        to: Address,
        /// Why not.
        error: ConnectError,
    },
    /// The server said goodbye before it asked anything.
    TurnedAway,
    /// The server said goodbye while it was owed an answer.
    HungUp,
    /// The connection ended without a goodbye.
    Closed,
    /// The connection broke.
    Cut(io::Error),
    /// The server said nothing although it was its turn.
    Silent(Duration),
    /// The server sent a line without an end.
    EndlessLine,
    /// The server asked again without waiting for the answer.
    OutOfTurn,
    /// Standard input could not be read.
    Input(io::Error),
    /// Standard output could not be written.
    Output(io::Error),
    /// The branch has carried something out, and standard output could not be written.
    Unseen {
        /// What was done.
        done: String,
        /// Why it can't be shown.
        source: io::Error,
    },
    /// The system refused a thread or a signal handler.
    System(io::Error),
    /// A signal of this number ended the program.
    Signal(u8),
    /// The command line asks for what can't be; a sentence says what.
    Usage(String),
    /// No branch remembers the transfer.
    NothingToTrace {
        /// Its id.
        txid: String,
        /// What the branch that was asked says became of it.
        outcome: Option<String>,
    },
    /// A lesson could not be set up; a sentence says why.
    Lesson(String),
    /// A command failed at the branch or on the way to it.
    Branch(BranchError),
}

impl ClientError {
    /// The exit status that this ending has.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::NotConnected { .. }
            | Self::TurnedAway
            | Self::HungUp
            | Self::Closed
            | Self::Cut(_)
            | Self::Silent(_)
            | Self::EndlessLine
            | Self::OutOfTurn => ExitStatus::ConnectionFailed,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Signal(BROKEN_PIPE_SIGNAL),
            Self::Input(_) | Self::Output(_) | Self::Unseen { .. } | Self::System(_) => ExitStatus::InputOutput,
            Self::Signal(number) => ExitStatus::Signal(*number),
            Self::Usage(_) => ExitStatus::WrongCommandLine,
            Self::NothingToTrace { .. } | Self::Lesson(_) => ExitStatus::Refused,
            Self::Branch(error) => error.status(),
        }
    }

    /// Whether nothing is said about it: whoever sent a signal or closed the output knows.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(self.status(), ExitStatus::Signal(_))
    }
}

/// What a person does after a connection that did not come to its proper end.
const LOOK_AGAIN: &str = "What the bank confirmed is done; log in again to see whether the last step was.";

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected { port_flag, to, error } => tell_not_connected(f, port_flag, to, error),
            Self::TurnedAway => f.write_str("the bank takes no session now: try again in a while"),
            Self::HungUp => f.write_str("the bank ended the session without waiting for the answer: log in again"),
            Self::Closed => write!(f, "the bank closed the connection without a goodbye. {LOOK_AGAIN}"),
            Self::Cut(error) => write!(f, "the connection to the bank broke ({}). {LOOK_AGAIN}", IoWords(error)),
            Self::Silent(wait) => write!(
                f,
                "the bank said nothing for {wait:?}: check that --menu-port names its menu, or allow more with \
                 --timeout. {LOOK_AGAIN}"
            ),
            Self::EndlessLine => {
                f.write_str("the server sends a line without an end: check that --menu-port names a bank's menu")
            }
            Self::OutOfTurn => f.write_str(
                "the server asks again without waiting for the answer: check that --menu-port names a bank's menu",
            ),
            Self::Input(error) => {
                write!(f, "standard input can't be read ({}): give a file, a pipe or a terminal", IoWords(error))
            }
            Self::Output(error) => {
                write!(f, "standard output can't be written ({}): the session was ended there", IoWords(error))
            }
            Self::Unseen { done, source } => write!(
                f,
                "the branch has carried it out ({done}); only the answer could not be written to standard output ({})",
                IoWords(source)
            ),
            Self::System(error) => write!(f, "the system refused what the client needs to start: {}", IoWords(error)),
            Self::Signal(number) => write!(f, "ended by signal {number}"),
            Self::Usage(sentence) | Self::Lesson(sentence) => f.write_str(sentence),
            Self::NothingToTrace { txid, outcome } => write!(
                f,
                "no branch remembers an event of {txid} (events are kept until a branch ends, and the latest only); \
                 the branch's books say: {}",
                outcome.as_deref().unwrap_or("unknown")
            ),
            Self::Branch(error) => error.fmt(f),
        }
    }
}

fn tell_not_connected(f: &mut fmt::Formatter<'_>, port_flag: &str, to: &Address, error: &ConnectError) -> fmt::Result {
    let hint = format!("start one with 'make run-server', or name another with --host and {port_flag}");
    match error {
        ConnectError::LookUp(_) => write!(
            f,
            "no address is known for the host '{}' ({error}): check --host; the port goes to {port_flag}",
            to.host
        ),
        ConnectError::Tls(_) => write!(
            f,
            "no TLS comes about with {to} ({error}): check --host and {port_flag}, that the branch was started with --tls-cert, and that --tls-ca vouches for its certificate"
        ),
        ConnectError::Connect(source) => match source.kind() {
            io::ErrorKind::ConnectionRefused => write!(f, "no bank answers at {to}: {hint}"),
            io::ErrorKind::TimedOut => write!(f, "no bank answers at {to} in time: {hint}"),
            _ => write!(f, "no bank can be reached at {to} ({error}): {hint}"),
        },
    }
}

impl std::error::Error for ClientError {}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_documented_numbers() {
        let kind = |kind| io::Error::from(kind);
        let check = |error: ClientError, code, quiet| {
            assert_eq!((error.status().code(), error.is_quiet()), (code, quiet), "{error}");
        };
        check(ClientError::Closed, 2, false);
        check(ClientError::Silent(Duration::from_secs(3)), 2, false);
        check(ClientError::Input(kind(io::ErrorKind::IsADirectory)), 74, false);
        check(ClientError::Output(kind(io::ErrorKind::StorageFull)), 74, false);
        check(ClientError::Output(kind(io::ErrorKind::BrokenPipe)), 141, true);
        check(ClientError::Signal(2), 130, true);
        assert_eq!(ExitStatus::WrongCommandLine.code(), 64);
    }

    #[test]
    fn a_refused_connection_says_what_to_do_next() {
        let error = ConnectError::Connect(io::ErrorKind::ConnectionRefused.into());
        let to = "127.0.0.1:1069".parse().unwrap();
        let error = ClientError::NotConnected { port_flag: "--menu-port", to, error };
        let expected = "no bank answers at 127.0.0.1:1069: start one with 'make run-server', or name another with \
                        --host and --menu-port";
        assert_eq!(error.to_string(), expected);
    }
}
