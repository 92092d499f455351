//! Telling the service manager how the branch is: a unit of `Type=notify` counts as started when the branch says so.
//!
//! The protocol is systemd's `sd_notify(3)`: a datagram to the socket that `NOTIFY_SOCKET` names, a path or, after an
//! `@`, an abstract name. Without the variable nobody wants to know.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The branch answers.
    Ready,
    /// The branch is stopping.
    Stopping,
}

/// Tells the service manager, if there is one that wants to know.
pub fn notify(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        log::warn!("the service manager at {} could not be told: {error}", socket.display());
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let text = match state {
        State::Ready => "READY=1",
        State::Stopping => "STOPPING=1",
    };
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => abstract_address(name)?,
        Some(_) | None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_it_under_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready).unwrap();
        let mut heard = [0; 64];
        let count = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"READY=1");
    }
}
