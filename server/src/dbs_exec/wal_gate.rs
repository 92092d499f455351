//! How long the write-ahead log is, and when its readers let it be written from its beginning again.
//!
//! SQLite writes the WAL from its beginning again only when everything in it was moved into the database file and
//! nobody reads from it. Where one reader always begins before another ends, that moment never comes by itself. So the
//! readers of this process pass a gate: when the WAL is long enough, the gate closes, those inside come to their end,
//! the rest of the WAL is moved, and the gate opens. A read waits for that at most as long as another read takes.
//!
//! Writers don't wait for readers, unless the WAL has reached its bound: better a late answer than a full disk.
//! What other programs read can't be bounded from here; the operator is told which program it is (`checkpoint.rs`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::limits::{LOG_STALL_BYTES, LOG_STALL_WAIT};

/// The length of the WAL, and the gate that its readers pass.
#[derive(Debug, Default)]
pub struct WalGate {
    /// What is in the WAL, in bytes; less than the file's length once that was written from its beginning again.
    bytes: AtomicU64,
    /// Another program keeps the WAL from beginning anew: waiting for space would be in vain.
    is_held_elsewhere: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    readers: usize,
}

/// A reader inside the gate.
pub struct Reading<'r>(&'r WalGate);

/// The gate while it is closed.
pub struct Closed<'r> {
    wal_gate: &'r WalGate,
    /// Whether no reader is inside.
    pub is_empty: bool,
}

impl WalGate {
    /// Waits until the gate is open, and enters.
    pub fn enter(&self) -> Reading<'_> {
        let mut state = self.state.lock();
        // Whoever comes while it is closed waits outside, or those inside would never be all gone.
        while state.is_closed {
            self.changed.wait(&mut state);
        }
        state.readers += 1;
        Reading(self)
    }

    /// Closes the gate, and waits for those inside, but not longer than `wait`.
    pub fn close(&self, wait: Duration) -> Closed<'_> {
        let deadline = Instant::now() + wait;
        let mut state = self.state.lock();
        state.is_closed = true;
        while state.readers > 0 {
            // A long read is let be: the WAL begins anew another time, and grows until then.
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        Closed { wal_gate: self, is_empty: state.readers == 0 }
    }

    /// How much is in the WAL.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Notes how much is in the WAL.
    pub fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::SeqCst);
        self.notify();
    }

    /// Notes whether another program keeps the WAL from beginning anew.
    pub fn set_held_elsewhere(&self, is_held: bool) {
        self.is_held_elsewhere.store(is_held, Ordering::SeqCst);
        self.notify();
    }

    /// Before a commit: waits while the WAL is at its bound and this branch's own readers are what keeps it there.
    pub fn wait_for_space(&self) {
        // Nearly always, and without the mutex: this stands before each commit.
        if !self.is_full() {
            return;
        }
        let deadline = Instant::now() + LOG_STALL_WAIT;
        let mut state = self.state.lock();
        while self.is_full() {
            // The WAL may pass its bound then: a client is answered late, not never.
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Whether the WAL has reached its bound and can begin anew.
    pub fn is_full(&self) -> bool {
        self.bytes() >= LOG_STALL_BYTES && !self.is_held_elsewhere.load(Ordering::SeqCst)
    }

    /// With the mutex held once, so that nobody falls asleep between a check and this.
    fn notify(&self) {
        drop(self.state.lock());
        self.changed.notify_all();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.state.lock().readers -= 1;
        // Who has closed the gate waits for the last one to leave.
        self.0.changed.notify_all();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.wal_gate.state.lock().is_closed = false;
        self.wal_gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_gate_waits_for_who_is_inside_and_holds_others_back() {
        let gate = WalGate::default();
        let inside = gate.enter();
        let closed = gate.close(Duration::from_millis(1));
        assert!(!closed.is_empty, "one is inside");
        drop(inside);
        drop(closed);
        let closed = gate.close(Duration::ZERO);
        assert!(closed.is_empty);
        thread::scope(|scope| {
            let late = scope.spawn(|| drop(gate.enter()));
            assert_eq!(gate.state.lock().readers, 0);
            drop(closed);
            late.join().unwrap();
        });
    }

    #[test]
    fn a_writer_waits_at_the_bound_until_there_is_room_and_never_for_another_program() {
        let gate = WalGate::default();
        gate.set_bytes(LOG_STALL_BYTES);
        thread::scope(|scope| {
            let writer = scope.spawn(|| gate.wait_for_space());
            gate.set_bytes(0);
            writer.join().unwrap();
        });
        gate.set_bytes(LOG_STALL_BYTES);
        gate.set_held_elsewhere(true);
        gate.wait_for_space();
    }
}
