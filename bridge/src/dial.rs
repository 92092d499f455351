//! Opens a connection to a branch and proves the key. Every socket to a branch is made here.
//!
//! The branch proves itself first, so a stranger at a branch's address learns nothing. A branch that was started
//! with `--open` wants no proof and is spoken to without; so is one on this machine that shares none of the keys
//! that were merely found.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::time::Duration;

use protocol::Address;
use protocol::answer::Status;
use protocol::connection::{CallError, Connection};
use protocol::io_words::IoWords;
use protocol::proof::{BranchKey, PROOF_BYTES};
use protocol::request::{Action, NoParams};
use tls::{ConnectError, Patience, connect_within};

use crate::key::Keys;
use crate::limits::{CONNECT_TIMEOUT, PROOF_TIMEOUT, TLS_LINGER};

/// A connection to a branch.
pub type BranchConnection = Connection<TcpStream>;

/// Connects and proves a key if there is one that the branch shares. Gives the branch's own name too.
///
/// # Errors
/// Why it can't be spoken to.
pub fn dial(address: &Address, keys: &Keys) -> Result<(BranchConnection, String), DialError> {
    let mut is_stranger = false;
    for key in &keys.found {
        let mut connection = connect(address, keys)?;
        match prove(&mut connection, key) {
            Ok(name) => return Ok((connection, name)),
            Err(CallError::Refused(error)) if error.code == "busy" => return Err(DialError::Refused(error.text)),
            Err(CallError::Refused(_)) => return without_proof(connection),
            Err(CallError::Stranger) => is_stranger = true,
            Err(error) => return Err(DialError::Call(error)),
        }
    }
    let connection = connect(address, keys)?;
    let is_here = connection.stream().peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    if is_stranger && (keys.is_named || !is_here) {
        return Err(DialError::Stranger);
    }
    without_proof(connection)
}

fn prove(connection: &mut BranchConnection, key: &BranchKey) -> Result<String, CallError> {
    let mut nonce = [0; PROOF_BYTES];
    getrandom::fill(&mut nonce)
        .map_err(|error| CallError::Frame(protocol::frame::FrameError::Io(io::Error::other(error.to_string()))))?;
    connection.authenticate(key, &nonce)
}

/// Learns the name on a connection that proves nothing.
fn without_proof(mut connection: BranchConnection) -> Result<(BranchConnection, String), DialError> {
    let status: Status = connection.call(Action::Status, &NoParams {}, None).map_err(DialError::Call)?;
    Ok((connection, status.name))
}

fn connect(address: &Address, keys: &Keys) -> Result<BranchConnection, DialError> {
    let stream = connect_within(&address.host, address.port, CONNECT_TIMEOUT).map_err(|error| match error {
        ConnectError::LookUp(error) | ConnectError::Connect(error) => DialError::Connect(error),
    })?;
    let prepared = shake_hands(stream, address, keys).and_then(prepare);
    prepared.map(Connection::new).map_err(DialError::Connect)
}

/// With TLS, gives the socket whose other end is encrypted on its way.
fn shake_hands(stream: TcpStream, address: &Address, keys: &Keys) -> io::Result<TcpStream> {
    // What comes out of the tunnel is no socket of TCP, so this is set before.
    stream.set_nodelay(true)?;
    let Some(connector) = &keys.tls else { return Ok(stream) };
    let patience = Patience { handshake: PROOF_TIMEOUT, write: PROOF_TIMEOUT, linger: TLS_LINGER };
    connector.connect(stream, &address.host, patience)?.inside()
}

fn prepare(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_write_timeout(Some(PROOF_TIMEOUT))?;
    stream.set_read_timeout(Some(PROOF_TIMEOUT))?;
    Ok(stream)
}

/// Sets how long each answer on a connection may take from now on.
///
/// # Errors
/// The socket's.
pub fn set_patience(connection: &BranchConnection, limit: Option<Duration>) -> Result<(), CallError> {
    connection
        .stream()
        .set_read_timeout(limit)
        .map_err(|error| CallError::Frame(protocol::frame::FrameError::Io(error)))
}

/// Why a branch can't be spoken to.
#[derive(Debug)]
pub enum DialError {
    /// Nobody listens there, or the host is unknown.
    Connect(io::Error),
    /// It does not share the bank's key.
    Stranger,
    /// It turned us away.
    Refused(String),
    /// It is no branch, or the connection broke.
    Call(CallError),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => IoWords(error).fmt(f),
            Self::Stranger => f.write_str("it does not hold this bank's key (bank-bridge --key)"),
            Self::Refused(text) => f.write_str(text),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialError {}
