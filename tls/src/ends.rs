//! The two sides of a TLS connection, by `rustls`.

use std::fmt;
use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

pub use crate::tunnel::Tunnel;
use crate::{Patience, SetUpError};

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
                for certificate in read_certificates(path)? {
                    roots.add(certificate).map_err(|error| SetUpError::new(path, error))?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| SetUpError::new(authorities.unwrap_or(Path::new("TLS")), error))?;
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
