//! Moving the write-ahead log into the database file, off the writers' path.
//!
//! In WAL mode a commit appends to the log; from time to time the log's pages must be copied into the
//! database file, and a log that is wholly copied is written from its beginning again. SQLite would let
//! the unlucky thread whose commit passes a threshold do the copying. Here a thread with its own
//! connection does it: first a passive checkpoint beside the writers (the bulk of the work), then, with
//! the writer's mutex held for the short rest, a second one, which finds the log at rest and completes; so
//! the log can't grow without end under a load that never pauses.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

use super::writer::Writer;
use super::{OpenError, open_connection};
use crate::limits::{CHECKPOINT_IDLE, CHECKPOINT_STATEMENTS};

/// The thread that checkpoints, and the bell to ring it with.
pub struct Checkpointer {
    bell: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointer {
    /// Starts the thread.
    pub fn start(path: &Path, writer: Arc<Mutex<Writer>>) -> Result<Self, OpenError> {
        let connection = open_connection(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // One ring is enough: the thread looks at everything that is there when it wakes.
        let (bell, rung) = bounded(1);
        let thread =
            std::thread::Builder::new().name("checkpoint".into()).spawn(move || run(&connection, &writer, &rung))?;
        Ok(Self { bell: Mutex::new(Some(bell)), thread: Mutex::new(Some(thread)) })
    }

    /// Tells how much was written since the last checkpoint; wakes the thread when it is much.
    pub fn note(&self, statements: u64) {
        if statements >= CHECKPOINT_STATEMENTS
            && let Some(bell) = &*self.bell.lock()
        {
            // A full channel means that the thread is awake already.
            let _ = bell.try_send(());
        }
    }

    /// Checkpoints once more and joins the thread.
    pub fn stop(&self) {
        drop(self.bell.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the checkpoint thread had panicked");
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(connection: &Connection, writer: &Mutex<Writer>, rung: &Receiver<()>) {
    loop {
        let stopping = match rung.recv_timeout(CHECKPOINT_IDLE) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if writer.lock().statements_since_checkpoint() > 0
            && let Err(error) = checkpoint(connection, writer)
        {
            // Nothing is lost: the log keeps what could not be moved, and the next round tries again.
            log::error!("the log could not be moved into the database file: {error}");
        }
        if stopping {
            return;
        }
    }
}

fn checkpoint(connection: &Connection, writer: &Mutex<Writer>) -> rusqlite::Result<()> {
    passive(connection)?;
    let mut writer = writer.lock();
    passive(connection)?;
    writer.checkpointed();
    Ok(())
}

fn passive(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
