//! The machine that a simulated process runs on: a clock that the world moves, chance from the seed, no thread, and the
//! points at which the process may die.

use std::collections::VecDeque;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bank_server::error::Result;
use bank_server::transfer::host::Host;
use bank_server::transfer::links::{Carrier, Posted};
use parking_lot::Mutex;
use two_phase_commit::PeerAddr;

use crate::rng::Rng;

/// The wall clock at the beginning. What the server dates by its own clock is later than that for ever, so nothing that
/// is kept for a time is thrown away by it.
const BEGAN_UNIX_MS: i64 = 1_600_000_000_000;

/// What unwinds out of a process that dies.
#[derive(Clone, Copy, Debug)]
pub struct Crash;

/// What all processes of a run share.
pub struct Shared {
    now_ms: AtomicU64,
    chance: Mutex<Rng>,
    outbox: Mutex<VecDeque<Outgoing>>,
}

/// What a process has handed to its network.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Which copy it comes from.
    pub from: usize,
    /// The peer that it is for.
    pub to: PeerAddr,
    /// What.
    pub posted: Posted,
}

impl Shared {
    /// At the beginning of time.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicU64::new(0), chance: Mutex::new(Rng::new(seed)), outbox: Mutex::default() })
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

    /// Has the process die at the point after so many.
    pub fn die_after(&self, points: u64) {
        self.points_left.store(points, Ordering::Relaxed);
    }

    /// Nothing kills it from now on.
    pub fn spare(&self) {
        self.points_left.store(NEVER, Ordering::Relaxed);
    }

    /// Notes that a write waits for replicas that can't be reached.
    pub fn starve(&self) {
        self.is_starved.store(true, Ordering::Relaxed);
    }

    /// Whether that was so since the last look.
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
    fn carry(&self, to: &PeerAddr, messages: Vec<Posted>) {
        for posted in messages {
            self.0.pass();
            self.0.shared.outbox.lock().push_back(Outgoing { from: self.0.copy, to: to.clone(), posted });
        }
    }
}
