//! A small seeded generator, so that a random test can be repeated.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that sets the seed of a random test.
const SEED_VARIABLE: &str = "BANK_TEST_SEED";

/// Random numbers from a seed (xorshift64*, Vigna 2016): enough to vary a test, no good for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator from `BANK_TEST_SEED`, or from the clock; prints the seed, which a failed test then shows.
    #[must_use]
    pub fn from_environment() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        let seed = env::var(SEED_VARIABLE).ok().map_or_else(now, |seed| seed.parse().expect("a seed is a number"));
        println!("{SEED_VARIABLE}={seed}");
        Self::new(seed)
    }

    /// A generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The multiplication parts neighbouring seeds; the state must not be zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A generator of its own for one of several threads.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
