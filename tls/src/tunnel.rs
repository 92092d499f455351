//! The two threads between the network and the process, and the handshake before them.
//!
//! ```text
//! holder of the end ◀──▶ pair ◀── inward: read, decrypt, write ── network
//!                             ── outward: read, encrypt, write ──▶
//! ```
//!
//! Kept true:
//! - neither thread holds the session's lock while it reads or writes a socket, so one direction never waits
//!   for the other;
//! - what leaves is in the order in which it was encrypted, because one thread at a time does both (`sending`);
//! - the end of one side becomes the end of the other: a closed or shut end is told to the peer by TLS's own
//!   goodbye, and the peer's goodbye, or the end of its connection, is the end of what can be read;
//! - both threads end soon after the holder has closed its end, whatever the peer does.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use parking_lot::Mutex;
use rustls::Connection;

use crate::Patience;

/// What is moved at a time: the longest TLS record and its header.
const CHUNK_BYTES: usize = 17 << 10;
/// The stack of each of the two threads in bytes; the handshake is over when they start.
const STACK_BYTES: usize = 256 << 10;

/// A TLS connection that works. Dropping it leaves it working, for whoever holds its end.
#[derive(Debug)]
pub struct Tunnel {
    inside: TcpStream,
    outward: JoinHandle<()>,
}

impl Tunnel {
    /// Shakes hands over `network` and starts the threads.
    pub(crate) fn start(network: TcpStream, mut session: Connection, patience: Patience) -> io::Result<Self> {
        network.set_write_timeout(Some(patience.write))?;
        shake_hands(&network, &mut session, Instant::now() + patience.handshake)?;
        // While the other side is silent, this is how often the thread looks whether our side has ended.
        network.set_read_timeout(Some(patience.linger))?;
        let (far, near) = UnixStream::pair()?;
        // A socket is a socket: the type says TCP, and all that is done with it here works on a pair as well.
        let near = TcpStream::from(OwnedFd::from(near));
        let ends = Arc::new(Ends {
            network,
            inside: far,
            session: Mutex::new(session),
            sending: Mutex::new(()),
            is_over: AtomicBool::new(false),
        });
        let (inward, outward) = (Arc::clone(&ends), ends);
        let thread = |name: &str| Builder::new().name(name.into()).stack_size(STACK_BYTES);
        let outward = thread("tls-out").spawn(move || outward.move_outward())?;
        // Without this thread the other one finds a shut pair, and ends.
        let refused = |error| {
            let _ = near.shutdown(Shutdown::Both);
            error
        };
        thread("tls-in").spawn(move || inward.move_inward()).map_err(refused)?;
        Ok(Self { inside: near, outward })
    }

    /// The end of this process: a socket like any other.
    ///
    /// # Errors
    /// When the operating system gives no further descriptor.
    pub fn inside(&self) -> io::Result<TcpStream> {
        self.inside.try_clone()
    }

    /// Closes this side and waits until what was written is sent, at most as long as a write may take.
    pub fn finish(self) {
        let _ = self.inside.shutdown(Shutdown::Both);
        // A panic there has ended the connection, which is what is wanted.
        let _ = self.outward.join();
    }
}

/// What both threads share.
struct Ends {
    network: TcpStream,
    inside: UnixStream,
    session: Mutex<Connection>,
    sending: Mutex<()>,
    /// The holder's side has ended.
    is_over: AtomicBool,
}

impl Ends {
    fn move_inward(&self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        // What has come with the end of the handshake is decrypted before anything further is waited for.
        let mut count = 0;
        while self.deliver(&chunk[..count]).is_ok_and(|is_open| is_open) {
            count = match self.read_network(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
        }
        // The holder reads the end; if it has ended too, nothing is left to do for this connection.
        let _ = self.inside.shutdown(Shutdown::Write);
        if self.is_over.load(Ordering::SeqCst) {
            let _ = self.network.shutdown(Shutdown::Both);
        }
    }

    /// Waits for bytes as long as our side has not ended.
    fn read_network(&self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.network).read(chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) && !self.is_over.load(Ordering::SeqCst) => {}
                read => return read,
            }
        }
    }

    /// Decrypts what has come and hands it to the holder; `false` when the peer has said goodbye.
    fn deliver(&self, mut cipher: &[u8]) -> io::Result<bool> {
        let mut plain = Vec::new();
        loop {
            let mut session = self.session.lock();
            if !cipher.is_empty() {
                session.read_tls(&mut cipher)?;
            }
            let processed = session.process_new_packets();
            let is_open = match session.reader().read_to_end(&mut plain) {
                Ok(_) => false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) => return Err(error),
            };
            let has_answer = session.wants_write();
            drop(session);
            (&self.inside).write_all(&plain)?;
            plain.clear();
            if has_answer {
                // An alert, or the answer to a new key.
                self.send(|_| Ok(()))?;
            }
            processed.map_err(io::Error::other)?;
            if cipher.is_empty() || !is_open {
                return Ok(is_open);
            }
        }
    }

    fn move_outward(&self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = match (&self.inside).read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if self.send(|session| session.writer().write_all(&chunk[..count])).is_err() {
                // The peer takes nothing any more: the holder's next write fails.
                let _ = self.inside.shutdown(Shutdown::Both);
                break;
            }
        }
        self.is_over.store(true, Ordering::SeqCst);
        let said_goodbye = self.send(|session| {
            session.send_close_notify();
            Ok(())
        });
        let how = if said_goodbye.is_ok() { Shutdown::Write } else { Shutdown::Both };
        let _ = self.network.shutdown(how);
    }

    /// Lets the session make something of `what`, and sends all that it has to send.
    fn send(&self, what: impl FnOnce(&mut Connection) -> io::Result<()>) -> io::Result<()> {
        let _one_at_a_time = self.sending.lock();
        let mut cipher = Vec::with_capacity(CHUNK_BYTES);
        {
            let mut session = self.session.lock();
            what(&mut session)?;
            while session.wants_write() {
                session.write_tls(&mut cipher)?;
            }
        }
        (&self.network).write_all(&cipher)
    }
}

fn shake_hands(mut network: &TcpStream, session: &mut Connection, deadline: Instant) -> io::Result<()> {
    loop {
        while session.wants_write() {
            session.write_tls(&mut network)?;
        }
        if !session.is_handshaking() {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        network.set_read_timeout(Some(left))?;
        match session.read_tls(&mut network) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        if let Err(error) = session.process_new_packets() {
            // The alert says to the other side what is wrong; whether it arrives changes nothing here.
            let _ = session.write_tls(&mut network);
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
