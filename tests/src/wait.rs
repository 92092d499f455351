//! Waiting for a condition, with an end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing takes this long unless it is broken, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until the condition holds.
///
/// # Panics
/// At [`DEADLINE`], naming what was waited for.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_within(DEADLINE, what, condition);
}

/// Waits until something is found, and returns it.
///
/// # Panics
/// At [`DEADLINE`], naming what was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = look();
        found.is_some()
    });
    found.expect("the wait has ended")
}

/// Waits until the condition holds, where it is claimed to hold within a certain time.
///
/// # Panics
/// At the end of `limit`, naming what was waited for.
#[track_caller]
pub fn wait_until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Sets a flag when it is dropped, at the latest by a panic: what other threads go on until is then over, and a
/// scope that waits for them ends too.
#[derive(Debug)]
pub struct SetOnDrop<'f>(pub &'f AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
