//! The writing connection: a group of operations becomes one durable SQLite transaction.
//!
//! The heart is [`Writer::commit_group`]. It has three ways out, and each client of the group is told which: the group
//! is durable; nothing of it was changed; or nobody knows, and then the process stops ([`CommitError`]). Between two
//! groups the connection also serves whoever writes alone (`replication.rs`), and the checkpointer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use protocol::io_words::IoWords;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OptionalExtension};

use crate::allowance::Owner;
use crate::dbs_exec::chain::ChainHead;
use crate::dbs_exec::commit_log::group_log::GroupLog;
use crate::dbs_exec::commit_log::{CommitError, CommitLog};
use crate::dbs_exec::connection::storage_error;
use crate::dbs_exec::files::file_watch::{FileWatch, Lost};
use crate::dbs_exec::files::wal_ownership::Stamp;
use crate::dbs_exec::open_error::OpenError;
use crate::dbs_exec::submission::Work;
use crate::dbs_exec::tx::Tx;
use crate::dbs_exec::wal_gate::WalGate;
use crate::error::{Error, Result};
use crate::limits::{LOG_CHECKPOINT_BYTES, SUSPECT_FOR, SUSPECTS, WRITER_CACHE_KIB};

/// What stands before each page in the WAL, in bytes.
const FRAME_HEADER_BYTES: u64 = 24;

/// The one connection that writes.
///
/// Invariants: between two groups no transaction is open, and `chain_head` is what is on disk.
pub struct Writer {
    pub(super) connection: Connection,
    chain_head: ChainHead,
    /// How many commits have written a login, so that sessions know when to check their password again.
    pub(super) logins_written: Arc<AtomicU64>,
    /// Checks the files after each commit, once they are there.
    pub(super) watch: Option<Arc<FileWatch>>,
    /// Ties the WAL to the database with the first commit.
    pub(super) stamp: Option<Stamp>,
    is_abandoned: bool,
    /// Owners of whom an operation failed after it had written, and when.
    suspects: RefCell<HashMap<Owner, Instant>>,
    /// Set while another copy takes the end of the log, to be the primary next: no group is begun meanwhile.
    pub(super) is_handing_over: bool,
    /// Set once the connection to the file is closed.
    pub(super) is_closed: bool,
}

/// What a group came to, while its transaction is open.
struct Executed {
    chain_head: ChainHead,
    statements: u64,
    has_written_logins: bool,
    /// Its statements, where they are logged and there are any.
    log: Option<GroupLog>,
}

impl Writer {
    /// Takes over a connection to a migrated database.
    pub fn new(mut connection: Connection, wal_gate: Arc<WalGate>) -> Result<Self, OpenError> {
        // A commit is durable when it returns: SQLite forces the WAL to disk with each.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Checkpoints belong to the checkpointer, off the writers' path.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        // A WAL that is written from its beginning again gives back what it once needed beyond this.
        let kept_bytes = i64::try_from(LOG_CHECKPOINT_BYTES).unwrap_or(i64::MAX);
        connection.pragma_update(None, "journal_size_limit", kept_bytes)?;
        let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let frame_bytes = u64::from(page_bytes) + FRAME_HEADER_BYTES;
        // Told after each commit how many pages are in the WAL.
        connection.wal_hook(Some(move |_: &mut Wal, pages: std::ffi::c_int| {
            wal_gate.set_bytes(u64::try_from(pages).unwrap_or_default() * frame_bytes);
            Ok(())
        }))?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        let chain_head = connection
            .query_row(
                "SELECT transaction_id, hash FROM transactions ORDER BY transaction_id DESC LIMIT 1",
                [],
                |row| Ok(ChainHead { transaction_id: row.get(0)?, hash: row.get(1)? }),
            )
            .optional()?
            .unwrap_or(ChainHead::GENESIS);
        Ok(Self {
            connection,
            chain_head,
            logins_written: Arc::default(),
            watch: None,
            stamp: None,
            is_abandoned: false,
            suspects: RefCell::default(),
            is_handing_over: false,
            is_closed: false,
        })
    }

    /// Executes a group in one transaction and makes it durable. Returns the number of the last row in the commit log,
    /// up to which others must have it before the group is answered. That holds where the group only looked, too: what
    /// it saw may be of a group before it, which nobody has confirmed yet.
    ///
    /// # Errors
    /// What became of the group as a whole. Refusals of single operations are in their submissions.
    pub fn commit_group(&mut self, log: &dyn CommitLog, group: &[Arc<dyn Work>]) -> Result<i64, CommitError> {
        // A panic half-way through an operation would leave a transaction open that no code below
        // understands; the disk has the last whole state, so the process ends and starts from there.
        let abort_on_panic = AbortOnPanic;
        let outcome = self.commit_group_inner(log, group);
        std::mem::forget(abort_on_panic);
        outcome.map(|()| log.last_sequence())
    }

    fn commit_group_inner(&mut self, log: &dyn CommitLog, group: &[Arc<dyn Work>]) -> Result<(), CommitError> {
        let executed = match self.execute_group(log, group, false)? {
            Some(executed) => executed,
            // One of them has to be undone, and without savepoints there is no telling its writes from the others'.
            // The second run guards each, so it needs no third.
            None => self.execute_group(log, group, true)?.expect("with savepoints each operation is undone alone"),
        };
        if executed.statements == 0 {
            // Every operation was a refusal or only looked: there is nothing to make durable, and no fsync to pay.
            self.roll_back();
            return Ok(());
        }
        // The log first: once SQLite has committed, nothing could take the group back that the log refuses.
        let appended = executed.log.map(|group| log.append(&self.connection, &group)).transpose();
        let appended = appended.inspect_err(|_| self.roll_back())?;
        let is_elsewhere = appended.as_ref().is_some_and(|appended| appended.is_elsewhere);
        self.commit().map_err(|error| if is_elsewhere { error.after_append_elsewhere() } else { error })?;
        // From here on the group is durable, and what is kept in memory beside the database follows it.
        if executed.has_written_logins {
            self.logins_written.fetch_add(1, Ordering::SeqCst);
        }
        self.chain_head = executed.chain_head;
        if let Some(appended) = appended {
            log.publish(appended);
        }
        Ok(())
    }

    /// Opens a transaction and runs each operation in it, with a savepoint around each if `isolated`. `None`, and no
    /// transaction, when an operation that has no savepoint failed after it had written.
    ///
    /// # Errors
    /// What SQLite failed with; no transaction is open then, and nothing was changed.
    fn execute_group(&self, log: &dyn CommitLog, group: &[Arc<dyn Work>], isolated: bool) -> Result<Option<Executed>> {
        let executed = self.execute_each(log, group, isolated);
        if !matches!(executed, Ok(Some(_))) {
            self.roll_back();
        }
        executed
    }

    fn execute_each(&self, log: &dyn CommitLog, group: &[Arc<dyn Work>], isolated: bool) -> Result<Option<Executed>> {
        // IMMEDIATE takes SQLite's write lock now: an operation never finds in its middle that it can't write.
        self.run_statement("BEGIN IMMEDIATE")?;
        let mut tx = Tx::new(&self.connection, self.chain_head, log.begin());
        for work in group {
            // A batch that happens all or none is undone alone from the start: one savepoint, not a second run of
            // everything that shares its commit. So are the operations of an owner who had others run again lately.
            let guarded = isolated || work.weight() > work.len() || self.is_suspect(work.owner());
            for index in 0..work.len() {
                if !self.run_operation(work.as_ref(), index, guarded, &mut tx)? {
                    self.suspect(work.owner());
                    return Ok(None);
                }
            }
        }
        Ok(Some(Executed {
            chain_head: tx.chain_head,
            statements: tx.statements_written,
            has_written_logins: tx.has_written_logins,
            log: tx.into_log(),
        }))
    }

    /// Runs one operation, and leaves nothing of it when it fails. `false` when it left something, because it was not
    /// guarded by a savepoint.
    ///
    /// # Errors
    /// The transaction is gone, and the whole group with it.
    fn run_operation(&self, work: &dyn Work, index: usize, guarded: bool, tx: &mut Tx<'_>) -> Result<bool> {
        let mark = tx.mark();
        if guarded {
            self.run_statement("SAVEPOINT operation")?;
        }
        tx.last_failure = None;
        let succeeded = work.run(index, tx);
        if self.connection.is_autocommit() {
            // SQLite gave up the transaction by itself, as it may on a full disk or an I/O error; then
            // nothing of the group was changed.
            let cause = tx.last_failure.take();
            return Err(cause.unwrap_or_else(|| Error::Database("SQLite gave up the transaction".into())));
        }
        // Operations look before they write, so a refusal has nearly always left nothing to undo.
        if !succeeded && tx.has_written_since(&mark) {
            if !guarded {
                return Ok(false);
            }
            // What was noted of it goes as well: the rows are chained, and replicas told, as if it had never run.
            self.run_statement("ROLLBACK TO operation")?;
            tx.cut_back(mark);
        }
        if guarded {
            self.run_statement("RELEASE operation")?;
        }
        Ok(true)
    }

    /// Makes the open transaction durable.
    ///
    /// # Errors
    /// [`CommitError`]; the transaction is rolled back, as far as SQLite can.
    pub(super) fn commit(&mut self) -> Result<(), CommitError> {
        if let Some(stamp) = &mut self.stamp
            && let Err(error) = stamp.before_commit(&self.connection)
        {
            self.roll_back();
            return Err(lock_file_error(error).into());
        }
        if let Err(error) = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            self.roll_back();
            return Err(match storage_error(error) {
                // SQLite finds no space before it calls anything committed.
                Error::DiskFull => CommitError::NotDurable(Error::DiskFull),
                // A write or an fsync has failed. The kernel may have dropped the pages, and would call the next fsync a
                // success: so it can't be tried again, and what is on disk can't be asked from here.
                other => CommitError::Unknown(other.to_string()),
            });
        }
        if let Some(Err(error)) = self.stamp.as_mut().map(Stamp::after_commit) {
            // The next start asks the books whether the WAL is theirs.
            log::warn!("the lock file could not be written: {}", IoWords(&error));
        }
        // It is on disk; the clients are told so only if that is where somebody will find it.
        match self.watch.as_ref().map(|watch| watch.check()) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(Lost::Database(text) | Lost::Beside(text))) => Err(CommitError::Unknown(text)),
        }
    }

    /// Whether an operation of this owner failed lately after it had written.
    fn is_suspect(&self, owner: Owner) -> bool {
        let suspects = self.suspects.borrow();
        !suspects.is_empty() && suspects.get(&owner).is_some_and(|since| since.elapsed() < SUSPECT_FOR)
    }

    fn suspect(&self, owner: Owner) {
        let mut suspects = self.suspects.borrow_mut();
        if suspects.len() >= SUSPECTS {
            suspects.retain(|_, since| since.elapsed() < SUSPECT_FOR);
        }
        if suspects.len() < SUSPECTS {
            suspects.insert(owner, Instant::now());
        }
    }

    pub(super) fn run_statement(&self, sql: &'static str) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        statement.execute([]).map_err(storage_error)?;
        Ok(())
    }

    /// Ends the open transaction, if there still is one, without a trace.
    pub(super) fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.run_statement("ROLLBACK")
        {
            log::error!("the database could not roll back: {error}");
        }
    }

    /// Notes that a checkpoint has moved everything, so that the WAL begins anew.
    pub fn log_was_moved(&mut self) {
        if let Some(Err(error)) = self.stamp.as_mut().map(Stamp::log_was_moved) {
            log::warn!("the lock file could not be written: {}", IoWords(&error));
        }
    }

    /// Whether the files are no longer those under their names.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }

    /// The open files are no longer those under their names: what can still be saved is, and what stands under the
    /// names now is left alone. Returns what happened, in words.
    pub fn abandon(&mut self, lost: &Lost) -> String {
        let text = match lost {
            Lost::Database(text) => {
                // So that no restart begins a new bank where this one was.
                if let Some(Err(error)) = self.stamp.as_mut().map(Stamp::file_is_lost) {
                    log::warn!("the lock file could not be written: {}", IoWords(&error));
                }
                format!("{text}: the branch stops, because what it writes there nobody would find")
            }
            // The database itself is in its place, and SQLite has the lost log open still.
            Lost::Beside(text) => {
                let moved = self.connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| row.get::<_, bool>(0));
                match moved {
                    Ok(false) => format!("{text}: the branch stops; its newest commits were moved into the database"),
                    Ok(true) => format!(
                        "{text}: the branch stops; a part of its newest commits may be lost, because another program reads the database"
                    ),
                    Err(error) => format!(
                        "{text}: the branch stops, and its newest commits could not be moved into the database ({error})"
                    ),
                }
            }
        };
        self.is_abandoned = true;
        if let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            log::warn!("the database may tidy up when it is closed: {error}");
        }
        text
    }

    /// Closes the connection to the file. An empty database in memory takes its place, which nobody is let near:
    /// so every other function may count on a connection.
    pub fn close(&mut self) {
        self.is_closed = true;
        // With it goes this share of the file's lock.
        self.stamp = None;
        match Connection::open_in_memory() {
            Ok(nothing) => {
                let connection = std::mem::replace(&mut self.connection, nothing);
                if let Err((_, error)) = connection.close() {
                    log::error!("the database could not be closed: {error}");
                }
            }
            // It closes with the last user of the database instead.
            Err(error) => log::error!("the database stays open: {error}"),
        }
    }
}

/// A lock file that can't be written is a failure of the disk.
fn lock_file_error(error: OpenError) -> Error {
    match error {
        OpenError::Sqlite(error) => storage_error(error),
        OpenError::DiskFull => Error::DiskFull,
        other => Error::Database(other.to_string()),
    }
}

/// Ends the process when it is dropped, which only unwinding does.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        log::error!("an operation panicked inside the database transaction; the branch stops and recovers from disk");
        std::process::abort();
    }
}

#[cfg(test)]
impl Writer {
    /// Lets the file grow by a few pages only.
    pub fn limit_pages_for_test(&self) {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        self.connection.pragma_update(None, "max_page_count", pages + 8).unwrap();
    }
}
