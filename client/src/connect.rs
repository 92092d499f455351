//! Opens the connection to a branch's menu or to its branch protocol, and says what to do when none comes about. What is
//! said over it is the menu client's and the commands'.

use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use branch_client::TimeLimits;
use protocol::Address;
use tls::Connector;

use crate::error::ClientError;

/// How long a server may go on speaking after the client has said its last; as long as a person may listen.
pub const LINGER: Duration = Duration::from_secs(600);

/// Connects to a branch's menu, within `timeout` with the look-up of the host's name.
///
/// # Errors
/// `NotConnected`.
pub fn connect_menu(to: &Address, timeout: Duration, tls: Option<&Connector>) -> Result<TcpStream, ClientError> {
    let stream = branch_client::connect(to, &TimeLimits::all(timeout, LINGER), tls);
    let stream =
        stream.map_err(|error| ClientError::NotConnected { port_flag: "--menu-port", to: to.clone(), error })?;
    // How long the menu may be silent is not the socket's to say: whose turn it is decides that.
    stream.set_read_timeout(None).map_err(ClientError::System)?;
    Ok(stream)
}

/// Whom to trust in TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSetting {
    /// The file with the authorities' certificates; the public ones without it.
    pub authorities: Option<PathBuf>,
}

/// Reads the authorities that are trusted in TLS, when it is wanted.
///
/// # Errors
/// `Usage` when the file is of no use.
pub fn open_tls(setting: Option<&TlsSetting>) -> Result<Option<Connector>, ClientError> {
    let open = |setting: &TlsSetting| Connector::new(setting.authorities.as_deref());
    setting.map(open).transpose().map_err(|error| ClientError::Usage(format!("{error}; check --tls-ca")))
}
