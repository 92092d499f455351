//! The machine that a simulated process runs on: a clock that the world moves, chance from the seed, no thread, and the
//! points at which the process may die.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bank_server::dbs_exec::{DbsExec, WaitEvent};
use bank_server::error::Result;
use bank_server::peers::links::{Carrier, StampedMessage};
use bank_server::replication::{Duplex, Exchange};
use bank_server::service::Service;
use bank_server::transfer::host::Host;
use parking_lot::Mutex;
use protocol::Address;
use two_phase_commit::PeerAddr;

use super::wire::Wire;

use crate::rng::Rng;

/// The wall clock at the beginning. What the server dates by its own clock is later than that for ever, so nothing that
/// is kept for a time is thrown away by it.
const BEGAN_UNIX_MS: i64 = 1_600_000_000_000;

/// How much a replica takes at once while its primary waits for it.
const BRING_ON_BYTES: usize = 1 << 20;

/// What unwinds out of a process that dies.
#[derive(Clone, Copy, Debug)]
pub struct Crash;

/// What all processes of a run share.
pub struct Shared {
    now_ms: AtomicU64,
    chance: Mutex<Rng>,
    outbox: Mutex<VecDeque<Outgoing>>,
    running: Mutex<BTreeMap<u16, Running>>,
    cuts: Mutex<BTreeSet<(usize, usize)>>,
    streams: Mutex<Vec<Stream>>,
}

/// A process that can be met at a port.
#[derive(Clone)]
struct Running {
    copy: usize,
    service: Weak<Service>,
}

/// A stream from a primary to a replica.
#[derive(Clone)]
pub struct Stream {
    /// The copy that it comes from.
    pub from: usize,
    /// The copy that it goes to.
    pub to: usize,
    /// Where the replica is met.
    pub address: String,
    /// Which connection it is.
    pub connection: u64,
    /// The primary's database.
    pub primary: Weak<DbsExec>,
    /// The replica's.
    pub replica: Weak<DbsExec>,
}

impl Stream {
    fn is_behind(&self) -> bool {
        let (Some(primary), Some(replica)) = (self.primary.upgrade(), self.replica.upgrade()) else { return false };
        let last = |dbs: &DbsExec| dbs.position().map_or(0, |last| last.sequence);
        last(&replica) < last(&primary)
    }

    /// Has the replica execute what comes next, up to about so much, and tells the primary how far it is. `false` when
    /// the stream is at its end.
    #[must_use]
    pub fn flow(&self, bytes: usize) -> bool {
        let (Some(primary), Some(replica)) = (self.primary.upgrade(), self.replica.upgrade()) else { return false };
        let last = |dbs: &DbsExec| dbs.position().map_or(0, |last| last.sequence);
        let Ok(Some(rows)) = primary.log_after(last(&replica), bytes) else { return false };
        if !rows.is_empty() && replica.apply(&rows).is_err() {
            return false;
        }
        primary.feed().acknowledged(&self.address, self.connection, last(&replica));
        true
    }
}

/// What a process has handed to its network.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Which copy it comes from.
    pub from: usize,
    /// The peer that it is for.
    pub to: PeerAddr,
    /// What.
    pub stamped: StampedMessage,
}

impl Shared {
    /// At the beginning of time.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            now_ms: AtomicU64::new(0),
            chance: Mutex::new(Rng::new(seed)),
            outbox: Mutex::default(),
            running: Mutex::default(),
            cuts: Mutex::default(),
            streams: Mutex::default(),
        })
    }

    /// The time, in milliseconds since the beginning.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// Moves the time on.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Notes that a process can be met at a port.
    pub fn begin(&self, port: u16, copy: usize, service: &Arc<Service>) {
        self.running.lock().insert(port, Running { copy, service: Arc::downgrade(service) });
    }

    /// Cuts the network between two copies.
    pub fn cut(&self, a: usize, b: usize) {
        self.cuts.lock().insert((a.min(b), a.max(b)));
    }

    /// Whether the network between two copies is cut.
    #[must_use]
    pub fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cuts.lock().contains(&(a.min(b), a.max(b)))
    }

    /// Ends all cuts; gives them.
    pub fn mend(&self) -> BTreeSet<(usize, usize)> {
        std::mem::take(&mut *self.cuts.lock())
    }

    /// Who is at a port, as seen from a copy.
    fn meet(&self, from: usize, port: u16) -> Option<Arc<Service>> {
        let running = self.running.lock().get(&port).cloned()?;
        if self.is_cut(from, running.copy) { None } else { running.service.upgrade() }
    }

    /// Adds a stream to a replica, in place of those that it had.
    pub fn add_stream(&self, stream: Stream) {
        let mut streams = self.streams.lock();
        streams.retain(|other| other.to != stream.to);
        streams.push(stream);
    }

    /// The stream that a replica has.
    #[must_use]
    pub fn stream_to(&self, copy: usize) -> Option<Stream> {
        self.streams.lock().iter().find(|stream| stream.to == copy).cloned()
    }

    /// Ends the stream that a replica has.
    pub fn end_streams_to(&self, copy: usize) {
        self.streams.lock().retain(|stream| {
            if stream.to == copy
                && let Some(primary) = stream.primary.upgrade()
            {
                primary.feed().disconnected(&stream.address, stream.connection);
            }
            stream.to != copy
        });
    }

    /// Ends the streams of a copy.
    pub fn end_streams(&self, copy: usize) {
        self.streams.lock().retain(|stream| stream.to != copy && stream.from != copy);
    }

    /// Has the replicas of a copy take all that there is, as far as they can be reached.
    pub fn bring_on(&self, copy: usize) {
        let streams: Vec<Stream> = self.streams.lock().iter().filter(|stream| stream.from == copy).cloned().collect();
        for stream in streams {
            if !self.is_cut(stream.from, stream.to) {
                while stream.flow(BRING_ON_BYTES) && stream.is_behind() {}
            }
        }
    }

    /// Takes what was handed to the network.
    pub fn take_outgoing(&self) -> VecDeque<Outgoing> {
        std::mem::take(&mut *self.outbox.lock())
    }
}

/// One process's place among the others.
pub struct Station {
    shared: Arc<Shared>,
    copy: usize,
    started_ms: u64,
    /// How many points lie before the one at which it dies; none when it does not.
    points_left: AtomicU64,
    /// Set when something had to be confirmed by replicas and was not.
    is_starved: AtomicBool,
}

/// No point is near.
const NEVER: u64 = u64::MAX;

impl Station {
    /// The station of a process that starts now.
    #[must_use]
    pub fn new(shared: &Arc<Shared>, copy: usize) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            copy,
            started_ms: shared.now_ms(),
            points_left: AtomicU64::new(NEVER),
            is_starved: AtomicBool::new(false),
        })
    }

    /// What all processes share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Which copy the process is of.
    #[must_use]
    pub fn copy(&self) -> usize {
        self.copy
    }

    /// The process waits for its replicas.
    pub fn wait_for_replicas(&self, wait: WaitEvent) {
        match wait {
            WaitEvent::Begins => self.shared.bring_on(self.copy),
            WaitEvent::InVain => self.is_starved.store(true, Ordering::Relaxed),
        }
    }

    /// Has the process die at the point after so many.
    pub fn die_after(&self, points: u64) {
        self.points_left.store(points, Ordering::Relaxed);
    }

    /// Nothing kills it from now on.
    pub fn spare(&self) {
        self.points_left.store(NEVER, Ordering::Relaxed);
    }

    /// Whether it has waited for replicas in vain since the last look.
    pub fn was_starved(&self) -> bool {
        self.is_starved.swap(false, Ordering::Relaxed)
    }

    /// A point at which a process may die: before a write, and before a message leaves.
    fn pass(&self) {
        match self.points_left.load(Ordering::Relaxed) {
            NEVER => {}
            0 => {
                self.spare();
                panic_any(Crash)
            }
            left => self.points_left.store(left - 1, Ordering::Relaxed),
        }
    }
}

/// The seam of clock, chance and threads.
pub struct SimulatedHost(pub Arc<Station>);

impl Host for SimulatedHost {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.shared.now_ms() - self.0.started_ms)
    }

    fn unix_ms(&self) -> i64 {
        self.0.pass();
        BEGAN_UNIX_MS + i64::try_from(self.0.shared.now_ms()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> Result<u64> {
        Ok(self.0.shared.chance.lock().bits())
    }

    fn run_aside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        work();
        Ok(())
    }

    fn patience(&self, _limit: Duration) -> Duration {
        Duration::ZERO
    }
}

/// The seam of the network.
pub struct SimulatedCarrier(pub Arc<Station>);

impl Carrier for SimulatedCarrier {
    fn carry(&self, to: &PeerAddr, messages: Vec<StampedMessage>) {
        for stamped in messages {
            self.0.pass();
            self.0.shared.outbox.lock().push_back(Outgoing { from: self.0.copy, to: to.clone(), stamped });
        }
    }
}

/// The seam of other copies, and of a connection to any process.
pub struct SimulatedExchange {
    /// What all share.
    pub shared: Arc<Shared>,
    /// Who connects.
    pub copy: usize,
}

impl Exchange for SimulatedExchange {
    fn connect(&self, at: &Address) -> Option<Box<dyn Duplex>> {
        let service = self.shared.meet(self.copy, at.port)?;
        Some(Box::new(Wire::new(service)))
    }
}
