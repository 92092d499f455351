//! TLS as a socket: what is written into it goes encrypted over another one, and what comes decrypted can be read.
//!
//! The programs of the bank hold a `TcpStream` and do with it all that sockets can: read and write from different
//! threads at once, limit how long each may take, look whether something has come, shut one direction down. A TLS
//! connection can do none of that by itself. So it stands *between* two sockets, the one to the network and one end of
//! a pair inside the process, and two threads move what comes (`tunnel.rs`). Whoever holds the other end of the pair
//! has a socket like any other, and the code that serves it doesn't know that there is TLS at all. The price is two
//! threads and one more copy for each connection, and nothing for those without TLS.
//!
//! - [`Acceptor`] is the side that has a certificate;
//! - [`Connector`] is the side that checks it, against the name or address that was dialled.
//!
//! Both stand on a connection that is there: the crate `branch_client` makes it, and a server accepts it.
//!
//! Left out: certificates of clients. Who a client is, passwords and the proof of the branch key tell, inside.

#[cfg(not(feature = "rustls"))]
mod disabled;
#[cfg(feature = "rustls")]
mod files;
#[cfg(feature = "rustls")]
mod rustls;
#[cfg(feature = "rustls")]
mod tunnel;

use std::fmt;
use std::path::Path;
use std::time::Duration;

#[cfg(feature = "rustls")]
pub use self::rustls::{Acceptor, Connector, Tunnel};
#[cfg(not(feature = "rustls"))]
pub use disabled::{Acceptor, Connector, Tunnel};

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The whole handshake, however slowly it trickles in.
    pub handshake: Duration,
    /// Until the other side takes what is sent to it.
    pub write: Duration,
    /// After our side has ended, until the other side has ended too.
    pub linger: Duration,
}

/// Why there can be no TLS with these files.
#[derive(Debug)]
pub struct SetUpError {
    text: String,
}

impl SetUpError {
    fn new(path: &Path, cause: impl fmt::Display) -> Self {
        Self { text: format!("{}: {cause}", path.display()) }
    }
}

impl fmt::Display for SetUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SetUpError {}
