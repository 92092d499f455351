//! `dbs_exec`: the one module that knows SQLite. Every query of the branch goes through it.
//!
//! # Why one funnel
//!
//! SQLite lets one connection write at a time. Rather than let a hundred client threads fight for that
//! place and handle each other's "database is locked", they hand their work to [`DbsExec::execute`], which
//! owns the only writing connection behind a mutex. Whoever holds the mutex is alone with the database, so
//! an operation (say, a transfer: look at the payer, look at the receiver, change both, write the row)
//! needs no further locking to be isolated from all others.
//!
//! # Why groups
//!
//! An answer is sent only after its commit is on disk (`synchronous=FULL`), and making a commit durable
//! costs an fsync: perhaps a millisecond, in which the processor could have done a hundred transfers. One
//! fsync per transfer would make the disk the limit. So operations that arrive while a commit is under way
//! wait in a queue, and the next holder of the mutex executes *all* of them in one SQLite transaction with
//! one fsync. Nobody waits for a group to fill: a lone client commits at once, and the busier the bank is,
//! the larger the groups become by themselves. This is group commit (DeWitt et al., "Implementation
//! techniques for main memory database systems", 1984); `group.rs` tells how leaders are chosen.
//!
//! # One operation fails, the others don't
//!
//! Operations look before they write, so nearly all refusals (too little money, no such account) leave
//! nothing to undo, and the group goes on. Should an operation fail *after* it has written, the whole group
//! is rolled back and executed once more with a savepoint around each operation, so that the faulty one is
//! undone alone. Savepoints are not free, so the usual case does without; a batch that happens all or none always has
//! one, and so have the operations of whoever made a group run twice lately. It follows that an operation may
//! run twice and must be a function of the database and its inputs alone: no I/O, no clock, no chance.
//!
//! # When the disk fails
//!
//! - *Full* (`SQLITE_FULL`): the group is rolled back, each of its clients is told that nothing was
//!   changed, and the branch goes on; reads still work, and writes do when there is space again.
//! - *Any other failure of the commit itself* (an I/O error from write or fsync): whether the commit is on
//!   disk is unknowable from inside (after a failed fsync the kernel may drop the pages and call the next
//!   fsync a success). Each client of the group is told that the outcome is unknown, the funnel refuses all
//!   further work, and the process stops loudly with a non-zero status. The next start recovers from the
//!   disk, which is right whichever way it went.
//!
//! # Reading
//!
//! Reads use connections of their own (WAL mode gives each a snapshot) and never wait for a write. A
//! client reads its own writes, because an answer is sent only after the commit.
//!
//! # Replicas
//!
//! Because every write statement goes through `Tx::execute`, that is also where it is logged for replicas:
//! `commit_log/group_log.rs` has the encoding, `replication_log/feed.rs` what replicas are sent and have confirmed, `apply.rs` how a replica
//! executes it, `copy_state.rs` whether this copy is the primary, `compare.rs` and `snapshot.rs` comparing and copying a
//! whole database. The module `replication` above drives them. A branch that never had a replica logs nothing.
//!
//! # What is left out
//!
//! The module doesn't know what an account is: the rules of the bank are functions in `bank`, executed
//! here. The exceptions are the schema and the hash chain, which are about rows.

mod chain;
mod checkpoint;
mod commit_log;
mod connection;
mod files;
mod group;
mod open_error;
mod opening;
mod readers;
mod replication_log;
mod schema;
mod snapshot;
mod tx;
mod wal_gate;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

pub use chain::{ChainHead, ChainedRow};
pub use commit_log::group_log::{Decoder, LogDigest, LogError, LogRow, Position, push_bytes, push_number, push_value};
pub use files::database_file::{DatabaseFile, remove_database};
pub use files::file_lock::FileLock;
pub use files::read_only::ReadOnlyDatabase;
pub use files::replace::{lock_to_replace, replace_database};
pub use files::temporary_file::TemporaryFile;
pub use open_error::OpenError;
pub use opening::{Failure, Judge, Opening};
pub use replication_log::apply::{ApplyError, PromotionOrder};
pub use replication_log::compare::{SharedTable, Slice};
pub use replication_log::copy_state::{CopyRole, CopyState, EpochStart};
pub use replication_log::feed::{Confirmed, Feed, WaitEvent, WaitHook};
pub use rusqlite::types::{Value, ValueRef};
pub use rusqlite::{Row, params};
pub use schema::{CASH, SUSPENSE, SchemaObject, TOTAL_CARRY, expected_schema, newest_version};
pub use snapshot::{check_copy, copy_database, put_in_place};
pub use tx::{Params, Query, Reader, Tx};

use crate::allowance::Owner;
use crate::error::{Error, Result};
use checkpoint::Checkpointer;
use connection::{open_connection, storage_error};
use files::file_watch::{FileWatch, FileWatcher};
use group::{Queue, Settled, Submission, Turn};
use readers::Readers;
use wal_gate::WalGate;
use writer::Writer;

/// A branch's database: one writer behind a mutex, several readers, a checkpointer.
///
/// Invariants:
/// - at most one thread holds the writer, and it is the queue's leader;
/// - when [`DbsExec::execute`] returns `Ok`, the operation is on disk;
/// - once a commit's outcome is unknown, no further write reaches the database.
pub struct DbsExec {
    /// Before all that it watches.
    watcher: FileWatcher,
    queue: Mutex<Queue>,
    checkpointer: Checkpointer,
    /// Before the writer, so that the writer's connection closes last: only one that may write can put the
    /// log away.
    readers: Readers,
    wal_gate: Arc<WalGate>,
    writer: Arc<Mutex<Writer>>,
    /// Set when a commit's outcome is unknown, at [`DbsExec::close`], or when this copy changes its role: no more
    /// writes.
    closed: Arc<AtomicBool>,
    feed: Arc<Feed>,
    logins_written: Arc<AtomicU64>,
    /// A copy changes its role only by being opened again.
    is_primary: bool,
    /// The writer's, where nobody waits for it.
    copy_state: Mutex<CopyState>,
    /// Whether the last write found too few replicas, so that the log says it once.
    lacks_replicas: AtomicBool,
    on_failure: Arc<dyn Fn(&Failure) + Send + Sync>,
    watch: Arc<FileWatch>,
    path: PathBuf,
    /// Given back by [`DbsExec::close`]; after the connections, so that the file is unlocked when each is closed.
    file_lock: Mutex<Option<Arc<FileLock>>>,
    end: Receiver<()>,
    /// Last of all: whoever holds `end` learns that the database is closed and unlocked.
    ended: Mutex<Option<Sender<()>>>,
}

impl DbsExec {
    /// Is disconnected when the database is closed and unlocked, by [`DbsExec::close`] or by its last user.
    #[must_use]
    pub fn end(&self) -> Receiver<()> {
        self.end.clone()
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Executes one operation in a write transaction and returns when it is durable.
    ///
    /// The operation may be run by another client's thread, and may be run twice (see the module's
    /// documentation), so it depends on the database and on its captured inputs alone.
    ///
    /// # Errors
    /// The operation's own refusal (nothing is then changed), [`Error::Busy`], [`Error::Stopping`],
    /// [`Error::DiskFull`], [`Error::OutcomeUnknown`] or [`Error::Database`].
    pub fn execute<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let mut results = self.execute_all(vec![operation])?;
        results.pop().expect("there is one result for each operation")
    }

    /// As [`DbsExec::execute_all`], for a client: its work takes its turn among that of others.
    ///
    /// # Errors
    /// As [`DbsExec::execute_all`].
    pub fn execute_for<T, F>(&self, owner: Owner, operations: Vec<F>) -> Result<Vec<Result<T>>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.submit((owner, operations.len()), operations, ReplicaWait::Bounded)
    }

    /// Executes one operation of a client that carries out so many requests, all or none.
    ///
    /// # Errors
    /// As [`DbsExec::execute`].
    pub fn execute_whole<T, F>(&self, owner: Owner, requests: usize, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let mut results = self.submit((owner, requests.max(1)), vec![operation], ReplicaWait::Bounded)?;
        results.pop().expect("there is one result for each operation")
    }

    /// Executes several operations of the branch's own in one commit, each undone alone if it fails. The results
    /// are in the operations' order, which is also the order of execution.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Stopping`] when none was tried; else each has its own result.
    pub fn execute_all<T, F>(&self, operations: Vec<F>) -> Result<Vec<Result<T>>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.submit((Owner::Branch, operations.len()), operations, ReplicaWait::Bounded)
    }

    /// As [`DbsExec::execute_all`], for what the branch owes to others, such as the records of a transfer
    /// under way: it is never turned away, and waits for replicas as long as it takes. Its own bounds keep it small.
    ///
    /// # Errors
    /// [`Error::Stopping`] when none was tried; else each has its own result.
    pub fn execute_internal<T, F>(&self, operations: Vec<F>) -> Result<Vec<Result<T>>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.submit((Owner::Branch, operations.len()), operations, ReplicaWait::Unbounded)
    }

    /// Lets the next group take an operation along, and does not wait for it. Only for what may be lost in a
    /// crash: it is on disk before anything that is executed after this returns, or never.
    pub fn execute_lazy<F>(&self, operation: F)
    where
        F: FnMut(&mut Tx<'_>) -> Result<()> + Send + 'static,
    {
        self.queue.lock().add_lazy(Arc::new(Submission::new(Owner::Branch, 1, vec![operation])));
    }

    /// Commits what [`DbsExec::execute_lazy`] has left, if no group came by to take it along.
    ///
    /// # Errors
    /// As [`DbsExec::execute`].
    pub fn flush(&self) -> Result<()> {
        if self.queue.lock().has_lazy() {
            self.submit((Owner::Branch, 1), vec![|_: &mut Tx<'_>| Ok(())], ReplicaWait::None)?.into_iter().collect()
        } else {
            Ok(())
        }
    }

    /// Whether writes are taken: this copy is the primary, and as many replicas follow as must have each write.
    /// Waits a moment for replicas.
    ///
    /// # Errors
    /// [`Error::NotPrimary`], [`Error::Fenced`], [`Error::ReplicasMissing`].
    pub fn check_writable(&self) -> Result<()> {
        if !self.is_primary
            && let Some(refusal) = self.copy_state().refusal()
        {
            return Err(refusal);
        }
        let needed = self.feed.needed();
        if needed == 0 {
            return Ok(());
        }
        let is_enough = self.feed.has_enough() || self.feed.wait_for_replicas(SYNC_CONNECT_WAIT);
        let connected = self.feed.in_sync();
        if self.lacks_replicas.swap(!is_enough, Ordering::SeqCst) == is_enough {
            match is_enough {
                true => log::info!("writes are taken again: {connected} replicas follow"),
                false => log::warn!("writes are refused: {needed} replicas must have each, and {connected} follow"),
            }
        }
        if is_enough { Ok(()) } else { Err(Error::ReplicasMissing { connected, needed }) }
    }

    /// What replicas are sent, and how far they are.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Keeps about so much of the replication log, in bytes, from now on.
    pub fn keep_log(&self, bytes: i64) {
        self.writer.lock().keep_log(bytes);
    }

    /// How many commits have written a login (or, at a replica, may have).
    #[must_use]
    pub fn logins_written(&self) -> u64 {
        self.logins_written.load(Ordering::SeqCst)
    }

    /// Whether nothing is executed any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends all writing: called with the writer's mutex held.
    fn refuse_all(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Nobody knows what is on disk, or the files are no longer ours: the process stops.
    fn stop_for(&self, writer: &mut Writer, error: &Error) {
        self.refuse_all();
        let failure = match self.watch.check() {
            Err(lost) => Failure::FilesLost(writer.abandon(&lost)),
            Ok(()) => Failure::Disk(error.clone()),
        };
        self.stop(&failure);
    }

    fn stop(&self, failure: &Failure) {
        self.refuse_all();
        log::error!("{failure}");
        (self.on_failure)(failure);
    }

    fn submit<T, F>(
        &self,
        (owner, weight): (Owner, usize),
        operations: Vec<F>,
        replica_wait: ReplicaWait,
    ) -> Result<Vec<Result<T>>>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_closed() {
            return Err(Error::Stopping);
        }
        let queue_limit = match replica_wait {
            ReplicaWait::Bounded => {
                if self.is_primary {
                    self.check_writable()?;
                }
                QUEUE_OPERATIONS
            }
            ReplicaWait::Unbounded | ReplicaWait::None => usize::MAX,
        };
        let submission = Arc::new(Submission::new(owner, weight, operations));
        let leads_at_once = self.queue.lock().enter(Arc::clone(&submission) as _, queue_limit)?;
        if leads_at_once || submission.wait() == Turn::Lead {
            self.lead();
        }
        let results = submission.take_results();
        match (submission.unconfirmed(), replica_wait) {
            (None, _) | (Some(_), ReplicaWait::None) => Ok(results),
            // What was refused changed nothing, and stays refused.
            (Some(_), ReplicaWait::Bounded) => {
                Ok(results.into_iter().map(|result| result.and(Err(Error::Unconfirmed))).collect())
            }
            // Others will stand on it: nothing of it may be told before replicas have it.
            (Some(sequence), ReplicaWait::Unbounded) => match self.feed.wait_confirmed(sequence, None) {
                Confirmed::Yes => Ok(results),
                Confirmed::NotInTime | Confirmed::Stopping => Err(Error::Stopping),
            },
        }
    }

    /// Commits the group at the front of the queue, hands the lead on, and wakes the group.
    fn lead(&self) {
        self.wal_gate.wait_for_space();
        let group = self.queue.lock().take_group();
        let outcome = {
            let mut writer = self.writer.lock();
            if self.is_closed() {
                Err(Error::Stopping)
            } else {
                let outcome = writer.commit_group(&group);
                if let Err(error @ Error::OutcomeUnknown(_)) = &outcome {
                    self.stop_for(&mut writer, error);
                }
                self.checkpointer.note();
                outcome
            }
        };
        // The next group starts before this one's clients wake up: the writer never waits for them.
        self.queue.lock().hand_on();
        let settled = match &outcome {
            Err(error) => Settled::Failed(error),
            Ok(sequence) => match self.feed.wait_confirmed(*sequence, Some(SYNC_CONFIRM_WAIT)) {
                Confirmed::Yes => Settled::Durable,
                Confirmed::NotInTime | Confirmed::Stopping => Settled::Unconfirmed(*sequence),
            },
        };
        for submission in group {
            submission.settle(settled);
        }
    }

    /// Runs `read` on a snapshot of the database. Never waits for a writer.
    ///
    /// # Errors
    /// `read`'s own, or [`Error::Database`].
    pub fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> Result<T>) -> Result<T> {
        self.readers.read(read)
    }

    /// Lets the group under way finish, refuses all that comes after it, moves the log into the database file, closes
    /// every connection and unlocks the file. Whoever still holds this and asks later is told that the branch is
    /// stopping, so nobody who is slow to leave holds up the next opening.
    pub fn close(&self) {
        if let Err(error) = self.flush()
            && error != Error::Stopping
        {
            log::warn!("what could be left for later was lost: {error}");
        }
        self.refuse_all();
        self.watcher.stop();
        self.checkpointer.stop();
        // The writer's connection closes last: only one that may write can put the log away.
        let is_left = self.readers.close();
        self.writer.lock().close();
        if is_left {
            // The lock stays until the last user lets go, and with it `end`.
            return;
        }
        drop(self.file_lock.lock().take());
        drop(self.ended.lock().take());
    }
}

use crate::limits::{QUEUE_OPERATIONS, SYNC_CONFIRM_WAIT, SYNC_CONNECT_WAIT};

/// How long a submission waits for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReplicaWait {
    /// A stated time: its client is told that it was refused, or that it is not confirmed.
    Bounded,
    /// As long as it takes.
    Unbounded,
    /// Not at all.
    None,
}

#[cfg(test)]
mod tests;
