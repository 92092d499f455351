//! Connections for reading: a small pool, opened as they are needed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use crate::dbs_exec::connection::{open_connection, storage_error};
use crate::dbs_exec::tx::Reader;
use crate::dbs_exec::wal_gate::WalGate;
use crate::error::{Error, Result};
use crate::limits::{READ_CLOSE_WAIT, READ_INTERRUPT_AFTER, READER_CACHE_KIB, READERS};

/// The pool. A reader who finds none free and the pool full waits for another reader, never for a writer.
pub struct Readers {
    path: PathBuf,
    wal_gate: Arc<WalGate>,
    pool: Mutex<Pool>,
    freed: Condvar,
}

/// Invariant: `opened <= READERS`, and `free` holds those of them that nobody uses; none once it is closed.
#[derive(Default)]
struct Pool {
    free: Vec<Connection>,
    opened: usize,
    /// One for each connection that was opened: a long read is ended by it when the database closes.
    interrupts: Vec<InterruptHandle>,
    is_closed: bool,
}

impl Readers {
    /// An empty pool over the database at `path`, whose readers pass `wal_gate`.
    pub fn new(path: PathBuf, wal_gate: Arc<WalGate>) -> Self {
        Self { path, wal_gate, pool: Mutex::default(), freed: Condvar::new() }
    }

    /// Closes every connection, waits a moment for those that are in use, and then ends what they are at. `true` when
    /// some are in use still.
    pub fn close(&self) -> bool {
        let begun = Instant::now();
        let mut pool = self.pool.lock();
        pool.is_closed = true;
        pool.opened -= pool.free.len();
        pool.free.clear();
        self.freed.notify_all();
        while pool.opened > 0 && begun.elapsed() < READ_CLOSE_WAIT {
            if begun.elapsed() >= READ_INTERRUPT_AFTER {
                // A history of a million rows would hold up the stop; its reader is told that the branch is stopping.
                pool.interrupts.iter().for_each(InterruptHandle::interrupt);
            }
            self.freed.wait_for(&mut pool, READ_INTERRUPT_AFTER / 4);
        }
        pool.opened > 0
    }

    /// Runs `read` on one snapshot.
    pub fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        // Given back by its drop, also when `read` panics: a pool that loses connections would stop all reading.
        let borrowed = Borrowed { connection: Some(self.take()?), readers: self };
        let connection = borrowed.connection.as_ref().expect("it is there until the drop");
        // While the log begins anew, nobody begins to read from it.
        let _reading = self.wal_gate.enter();
        // A deferred transaction takes its snapshot at the first read and holds it to the end.
        connection.prepare_cached("BEGIN").and_then(|mut begin| begin.execute([])).map_err(storage_error)?;
        let _end = EndSnapshot(connection);
        read(&Reader::new(connection))
    }

    fn take(&self) -> Result<Connection> {
        let mut pool = self.pool.lock();
        loop {
            if pool.is_closed {
                return Err(Error::Stopping);
            }
            if let Some(connection) = pool.free.pop() {
                return Ok(connection);
            }
            if pool.opened < READERS {
                // Counted before it is opened, so that a crowd opens no more than there may be.
                pool.opened += 1;
                break;
            }
            self.freed.wait(&mut pool);
        }
        // Opening takes a moment, and others may take free ones meanwhile.
        drop(pool);
        self.open().inspect_err(|_| self.give_back(None))
    }

    fn open(&self) -> Result<Connection> {
        let opened = open_connection(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = opened.map_err(|error| Error::Database(error.to_string()))?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB).map_err(storage_error)?;
        self.pool.lock().interrupts.push(connection.get_interrupt_handle());
        Ok(connection)
    }

    fn give_back(&self, connection: Option<Connection>) {
        let mut pool = self.pool.lock();
        match connection {
            Some(connection) if !pool.is_closed => pool.free.push(connection),
            closed_or_failed => {
                // Before it is counted as gone.
                drop(closed_or_failed);
                pool.opened -= 1;
            }
        }
        if pool.is_closed {
            // One waits for all to be gone.
            self.freed.notify_all();
        } else {
            self.freed.notify_one();
        }
    }
}

/// Gives the connection back also when `read` panics.
struct Borrowed<'r> {
    connection: Option<Connection>,
    readers: &'r Readers,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.readers.give_back(self.connection.take());
    }
}

/// Ends the snapshot, so that an idle reader holds no checkpoint back.
struct EndSnapshot<'c>(&'c Connection);

impl Drop for EndSnapshot<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            log::error!("a snapshot could not be ended: {error}");
        }
    }
}
