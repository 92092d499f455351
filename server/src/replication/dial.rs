//! Connecting to another copy of this branch, with the key proved both ways. Takes a bounded time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use branch_client::prove;
use protocol::connection::{CallError, Connection};
use protocol::proof::BranchKey;
use protocol::request::{Action, Follow, Following};
use protocol::{Address, BranchName};
use tls::Connector;

use crate::peers::links::reach;

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
    /// Where the copies are met, when it is not the network.
    pub exchange: Option<Arc<dyn Exchange>>,
}

/// Connects processes that are met elsewhere than on the network: those of a simulation.
pub trait Exchange: Send + Sync {
    /// A connection to whoever is at an address, by which everything is allowed.
    fn connect(&self, at: &Address) -> Option<Box<dyn Duplex>>;
}

/// What a connection can be made of.
pub trait Duplex: Read + Write {}

impl<S: Read + Write> Duplex for S {}

impl Dialler {
    /// Tells the copy at `address` what `params` say.
    ///
    /// # Errors
    /// [`DialError`].
    pub fn tell(&self, address: &Address, params: &Follow) -> Result<Following, DialError> {
        let told = match &self.exchange {
            None => self.dial(address)?.call(Action::Follow, params, None),
            Some(exchange) => meet(&**exchange, address)?.call(Action::Follow, params, None),
        };
        told.map_err(|error| DialError::of(address, error))
    }

    /// Connects to the copy at `address`.
    ///
    /// # Errors
    /// [`DialError`].
    pub fn dial(&self, address: &Address) -> Result<Connection<TcpStream>, DialError> {
        let stream = reach(address, self.tls.as_ref()).map_err(|error| DialError::Unreachable(error.to_string()))?;
        let mut connection = Connection::new(stream);
        let name = prove(&mut connection, &self.key).map_err(|error| DialError::of(address, error))?;
        if name != self.branch.as_str() {
            let text = format!("{address}: there is branch {name}, not {}", self.branch);
            return Err(DialError::Unreachable(text));
        }
        Ok(connection)
    }
}

fn meet(exchange: &dyn Exchange, address: &Address) -> Result<Connection<Box<dyn Duplex>>, DialError> {
    let stream =
        exchange.connect(address).ok_or_else(|| DialError::Unreachable(format!("{address}: nobody is there")))?;
    Ok(Connection::new(stream))
}
