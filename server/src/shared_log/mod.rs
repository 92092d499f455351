//! The commit log that the processes of one branch share: which of them owns the branch, and how a row gets there.
//!
//! # The story
//!
//! A branch may keep its commit log elsewhere, in a store that is highly available by itself (`postgres/`), and run as
//! several processes, each with a working copy of the database. One of them *owns* the branch: it executes what clients
//! ask for, and appends each group to the log before it commits it (`dbs_exec`'s `commit_log/elsewhere.rs`). The others
//! are *standbys*: they follow the log and take over when the owner is silent (`replication/standby.rs`).
//!
//! - *The fence.* The store has one row that says who owns the branch: an epoch and a process. A row of the log is
//!   appended by a statement that takes effect only while that row still names its writer and the row before it in the
//!   log is the writer's, and the number of a row is a key. So two processes that both take themselves for the owner
//!   never both append, whatever their clocks and networks do. Nothing that is safe rests on time.
//! - *Silence.* Time only decides when a standby tries: when the owner's beat has not changed for [`OWNER_SILENCE`] by
//!   the standby's own monotonic clock. A standby that tries too early costs a change of owner, and no money.
//! - *Reads.* An owner that has not proved for [`OWNERSHIP_PROOF`] that it still is one stops answering what looks, too:
//!   the limit is shorter than the silence, so as long as clocks run at one speed nobody reads from an owner that was
//!   replaced.
//! - *The unknown* (`append.rs`). A row whose fate is not known is looked for until it is known, for a bounded time.
//!
//! [`SharedLog`] is this process's part in that, in whichever role; [`LogStore`] is what it asks of the store.

mod append;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod settings;
mod store;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use store::{LogStore, Look, Member, Owner, SnapshotHead, Tried, Trouble, View};

use crate::dbs_exec::{CommitError, LogRow, Position, RemoteLog};
use crate::error::{Error, Result};
use crate::limits::{LOG_AWAY_MAX, OWNER_SILENCE, OWNERSHIP_PROOF};

const _: () = assert!(OWNERSHIP_PROOF.as_millis() < OWNER_SILENCE.as_millis());

/// A process's part in the log that it shares with others.
pub struct SharedLog {
    store: Box<dyn LogStore>,
    /// When it was last certain that this process owns the branch: the instant before it asked.
    proved_at: Mutex<Option<Instant>>,
    /// Since when the store has not answered a write of the owner; none while it does.
    away_since: Mutex<Option<Instant>>,
    /// What writes are refused with since another process owns the branch.
    deposed: Mutex<Option<Error>>,
    is_stopping: AtomicBool,
    latency: Mutex<Latency>,
    /// Bytes of rows that were appended since the last snapshot, as far as this process knows.
    bytes_appended: AtomicU64,
    /// Wakes the thread that beats, when this process was deposed or stops.
    woken: Condvar,
}

/// How long appending takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Rows.
    pub rows: u64,
    /// How long they took together.
    pub total: Duration,
    /// The last one.
    pub last: Duration,
}

impl fmt::Debug for SharedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLog").finish_non_exhaustive()
    }
}

impl SharedLog {
    /// The log in this store.
    #[must_use]
    pub fn new(store: Box<dyn LogStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            proved_at: Mutex::default(),
            away_since: Mutex::default(),
            deposed: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            latency: Mutex::default(),
            bytes_appended: AtomicU64::new(0),
            woken: Condvar::new(),
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &dyn LogStore {
        &*self.store
    }

    /// Notes that this process owned the branch at an instant at which, or after which, the store was asked.
    pub fn prove(&self, asked_at: Instant) {
        let mut proved_at = self.proved_at.lock();
        *proved_at = Some(proved_at.map_or(asked_at, |proved| proved.max(asked_at)));
        drop(proved_at);
        *self.away_since.lock() = None;
    }

    /// Notes that this process has claimed the branch.
    pub fn claimed(&self, asked_at: Instant) {
        *self.deposed.lock() = None;
        self.prove(asked_at);
    }

    /// Notes that another process owns the branch, which is at `owner`, if that is known.
    pub fn depose(&self, owner: Option<String>) {
        let mut deposed = self.deposed.lock();
        if deposed.is_none() {
            log::warn!(
                "another process owns the branch now{}",
                owner.as_deref().map(|at| format!(", at {at}")).unwrap_or_default()
            );
            *deposed = Some(Error::NotPrimary { primary: owner });
        }
        drop(deposed);
        *self.proved_at.lock() = None;
        self.woken.notify_all();
    }

    /// Whether another process is known to own the branch.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        self.deposed.lock().is_some()
    }

    /// Whether the owner may answer what looks.
    ///
    /// # Errors
    /// [`Error::NoCommitLog`], or that another process owns the branch.
    pub fn check_ownership(&self) -> Result<()> {
        if let Some(refusal) = self.deposed.lock().clone() {
            return Err(refusal);
        }
        match *self.proved_at.lock() {
            Some(proved_at) if proved_at.elapsed() < OWNERSHIP_PROOF => Ok(()),
            Some(_) | None => Err(Error::NoCommitLog),
        }
    }

    /// How long ago this process was last certain that it owns the branch.
    #[must_use]
    pub fn proved_before(&self) -> Option<Duration> {
        self.proved_at.lock().map(|proved_at| proved_at.elapsed())
    }

    /// How long appending takes.
    #[must_use]
    pub fn latency(&self) -> Latency {
        *self.latency.lock()
    }

    /// How many bytes were appended since the last snapshot; set to none when there is a new one.
    #[must_use]
    pub fn bytes_appended(&self) -> &AtomicU64 {
        &self.bytes_appended
    }

    /// Sleeps so long, or until this process is deposed or stops.
    pub fn wait(&self, wait: Duration) {
        let mut deposed = self.deposed.lock();
        if deposed.is_none() && !self.is_stopping() {
            self.woken.wait_for(&mut deposed, wait);
        }
    }

    /// Ends a sleep in [`SharedLog::wait`].
    pub fn wake(&self) {
        self.woken.notify_all();
    }

    /// The process ends: nobody waits for the store any more.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.woken.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    fn note_away(&self) {
        self.away_since.lock().get_or_insert_with(Instant::now);
    }
}

impl RemoteLog for SharedLog {
    fn check_ready(&self) -> Result<()> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        // What has waited for long already is joined by nobody: it would be refused later, and after a longer wait.
        match *self.away_since.lock() {
            Some(since) if since.elapsed() > LOG_AWAY_MAX => Err(Error::NoCommitLog),
            Some(_) | None => Ok(()),
        }
    }

    fn refusal(&self) -> Option<Error> {
        self.deposed.lock().clone()
    }

    fn append(&self, before: &Position, row: &LogRow) -> Result<(), CommitError> {
        let begun = Instant::now();
        append::append(self, before, row)?;
        let took = begun.elapsed();
        let mut latency = self.latency.lock();
        *latency = Latency { rows: latency.rows + 1, total: latency.total + took, last: took };
        self.bytes_appended.fetch_add(row.body.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
