//! Connecting to another copy of this branch, with the key proved both ways. Takes a bounded time.

use std::net::{TcpStream, ToSocketAddrs as _};

use protocol::BranchName;
use protocol::connection::{CallError, Connection};
use protocol::proof::{BranchKey, Nonce};

use crate::limits::{DIAL_TIMEOUT, WRITE_TIMEOUT};
use crate::transfer::directory::Address;

/// Why another copy could not be asked.
#[derive(Debug)]
pub enum DialError {
    /// It answered, and refused.
    Refused {
        /// The stable name of the refusal.
        code: String,
        /// One sentence.
        text: String,
    },
    /// It can't be reached, or is no copy of this branch.
    Unreachable(String),
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { text, .. } | Self::Unreachable(text) => f.write_str(text),
        }
    }
}

impl DialError {
    /// What a failed call means.
    #[must_use]
    pub fn of(address: &Address, error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused { code: refusal.code, text: refusal.text },
            CallError::Stranger => Self::Unreachable(format!(
                "the branch at {address} has another key: copy this bank's {} beside its database",
                crate::key::KEY_FILE
            )),
            other @ (CallError::Closed | CallError::Frame(_) | CallError::Json(_)) => {
                Self::Unreachable(format!("{address}: {other}"))
            }
        }
    }
}

/// Connects to the copy of `branch` at `address`.
///
/// # Errors
/// [`DialError`].
pub fn dial(address: &Address, branch: &BranchName, key: &BranchKey) -> Result<Connection<TcpStream>, DialError> {
    let trouble = |what: &dyn std::fmt::Display| DialError::Unreachable(format!("{address}: {what}"));
    let mut resolved = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| trouble(&error))?;
    let socket = resolved.next().ok_or_else(|| trouble(&"the name has no address"))?;
    let stream = TcpStream::connect_timeout(&socket, DIAL_TIMEOUT).map_err(|error| trouble(&error))?;
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(DIAL_TIMEOUT)))
        .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)));
    prepared.map_err(|error| trouble(&error))?;
    let mut connection = Connection::new(stream);
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|error| trouble(&error))?;
    let name = connection.authenticate(key, &nonce).map_err(|error| DialError::of(address, error))?;
    if name != branch.as_str() {
        return Err(trouble(&format!("there is branch {name}, not {branch}")));
    }
    Ok(connection)
}
