//! A port that belongs to a branch also while the branch is down.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

/// A free port of loopback, held by a socket that is bound and does not listen.
///
/// Both this socket and the branch's listener have `SO_REUSEADDR`, so the branch can listen there; but the system
/// gives the port to nobody who asks for any, neither for a listener nor for the near end of a connection.
#[derive(Debug)]
pub struct HeldPort {
    _socket: OwnedFd,
    number: u16,
}

impl HeldPort {
    /// Any free port.
    #[must_use]
    pub fn pick() -> Self {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        set_socket_reuseaddr(&socket, true).unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        Self { _socket: socket, number: address.port() }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}
