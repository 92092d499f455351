//! Links: the persistent connections between branches.
//!
//! A link is one framed, authenticated connection that carries the protocol's messages both ways. It is
//! made when it is needed, by either side, and used by both. Each link has two threads: the reader hands
//! all messages that have come to the engine as one lot, and the writer sends everything that waits as one frame;
//! so the busier a link is, the more messages share a frame, and, at the other end, a commit.
//!
//! Nobody waits for a peer here: [`Links::send`] queues a message or drops it. The machines send again what
//! matters. A peer that can't be reached is tried by one thread at a time, with back-off, and a prepare that
//! can't be delivered is reported at once, so that its transfer need not wait for its time-out. Both sides
//! send an empty frame now and then; a link that stays silent is given up, which is how a stopped or
//! cut-off peer shows.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use protocol::BranchName;
use protocol::connection::{CallError, Connection};
use protocol::event::VectorClock;
use protocol::frame::{BATCH_FRAME_BYTES_MAX, HEADER_BYTES, push_frame, read_frame};
use protocol::proof::{BranchKey, Nonce};
use protocol::request::{Action, Link as LinkParams, Linked};
use serde::{Deserialize, Serialize};
use two_phase_commit::{Message, PeerAddr};

use super::directory::{Address, Directory};
use crate::error::{Error, Result};
use crate::key::KEY_FILE;
use crate::limits::{
    CLIENT_STACK_BYTES, DIAL_BACKOFF_FIRST, DIAL_BACKOFF_MAX, DIAL_TIMEOUT, LINK_FRAME_MESSAGES, LINK_HEARTBEAT,
    LINK_QUEUE_MESSAGES, LINK_READ_BYTES, LINK_SILENCE, LINKS_PER_PEER, WRITE_TIMEOUT,
};

/// A message on its way, with what its sender knew.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Posted {
    /// The message.
    pub message: Message,
    /// The sender's name and the number of its event of sending.
    pub id: String,
    /// The sender's clock at that event.
    pub clock: VectorClock,
}

/// One frame of a link.
#[derive(Debug, Default, Deserialize, Serialize)]
struct LinkFrame {
    messages: Vec<Posted>,
}

/// Who takes what the links bring.
pub trait Inbox: Send + Sync + 'static {
    /// Messages of one frame, in order.
    fn received(&self, from: &PeerAddr, messages: Vec<Posted>);
    /// These can't be delivered now.
    fn undeliverable(&self, to: &PeerAddr, messages: Vec<Posted>);
    /// A link to this peer is up.
    fn linked(&self, peer: &PeerAddr);
}

/// Who this branch is, for its peers.
#[derive(Clone)]
pub struct Identity {
    /// Its name.
    pub name: BranchName,
    /// The port on which it takes requests.
    pub port: u16,
    /// The key that all branches of the bank share.
    pub key: BranchKey,
    /// Its epoch: how often a replica was promoted in its place, and one.
    pub epoch: i64,
    /// Called when a peer knows of a higher epoch of this branch: this one was replaced.
    pub on_replaced: Arc<dyn Fn(i64) + Send + Sync>,
}

/// All links of a branch.
pub struct Links {
    identity: Identity,
    directory: Arc<Directory>,
    inbox: Mutex<Option<Weak<dyn Inbox>>>,
    peers: Mutex<BTreeMap<PeerAddr, Peer>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    next_id: AtomicU64,
    stopping: AtomicBool,
}

/// Invariant: while `is_dialing`, one thread of ours tries to connect, and it alone ends that.
#[derive(Default)]
struct Peer {
    /// Links that are up, the newest last. More than one when both sides dialled at the same time.
    up: Vec<Up>,
    is_dialing: bool,
    /// What to send once a link is up.
    waiting: Vec<Posted>,
    failures: u32,
    not_before: Option<Instant>,
}

struct Up {
    id: u64,
    /// The peer's epoch.
    epoch: i64,
    outgoing: Sender<Posted>,
    stream: Arc<TcpStream>,
}

impl Links {
    /// No links yet.
    #[must_use]
    pub fn new(identity: Identity, directory: Arc<Directory>) -> Arc<Self> {
        Arc::new(Self {
            identity,
            directory,
            inbox: Mutex::new(None),
            peers: Mutex::default(),
            threads: Mutex::default(),
            next_id: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
        })
    }

    /// Sets who takes what comes. Before this, nothing may come.
    pub fn deliver_to(&self, inbox: Weak<dyn Inbox>) {
        *self.inbox.lock() = Some(inbox);
    }

    /// The known branches' directory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Queues messages to a peer, in order. Never waits for the network.
    pub fn send(self: &Arc<Self>, to: &PeerAddr, messages: Vec<Posted>) {
        let undeliverable = {
            let mut peers = self.peers.lock();
            let peer = peers.entry(to.clone()).or_default();
            match peer.up.last() {
                Some(up) => {
                    for posted in messages {
                        // A full or closed queue loses the message, as a network may; it is sent again.
                        if let Err(TrySendError::Full(_)) = up.outgoing.try_send(posted) {
                            log::warn!("link to {to}: the queue is full, a message is dropped");
                        }
                    }
                    return;
                }
                None if peer.is_dialing => {
                    if peer.waiting.len() + messages.len() <= LINK_QUEUE_MESSAGES {
                        peer.waiting.extend(messages);
                        return;
                    }
                    messages
                }
                None if peer.not_before.is_some_and(|not_before| Instant::now() < not_before) => messages,
                None => {
                    peer.is_dialing = true;
                    peer.waiting = messages;
                    drop(peers);
                    self.dial_in_background(to);
                    return;
                }
            }
        };
        if let Some(inbox) = self.inbox() {
            inbox.undeliverable(to, undeliverable);
        }
    }

    /// Makes a link to a peer, so that each of the two knows of the other. Does not wait for it.
    pub fn greet(self: &Arc<Self>, peer: &PeerAddr) {
        self.send(peer, Vec::new());
    }

    /// Whether a link to this peer is up; `None` when none was ever tried.
    #[must_use]
    pub fn is_up(&self, peer: &PeerAddr) -> Option<bool> {
        self.peers.lock().get(peer).map(|peer| !peer.up.is_empty())
    }

    /// The name of the branch at an address: from the directory, or by making a link to it.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when nobody is there who is a branch of this bank.
    pub fn name_at(self: &Arc<Self>, address: &Address) -> Result<BranchName> {
        if let Some(name) = self.directory.name_at(address)
            && self.is_up(&PeerAddr::from(&name)) == Some(true)
        {
            return Ok(name);
        }
        let (name, epoch, stream) = self.connect(address)?;
        if name == self.identity.name {
            return Ok(name);
        }
        self.directory.learn(&name, address)?;
        let peer = PeerAddr::from(&name);
        // Registered before this returns, so that what is sent next finds the link and makes no second one.
        let (id, stream) = self.register(&peer, epoch, stream)?;
        let links = Arc::clone(self);
        self.spawn("link", move || links.run(&peer, (id, epoch), &stream));
        Ok(name)
    }

    /// Runs a link that a peer has made, in the calling thread, until it breaks.
    pub fn accept(self: &Arc<Self>, name: &BranchName, address: &Address, epoch: i64, stream: TcpStream) {
        if let Err(error) = self.directory.learn(name, address) {
            log::warn!("the address of branch {name} could not be noted: {error}");
        }
        self.register_and_run(&PeerAddr::from(name), epoch, stream);
    }

    /// Closes every link and waits for its threads.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for peer in self.peers.lock().values_mut() {
            for up in peer.up.drain(..) {
                // An error means that it is closed already.
                let _ = up.stream.shutdown(Shutdown::Both);
            }
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let deadline = Instant::now() + LINK_HEARTBEAT;
        for thread in threads {
            // A thread that is just dialling ends by its own time-out; the process need not wait for it.
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            if thread.is_finished() && thread.join().is_err() {
                log::error!("a link's thread had panicked");
            }
        }
    }

    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        self.inbox.lock().as_ref().and_then(Weak::upgrade)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) {
        if self.stopping.load(Ordering::SeqCst) {
            return;
        }
        let spawned = std::thread::Builder::new().name(name.into()).stack_size(CLIENT_STACK_BYTES).spawn(run);
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => log::error!("there is no thread for a link: {error}"),
        }
    }

    fn dial_in_background(self: &Arc<Self>, to: &PeerAddr) {
        let (links, peer) = (Arc::clone(self), to.clone());
        self.spawn("link-dial", move || {
            let dialled = links.dial(&peer);
            match dialled {
                Ok((epoch, stream)) => links.register_and_run(&peer, epoch, stream),
                Err(error) => links.dial_failed(&peer, &error),
            }
        });
    }

    /// Connects to a peer by the name or address that stands for it.
    fn dial(&self, peer: &PeerAddr) -> Result<(i64, TcpStream)> {
        let text = peer.as_str();
        let name = text.parse::<BranchName>().ok();
        let address = match (&name, text.parse::<Address>()) {
            (Some(name), _) => self.directory.address_of(name),
            (None, Ok(address)) => Some(address),
            (None, Err(_)) => None,
        };
        let address = address.ok_or_else(|| unknown_branch(text))?;
        let (found, epoch, stream) = self.connect(&address)?;
        match name {
            Some(name) if name != found => {
                Err(Error::Unreachable(format!("at {address} there is branch {found}, not {name}")))
            }
            Some(_) | None => Ok((epoch, stream)),
        }
    }

    fn dial_failed(&self, to: &PeerAddr, error: &Error) {
        let waiting = {
            let mut peers = self.peers.lock();
            let peer = peers.entry(to.clone()).or_default();
            peer.is_dialing = false;
            peer.failures = peer.failures.saturating_add(1);
            let backoff = DIAL_BACKOFF_FIRST * 2_u32.saturating_pow(peer.failures.min(16) - 1);
            peer.not_before = Some(Instant::now() + backoff.min(DIAL_BACKOFF_MAX));
            if peer.failures == 1 {
                log::warn!("link to {to}: {error}");
            }
            std::mem::take(&mut peer.waiting)
        };
        if let Some(inbox) = self.inbox()
            && !waiting.is_empty()
        {
            inbox.undeliverable(to, waiting);
        }
    }

    /// Connects, proves the key both ways, and turns the connection into a link. Takes a bounded time. Gives the peer
    /// and its epoch, which is none lower than what is known of it.
    fn connect(&self, address: &Address) -> Result<(BranchName, i64, TcpStream)> {
        let trouble =
            |what: &dyn std::fmt::Display| Error::Unreachable(format!("no branch answers at {address}: {what}"));
        let resolved = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| trouble(&error))?;
        let mut last_error = None;
        let stream = resolved
            .take(2)
            .find_map(|address| {
                TcpStream::connect_timeout(&address, DIAL_TIMEOUT).map_err(|error| last_error = Some(error)).ok()
            })
            .ok_or_else(|| match last_error {
                Some(error) => trouble(&error),
                None => trouble(&"the name has no address"),
            })?;
        let prepared = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(DIAL_TIMEOUT)))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)));
        prepared.map_err(|error| trouble(&error))?;
        let mut connection = Connection::new(stream);
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).map_err(|error| trouble(&error))?;
        let name = connection.authenticate(&self.identity.key, &nonce).map_err(|error| match error {
            CallError::Stranger => Error::Unreachable(format!(
                "the branch at {address} has another key: copy this bank's {KEY_FILE} beside its database and start it again"
            )),
            other => trouble(&other),
        })?;
        let name: BranchName = name.parse().map_err(|error| trouble(&error))?;
        let mut epoch = self.identity.epoch;
        if name != self.identity.name {
            let Identity { name: own_name, port, epoch: own_epoch, .. } = self.identity.clone();
            let your_epoch = self.directory.epoch_of(&name);
            let params = LinkParams { branch: own_name, port, epoch: own_epoch, your_epoch };
            let linked: std::result::Result<Linked, _> = connection.call(Action::Link, &params, None);
            if let Err(CallError::Refused(refusal)) = &linked
                && refusal.code == "lower_epoch"
            {
                (self.identity.on_replaced)(own_epoch + 1);
            }
            epoch = linked.map_err(|error| trouble(&error))?.epoch;
            self.directory.learn_epoch(&name, epoch)?;
        }
        Ok((name, epoch, connection.into_stream()))
    }

    fn register_and_run(self: &Arc<Self>, peer: &PeerAddr, epoch: i64, stream: TcpStream) {
        match self.register(peer, epoch, stream) {
            Ok((id, stream)) => self.run(peer, (id, epoch), &stream),
            Err(error) => self.dial_failed(peer, &error),
        }
    }

    /// Puts a link into the register and starts its writer.
    fn register(self: &Arc<Self>, to: &PeerAddr, epoch: i64, stream: TcpStream) -> Result<(u64, Arc<TcpStream>)> {
        stream
            .set_read_timeout(Some(LINK_SILENCE))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)))
            .map_err(|error| Error::Unreachable(format!("the link to {to} broke at once: {error}")))?;
        let stream = Arc::new(stream);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // The bound is what a peer may lag behind by before messages to it are dropped and sent again later.
        let (outgoing, queued) = bounded(LINK_QUEUE_MESSAGES);
        let writer_stream = Arc::clone(&stream);
        self.spawn("link-write", move || write(&writer_stream, &queued));
        let mut peers = self.peers.lock();
        let peer = peers.entry(to.clone()).or_default();
        for posted in std::mem::take(&mut peer.waiting) {
            // The queue is as long as the waiting list may be.
            let _ = outgoing.try_send(posted);
        }
        (peer.is_dialing, peer.failures, peer.not_before) = (false, 0, None);
        // Whoever was replaced by a promoted copy is not listened to any longer.
        for replaced in peer.up.extract_if(.., |up| up.epoch < epoch) {
            let _ = replaced.stream.shutdown(Shutdown::Both);
        }
        peer.up.push(Up { id, epoch, outgoing, stream: Arc::clone(&stream) });
        if peer.up.len() > LINKS_PER_PEER {
            let oldest = peer.up.remove(0);
            let _ = oldest.stream.shutdown(Shutdown::Both);
        }
        drop(peers);
        log::info!("link to {to}: up");
        if let Some(inbox) = self.inbox() {
            inbox.linked(to);
        }
        Ok((id, stream))
    }

    /// Reads from a registered link until it breaks, and takes it out of the register.
    fn run(self: &Arc<Self>, peer: &PeerAddr, (id, epoch): (u64, i64), stream: &TcpStream) {
        let ended = self.read(peer, epoch, stream);
        let _ = stream.shutdown(Shutdown::Both);
        if let Some(known) = self.peers.lock().get_mut(peer) {
            known.up.retain(|up| up.id != id);
        }
        if !self.stopping.load(Ordering::SeqCst) {
            match ended {
                Ok(()) => log::info!("link to {peer}: closed by the peer"),
                Err(error) => log::warn!("link to {peer}: broken: {error}"),
            }
        }
    }

    /// Hands over what comes: all whole frames that have arrived by then as one lot, which shares one commit.
    fn read(&self, peer: &PeerAddr, epoch: i64, stream: &TcpStream) -> io::Result<()> {
        let name = peer.as_str().parse::<BranchName>().ok();
        let mut reader = io::BufReader::with_capacity(LINK_READ_BYTES, stream);
        let mut body = Vec::new();
        while read_frame(&mut reader, BATCH_FRAME_BYTES_MAX, &mut body).map_err(io::Error::other)? {
            let mut messages = serde_json::from_slice::<LinkFrame>(&body)?.messages;
            while messages.len() < LINK_FRAME_MESSAGES && holds_whole_frame(reader.buffer()) {
                read_frame(&mut reader, BATCH_FRAME_BYTES_MAX, &mut body).map_err(io::Error::other)?;
                messages.append(&mut serde_json::from_slice::<LinkFrame>(&body)?.messages);
            }
            if self.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            if name.as_ref().is_some_and(|name| self.directory.epoch_of(name) > epoch) {
                return Err(io::Error::other("it was replaced by a promoted copy"));
            }
            if let Some(inbox) = self.inbox()
                && !messages.is_empty()
            {
                inbox.received(peer, messages);
            }
        }
        Ok(())
    }
}

fn holds_whole_frame(buffer: &[u8]) -> bool {
    let Some((header, body)) = buffer.split_first_chunk::<HEADER_BYTES>() else { return false };
    body.len() >= u32::from_be_bytes(*header) as usize
}

/// Sends what is queued, all that waits in one frame, until the queue or the connection is closed.
fn write(mut stream: &TcpStream, queued: &Receiver<Posted>) {
    loop {
        let mut messages = match queued.recv_timeout(LINK_HEARTBEAT) {
            Ok(posted) => vec![posted],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        messages.extend(queued.try_iter().take(LINK_FRAME_MESSAGES));
        let mut frame = Vec::new();
        let body = serde_json::to_vec(&LinkFrame { messages }).expect("messages are always JSON");
        let framed = push_frame(&mut frame, &body, BATCH_FRAME_BYTES_MAX);
        if framed.is_err() || stream.write_all(&frame).is_err() {
            break;
        }
    }
    // The reader finds the end and takes the link out of the register.
    let _ = stream.shutdown(Shutdown::Both);
}

/// Nobody knows where this branch is.
#[must_use]
pub fn unknown_branch(name: &str) -> Error {
    Error::Unreachable(format!(
        "no branch {name} is known here; name it as host:port once, or start this branch with --peers {name}=host:port"
    ))
}
