//! The end of the bridge, as its threads and its tasks see it.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// Set once, and never taken back.
pub struct Stop {
    is_set: Mutex<bool>,
    set: Condvar,
    told: watch::Sender<bool>,
}

impl Stop {
    /// Not yet.
    #[must_use]
    pub fn new() -> Self {
        Self { is_set: Mutex::new(false), set: Condvar::new(), told: watch::Sender::new(false) }
    }

    /// Everything ends.
    pub fn set(&self) {
        *self.is_set.lock() = true;
        self.set.notify_all();
        self.told.send_replace(true);
    }

    /// Whether everything ends.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.is_set.lock()
    }

    /// Waits on this thread, at most so long. Returns whether everything ends.
    #[must_use]
    pub fn wait(&self, limit: Duration) -> bool {
        let mut is_set = self.is_set.lock();
        if !*is_set {
            self.set.wait_for(&mut is_set, limit);
        }
        *is_set
    }

    /// Waits in a task until everything ends.
    pub async fn reached(&self) {
        let mut told = self.told.subscribe();
        // The sender is in `self`, so it is there as long as this waits.
        let _ = told.wait_for(|is_set| *is_set).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
