//! The machine that an engine runs on: its clock, its chance, its threads.
//!
//! The engine asks for these through [`Host`] and nowhere else, as it asks for its links through
//! [`crate::peers::links::Carrier`]. So a simulation gives it a clock that it moves itself, numbers from its seed, and no thread
//! but its own, and drives the very code that the server runs.

use std::time::{Duration, Instant};

use two_phase_commit::Record;

use crate::clock::unix_ms_now;
use crate::error::{Error, Result};
use crate::limits::CLIENT_STACK_BYTES;

/// What the engine needs of the machine it runs on.
pub trait Host: Send + Sync {
    /// The time since the engine was made. It never goes back.
    fn elapsed(&self) -> Duration;

    /// The protocol's time: resends, time-outs and inquiries follow it. It never goes back, and may stand still.
    fn protocol_time(&self) -> Duration {
        self.elapsed()
    }

    /// Whether the protocol's time stands still. Then nothing comes due by itself, and whoever waits for a transfer waits
    /// longer.
    fn is_paused(&self) -> bool {
        false
    }

    /// These records are about to be written.
    fn before_write(&self, _records: &[Record]) {}

    /// These records have been written, and nobody has been told.
    fn after_write(&self, _records: &[Record]) {}

    /// The wall clock, in Unix milliseconds.
    fn unix_ms(&self) -> i64;

    /// A random number.
    ///
    /// # Errors
    /// [`Error::Database`] when the operating system gives none.
    fn random(&self) -> Result<u64>;

    /// Does something that may wait for long, beside the caller.
    ///
    /// # Errors
    /// [`Error::Database`] when there is no thread to do it.
    fn run_aside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()>;

    /// How long a caller really waits for what other threads do, where it would wait at most `limit`: where there are
    /// no other threads, not at all.
    fn patience(&self, limit: Duration) -> Duration;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct ThisMachine {
    started: Instant,
}

impl ThisMachine {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for ThisMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for ThisMachine {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn unix_ms(&self) -> i64 {
        unix_ms_now()
    }

    fn random(&self) -> Result<u64> {
        getrandom::u64().map_err(|error| Error::Database(format!("no randomness: {error}")))
    }

    fn run_aside(&self, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        let spawned = std::thread::Builder::new().name("aside".into()).stack_size(CLIENT_STACK_BYTES).spawn(work);
        spawned
            .map(drop)
            .map_err(|error| Error::Database(format!("there is no thread to carry a transfer out: {error}")))
    }

    fn patience(&self, limit: Duration) -> Duration {
        limit
    }
}
