//! TLS before a handler of clients: the handshake, and then the same handler as without.
//!
//! What the client speaks shows by its first byte. Who speaks no TLS, or waits for the bank to begin as a plain menu
//! client does, is told so in the words of that handler and closed. Everything takes a bounded time.

use std::io::{self, ErrorKind, Read as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use tls::{Acceptor, Patience};

use crate::limits::{TLS_DRAIN, TLS_DRAIN_BYTES, TLS_FIRST_BYTE, TLS_HANDSHAKE, TLS_LINGER, WRITE_TIMEOUT};
use crate::net::accept::{Client, Handler};

/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// How long clients' connections may take for what.
pub const PATIENCE: Patience = Patience { handshake: TLS_HANDSHAKE, write: WRITE_TIMEOUT, linger: TLS_LINGER };

/// A handler behind TLS.
pub struct TlsHandler {
    inner: Arc<dyn Handler>,
    acceptor: Acceptor,
}

impl TlsHandler {
    /// Puts TLS before a handler.
    #[must_use]
    pub fn new(inner: Arc<dyn Handler>, acceptor: Acceptor) -> Self {
        Self { inner, acceptor }
    }
}

impl Handler for TlsHandler {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn serve(&self, client: &Client) {
        match begins_handshake(client.stream()) {
            Ok(true) => {}
            Ok(false) => {
                log::info!("{client}: {} refused: the client speaks no TLS", self.name());
                self.inner.ask_for_tls(client.stream());
                return drain(client.stream());
            }
            Err(error) => return log::debug!("{client}: {} closed: {error}", self.name()),
        }
        let accepted = client.stream().try_clone().and_then(|stream| self.acceptor.accept(stream, PATIENCE));
        match accepted.and_then(|tunnel| Ok((tunnel.inside()?, tunnel))) {
            Ok((inside, tunnel)) => {
                self.inner.serve(&client.over(inside));
                tunnel.finish();
            }
            Err(error) => log::info!("{client}: {} refused: no TLS came about: {error}", self.name()),
        }
    }

    fn ask_for_tls(&self, stream: &TcpStream) {
        self.inner.ask_for_tls(stream);
    }

    fn turn_away(&self, stream: &TcpStream) {
        // Whoever speaks TLS finds out by the end of the connection.
        self.inner.turn_away(stream);
    }
}

/// Whether the client begins as TLS does; not if it says nothing.
fn begins_handshake(stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(TLS_FIRST_BYTE))?;
    let mut first = [0];
    match stream.peek(&mut first) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(first[0] == HANDSHAKE_RECORD),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Ends a conversation so that the last words arrive.
fn drain(stream: &TcpStream) {
    let ended = stream.shutdown(Shutdown::Write).and_then(|()| stream.set_read_timeout(Some(TLS_DRAIN)));
    if ended.is_ok() {
        // The end, an error or the limit: the connection is closed after each of them.
        let _ = io::copy(&mut stream.take(TLS_DRAIN_BYTES), &mut io::sink());
    }
}
