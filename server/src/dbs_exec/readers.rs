//! Connections for reading: a small pool, opened as they are needed.

use std::path::PathBuf;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};

use super::tx::Reader;
use super::{open_connection, storage_error};
use crate::error::{Error, Result};
use crate::limits::{READER_CACHE_KIB, READERS};

/// The pool. A reader who finds none free and the pool full waits for another reader, never for a writer.
pub struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    freed: Condvar,
}

/// Invariant: `opened <= READERS`, and `free` holds those of them that nobody uses.
struct Pool {
    free: Vec<Connection>,
    opened: usize,
}

impl Readers {
    /// An empty pool over the database at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, pool: Mutex::new(Pool { free: Vec::new(), opened: 0 }), freed: Condvar::new() }
    }

    /// Runs `look` on one snapshot.
    pub fn read<T>(&self, look: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        let borrowed = Borrowed { connection: Some(self.take()?), readers: self };
        let connection = borrowed.connection.as_ref().expect("it is there until the drop");
        // A deferred transaction takes its snapshot at the first read and holds it to the end.
        connection.prepare_cached("BEGIN").and_then(|mut begin| begin.execute([])).map_err(storage_error)?;
        let _end = EndSnapshot(connection);
        look(&Reader::new(connection))
    }

    fn take(&self) -> Result<Connection> {
        let mut pool = self.pool.lock();
        loop {
            if let Some(connection) = pool.free.pop() {
                return Ok(connection);
            }
            if pool.opened < READERS {
                pool.opened += 1;
                break;
            }
            self.freed.wait(&mut pool);
        }
        drop(pool);
        self.open().inspect_err(|_| self.give_back(None))
    }

    fn open(&self) -> Result<Connection> {
        let opened = open_connection(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = opened.map_err(|error| Error::Database(error.to_string()))?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB).map_err(storage_error)?;
        Ok(connection)
    }

    fn give_back(&self, connection: Option<Connection>) {
        let mut pool = self.pool.lock();
        match connection {
            Some(connection) => pool.free.push(connection),
            None => pool.opened -= 1,
        }
        self.freed.notify_one();
    }
}

/// Gives the connection back also when `look` panics.
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
