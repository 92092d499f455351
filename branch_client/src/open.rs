//! Connections on which both sides have proved that they hold the bank's key.
//!
//! The branch proves itself first, so a stranger at a branch's address learns nothing. A branch that was started
//! with `--open` wants no proof and is spoken to without; so is one on this machine that shares none of the keys
//! that were merely found.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use protocol::answer::{AnswerError, Status};
use protocol::connection::{CallError, Connection};
use protocol::frame::FrameError;
use protocol::proof::{BranchKey, Nonce};
use protocol::request::{Action, NoParams};
use protocol::{Address, BranchName};
use tls::Connector;

use crate::connect::{ConnectError, TimeLimits, connect};
use crate::keys::Keys;

/// How a branch is met: what is proved to it, and whom it has to prove to be.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The keys that may be proved.
    pub keys: Keys,
    /// For branches that speak TLS: they are met by nothing else then.
    pub tls: Option<Connector>,
}

/// A connection to a branch.
pub struct Opened {
    /// The connection.
    pub connection: Connection<TcpStream>,
    /// The branch's name and the key's file; nothing on a connection without proof.
    pub proved: Option<Proved>,
}

/// What the two sides of a connection have proved to one another.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The name of the branch.
    pub branch: String,
    /// Where the key that it shares was found.
    pub key: PathBuf,
}

impl Opened {
    /// The branch's name, which is asked for on a connection without proof.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub fn branch(&mut self) -> Result<String, CallError> {
        match &self.proved {
            Some(proved) => Ok(proved.branch.clone()),
            None => self.connection.call::<Status>(Action::Status, &NoParams {}, None).map(|status| status.name),
        }
    }

    /// Refuses another branch than the one that was meant.
    ///
    /// # Errors
    /// [`OpenError::OtherBranch`], or why the name isn't known.
    pub fn must_be(mut self, name: &BranchName) -> Result<Self, OpenError> {
        let found = self.branch().map_err(OpenError::Call)?;
        if found == name.as_str() { Ok(self) } else { Err(OpenError::OtherBranch(found)) }
    }
}

/// Connects, and proves a key if there is one that the branch shares.
///
/// # Errors
/// [`OpenError`].
pub fn open(address: &Address, credentials: &Credentials, limits: &TimeLimits) -> Result<Opened, OpenError> {
    let deadline = Instant::now() + limits.attempt;
    let connect = || {
        let stream = connect(address, &limits.before(deadline), credentials.tls.as_ref());
        stream.map(Connection::new).map_err(OpenError::Connect)
    };
    let Keys { found, is_named } = &credentials.keys;
    let mut stranger_to = None;
    for candidate in found {
        let mut connection = connect()?;
        match prove(&mut connection, &candidate.key) {
            Ok(branch) => {
                let proved = Some(Proved { branch, key: candidate.path.clone() });
                return Ok(Opened { connection, proved });
            }
            // These two are said to whoever connects. Any other refusal is of the proof: the branch was started with
            // `--open`, or is of a time before keys.
            Err(CallError::Refused(error)) if matches!(error.code.as_str(), "busy" | "tls_required") => {
                return Err(OpenError::Refused(error));
            }
            Err(CallError::Refused(_)) => return Ok(Opened { connection, proved: None }),
            Err(CallError::Stranger) => stranger_to = Some(candidate),
            Err(error @ (CallError::Closed | CallError::Frame(_) | CallError::Json(_))) => {
                return Err(OpenError::Call(error));
            }
        }
    }
    let connection = connect()?;
    let is_here = connection.stream().peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    match stranger_to {
        Some(found) if *is_named || !is_here => Err(OpenError::Stranger { key: found.path.clone() }),
        Some(_) | None => Ok(Opened { connection, proved: None }),
    }
}

/// Proves the key on a connection, after the branch has proved it. Returns the branch's name.
///
/// # Errors
/// As [`Connection::authenticate`].
pub fn prove<S: Read + Write>(connection: &mut Connection<S>, key: &BranchKey) -> Result<String, CallError> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce)
        .map_err(|error| CallError::Frame(FrameError::Io(io::Error::other(error.to_string()))))?;
    connection.authenticate(key, &nonce)
}

/// Why a branch can't be spoken to.
#[derive(Debug)]
pub enum OpenError {
    /// No connection came about.
    Connect(ConnectError),
    /// The branch does not hold this key, nor any other.
    Stranger {
        /// The key's file.
        key: PathBuf,
    },
    /// The branch takes no connection now, or none without TLS.
    Refused(AnswerError),
    /// There is another branch.
    OtherBranch(String),
    /// The connection was lost before anything was asked, or what answers is no branch.
    Call(CallError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Stranger { key } => write!(f, "the branch does not hold the key of {}", key.display()),
            Self::Refused(error) => error.fmt(f),
            Self::OtherBranch(name) => write!(f, "there is branch {name}"),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}
