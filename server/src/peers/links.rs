//! Links: the persistent connections between branches.
//!
//! A link is one framed, authenticated connection that carries the protocol's messages both ways. It is
//! made when it is needed, by either side, and used by both. Each link has two threads: the reader hands
//! all messages that have come to the engine as one batch, and the writer sends everything that waits as one frame;
//! so the busier a link is, the more messages share a frame, and, at the other end, a commit.
//!
//! Nobody waits for a peer here: [`Links::send`] queues a message or drops it. The machines send again what
//! matters. A peer that can't be reached is tried by one thread at a time, with back-off, and a prepare that
//! can't be delivered is reported at once, so that its transfer need not wait for its time-out. Both sides
//! send an empty frame now and then; a link that stays silent is given up, which is how a stopped or
//! cut-off peer shows.

mod connection;
mod cut;
mod dial;
mod name_conflict;

use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};
use parking_lot::Mutex;
use protocol::event::VectorClock;
use protocol::proof::BranchKey;
use protocol::{Address, BranchName, Epoch};
use serde::{Deserialize, Serialize};
use tls::Connector;
use two_phase_commit::{Message, PeerAddr};

use crate::error::{Error, Result};
use crate::limits::{CLIENT_STACK_BYTES, DIAL_BACKOFF_FIRST, DIAL_BACKOFF_MAX, LINK_HEARTBEAT, LINK_QUEUE_MESSAGES};
use crate::peers::directory::Directory;
use connection::{LinkFrame, Up};
use dial::Dialled;
pub use dial::{is_here, reach};

/// A message on its way, with what its sender knew.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StampedMessage {
    /// The message.
    pub message: Message,
    /// The sender's name and the number of its event of sending.
    pub id: String,
    /// The sender's clock at that event.
    pub clock: VectorClock,
}

/// Who takes what the links bring.
pub trait Inbox: Send + Sync + 'static {
    /// Messages of one frame, in order.
    fn received(&self, from: &PeerAddr, messages: Vec<StampedMessage>);
    /// These can't be delivered now.
    fn undeliverable(&self, to: &PeerAddr, messages: Vec<StampedMessage>);
    /// A link to this peer is up.
    fn linked(&self, peer: &PeerAddr);
    /// At this address there is this branch itself, to which no link leads.
    fn met_itself(&self, at: &PeerAddr);
}

/// Who takes the engine's messages to its peers.
pub trait Carrier: Send + Sync {
    /// Takes messages to a peer, in order, or loses them. Never waits for the network.
    fn carry(&self, to: &PeerAddr, messages: Vec<StampedMessage>);
}

impl Carrier for Arc<Links> {
    fn carry(&self, to: &PeerAddr, messages: Vec<StampedMessage>) {
        self.send(to, messages);
    }
}

/// Who this branch is, for its peers.
#[derive(Clone)]
pub struct Identity {
    /// Its name.
    pub name: BranchName,
    /// The port on which it takes requests.
    pub port: u16,
    /// The address on which it takes them, if it is one.
    pub host: Option<String>,
    /// The key that all branches of the bank share.
    pub key: BranchKey,
    /// Which running process it is: random text.
    pub instance: String,
    /// How other branches are met, when they speak TLS.
    pub tls: Option<Connector>,
    /// Its epoch.
    pub epoch: Epoch,
    /// Called with the epoch of another copy of this branch that a peer knows of, where that is higher, or another of
    /// the same number.
    pub on_replaced: Arc<dyn Fn(&Epoch) + Send + Sync>,
}

/// What the other end of a link has said of itself.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Which process it is, if it said so.
    pub instance: Option<String>,
    /// Its epoch.
    pub epoch: Epoch,
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
    /// The stack of each of its threads.
    stack_bytes: usize,
    /// Who wants to know of new links.
    discoverer: Mutex<Option<Sender<BranchName>>>,
    /// Whether any link was ever cut, so that without lessons nobody looks for it.
    was_cut: AtomicBool,
}

/// Invariant: while `is_dialing`, one thread of ours tries to connect, and it alone ends that.
#[derive(Default)]
struct Peer {
    /// Links that are up, the newest last. More than one when both sides dialled at the same time.
    up: Vec<Up>,
    is_dialing: bool,
    /// What to send once a link is up.
    waiting: Vec<StampedMessage>,
    failures: u32,
    not_before: Option<Instant>,
    /// Cut in a lesson: nothing is sent, no link is made and none is taken.
    is_cut: bool,
}

impl Links {
    /// No links yet.
    #[must_use]
    pub fn new(identity: Identity, directory: Arc<Directory>) -> Arc<Self> {
        Self::with_stacks(identity, directory, CLIENT_STACK_BYTES)
    }

    fn with_stacks(identity: Identity, directory: Arc<Directory>, stack_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            identity,
            directory,
            inbox: Mutex::new(None),
            peers: Mutex::default(),
            threads: Mutex::default(),
            next_id: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            stack_bytes,
            discoverer: Mutex::new(None),
            was_cut: AtomicBool::new(false),
        })
    }

    /// Sets who takes what comes. Before this, nothing may come.
    pub fn deliver_to(&self, inbox: Weak<dyn Inbox>) {
        *self.inbox.lock() = Some(inbox);
    }

    /// This branch's name.
    #[must_use]
    pub fn own_name(&self) -> &BranchName {
        &self.identity.name
    }

    /// Whether this branch itself takes requests there, as far as can be told without asking: at its own port on this
    /// machine.
    #[must_use]
    pub fn is_own_address(&self, address: &Address) -> bool {
        let is_here = address.host.eq_ignore_ascii_case("localhost")
            || address.host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical().is_loopback());
        is_here && address.port == self.identity.port
    }

    /// The bank's key.
    #[must_use]
    pub fn key(&self) -> &BranchKey {
        &self.identity.key
    }

    /// Whether [`Links::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The known branches' directory.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Queues messages to a peer, in order. Never waits for the network.
    pub fn send(self: &Arc<Self>, to: &PeerAddr, messages: Vec<StampedMessage>) {
        let to = &self.found_at(to);
        let undeliverable = {
            let mut peers = self.peers.lock();
            let peer = peers.entry(to.clone()).or_default();
            match peer.up.last() {
                // The newest: an older one may lead to a process that has ended.
                Some(up) => {
                    for stamped in messages {
                        // A full or closed queue loses the message, as a network may; it is sent again.
                        if let Err(TrySendError::Full(_)) = up.outgoing.try_send(stamped) {
                            log::warn!("link to {to}: the queue is full, a message is dropped");
                        }
                    }
                    return;
                }
                // A class has cut it. What can't be delivered is told as of any cable, so that the engine aborts what
                // it may.
                None if peer.is_cut => messages,
                // They leave with the link that is being made, unless too many wait for it already.
                None if peer.is_dialing => {
                    if peer.waiting.len() + messages.len() <= LINK_QUEUE_MESSAGES {
                        peer.waiting.extend(messages);
                        return;
                    }
                    messages
                }
                // It could not be reached a moment ago. That is said at once, so that a transfer need not wait.
                None if peer.not_before.is_some_and(|not_before| Instant::now() < not_before) => messages,
                // The first message to this peer, or the first after the back-off: whoever comes now makes the link,
                // and only one does.
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

    /// The branch that an address stands for, as long as there is a link to it; else the address, where it is looked
    /// for anew.
    fn found_at(&self, to: &PeerAddr) -> PeerAddr {
        let found = self.alias_of(to);
        found.filter(|name| self.is_up(name) == Some(true)).unwrap_or_else(|| to.clone())
    }

    /// The branch that was found at an address other than its own, if `peer` is such an address.
    fn alias_of(&self, peer: &PeerAddr) -> Option<PeerAddr> {
        let address: Address = peer.as_str().parse().ok()?;
        self.directory.alias_of(&address).map(|name| PeerAddr::from(&name))
    }

    /// Whether a message from `peer` comes from whoever was found at the address `named`.
    #[must_use]
    pub fn is_alias(&self, named: &PeerAddr, peer: &PeerAddr) -> bool {
        named != peer && self.alias_of(named).as_ref() == Some(peer)
    }

    /// Makes a link to a peer, so that each of the two knows of the other. Does not wait for it.
    pub fn greet(self: &Arc<Self>, peer: &PeerAddr) {
        self.send(peer, Vec::new());
    }

    /// Whether a link to this peer is up; `None` when none was ever tried.
    #[must_use]
    pub fn is_up(&self, peer: &PeerAddr) -> Option<bool> {
        let found = self.alias_of(peer);
        let peer = found.as_ref().unwrap_or(peer);
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
        // Only by asking is it known who is there: a branch names another by an address when it knows no name.
        let dialled = self.connect(address)?;
        let name = dialled.name;
        if name == self.identity.name {
            // It was given its own address, which does no harm; no link leads there.
            return Ok(name);
        }
        self.note_where(&name, address)?;
        let peer = PeerAddr::from(&name);
        // Registered before this returns, so that what is sent next finds the link and makes no second one.
        let link = self.register(&peer, dialled.with, dialled.stream)?;
        let links = Arc::clone(self);
        // Without a thread nobody reads from it, which must show: it is made anew when it is needed.
        if let Err(error) = self.spawn("link", move || links.run(&peer, &link)) {
            self.forget(&PeerAddr::from(&name));
            return Err(error);
        }
        Ok(name)
    }

    /// Looks at another process that is known elsewhere by this branch's name: most likely another copy of it that was
    /// promoted. The two tell one another their epochs, which ends the older one, or both.
    pub fn meet_namesake(self: &Arc<Self>, address: &Address) {
        if !is_here(address, self.identity.port)
            && let Err(error) = self.name_at(address)
        {
            log::debug!("of this branch's name there is another at {address}: {error}");
        }
    }

    /// Tells `discoverer` of each new link from now on.
    pub fn tell(&self, discoverer: Sender<BranchName>) {
        *self.discoverer.lock() = Some(discoverer);
    }

    /// Runs a link that a peer has made, in the calling thread, until it breaks.
    pub fn accept(self: &Arc<Self>, name: &BranchName, address: &Address, with: PeerInfo, stream: TcpStream) {
        match self.directory.observe(name, address) {
            // Where it is known to be.
            Ok(false) => {}
            // It has moved, or its calls are translated on the way. Which of the two is true only a look can tell, and
            // a link must not wait for one.
            Ok(true) => self.look_where_in_background(name),
            Err(error) => log::warn!("the address of branch {name} could not be noted: {error}"),
        }
        self.register_and_run(&PeerAddr::from(name), with, stream);
    }

    /// Closes every link and waits for its threads.
    pub fn stop(&self) {
        // First: no thread is begun after this, so those that are listed below are all.
        self.stopping.store(true, Ordering::SeqCst);
        drop(self.discoverer.lock().take());
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

    /// Runs something in a thread that [`Links::stop`] waits for.
    ///
    /// # Errors
    /// That there is no thread for it, or that the branch is stopping.
    pub(super) fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Error::Stopping);
        }
        let spawned = std::thread::Builder::new().name(name.into()).stack_size(self.stack_bytes).spawn(run);
        let mut threads = self.threads.lock();
        // Here, because here the list grows: links come and go for as long as the branch runs.
        threads.retain(|thread| !thread.is_finished());
        match spawned {
            Ok(thread) => {
                threads.push(thread);
                Ok(())
            }
            Err(error) => Err(Error::Unreachable(format!("there is no thread for a link: {error}"))),
        }
    }

    /// Ends all links to a peer, so that the next message makes one anew.
    fn forget(&self, peer: &PeerAddr) {
        if let Some(known) = self.peers.lock().get_mut(peer) {
            for up in known.up.drain(..) {
                // An error means that it is closed already.
                let _ = up.stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn look_where_in_background(self: &Arc<Self>, name: &BranchName) {
        let links = Arc::clone(self);
        let name = name.clone();
        // Without a thread the next link looks.
        let _ = self.spawn("look-where", move || links.look_where(&name));
    }

    fn dial_in_background(self: &Arc<Self>, to: &PeerAddr) {
        let (links, peer) = (Arc::clone(self), to.clone());
        let spawned = self.spawn("link-dial", move || {
            let dialled = links.dial(&peer);
            match dialled {
                Ok(dialled) if PeerAddr::from(&dialled.name) == peer => {
                    // This thread is the link's reader from here on.
                    links.register_and_run(&peer, dialled.with, dialled.stream);
                }
                // The peer was an address, and now it has a name.
                Ok(dialled) => links.found(&peer, dialled),
                Err(error) => links.dial_failed(&peer, &error),
            }
        });
        if let Err(error) = spawned {
            // Whatever waits is sent again, and then it is dialled again.
            self.dial_failed(to, &error);
        }
    }

    /// Somebody was found at an address that stood for a peer: a link to it goes under its name, as it does at the
    /// other end, so that whatever comes over any of them comes from one sender.
    fn found(self: &Arc<Self>, at: &PeerAddr, dialled: Dialled) {
        if dialled.name == self.identity.name {
            self.dial_failed(at, &Error::Unreachable("this branch itself is at that address".into()));
            if let Some(inbox) = self.inbox() {
                inbox.met_itself(at);
            }
            return;
        }
        let name = PeerAddr::from(&dialled.name);
        let waiting = {
            let mut peers = self.peers.lock();
            let peer = peers.entry(at.clone()).or_default();
            (peer.is_dialing, peer.failures, peer.not_before) = (false, 0, None);
            std::mem::take(&mut peer.waiting)
        };
        match self.register(&name, dialled.with, dialled.stream) {
            Ok(link) => {
                if let Ok(address) = at.as_str().parse() {
                    self.directory.learn_alias(&address, &dialled.name);
                }
                // Before this thread becomes the link's reader: what has waited for the address goes to whom it leads.
                self.send(&name, waiting);
                self.run(&name, &link);
            }
            Err(error) => self.dial_failed(at, &error),
        }
    }

    fn dial_failed(&self, to: &PeerAddr, error: &Error) {
        let waiting = {
            let mut peers = self.peers.lock();
            let peer = peers.entry(to.clone()).or_default();
            peer.is_dialing = false;
            peer.failures = peer.failures.saturating_add(1);
            // Doubled with each failure, so that a branch that is gone costs less and less.
            let backoff = DIAL_BACKOFF_FIRST * 2_u32.saturating_pow(peer.failures.min(16) - 1);
            peer.not_before = Some(Instant::now() + backoff.min(DIAL_BACKOFF_MAX));
            // Once: the same sentence at every attempt would bury all others.
            if peer.failures == 1 && *error != Error::Stopping {
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

    fn register_and_run(self: &Arc<Self>, peer: &PeerAddr, with: PeerInfo, stream: TcpStream) {
        match self.register(peer, with, stream) {
            Ok(link) => self.run(peer, &link),
            Err(error) => self.dial_failed(peer, &error),
        }
    }
}

/// Nobody knows where this branch is.
#[must_use]
pub fn unknown_branch(name: &str) -> Error {
    Error::Unreachable(format!(
        "no branch {name} is known here; have an operator name it as host:port once, or start this branch with --peers {name}=host:port"
    ))
}

#[cfg(test)]
mod tests;
