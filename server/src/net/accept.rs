//! Accepting clients, counting them, a named thread for each, and stopping them all.
//!
//! This module owns the sockets. [`Clients`] is the register of everyone who is connected, at all listeners
//! together: it keeps the limit, and at shutdown it wakes every session by closing its connection for
//! reading, so that a session blocked in a read finds the end of its input, says goodbye and ends, while
//! an operation under way finishes first and is answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{cell::Cell, fmt};

use parking_lot::{Condvar, Mutex, MutexGuard};
use protocol::network::network_of;

use crate::limits::{
    ACCEPT_PAUSE, CLIENT_STACK_BYTES, CLIENTS_SHARED_FROM, SHUTDOWN_GRACE, THREAD_STOP_WAIT, WRITE_TIMEOUT,
};

/// Everyone who is connected.
///
/// Invariant: `register` holds a stream for each running session, never more than `limit`, and never more than
/// `share` of one address.
pub struct Clients {
    limit: usize,
    share: usize,
    stopping: AtomicBool,
    register: Mutex<Register>,
    left: Condvar,
}

#[derive(Default)]
struct Register {
    next_id: u64,
    streams: BTreeMap<u64, Arc<TcpStream>>,
    /// Which of them are streams to replicas.
    replicas: BTreeSet<u64>,
    /// How many of them each address has.
    addresses: HashMap<IpAddr, usize>,
}

impl Clients {
    /// An empty register for at most `limit` clients.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        // A branch for a handful of clients has nothing to share out.
        let share = if limit < CLIENTS_SHARED_FROM { limit } else { limit - limit / 4 };
        Arc::new(Self {
            limit,
            share,
            stopping: AtomicBool::new(false),
            register: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.register.lock().streams.len()
    }

    /// Whether the branch is stopping: a session that ends now was ended by us.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Registers a client. `None` when there are too many, in all or from its address, or when the branch is stopping.
    fn enter(self: &Arc<Self>, stream: &Arc<TcpStream>, address: IpAddr) -> Option<Entry> {
        let address = network_of(address);
        let mut register = self.register.lock();
        let own = register.addresses.get(&address).copied().unwrap_or(0);
        if register.streams.len() >= self.limit || own >= self.share || self.is_stopping() {
            return None;
        }
        register.addresses.insert(address, own + 1);
        let id = register.next_id;
        register.next_id += 1;
        register.streams.insert(id, Arc::clone(stream));
        Some(Entry { clients: Arc::clone(self), id, address })
    }

    /// Tells every session to end, gives them a moment, and cuts off who is left. What takes long is told to hurry by
    /// `hurry`, once `patience` has passed. Streams to replicas go on: what the sessions still do is for them, too.
    pub fn stop(&self, patience: Duration, hurry: impl FnOnce()) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut register = self.register.lock();
        for stream in register.sessions() {
            // An error means that the client is gone already.
            let _ = stream.shutdown(Shutdown::Read);
        }
        let now = Instant::now();
        let wait_until = |register: &mut MutexGuard<'_, Register>, deadline: Instant| {
            while register.sessions().next().is_some() && !self.left.wait_until(register, deadline).timed_out() {}
        };
        wait_until(&mut register, now + patience.min(SHUTDOWN_GRACE));
        MutexGuard::unlocked(&mut register, hurry);
        wait_until(&mut register, now + SHUTDOWN_GRACE);
        let mut cut_off = 0;
        for stream in register.sessions() {
            let _ = stream.shutdown(Shutdown::Both);
            cut_off += 1;
        }
        if cut_off > 0 {
            log::warn!("{cut_off} clients did not take their goodbye in time and were cut off");
        }
    }

    /// Cuts the streams to replicas, after [`Clients::stop`], and waits a moment for their threads.
    pub fn stop_replicas(&self) {
        let mut register = self.register.lock();
        for stream in register.streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + THREAD_STOP_WAIT;
        while !register.replicas.is_empty() && !self.left.wait_until(&mut register, deadline).timed_out() {}
    }
}

impl Register {
    /// The connections of everyone but the replicas.
    fn sessions(&self) -> impl Iterator<Item = &Arc<TcpStream>> {
        self.streams.iter().filter(|(id, _)| !self.replicas.contains(id)).map(|(_, stream)| stream)
    }
}

/// A client's place in the register; given back when dropped, however the session ends.
struct Entry {
    clients: Arc<Clients>,
    id: u64,
    address: IpAddr,
}

impl Entry {
    fn leave(&self) {
        let mut register = self.clients.register.lock();
        register.replicas.remove(&self.id);
        if register.streams.remove(&self.id).is_some() {
            let own = register.addresses.get(&self.address).copied().unwrap_or(0);
            match own {
                0 | 1 => register.addresses.remove(&self.address),
                more => register.addresses.insert(self.address, more - 1),
            };
        }
        drop(register);
        self.clients.left.notify_all();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What is done with the connections of a listener.
pub trait Handler: Send + Sync + 'static {
    /// The word for log lines and thread names, such as `menu`.
    fn name(&self) -> &'static str;
    /// Serves one client to its end, in a thread of its own.
    fn serve(&self, client: &Client);
    /// Tells a client that this port speaks TLS, which it does not.
    fn ask_for_tls(&self, stream: &TcpStream);
    /// Tells a newcomer that there is no room. Must not wait: it runs in the accepting thread.
    fn turn_away(&self, stream: &TcpStream);
}

/// One connected client.
pub struct Client {
    stream: Arc<TcpStream>,
    peer: SocketAddr,
    entry: Arc<Entry>,
}

impl Client {
    /// Where the client is.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Its number, which no other client of this node has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// The socket, for whoever may have to end what is read from it.
    #[must_use]
    pub fn share_stream(&self) -> Arc<TcpStream> {
        Arc::clone(&self.stream)
    }

    /// The same client, who is talked to over another socket from now on.
    #[must_use]
    pub fn over(&self, stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), peer: self.peer, entry: Arc::clone(&self.entry) }
    }

    /// Whether the branch is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.entry.clients.is_stopping()
    }

    /// From now on this is a stream to a replica, which goes on while the other sessions end.
    pub fn become_replica(&self) {
        self.entry.clients.register.lock().replicas.insert(self.entry.id);
    }

    /// Leaves the register: from now on nobody waits for this client, or cuts it off, when the branch changes its
    /// role. It has been told all but the end of that.
    pub fn stay_over_the_change(&self) {
        self.entry.leave();
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

/// A listening socket, and the thread that accepts there.
pub struct Listener {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Accepts clients at `listener` in a thread of its own, until the register is stopped.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(listener: TcpListener, handler: Arc<dyn Handler>, clients: Arc<Clients>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let thread = std::thread::Builder::new()
            .name(format!("{}-accept", handler.name()))
            .spawn(move || accept(&listener, &handler, &clients))?;
        Ok(Self { address, thread })
    }

    /// Where it listens, with the port that the operating system picked for 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Wakes the accepting thread, after the register was told to stop, and joins it.
    pub fn join(self) {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        // The thread sleeps in accept(); a connection wakes it, and it finds that the branch is stopping.
        match TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(_) => {
                if self.thread.join().is_err() {
                    log::error!("an accepting thread had panicked");
                }
            }
            Err(error) => log::warn!("the listener on {address} could not be woken to stop: {error}"),
        }
    }
}

fn accept(listener: &TcpListener, handler: &Arc<dyn Handler>, clients: &Arc<Clients>) {
    loop {
        let accepted = listener.accept();
        if clients.is_stopping() {
            return;
        }
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, handler, clients),
            Err(error) => {
                // Out of file descriptors, most likely: connections wait in the backlog meanwhile.
                log::warn!("{}: a client could not be accepted: {error}", handler.name());
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, handler: &Arc<dyn Handler>, clients: &Arc<Clients>) {
    let prepared = stream.set_write_timeout(Some(WRITE_TIMEOUT)).and_then(|()| stream.set_nodelay(true));
    if let Err(error) = prepared {
        log::info!("{peer} was gone before it was served: {error}");
        return;
    }
    let stream = Arc::new(stream);
    let Some(entry) = clients.enter(&stream, peer.ip()) else {
        log::warn!("{peer} was turned away: {} clients are connected", clients.count());
        handler.turn_away(&stream);
        return;
    };
    let name = format!("{}-{}", handler.name(), entry.id);
    let client = Client { stream: Arc::clone(&stream), peer, entry: Arc::new(entry) };
    let in_session = Arc::clone(handler);
    let spawned = std::thread::Builder::new().name(name).stack_size(CLIENT_STACK_BYTES).spawn(move || {
        in_session.serve(&client);
    });
    if let Err(error) = spawned {
        log::warn!("{peer} was turned away: there is no thread for it: {error}");
        handler.turn_away(&stream);
    }
}

/// A client's socket with a limit on silence: after each thing that was said to the client, its answer
/// must be complete within the limit, however slowly it trickles in.
pub struct IdleTimeoutStream<'s> {
    stream: &'s TcpStream,
    limit: Cell<Duration>,
    deadline: Cell<Instant>,
}

impl<'s> IdleTimeoutStream<'s> {
    /// Starts the clock.
    #[must_use]
    pub fn new(stream: &'s TcpStream, limit: Duration) -> Self {
        Self { stream, limit: Cell::new(limit), deadline: Cell::new(Instant::now() + limit) }
    }

    /// Sets another limit and starts the clock again.
    pub fn set_limit(&self, limit: Duration) {
        self.limit.set(limit);
        self.restart();
    }

    fn restart(&self) {
        self.deadline.set(Instant::now() + self.limit.get());
    }
}

impl Read for &IdleTimeoutStream<'_> {
    /// Returns `TimedOut` once the client was silent for too long, and starts the clock again.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.get().saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.restart();
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(buffer).inspect_err(|_| self.restart())
    }
}

impl Write for &IdleTimeoutStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        let written = stream.write(bytes)?;
        self.restart();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let clients = Clients::new(CLIENTS_SHARED_FROM);
        let [crowd, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let entries: Vec<_> = std::iter::from_fn(|| clients.enter(&stream, crowd)).collect();
        assert_eq!(entries.len(), CLIENTS_SHARED_FROM * 3 / 4);
        let others: Vec<_> = std::iter::from_fn(|| clients.enter(&stream, other)).collect();
        assert_eq!(others.len(), CLIENTS_SHARED_FROM / 4);
        drop(entries);
        assert!(clients.enter(&stream, crowd).is_some());
        drop(others);
        assert!(clients.register.lock().addresses.is_empty() && clients.count() == 0);
        // Few places are not shared out.
        let clients = Clients::new(3);
        let entries: Vec<_> = std::iter::from_fn(|| clients.enter(&stream, crowd)).collect();
        assert_eq!(entries.len(), 3);
    }
}
