//! The protocol's clock: it runs with real time, or stands still and is moved by request. It never runs backwards.

use std::time::{Duration, Instant};

/// The clock. Invariant: what it shows never falls.
#[derive(Debug)]
pub struct ProtocolClock {
    /// What it showed when it was last stopped or started.
    shown: Duration,
    /// Since when it has been running, unless it stands still.
    running_since: Option<Instant>,
}

impl ProtocolClock {
    /// A running clock that shows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { shown: Duration::ZERO, running_since: Some(Instant::now()) }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shown + self.running_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// From now on it stands still.
    pub fn stop(&mut self) {
        self.shown = self.now();
        self.running_since = None;
    }

    /// From now on it runs.
    pub fn go_on(&mut self) {
        self.shown = self.now();
        self.running_since = Some(Instant::now());
    }

    /// Moves a clock that stands still on to `moment`, never back. `false` when it runs.
    pub fn pass_to(&mut self, moment: Duration) -> bool {
        if self.running_since.is_some() {
            return false;
        }
        self.shown = self.shown.max(moment);
        true
    }
}

impl Default for ProtocolClock {
    fn default() -> Self {
        Self::new()
    }
}
