//! Connecting to another copy of this branch, with the key proved both ways. Takes a bounded time.

use std::net::TcpStream;

use protocol::connection::{CallError, Connection};
use protocol::proof::{BranchKey, Nonce};
use protocol::{Address, BranchName};
use tls::Connector;

use crate::transfer::links::reach;

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
                protocol::key_file::KEY_FILE
            )),
            other @ (CallError::Closed | CallError::Frame(_) | CallError::Json(_)) => {
                Self::Unreachable(format!("{address}: {other}"))
            }
        }
    }
}

/// How this copy meets the others of its branch.
#[derive(Clone)]
pub struct Dialler {
    /// The branch of which all are copies.
    pub branch: BranchName,
    /// The bank's key.
    pub key: BranchKey,
    /// For copies that speak TLS.
    pub tls: Option<Connector>,
}

impl Dialler {
    /// Connects to the copy at `address`.
    ///
    /// # Errors
    /// [`DialError`].
    pub fn dial(&self, address: &Address) -> Result<Connection<TcpStream>, DialError> {
        let trouble = |what: &dyn std::fmt::Display| DialError::Unreachable(format!("{address}: {what}"));
        let stream = reach(address, self.tls.as_ref()).map_err(|error| DialError::Unreachable(error.to_string()))?;
        let mut connection = Connection::new(stream);
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).map_err(|error| trouble(&error))?;
        let name = connection.authenticate(&self.key, &nonce).map_err(|error| DialError::of(address, error))?;
        if name != self.branch.as_str() {
            return Err(trouble(&format!("there is branch {name}, not {}", self.branch)));
        }
        Ok(connection)
    }
}
