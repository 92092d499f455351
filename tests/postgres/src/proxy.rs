//! A proxy before a server that cuts a connection after so many bytes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

/// Which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Those to the server.
    Sent,
    /// Those from it.
    Received,
}

/// The proxy. It goes on until the process ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    /// How many bytes may still pass in each direction; below zero for any number.
    sent: AtomicI64,
    received: AtomicI64,
    has_cut: AtomicBool,
}

impl Proxy {
    /// Stands before a server.
    #[must_use]
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Gate { sent: AtomicI64::new(-1), received: AtomicI64::new(-1), has_cut: AtomicBool::new(false) };
        let proxy = Self { port: listener.local_addr().unwrap().port(), gate: Arc::new(gate) };
        let gate = Arc::clone(&proxy.gate);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let pairs = [(&client, &server, Cut::Sent), (&server, &client, Cut::Received)];
                for (from, to, direction) in pairs {
                    let (from, to, gate) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&gate));
                    thread::spawn(move || pass(from, to, &gate, direction));
                }
            }
        });
        proxy
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the connection that passes this byte of a direction, once.
    pub fn cut_after(&self, direction: Cut, bytes: i64) {
        self.gate.has_cut.store(false, Ordering::SeqCst);
        self.gate.of(direction).store(bytes, Ordering::SeqCst);
    }

    /// Whether that has happened. From then on nothing is cut.
    #[must_use]
    pub fn has_cut(&self) -> bool {
        self.gate.sent.store(-1, Ordering::SeqCst);
        self.gate.received.store(-1, Ordering::SeqCst);
        self.gate.has_cut.load(Ordering::SeqCst)
    }
}

impl Gate {
    fn of(&self, direction: Cut) -> &AtomicI64 {
        match direction {
            Cut::Sent => &self.sent,
            Cut::Received => &self.received,
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, gate: &Gate, direction: Cut) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let left = gate.of(direction);
        let may_pass = left.load(Ordering::SeqCst);
        let wanted = i64::try_from(count).unwrap();
        if (0..wanted).contains(&may_pass) {
            left.store(-1, Ordering::SeqCst);
            gate.has_cut.store(true, Ordering::SeqCst);
            let _ = to.write_all(&bytes[..usize::try_from(may_pass).unwrap()]);
            break;
        }
        if may_pass >= 0 {
            left.store(may_pass - wanted, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
