//! Opens the connection to a branch. It owns the choice among a host's addresses and the socket's options,
//! and leaves what is said over it to the menu client and to the commands.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use protocol::Address;
use tls::{ConnectError, Connector, Patience, connect_within};

use crate::arguments::TlsSetting;
use crate::error::{ClientError, Door};

/// How long a server may go on speaking after the client has said its last; as long as a person may listen.
const LINGER: Duration = Duration::from_secs(600);

/// Connects to the first of the host's addresses that answers, within `timeout` with the look-up of its name.
///
/// # Errors
/// `UnknownHost` when the name has no address, `Unreachable` when none of them answers, `NoTls` when no TLS comes
/// about.
pub fn connect(door: Door, to: &Address, timeout: Duration, tls: Option<&Connector>) -> Result<TcpStream, ClientError> {
    let unreachable = |source| ClientError::Unreachable { door, address: to.to_string(), source };
    let begun = Instant::now();
    let stream = connect_within(&to.host, to.port, timeout).map_err(|error| match error {
        ConnectError::LookUp(source) => ClientError::UnknownHost { door, host: to.host.clone(), source },
        ConnectError::Connect(source) => unreachable(source),
    })?;
    let left = timeout.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
    with_tls(prepare(stream, timeout).map_err(unreachable)?, door, to, left, tls)
}

/// Reads the authorities that are trusted in TLS, when it is wanted.
///
/// # Errors
/// `Usage` when the file is of no use.
pub fn open_tls(setting: Option<&TlsSetting>) -> Result<Option<Connector>, ClientError> {
    let open = |setting: &TlsSetting| Connector::new(setting.authorities.as_deref());
    setting.map(open).transpose().map_err(|error| ClientError::Usage(format!("{error}; check --tls-ca")))
}

fn with_tls(
    stream: TcpStream,
    door: Door,
    to: &Address,
    timeout: Duration,
    tls: Option<&Connector>,
) -> Result<TcpStream, ClientError> {
    let Some(connector) = tls else { return Ok(stream) };
    let patience = Patience { handshake: timeout, write: timeout, linger: LINGER };
    let tunnel = connector.connect(stream, &to.host, patience).and_then(|tunnel| tunnel.inside());
    let prepared = tunnel.and_then(|inside| {
        inside.set_write_timeout(Some(timeout))?;
        Ok(inside)
    });
    prepared.map_err(|source| ClientError::NoTls { door, address: to.to_string(), source })
}

/// One answer is one small packet that should leave at once, and a server that reads nothing must not hold us.
fn prepare(stream: TcpStream, timeout: Duration) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Also what is no address, as `--host` may be anything.
    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    #[test]
    fn a_listening_server_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            connect(Door::Menu, &at("127.0.0.1", address.port()), TIMEOUT, None).unwrap().peer_addr().unwrap(),
            address
        );
    }

    #[test]
    fn a_port_where_nobody_listens_is_named() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = connect(Door::Menu, &at("127.0.0.1", port), TIMEOUT, None).unwrap_err();
        assert!(matches!(&error, ClientError::Unreachable { address, .. } if *address == format!("127.0.0.1:{port}")));
    }

    #[test]
    fn a_host_that_is_no_host_is_told_apart() {
        assert!(matches!(
            connect(Door::Menu, &at("127.0.0.1:1069", 1069), TIMEOUT, None),
            Err(ClientError::UnknownHost { .. })
        ));
    }
}
