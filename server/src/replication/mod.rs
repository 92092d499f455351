//! Replicas: copies of this branch on other machines, any of which can take its place.
//!
//! # The story
//!
//! A branch has one *primary*, which is written, and any number of *replicas*, which follow it. The primary logs each
//! group commit, in the same SQLite transaction, as the write statements that went through the funnel and their bound
//! parameters (`dbs_exec`). A replica dials its primary, says where its log ends, and gets what comes after that as a
//! stream (`sender`). It executes each group once, together with the group's row of the log (`receiver`), and says
//! what it has made durable. So at every instant a replica is the primary as it was after some group.
//!
//! - *Order.* Groups are numbered without a gap, and a replica executes nothing but the next number.
//! - *Sameness.* Each row of the log has a running digest, which both sides compute. That shows that the statements are
//!   the same; that the rows are the same is shown slice by slice by comparing tables (`dbs_exec`'s `compare`). A
//!   replica that finds a difference stops there, says which rows, keeps saying so, and takes a new snapshot only when
//!   it is told to (`resync`), with its old file kept.
//! - *Absence.* A replica that comes back goes on where it was. When the log no longer reaches back to there, it takes
//!   a `snapshot`, during which the primary goes on.
//! - *Waiting.* With `--sync-replicas N` nothing is answered, and no promise leaves for another branch, before N
//!   replicas have made it durable (`dbs_exec`'s `feed`).
//!
//! # Promotion
//!
//! Each primary has an *epoch*, 1 for the first. `promote` makes a replica the primary of the next epoch, in one
//! transaction; what was prepared, decided and answered came with the log, and the two machines recover from it as
//! after a restart. Whoever has heard of an epoch refuses links, streams and orders of a lower one; the old primary,
//! as soon as anyone tells it, is *fenced*: it takes no writes, durably, and becomes a replica on command (`demote`).
//! A primary that nobody has replaced hands over before it obeys that command: it commits nothing more until the copy
//! that it is to follow has all that it has, so that a planned change loses no promise.
//! The new primary goes round and tells: the other copies (`announce`), and, by linking to them, all branches.
//!
//! A promotion asks the other copies first (`ask`), and goes on without asking them only for a person who insists. Two
//! copies that can't hear one another may so come to one number. Each promotion therefore draws an id, and two of one
//! number and different ids are a *conflict*: each stops as soon as it hears of the other, and other branches deal with
//! the first that they have met. The way out, as for every fenced copy, is a person who promotes one of them again, to a
//! number above all that were heard of.
//! The order is by hand. Nothing here elects: two machines that can't hear one another can't tell a dead primary from a
//! cut cable, and choosing without a majority is how a bank comes to have two sets of books.
//!
//! # One process, one role at a time
//!
//! A change of role, or of the database's file, is a small restart inside the process: everything is closed and
//! opened again in the new role ([`Reopen`]), with the listening sockets kept. So each role has one way to begin, the
//! same as after a crash.

mod announce;
mod ask;
pub mod dial;
mod handshake;
mod owner;
mod receiver;
mod roles;
mod sender;
mod snapshot;
mod standby;
mod status;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use protocol::Address;
use protocol::actions::{Action, CopyNeeded};

pub use dial::{Dialler, Duplex, Exchange};
pub use handshake::GrantedStream;
pub use roles::{is_replaced, settle_role};
pub use standby::COMMIT_LOG;

use crate::dbs_exec::{CopyRole, DbsExec};
use crate::error::{Error, Result};
use crate::limits::THREAD_STOP_WAIT;
use crate::shared_log::{Member, SharedLog};
use crate::transfer::Engine;

/// Why everything is to be closed and opened again.
#[derive(Debug)]
pub enum Reopen {
    /// This copy has another role now; the database says which.
    Role {
        /// Who waits for it to be open again, to answer for that.
        awaited: Option<Sender<()>>,
    },
    /// A checked snapshot is to take the database's place.
    Snapshot {
        /// Where it is.
        copy: PathBuf,
        /// Whether the present file holds anything that the snapshot may not.
        keep_old: bool,
    },
}

/// What replication is made of.
pub struct Parts {
    /// The database.
    pub dbs: Arc<DbsExec>,
    /// The branch, and how its other copies are met.
    pub dialler: Dialler,
    /// The port on which this copy takes requests.
    pub port: u16,
    /// The replicas that were named.
    pub expected: Vec<Address>,
    /// The commit log elsewhere, where this process shares one with others.
    pub shared_log: Option<Arc<SharedLog>>,
    /// How long such a log may grow before the next snapshot, in bytes.
    pub log_bytes: u64,
    /// Closes everything and opens it again.
    pub reopen: Box<dyn Fn(Reopen) + Send + Sync>,
}

/// This copy's part in replication, whatever its role.
pub struct Replication {
    parts: Parts,
    role: CopyRole,
    /// A primary's streams, by the address of the replica.
    streams: Mutex<BTreeMap<String, ReplicaStream>>,
    next_stream: AtomicU64,
    receiver: Mutex<ReceiverStatus>,
    woken: Condvar,
    stopping: AtomicBool,
    /// Whether this role is being ended: by the first who says so, and for one reason.
    ending: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The processes that share the commit log, as an owner has heard of them.
    members: Mutex<Vec<Member>>,
}

/// A stream to a replica, or what is left of it.
#[derive(Debug)]
struct ReplicaStream {
    connection: u64,
    state: StreamState,
    acknowledged: i64,
    /// When the replica last had all there was.
    had_all: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamState {
    Snapshot,
    CatchingUp,
    Following,
    Away,
}

/// How a replica stands to its primary.
#[derive(Debug)]
struct ReceiverStatus {
    primary: Option<Address>,
    state: ReceiverState,
    last_error: Option<String>,
    /// The connection, to be cut when the replica is to do something else.
    stream: Option<Arc<TcpStream>>,
    heard_sequence: Option<i64>,
    heard_at: Option<Instant>,
    /// When this replica last had all that it had heard of; none when it has not since it was started.
    had_all: Option<Instant>,
    wants_snapshot: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiverState {
    Connecting,
    Snapshot,
    Following,
    Diverged,
}

impl Replication {
    /// Replication over an open database, in the role that the database has. Does nothing by itself before
    /// [`Replication::start`].
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let copy_state = parts.dbs.copy_state();
        let receiver = ReceiverStatus {
            primary: copy_state.primary.as_deref().and_then(|address| address.parse().ok()),
            state: if copy_state.diverged.is_some() { ReceiverState::Diverged } else { ReceiverState::Connecting },
            last_error: copy_state.diverged,
            stream: None,
            heard_sequence: None,
            heard_at: None,
            had_all: None,
            wants_snapshot: copy_state.wants_snapshot,
        };
        Arc::new(Self {
            role: copy_state.role,
            streams: Mutex::default(),
            next_stream: AtomicU64::new(1),
            receiver: Mutex::new(receiver),
            woken: Condvar::new(),
            stopping: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            threads: Mutex::default(),
            members: Mutex::default(),
            parts,
        })
    }

    /// Begins to follow, as a replica, or to tell the other copies, as a primary.
    ///
    /// # Errors
    /// When the operating system has no thread.
    pub fn start(self: &Arc<Self>, engine: &Arc<Engine>) -> Result<()> {
        match (self.role, self.parts.shared_log.clone()) {
            (CopyRole::Primary, shared) => {
                if let Some(shared) = shared {
                    let kept = Arc::clone(&shared);
                    self.spawn("own", move |replication| replication.own(&shared))?;
                    self.spawn("keep-snapshots", move |replication| replication.keep_snapshots(&kept))?;
                }
                let engine = Arc::clone(engine);
                self.spawn("announce", move |replication| replication.announce(&engine))
            }
            (CopyRole::Replica, Some(shared)) => {
                self.spawn("stand-by", move |replication| replication.stand_by(&shared))
            }
            (CopyRole::Replica, None) => self.spawn("receive", |replication| replication.receive()),
            (CopyRole::Fenced, _) => {
                log::error!("branch {} takes no writes: {}", self.parts.dialler.branch, self.refusal());
                Ok(())
            }
        }
    }

    /// What this copy is.
    #[must_use]
    pub fn role(&self) -> CopyRole {
        self.role
    }

    /// Whether a request may be carried out at a copy of this role.
    ///
    /// # Errors
    /// [`Error::NotPrimary`] with the primary's address, [`Error::Fenced`], or that there is no copy of the books yet.
    pub fn check(&self, action: Action) -> Result<()> {
        if self.role == CopyRole::Primary {
            return if action.copy_needed() == CopyNeeded::Any { Ok(()) } else { self.check_ownership() };
        }
        match action.copy_needed() {
            CopyNeeded::Any => Ok(()),
            CopyNeeded::Books if self.parts.dbs.position().is_some() || self.role == CopyRole::Fenced => Ok(()),
            CopyNeeded::Books => Err(Error::NotReady),
            CopyNeeded::Primary => Err(self.refusal()),
        }
    }

    /// Whether this copy, if it is a primary whose commit log is elsewhere, has proved lately that it is one still.
    ///
    /// # Errors
    /// [`Error::NoCommitLog`], or [`Error::NotPrimary`] when it is none any more.
    pub fn check_ownership(&self) -> Result<()> {
        match &self.parts.shared_log {
            Some(shared) if self.role == CopyRole::Primary => shared.check_ownership(),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether this copy is the primary.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.role == CopyRole::Primary
    }

    /// Whether what was done under a request's id may be told here: at the primary, and at a replica that follows it.
    /// A copy that was replaced, or has lost its primary, may have what the branch's books no longer have.
    #[must_use]
    pub fn knows_what_was_done(&self) -> bool {
        match self.role {
            CopyRole::Primary => true,
            CopyRole::Replica => self.receiver.lock().state == ReceiverState::Following,
            CopyRole::Fenced => false,
        }
    }

    fn refusal(&self) -> Error {
        let copy_state = self.parts.dbs.copy_state();
        copy_state.refusal().unwrap_or(Error::Stopping)
    }

    /// Has the threads and streams of this role end soon.
    fn stop_soon(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.parts.dbs.feed().end();
        if let Some(shared) = &self.parts.shared_log {
            shared.wake();
        }
        self.interrupt();
    }

    /// Ends the threads and streams of this role, once the replicas that follow have all there is, or so long has passed.
    /// Called when the clients have left. A thread that just waits for another machine is left to end by itself: it
    /// finds that it is not wanted any more.
    pub fn stop(&self, catch_up_wait: Duration) {
        self.wait_for_replicas(catch_up_wait);
        self.stop_soon();
        let threads = std::mem::take(&mut *self.threads.lock());
        let deadline = Instant::now() + THREAD_STOP_WAIT;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() && thread.join().is_err() {
                log::error!("a thread of the replication had panicked");
            }
        }
    }

    /// Claims the end of this role for the caller, who then makes its reason durable and reopens. One thing alone ends
    /// a role: a promotion and a snapshot that takes the database's place would undo one another.
    fn claim_end(&self) -> Result<()> {
        if self.ending.swap(true, Ordering::SeqCst) { Err(Error::Stopping) } else { Ok(()) }
    }

    /// Ends this role, as the database has it now. What is given gets something when this copy is open again.
    fn change_role(&self) -> Receiver<()> {
        let (awaited, opened) = bounded(1);
        if self.role == CopyRole::Replica {
            self.stop_soon();
        }
        (self.parts.reopen)(Reopen::Role { awaited: Some(awaited) });
        opened
    }

    /// Cuts the replica's connection, so that it looks anew at whom to follow and how.
    fn interrupt(&self) {
        let receiver = self.receiver.lock();
        if let Some(stream) = &receiver.stream {
            // An error means that it is closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(receiver);
        self.woken.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn spawn(self: &Arc<Self>, name: &str, run: impl FnOnce(&Arc<Self>) + Send + 'static) -> Result<()> {
        let replication = Arc::clone(self);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&replication));
        let thread = thread.map_err(|error| Error::Database(format!("there is no thread to {name}: {error}")))?;
        self.threads.lock().push(thread);
        Ok(())
    }
}
