//! The two sides of a TLS connection, by `rustls`.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

pub use crate::tunnel::Tunnel;
use crate::{Patience, SetUpError, files};

/// Takes TLS connections, with a certificate to show. Clones show the same one, also after it was read again.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    warning: Option<String>,
}

impl Acceptor {
    /// Reads the certificate, with those between it and its authority after it, and its private key. Both are PEM.
    ///
    /// # Errors
    /// [`SetUpError`], naming the file.
    pub fn new(certificate: &Path, key: &Path) -> Result<Self, SetUpError> {
        let config = files::server_config(certificate, key)?;
        let warning = files::out_of_time(certificate, &files::read_certificates(certificate)?);
        Ok(Self { config: Arc::new(RwLock::new(Arc::new(config))), warning })
    }

    /// Takes over what was read again, for connections from now on.
    pub fn renew(&self, read: &Self) {
        *self.config.write() = read.config.read().clone();
    }

    /// What the operator should know of the certificate, though it can be used: that its time is over.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Shakes hands with a client that has connected.
    ///
    /// # Errors
    /// The connection's, or that the client speaks no TLS that we speak.
    pub fn accept(&self, stream: TcpStream, patience: Patience) -> io::Result<Tunnel> {
        let session = ServerConnection::new(self.config.read().clone()).map_err(io::Error::other)?;
        Tunnel::start(stream, session.into(), patience)
    }
}

/// Makes TLS connections, and checks who is at the other end. Clones trust the same, also after it was read again.
#[derive(Clone)]
pub struct Connector {
    config: Arc<RwLock<Arc<ClientConfig>>>,
}

impl Connector {
    /// Trusts the certificates of this PEM file and those that they have signed; without a file, the public
    /// authorities.
    ///
    /// # Errors
    /// [`SetUpError`], naming the file.
    pub fn new(authorities: Option<&Path>) -> Result<Self, SetUpError> {
        let mut roots = RootCertStore::empty();
        match authorities {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for certificate in files::read_certificates(path)? {
                    roots.add(certificate).map_err(|error| SetUpError::new(path, error))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(files::provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| SetUpError::new(authorities.unwrap_or(Path::new("TLS")), error))?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config: Arc::new(RwLock::new(Arc::new(config))) })
    }

    /// Takes over what was read again, for connections from now on.
    pub fn renew(&self, read: &Self) {
        *self.config.write() = read.config.read().clone();
    }

    /// Shakes hands with the host that was dialled, whose certificate must name it: a name, or an IP address.
    ///
    /// # Errors
    /// The connection's, or that the other end speaks no TLS or is not who it should be.
    pub fn connect(&self, stream: TcpStream, host: &str, patience: Patience) -> io::Result<Tunnel> {
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let session = ClientConnection::new(self.config.read().clone(), name).map_err(io::Error::other)?;
        Tunnel::start(stream, session.into(), patience).map_err(|error| explain(error, host))
    }
}

/// What is wrong with the other end's certificate, for who has to mend it.
fn explain(error: io::Error, host: &str) -> io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(cause)) = cause else { return error };
    let words = match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_string()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, by this machine's clock".to_string()
        }
        CertificateError::UnknownIssuer => "its certificate is of no authority that is trusted here".to_string(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for {host}")
        }
        other => format!("its certificate is refused: {other}"),
    };
    io::Error::new(io::ErrorKind::InvalidData, words)
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
