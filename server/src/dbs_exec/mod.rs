//! `dbs_exec`: the one module that knows SQLite. Every query of the branch goes through it.
//!
//! Read it in this order: this page, `group.rs` (who leads the next commit), `lead.rs` (what a leader does),
//! `writer.rs` (the commit), `tx.rs` (what an operation sees), `handed_in.rs` (how a client is answered without waking
//! its thread).
//!
//! # Why one funnel
//!
//! SQLite lets one connection write at a time. Rather than let a hundred client threads fight for that
//! place and handle each other's "database is locked", they hand their work to [`DbsExec::execute`], which
//! owns the only writing connection behind a mutex. Whoever holds the mutex is alone with the database, so
//! an operation (say, a transfer: look at the payer, look at the receiver, change both, write the row)
//! needs no further locking to be isolated from all others.
//!
//! # What goes through the mutex, and what doesn't
//!
//! Every write does: what clients ask for, what the branch writes for itself ([`DbsExec::execute_internal`],
//! [`DbsExec::execute_lazy`]), a primary's groups at a replica and every change of what this copy is
//! (`replication.rs`), and the short end of a checkpoint (`checkpoint.rs`). So does what an operation reads in order
//! to write: that has to be true until its commit.
//!
//! Reads alone don't ([`DbsExec::read`]). In WAL mode SQLite shows each reading connection the database as it was at
//! one instant, whatever is committed meanwhile, so a reader needs no lock to see whole transfers; with the mutex, a
//! long history would hold up every payment. They use connections of their own (`readers.rs`), and the copies of
//! whole databases do, too (`snapshot.rs`). A client reads its own writes all the same, because an answer is sent
//! only after the commit. Nor does anybody hold the mutex who waits: for a place in a group, for replicas, for the
//! network.
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
//! # Who waits for a commit
//!
//! [`DbsExec::execute`] returns when the operation is durable, and its thread sleeps until then. Of a thousand clients
//! that costs a thousand wake-ups for a thousand answers, about as much as the work itself. [`DbsExec::execute_then`] is
//! the same funnel without the sleep: a thread hands its operation in with a word on what is to be done with the result,
//! and goes back to its client. One thread then answers all clients of a group. The promise is the same: nobody hears of
//! a result before it is on disk.
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
//! # Who else must have it
//!
//! Because every write statement goes through `Tx::execute`, that is also where it is logged for others. The funnel
//! knows of them only by the trait `CommitLog` (`commit_log/mod.rs`), which it asks for each group: may it write, append
//! its row, it is committed, where does the log end, wait until it is confirmed. Replicas stand behind that
//! (`replication_log/`, driven by the module `replication` above). A branch that never had a replica logs nothing.
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
mod handed_in;
mod kind;
mod lead;
mod open_error;
mod opening;
mod readers;
mod replication;
mod replication_log;
mod schema;
mod snapshot;
mod submission;
mod tx;
mod wal_gate;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

pub use chain::{ChainHead, ChainedRow};
pub use commit_log::elsewhere::RemoteLog;
pub use commit_log::group_log::{Decoder, LogDigest, LogError, LogRow, Position, push_bytes, push_number, push_value};
pub use commit_log::{CommitError, Confirmed};
pub use files::database_file::{DatabaseFile, remove_database};
pub use files::file_lock::FileLock;
pub use files::read_only::ReadOnlyDatabase;
pub use files::replace::{lock_to_replace, replace_database};
pub use files::temporary_file::TemporaryFile;
pub use kind::Kind;
pub use open_error::OpenError;
pub use opening::{Failure, Judge, Opening};
pub use replication::PromotionOrder;
pub use replication_log::apply::ApplyError;
pub use replication_log::compare::{SharedTable, Slice};
pub use replication_log::copy_state::{CopyRole, CopyState, EpochStart};
pub use replication_log::feed::{Feed, WaitEvent, WaitHook};
pub use rusqlite::types::{Value, ValueRef};
pub use rusqlite::{Row, params};
pub use schema::{CASH, SUSPENSE, SchemaObject, TOTAL_CARRY, expected_schema, newest_version};
pub use snapshot::{check_copy, copy_database, put_in_place};
pub use submission::Then;
pub use tx::{Params, Previous, Query, Reader, Tx};

use crate::allowance::Owner;
use crate::error::{Error, Result};
use crate::limits::QUEUE_OPERATIONS;
use checkpoint::Checkpointer;
use commit_log::CommitLog;
use commit_log::elsewhere::ElsewhereLog;
use files::file_watch::{FileWatch, FileWatcher};
use group::Queue;
use handed_in::HandedIn;
use readers::Readers;
use replication_log::ReplicationLog;
use submission::{Submission, Turn};
use wal_gate::WalGate;
use writer::Writer;

/// What is executed: a function of the database and of what it has captured, which may run in another thread, and twice.
pub trait Operation<T>: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static {}

impl<T, F: FnMut(&mut Tx<'_>) -> Result<T> + Send + 'static> Operation<T> for F {}

/// A branch's database: one writer behind a mutex, several readers, a checkpointer.
///
/// Invariants:
/// - whoever writes holds the writer: the queue's leader, or one that changes what this copy is;
/// - when [`DbsExec::execute`] returns `Ok`, the operation is on disk;
/// - once a commit's outcome is unknown, no further write reaches the database.
pub struct DbsExec {
    /// Before all that it watches.
    watcher: FileWatcher,
    queue: Mutex<Queue>,
    /// Who commits and answers what no thread waits for, once something was handed in.
    handed_in: OnceLock<Option<HandedIn>>,
    checkpointer: Checkpointer,
    /// Before the writer, so that the writer's connection closes last: only one that may write can put the
    /// WAL away.
    readers: Readers,
    wal_gate: Arc<WalGate>,
    writer: Arc<Mutex<Writer>>,
    /// Rung when a hand-over has come to its end, one way or the other.
    hand_over_ended: Condvar,
    /// Set when a commit's outcome is unknown, at [`DbsExec::close`], or when this copy changes its role: no more
    /// writes.
    closed: Arc<AtomicBool>,
    /// Who must have each group as well.
    commit_log: Arc<dyn CommitLog>,
    /// The same one, for what replication asks of it beside.
    replication_log: Arc<ReplicationLog>,
    /// The same one, where a log elsewhere stands before it.
    elsewhere: Option<Arc<ElsewhereLog>>,
    logins_written: Arc<AtomicU64>,
    /// A copy changes its role only by being opened again.
    is_primary: bool,
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
    pub fn execute<T: Send + 'static>(&self, operation: impl Operation<T>) -> Result<T> {
        self.execute_whole(Owner::Branch, 1, operation)
    }

    /// Executes several operations in one commit, each undone alone if it fails. The results are in the operations'
    /// order, which is also the order of execution. A client's work takes its turn among that of others.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::Stopping`] when none was tried; else each has its own result.
    pub fn execute_for<T: Send + 'static>(
        &self,
        owner: Owner,
        operations: Vec<impl Operation<T>>,
    ) -> Result<Vec<Result<T>>> {
        self.submit((owner, operations.len()), operations, ConfirmationWait::Bounded)
    }

    /// As [`DbsExec::execute_for`], without waiting: `then` is called with the results by another thread, when they are
    /// durable, and in the order in which this owner has handed its work in. Where nobody leads, the calling thread does,
    /// and gets the results and `then` back: one client alone is answered without any other thread.
    ///
    /// A refusal of the whole (see there) is each operation's result, and comes back at once.
    pub fn execute_then<T: Send + 'static>(
        self: &Arc<Self>,
        owner: Owner,
        operations: Vec<impl Operation<T>>,
        then: Then<T>,
    ) -> Option<(Vec<Result<T>>, Then<T>)> {
        let count = operations.len();
        let refused = |error: &Error| (0..count).map(|_| Err(error.clone())).collect();
        if let Err(error) = self.check_open_for_clients() {
            return Some((refused(&error), then));
        }
        self.handed_in.get_or_init(|| {
            let started = HandedIn::start(Arc::downgrade(self), Arc::clone(&self.commit_log));
            started.inspect_err(|error| log::error!("{error}")).ok()
        });
        let submission = Arc::new(Submission::handed_in(owner, operations, then));
        let entered = self.queue.lock().enter(Arc::clone(&submission) as _, QUEUE_OPERATIONS);
        if entered == Ok(false) {
            return None;
        }
        // Until the lead is taken nobody else sees it.
        let then = submission.take_back().expect("what is not in the queue is still this thread's");
        if let Err(error) = entered {
            return Some((refused(&error), then));
        }
        self.lead();
        Some((submission.take_results_for_client(), then))
    }

    /// Executes one operation of a client that carries out so many requests, all or none.
    ///
    /// # Errors
    /// As [`DbsExec::execute`].
    pub fn execute_whole<T: Send + 'static>(
        &self,
        owner: Owner,
        requests: usize,
        operation: impl Operation<T>,
    ) -> Result<T> {
        // One operation that counts as many: so the writer knows to guard it by a savepoint, and the queue how long it
        // takes.
        let mut results = self.submit((owner, requests.max(1)), vec![operation], ConfirmationWait::Bounded)?;
        results.pop().expect("there is one result for each operation")
    }

    /// As [`DbsExec::execute_for`], for the branch's own work that others rely on, such as the records of a transfer
    /// under way: it is never turned away, and waits for replicas as long as it takes. Its own bounds keep it small. It
    /// counts as so many requests.
    ///
    /// # Errors
    /// [`Error::Stopping`] when none was tried; else each has its own result.
    pub fn execute_internal<T: Send + 'static>(
        &self,
        weight: usize,
        operations: Vec<impl Operation<T>>,
    ) -> Result<Vec<Result<T>>> {
        self.submit((Owner::Branch, weight.max(operations.len())), operations, ConfirmationWait::Unbounded)
    }

    /// Lets the next group take an operation along, and does not wait for it. Only for what may be lost in a
    /// crash: it is on disk before anything that is executed after this returns, or never.
    pub fn execute_lazy(&self, operation: impl Operation<()>) {
        self.queue.lock().add_lazy(Arc::new(Submission::new(Owner::Branch, 1, vec![operation])));
    }

    /// Commits what [`DbsExec::execute_lazy`] has left, if no group came by to take it along.
    ///
    /// # Errors
    /// As [`DbsExec::execute`].
    pub fn flush(&self) -> Result<()> {
        if self.queue.lock().has_lazy() {
            // An operation that does nothing: the group that it makes takes along what waits.
            self.submit((Owner::Branch, 1), vec![|_: &mut Tx<'_>| Ok(())], ConfirmationWait::None)?
                .into_iter()
                .collect()
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
        self.commit_log.wait_until_ready()
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
    fn stop_for(&self, writer: &mut Writer, unknown: &str) {
        self.refuse_all();
        // A commit that fails because its files were taken away is told as that: the disk is in order then.
        let failure = match self.watch.check() {
            Err(lost) => Failure::FilesLost(writer.abandon(&lost)),
            Ok(()) => Failure::Disk(Error::OutcomeUnknown(unknown.into())),
        };
        log::error!("{failure}");
        (self.on_failure)(&failure);
    }

    fn submit<T: Send + 'static>(
        &self,
        (owner, weight): (Owner, usize),
        operations: Vec<impl Operation<T>>,
        wait: ConfirmationWait,
    ) -> Result<Vec<Result<T>>> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let queue_limit = match wait {
            ConfirmationWait::Bounded => {
                self.check_open_for_clients()?;
                QUEUE_OPERATIONS
            }
            // The branch's own work is never turned away: a transfer under way can't be forgotten because it is busy.
            ConfirmationWait::Unbounded | ConfirmationWait::None if self.is_closed() => return Err(Error::Stopping),
            ConfirmationWait::Unbounded | ConfirmationWait::None => usize::MAX,
        };
        let submission = Arc::new(Submission::new(owner, weight, operations));
        // From here on another thread may execute it, and this one may have to lead for others.
        let leads_at_once = self.queue.lock().enter(Arc::clone(&submission) as _, queue_limit)?;
        if leads_at_once || submission.wait() == Turn::Lead {
            self.lead();
        }
        match (submission.unconfirmed(), wait) {
            (_, ConfirmationWait::Bounded) => Ok(submission.take_results_for_client()),
            (None, _) | (Some(_), ConfirmationWait::None) => Ok(submission.take_results()),
            // Other branches will rely on it: nothing of it may be told before replicas have it.
            (Some(sequence), ConfirmationWait::Unbounded) => match self.commit_log.wait_confirmed(sequence, None) {
                Confirmed::Yes => Ok(submission.take_results()),
                Confirmed::NotInTime | Confirmed::Stopping => Err(Error::Stopping),
            },
        }
    }

    /// Whether a client's operations may enter the queue.
    fn check_open_for_clients(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::Stopping);
        }
        // Without the replicas that must have it, the group would be executed and never be confirmed. A replica
        // confirms nothing; what its clients may do is look.
        if self.is_primary { self.commit_log.wait_until_ready() } else { Ok(()) }
    }

    /// Runs `write` in a transaction of its own, with the mutex held as by a leader, and commits it.
    ///
    /// # Errors
    /// That of `write`, which is then undone, or what the commit failed with.
    fn write_alone<T, E: From<Error>>(
        &self,
        writer: &mut Writer,
        write: impl FnOnce(&rusqlite::Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        writer.run_statement("BEGIN IMMEDIATE")?;
        let written = write(&writer.connection).inspect_err(|_| writer.roll_back())?;
        writer.commit().map_err(|error| {
            if let CommitError::Unknown(text) = &error {
                self.stop_for(writer, text);
            }
            Error::from(error)
        })?;
        Ok(written)
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
        if let Some(handed_in) = self.handed_in() {
            handed_in.stop();
        }
        self.watcher.stop();
        // After the refusal: nothing more comes into the log, so its last checkpoint is complete.
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

/// Whether a submission waits until those who must have it have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConfirmationWait {
    /// For a stated time: its client is told that it was refused, or that it is not confirmed.
    Bounded,
    /// As long as it takes.
    Unbounded,
    /// Not at all.
    None,
}

#[cfg(test)]
mod tests;
