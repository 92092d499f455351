//! Moving the write-ahead log into the database file, off the writers' path.
//!
//! In WAL mode a commit appends to the log; from time to time the log's pages must be copied into the
//! database file, and a log that is wholly copied is written from its beginning again. SQLite would let
//! the unlucky thread whose commit passes a threshold do the copying. Here a thread with its own
//! connection does it: first a passive checkpoint beside the writers (the bulk of the work), then, with the readers'
//! gate closed and the writer's mutex held for the short rest, one that finds the log at rest and completes. So
//! the log can't grow without end under a load that never pauses; an idle branch gives the disk space back.
//!
//! Only the writer's connection lets the log begin anew: its generations are counted (`wal_ownership.rs`), and each
//! connection of SQLite counts for itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::dbs_exec::connection::open_connection;
use crate::dbs_exec::files::database_file::{Companion, DatabaseFile, length};
use crate::dbs_exec::open_error::OpenError;
use crate::dbs_exec::wal_gate::WalGate;
use crate::dbs_exec::writer::Writer;
use crate::limits::{
    BUSY_TIMEOUT, CHECKPOINT_IDLE, LOG_CHECKPOINT_BYTES, LOG_DRAIN_WAIT, LOG_HELD_AFTER, LOG_STALL_WAIT,
};

/// The thread that checkpoints, and the way to wake it.
pub struct Checkpointer {
    wake: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    wal_gate: Arc<WalGate>,
}

impl Checkpointer {
    /// Starts the thread.
    pub fn start(file: &DatabaseFile, writer: Arc<Mutex<Writer>>, wal_gate: Arc<WalGate>) -> Result<Self, OpenError> {
        let connection = open_connection(file.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // The writer's connection closes last, and tidies up.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // One signal is enough: the thread looks at everything that is there when it wakes.
        let (wake, woken) = bounded(1);
        let log = file.companion(Companion::Log);
        let shared_memory = file.companion(Companion::SharedMemory);
        let work = Work { connection, writer, wal_gate: Arc::clone(&wal_gate), log, shared_memory, held: None };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || work.run(&woken))?;
        Ok(Self { wake: Mutex::new(Some(wake)), thread: Mutex::new(Some(thread)), wal_gate })
    }

    /// Wakes the thread when much stands in the log.
    pub fn note(&self) {
        if self.wal_gate.bytes() >= LOG_CHECKPOINT_BYTES
            && let Some(wake) = &*self.wake.lock()
        {
            // A full channel means that the thread is awake already.
            let _ = wake.try_send(());
        }
    }

    /// Checkpoints once more and joins the thread.
    pub fn stop(&self) {
        drop(self.wake.lock().take());
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

/// What the thread works with.
struct Work {
    connection: Connection,
    writer: Arc<Mutex<Writer>>,
    wal_gate: Arc<WalGate>,
    log: PathBuf,
    shared_memory: PathBuf,
    /// Since when a reader keeps the log from beginning anew, and whether the log says so already.
    held: Option<Held>,
}

struct Held {
    since: Instant,
    is_told: bool,
}

impl Work {
    fn run(mut self, woken: &Receiver<()>) {
        loop {
            let (is_idle, is_stopping) = match woken.recv_timeout(CHECKPOINT_IDLE) {
                Ok(()) => (false, false),
                Err(RecvTimeoutError::Timeout) => (true, false),
                Err(RecvTimeoutError::Disconnected) => (true, true),
            };
            if self.writer.lock().is_abandoned() {
                // What is under the file's name is not what was opened: nothing of it is touched.
                if is_stopping {
                    return;
                }
                continue;
            }
            let has_work = self.wal_gate.bytes() > 0 || length(&self.log).is_ok_and(|length| length > Some(0));
            if has_work && let Err(error) = self.checkpoint(is_idle) {
                // Nothing is lost: the log keeps what could not be moved, and the next round tries again.
                log::error!("the log could not be moved into the database file: {error}");
            }
            if is_stopping {
                return;
            }
        }
    }

    fn checkpoint(&mut self, is_idle: bool) -> rusqlite::Result<()> {
        // The bulk of the work, beside writers and readers: a passive one waits for nobody and blocks nobody.
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        // At the bound writers wait: then the readers must end, else the log may grow a little more.
        let gate = self.wal_gate.close(if self.wal_gate.is_full() { LOG_STALL_WAIT } else { LOG_DRAIN_WAIT });
        let mut writer = self.writer.lock();
        // Now the WAL is at rest: the little that came meanwhile is moved, and the next commit writes it from its
        // beginning. When nothing goes on, the file is cut as well, and the disk gets its space back.
        let how = if is_idle { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(RESTART)" };
        // Nobody waits, with the writer's mutex held, for a reader of another program.
        writer.connection.busy_timeout(Duration::ZERO)?;
        let done = writer.connection.query_row(how, [], |row| row.get(0));
        writer.connection.busy_timeout(BUSY_TIMEOUT)?;
        let is_blocked: bool = match done {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => true,
            other => other?,
        };
        if !is_blocked {
            self.wal_gate.set_bytes(0);
            writer.log_was_moved();
        }
        // Nobody of this process is inside the gate, so the reader is another program's, and writers that would wait for
        // space would wait for it in vain.
        let is_held_elsewhere = is_blocked && gate.is_empty;
        // The writers first: they have waited with the mutex held here, the readers at the gate come after.
        drop(writer);
        self.wal_gate.set_held_elsewhere(is_held_elsewhere);
        drop(gate);
        self.note_whether_held(is_blocked, is_held_elsewhere);
        Ok(())
    }

    /// Says once who keeps the log, when it lasts.
    fn note_whether_held(&mut self, is_held: bool, is_elsewhere: bool) {
        if !is_held {
            if self.held.take().is_some_and(|held| held.is_told) {
                log::info!("the write-ahead log begins anew");
            }
            return;
        }
        let held = self.held.get_or_insert_with(|| Held { since: Instant::now(), is_told: false });
        if held.is_told || held.since.elapsed() < LOG_HELD_AFTER {
            return;
        }
        held.is_told = true;
        let who =
            if is_elsewhere { readers_elsewhere(&self.shared_memory) } else { "a long read of this branch".into() };
        log::warn!(
            "the write-ahead log ({} MiB) can't begin anew for {} s now, and grows with each write: {who} keeps a look at an older state open",
            self.wal_gate.bytes() >> 20,
            held.since.elapsed().as_secs()
        );
    }
}

/// Which programs read the database, as far as the system tells: they hold locks on its shared memory.
fn readers_elsewhere(shared_memory: &std::path::Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let unknown = || "another program".to_string();
    let (Ok(found), Ok(locks)) = (std::fs::metadata(shared_memory), std::fs::read_to_string("/proc/locks")) else {
        return unknown();
    };
    let inode = format!(":{}", found.ino());
    let mut readers: Vec<String> = locks
        .lines()
        .filter_map(|line| {
            // 1: POSIX  ADVISORY  READ 1234 fd:01:5678 123 123
            let mut words = line.split_ascii_whitespace().skip(4);
            let (process, file) = (words.next()?, words.next()?);
            let is_other = process != std::process::id().to_string();
            (is_other && file.ends_with(&inode)).then_some(process)
        })
        .map(|process| {
            let name = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            format!("{} (process {process})", if name.is_empty() { "another program" } else { name.trim() })
        })
        .collect();
    readers.sort();
    readers.dedup();
    if readers.is_empty() { "a copy that this branch makes, or another program,".into() } else { readers.join(", ") }
}
