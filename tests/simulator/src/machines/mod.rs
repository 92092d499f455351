//! The two machines alone, on a seeded clock, network and disk that are this simulator's own.
//!
//! There is no SQL here and no engine, so a seed takes a third of a millisecond, and what needs a million runs to be seen
//! is seen. Its disk can be cut at any point between a write and its confirmation, and it confirms unforced records
//! early, which the server's own store leaves no room for.

pub mod config;
pub mod judge;
pub mod ledger;
pub mod network;
pub mod node;
pub mod workload;
mod world;

pub use config::{Broken, Config};
pub use world::Report;

use crate::rng::Rng;

/// Runs a seed, with a rule broken or none.
#[must_use]
pub fn run(seed: u64, broken: Option<Broken>, with_text: bool) -> Report {
    let mut rng = Rng::new(seed);
    let config = Config::draw(&mut rng, broken);
    world::World::new(config, rng, None, with_text).run()
}

/// Runs a seed without any fault but a crash at the given point, counted from 1; none at point 0.
#[must_use]
pub fn run_with_crash_at(seed: u64, point: u64, with_text: bool) -> Report {
    let mut rng = Rng::new(seed);
    let config = Config::calm(&mut rng);
    world::World::new(config, rng, Some(point), with_text).run()
}
