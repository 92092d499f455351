//! Connecting to a host within a time limit that covers all of it: the look-up of its name, and each of its addresses.
//!
//! The system's look-up has a patience of its own, tens of seconds with a name server that is silent, and can't be
//! interrupted. So it is done by a thread of its own, which is left behind when the time is over and ends by itself.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// Why no connection came about.
#[derive(Debug)]
pub enum ConnectError {
    /// The host has no address, or none was found in time.
    LookUp(io::Error),
    /// None of its addresses answers; the last one's error.
    Connect(io::Error),
}

/// Connects to the first of the host's addresses that answers, all within `limit`. A host is a name or an IP address,
/// IPv6 without brackets.
///
/// # Errors
/// [`ConnectError`].
pub fn connect_within(host: &str, port: u16, limit: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + limit;
    let addresses = look_up(host, port, limit).map_err(ConnectError::LookUp)?;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for (position, address) in addresses.iter().enumerate() {
        // A silent address leaves its share of the time to those after it.
        let shares = u32::try_from(addresses.len() - position).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / shares;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Connect(last))
}

/// The addresses of a host, at least one.
fn look_up(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    // One answer fits, so the thread never waits for whoever has gone.
    let (found, finding) = sync_channel(1);
    let name = host.to_string();
    let look_up = move || {
        let addresses = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        // Whoever asked may have given up.
        let _ = found.send(addresses);
    };
    thread::Builder::new().name("look-up".into()).spawn(look_up)?;
    match finding.recv_timeout(limit) {
        Ok(Ok(addresses)) if addresses.is_empty() => {
            Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
        }
        Ok(addresses) => addresses,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name could not be looked up in time")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn a_listener_is_reached_by_address_and_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect_within("127.0.0.1", port, LIMIT).is_ok());
        assert!(connect_within("localhost", port, LIMIT).is_ok());
        drop(listener);
        assert!(matches!(connect_within("127.0.0.1", port, LIMIT), Err(ConnectError::Connect(_))));
    }

    #[test]
    fn what_is_no_host_is_told_apart() {
        assert!(matches!(connect_within("127.0.0.1:80", 80, LIMIT), Err(ConnectError::LookUp(_))));
        assert!(matches!(connect_within("", 80, LIMIT), Err(ConnectError::LookUp(_)) | Err(ConnectError::Connect(_))));
    }
}
