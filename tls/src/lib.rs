//! TLS as a socket: what is written into it goes encrypted over another one, and what comes decrypted can be read.
//!
//! The programs of the bank hold a `TcpStream` and do with it all that sockets can: read and write from
//! different threads at once, limit how long each may take, look whether something has come, shut one direction down.
//! A TLS connection can do none of that by itself. So it stands *between* two sockets, the one to the network and one end of a pair
//! inside the process, and two threads move what comes ([`tunnel`]). Whoever holds the other end of the pair has a socket like
//! any other, and the code that serves it doesn't know that there is TLS at all. The price is two threads and one more copy
//! for each connection, and nothing for those without TLS.
//!
//! - [`Acceptor`] is the side that has a certificate;
//! - [`Connector`] is the side that checks it, against the name or address that was dialled.
//!
//! Left out: certificates of clients. Who a client is, passwords and the proof of the branch key tell, inside.

mod tunnel;

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

pub use tunnel::Tunnel;

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

/// Takes TLS connections, with a certificate to show.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
}

impl Acceptor {
    /// Reads the certificate, with those between it and its authority after it, and its private key. Both are PEM.
    ///
    /// # Errors
    /// [`SetUpError`], naming the file.
    pub fn new(certificate: &Path, key: &Path) -> Result<Self, SetUpError> {
        let chain = read_certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| SetUpError::new(key, error))?;
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| SetUpError::new(certificate, error))?.with_no_client_auth();
        let config = builder.with_single_cert(chain, private).map_err(|error| SetUpError::new(certificate, error))?;
        Ok(Self { config: Arc::new(config) })
    }

    /// Shakes hands with a client that has connected.
    ///
    /// # Errors
    /// The connection's, or that the client speaks no TLS that we speak.
    pub fn accept(&self, stream: TcpStream, patience: Patience) -> io::Result<Tunnel> {
        let session = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Tunnel::start(stream, session.into(), patience)
    }
}

/// Makes TLS connections, and checks who is at the other end.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// Trusts the certificates of this PEM file and those that they have signed; without a file, the public authorities.
    ///
    /// # Errors
    /// [`SetUpError`], naming the file.
    pub fn new(authorities: Option<&Path>) -> Result<Self, SetUpError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for certificate in read_certificates(path)? {
                    roots.add(certificate).map_err(|error| SetUpError::new(path, error))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| SetUpError { text: error.to_string() })?;
        Ok(Self { config: Arc::new(builder.with_root_certificates(roots).with_no_client_auth()) })
    }

    /// Shakes hands with the host that was dialled, whose certificate must name it: a name, or an IP address.
    ///
    /// # Errors
    /// The connection's, or that the other end speaks no TLS or is not who it should be.
    pub fn connect(&self, stream: TcpStream, host: &str, patience: Patience) -> io::Result<Tunnel> {
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        Tunnel::start(stream, session.into(), patience)
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
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

/// Whether these are the first bytes of a TLS connection: a handshake record (RFC 8446, section 5.1).
#[must_use]
pub fn begins_handshake(first_byte: u8) -> bool {
    first_byte == 0x16
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetUpError> {
    let trouble = |error: rustls::pki_types::pem::Error| SetUpError::new(path, error);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(trouble)?.collect();
    let certificates = certificates.map_err(trouble)?;
    if certificates.is_empty() {
        return Err(SetUpError::new(path, "there is no certificate in this file"));
    }
    Ok(certificates)
}
