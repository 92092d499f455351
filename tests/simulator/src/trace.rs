//! What happened, in order: always as a hash, so that two runs of a seed can be compared, and as text when asked.

use std::fmt::Display;
use std::hash::{Hash, Hasher};

use two_phase_commit::Tick;

/// The run's events.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hasher: Fnv,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace, which keeps its lines when `with_text`.
    #[must_use]
    pub fn new(with_text: bool) -> Self {
        Self { hasher: Fnv::default(), lines: with_text.then(Vec::new) }
    }

    /// Notes that `what` happened to `item` at `place`.
    pub fn event<T: Display + Hash>(&mut self, now: Tick, place: &str, what: &str, item: &T) {
        (now, place, what).hash(&mut self.hasher);
        item.hash(&mut self.hasher);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>5} {place:<8} {what:<10} {item}"));
        }
    }

    /// A number that differs when anything in the trace does.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// The lines, when they were asked for.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// FNV-1a with 64 bits: the standard library's hasher is not promised to stay the same.
#[derive(Clone, Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
