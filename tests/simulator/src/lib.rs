//! The bank's two-phase commit on a seeded clock, network and disk.
//!
//! The machines are the real ones of `two_phase_commit`. Everything around them is drawn from one seed: how
//! many branches there are, what is asked of them, how the network treats each message, which process dies
//! between which two steps, and what its disk had got hold of. So a run that went wrong is run again by its seed.
//!
//! - [`rng`], [`config`]: chance, and what it decides before a run.
//! - [`network`], [`ledger`], [`node`], [`workload`]: the world around the machines.
//! - `world`: time, faults, and the driver that keeps the contract between machine and disk.
//! - [`judge`]: separate code that looks at effects alone, after every durable write and at the end.
//!
//! What it leaves out: SQL, sockets and threads (the tests with real processes have those), and clocks
//! that run at different speeds (no outcome depends on a clock).

pub mod config;
pub mod judge;
pub mod ledger;
pub mod network;
pub mod node;
pub mod rng;
pub mod trace;
pub mod workload;
mod world;

pub use config::{Broken, Config};
pub use world::Report;

/// Runs a seed, with a rule broken or none.
#[must_use]
pub fn run(seed: u64, broken: Option<Broken>, with_text: bool) -> Report {
    let mut rng = rng::Rng::new(seed);
    let config = Config::draw(&mut rng, broken);
    world::World::new(config, rng, None, with_text).run()
}

/// Runs a seed without any fault but a crash at the given point, counted from 1; none at point 0.
#[must_use]
pub fn run_with_crash_at(seed: u64, point: u64, with_text: bool) -> Report {
    let mut rng = rng::Rng::new(seed);
    let config = Config::calm(&mut rng);
    world::World::new(config, rng, Some(point), with_text).run()
}
