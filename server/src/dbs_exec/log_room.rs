//! How long the write-ahead log is, and when its readers make room for it to begin anew.
//!
//! SQLite writes the log from its beginning again only when everything in it was moved into the database file and
//! nobody reads from it. Where one reader always begins before another ends, that moment never comes by itself. So the
//! readers of this process pass a gate: when the log is long enough, the gate closes, those inside come to their end,
//! the rest of the log is moved, and the gate opens. A read waits for that at most as long as another read takes.
//!
//! Writers don't wait for readers, unless the log has reached its bound: better a late answer than a full disk.
//! What other programs read can't be bounded from here; the log's owner is told which one it is (`checkpoint.rs`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::limits::{LOG_STALL_BYTES, LOG_STALL_WAIT};

/// The log's length, and the gate of its readers.
#[derive(Debug, Default)]
pub struct LogRoom {
    /// What stands in the log, in bytes; less than the file's length once that was written from its beginning again.
    bytes: AtomicU64,
    /// Another program keeps the log from beginning anew: waiting for room would be in vain.
    is_held_elsewhere: AtomicBool,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    is_closed: bool,
    readers: usize,
}

/// A reader inside the gate.
pub struct Reading<'r>(&'r LogRoom);

/// The gate while it is closed.
pub struct Closed<'r> {
    room: &'r LogRoom,
    /// Whether no reader is inside.
    pub is_empty: bool,
}

impl LogRoom {
    /// Waits until the gate is open, and enters.
    pub fn enter(&self) -> Reading<'_> {
        let mut gate = self.gate.lock();
        while gate.is_closed {
            self.changed.wait(&mut gate);
        }
        gate.readers += 1;
        Reading(self)
    }

    /// Closes the gate, and waits for those inside, but not longer than `wait`.
    pub fn close(&self, wait: Duration) -> Closed<'_> {
        let deadline = Instant::now() + wait;
        let mut gate = self.gate.lock();
        gate.is_closed = true;
        while gate.readers > 0 {
            if self.changed.wait_until(&mut gate, deadline).timed_out() {
                break;
            }
        }
        Closed { room: self, is_empty: gate.readers == 0 }
    }

    /// How much stands in the log.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Notes how much stands in the log.
    pub fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::SeqCst);
        self.notify();
    }

    /// Notes whether another program keeps the log.
    pub fn set_held_elsewhere(&self, is_held: bool) {
        self.is_held_elsewhere.store(is_held, Ordering::SeqCst);
        self.notify();
    }

    /// Before a commit: waits while the log is at its bound and this branch's own readers are what keeps it there.
    pub fn wait_for_room(&self) {
        if !self.is_full() {
            return;
        }
        let deadline = Instant::now() + LOG_STALL_WAIT;
        let mut gate = self.gate.lock();
        while self.is_full() {
            if self.changed.wait_until(&mut gate, deadline).timed_out() {
                return;
            }
        }
    }

    /// Whether the log has reached its bound and can begin anew.
    pub fn is_full(&self) -> bool {
        self.bytes() >= LOG_STALL_BYTES && !self.is_held_elsewhere.load(Ordering::SeqCst)
    }

    /// With the mutex held once, so that nobody falls asleep between a look and this.
    fn notify(&self) {
        drop(self.gate.lock());
        self.changed.notify_all();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.gate.lock().readers -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.room.gate.lock().is_closed = false;
        self.room.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_gate_waits_for_who_is_inside_and_holds_others_back() {
        let room = LogRoom::default();
        let inside = room.enter();
        let closed = room.close(Duration::from_millis(1));
        assert!(!closed.is_empty, "one is inside");
        drop(inside);
        drop(closed);
        let closed = room.close(Duration::ZERO);
        assert!(closed.is_empty);
        thread::scope(|scope| {
            let late = scope.spawn(|| drop(room.enter()));
            assert_eq!(room.gate.lock().readers, 0);
            drop(closed);
            late.join().unwrap();
        });
    }

    #[test]
    fn a_writer_waits_at_the_bound_until_there_is_room_and_never_for_another_program() {
        let room = LogRoom::default();
        room.set_bytes(LOG_STALL_BYTES);
        thread::scope(|scope| {
            let writer = scope.spawn(|| room.wait_for_room());
            room.set_bytes(0);
            writer.join().unwrap();
        });
        room.set_bytes(LOG_STALL_BYTES);
        room.set_held_elsewhere(true);
        room.wait_for_room();
    }
}
