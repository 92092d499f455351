//! Connecting to a host within a time limit that covers all of it: the look-up of its name, each of its addresses, and
//! the handshake of TLS where that is wanted.
//!
//! The system's look-up has a patience of its own, tens of seconds with a name server that is silent, and can't be
//! interrupted. So it is done by a thread of its own, which is left behind when the time is over and ends by itself.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use protocol::Address;
use protocol::io_words::IoWords;
use tls::{Connector, Patience};

/// How long a caller waits for what.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// Looking the host up and connecting to it.
    pub connect: Duration,
    /// Each answer while the connection is made: TLS's handshake, and those of the proof of the key.
    pub read: Duration,
    /// Until the branch takes what is sent to it.
    pub write: Duration,
    /// All of it together, until the answer to a request is there.
    pub attempt: Duration,
    /// After our side of a TLS connection has ended, until the branch's has.
    pub linger: Duration,
}

impl TimeLimits {
    /// One limit for each of these, and for all of them together.
    #[must_use]
    pub const fn all(limit: Duration, linger: Duration) -> Self {
        Self { connect: limit, read: limit, write: limit, attempt: limit, linger }
    }

    /// These limits, and none of them past a deadline. Never nothing, which no socket takes as a time limit.
    #[must_use]
    pub(crate) fn before(&self, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let Self { connect, read, write, attempt, linger } = *self;
        Self {
            connect: connect.min(left),
            read: read.min(left),
            write: write.min(left),
            attempt: attempt.min(left),
            linger,
        }
    }
}

/// Why no connection came about.
#[derive(Debug)]
pub enum ConnectError {
    /// The host has no address, or none was found in time.
    LookUp(io::Error),
    /// None of its addresses answers; the last one's error.
    Connect(io::Error),
    /// Something answers, and TLS does not come about with it.
    Tls(io::Error),
}

impl ConnectError {
    /// The system's or TLS's error.
    #[must_use]
    pub const fn source(&self) -> &io::Error {
        match self {
            Self::LookUp(error) | Self::Connect(error) | Self::Tls(error) => error,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IoWords(self.source()).fmt(f)
    }
}

impl std::error::Error for ConnectError {}

/// Connects to the first of the host's addresses that answers, over TLS if there is a connector, and sets the time
/// limits of reading and writing.
///
/// # Errors
/// [`ConnectError`].
pub fn connect(to: &Address, limits: &TimeLimits, tls: Option<&Connector>) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + limits.attempt;
    let stream = connect_within(to, limits.before(deadline).connect)?;
    // What comes out of a TLS tunnel is no socket of TCP, so this is set before. A request is one small packet that should
    // leave at once.
    stream.set_nodelay(true).map_err(ConnectError::Connect)?;
    let stream = match tls {
        Some(connector) => {
            let TimeLimits { read, write, linger, .. } = limits.before(deadline);
            let patience = Patience { handshake: read, write, linger };
            let tunnel = connector.connect(stream, &to.host, patience).and_then(|tunnel| tunnel.inside());
            tunnel.map_err(ConnectError::Tls)?
        }
        None => stream,
    };
    let set = stream.set_write_timeout(Some(limits.write)).and_then(|()| stream.set_read_timeout(Some(limits.read)));
    set.map_err(ConnectError::Connect)?;
    Ok(stream)
}

fn connect_within(to: &Address, limit: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + limit;
    let addresses = look_up(to, limit).map_err(ConnectError::LookUp)?;
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
fn look_up(Address { host, port }: &Address, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, *port)]);
    }
    // One answer fits, so the thread never waits for whoever has gone.
    let (found, finding) = sync_channel(1);
    let (name, port) = (host.clone(), *port);
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
    const LIMITS: TimeLimits = TimeLimits::all(LIMIT, LIMIT);

    /// Also what is no address: what people give as a host may be anything.
    fn at(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        connect(&Address { host: host.into(), port }, &LIMITS, None)
    }

    #[test]
    fn a_listener_is_reached_by_address_and_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(at("127.0.0.1", address.port()).unwrap().peer_addr().unwrap(), address);
        assert!(at("localhost", address.port()).is_ok());
        drop(listener);
        assert!(matches!(at("127.0.0.1", address.port()), Err(ConnectError::Connect(_))));
    }

    #[test]
    fn what_is_no_host_is_told_apart() {
        assert!(matches!(at("127.0.0.1:80", 80), Err(ConnectError::LookUp(_))));
        assert!(matches!(at("", 80), Err(ConnectError::LookUp(_) | ConnectError::Connect(_))));
    }

    #[test]
    fn no_limit_lasts_past_the_deadline_and_none_is_nothing() {
        let limits = LIMITS.before(Instant::now() + Duration::from_millis(50));
        for limit in [limits.connect, limits.read, limits.write, limits.attempt] {
            assert!(limit <= Duration::from_millis(50) && !limit.is_zero(), "{limits:?}");
        }
        assert_eq!(LIMITS.before(Instant::now()).attempt, Duration::from_millis(1));
        assert_eq!(LIMITS.before(Instant::now() + Duration::from_secs(60)).read, LIMIT);
    }
}
