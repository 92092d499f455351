//! In a program that was built without TLS: the same names, and no way to make anything of them.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::path::Path;

use crate::{Patience, SetUpError};

const DISABLED: &str = "this program was built without TLS, its cargo feature tls: `make build` builds it with TLS";

/// Nobody has one.
#[derive(Clone, Debug)]
pub struct Acceptor(Infallible);

/// Nobody has one.
#[derive(Clone, Debug)]
pub struct Connector(Infallible);

/// Nobody has one.
#[derive(Debug)]
pub struct Tunnel(Infallible);

impl Acceptor {
    /// There is no TLS in this program.
    ///
    /// # Errors
    /// Always.
    pub fn new(certificate: &Path, _key: &Path) -> Result<Self, SetUpError> {
        Err(SetUpError::new(certificate, DISABLED))
    }

    /// Never called.
    pub fn renew(&self, _read: &Self) {
        match self.0 {}
    }

    /// Never called.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn accept(&self, _stream: TcpStream, _patience: Patience) -> io::Result<Tunnel> {
        match self.0 {}
    }
}

impl Connector {
    /// There is no TLS in this program.
    ///
    /// # Errors
    /// Always.
    pub fn new(authorities: Option<&Path>) -> Result<Self, SetUpError> {
        Err(SetUpError::new(authorities.unwrap_or(Path::new("TLS")), DISABLED))
    }

    /// Never called.
    pub fn renew(&self, _read: &Self) {
        match self.0 {}
    }

    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn connect(&self, _stream: TcpStream, _host: &str, _patience: Patience) -> io::Result<Tunnel> {
        match self.0 {}
    }
}

impl Tunnel {
    /// Never called.
    ///
    /// # Errors
    /// None.
    pub fn inside(&self) -> io::Result<TcpStream> {
        match self.0 {}
    }

    /// Never called.
    pub fn finish(self) {
        match self.0 {}
    }
}
