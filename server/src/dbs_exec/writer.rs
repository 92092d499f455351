//! The writing connection: a group of operations becomes one durable SQLite transaction.

use protocol::io_words::IoWords;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OptionalExtension, params};

use crate::allowance::Owner;
use crate::clock::unix_ms_now;
use crate::dbs_exec::chain::ChainHead;
use crate::dbs_exec::commit_log::group_log::{GroupLog, LogRow, Position};
use crate::dbs_exec::connection::storage_error;
use crate::dbs_exec::files::file_watch::{FileWatch, Lost};
use crate::dbs_exec::files::wal_ownership::Stamp;
use crate::dbs_exec::group::Work;
use crate::dbs_exec::open_error::OpenError;
use crate::dbs_exec::replication_log::copy_state::{CopyState, last_position};
use crate::dbs_exec::replication_log::feed::Feed;
use crate::dbs_exec::tx::{Tx, Writing};
use crate::dbs_exec::wal_gate::WalGate;
use crate::error::{Error, Result};
use crate::limits::{
    LOG_BODY_BYTES, LOG_CHECKPOINT_BYTES, LOG_GROUPS, LOG_MIB, LOG_PRUNE_GROUPS, SUSPECT_FOR, SUSPECTS,
    WRITER_CACHE_KIB,
};

/// What stands before each page in the log, in bytes.
const FRAME_HEADER_BYTES: u64 = 24;

/// The one connection that writes.
///
/// Invariants: between two groups no transaction is open; `chain_head`, `copy_state` and `position` are what is on
/// disk; the feed's last row is `position`.
pub struct Writer {
    pub(super) connection: Connection,
    chain_head: ChainHead,
    pub(super) copy_state: CopyState,
    pub(super) position: Option<Position>,
    pub(super) feed: Arc<Feed>,
    /// How many commits have written a login, so that sessions know when to look at their password again.
    pub(super) logins_written: Arc<AtomicU64>,
    /// Looks at the files after each commit, once they are there.
    pub(super) watch: Option<Arc<FileWatch>>,
    /// Ties the log to the database with the first commit.
    pub(super) stamp: Option<Stamp>,
    is_abandoned: bool,
    /// Texts of a primary's statements that were looked at and may be executed.
    pub(super) fit_texts: RefCell<HashSet<String>>,
    /// Owners of whom an operation failed after it had written, and when.
    suspects: RefCell<HashMap<Owner, Instant>>,
    log_bytes: i64,
    log_first: i64,
    log_bytes_max: i64,
    /// Set once the connection to the file is closed.
    pub(super) is_closed: bool,
}

/// How a try at a group ended short of its commit.
enum Attempt {
    /// Everything was executed; the transaction is open.
    Executed(Executed),
    /// An operation failed after it had written: the group must be executed again with savepoints.
    NeedsIsolation,
}

/// What was taken from the beginning of the log.
pub struct Pruned {
    first: i64,
    bytes: i64,
}

/// What a group came to.
struct Executed {
    chain_head: ChainHead,
    statements: u64,
    has_written_logins: bool,
    log: Option<GroupLog>,
}

impl Writer {
    /// Takes over a connection to a migrated database.
    pub fn new(mut connection: Connection, wal_gate: Arc<WalGate>) -> Result<Self, OpenError> {
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Checkpoints belong to the checkpointer, off the writers' path.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        // A log that is written from its beginning again gives back what it once needed beyond this.
        connection.pragma_update(
            None,
            "journal_size_limit",
            i64::try_from(LOG_CHECKPOINT_BYTES).unwrap_or(i64::MAX),
        )?;
        let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let frame_bytes = u64::from(page_bytes) + FRAME_HEADER_BYTES;
        // Told after each commit how many pages stand in the log.
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
        let copy_state = CopyState::read(&connection)?;
        let position = last_position(&connection)?;
        // SQLite knows a value's length without reading it.
        let (log_bytes, log_first) = connection.query_row(
            "SELECT coalesce(sum(length(body)), 0), coalesce(min(sequence), 1) FROM replication_log",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        Ok(Self {
            connection,
            chain_head,
            copy_state,
            position,
            feed: Arc::new(Feed::new(position)),
            logins_written: Arc::default(),
            watch: None,
            stamp: None,
            is_abandoned: false,
            fit_texts: RefCell::default(),
            suspects: RefCell::default(),
            log_bytes,
            log_first,
            log_bytes_max: i64::try_from(LOG_MIB << 20).unwrap_or(i64::MAX),
            is_closed: false,
        })
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

    /// Keeps about so much of the replication log from now on.
    pub fn keep_log(&mut self, bytes: i64) {
        self.log_bytes_max = bytes;
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

    /// Notes that a checkpoint has moved everything, so that the log begins anew.
    pub fn log_was_moved(&mut self) {
        if let Some(Err(error)) = self.stamp.as_mut().map(Stamp::log_was_moved) {
            log::warn!("the lock file could not be written: {}", IoWords(&error));
        }
    }

    /// Whether the files are no longer those under their names.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned
    }

    /// Executes a group in one transaction and makes it durable. Returns the number of the last group in the log, up
    /// to which replicas must have it before the group is answered, also where the group only looked: what it saw
    /// may be of a group before it.
    ///
    /// # Errors
    /// The failure of the group as a whole: nothing of it was changed, unless the error is
    /// [`Error::OutcomeUnknown`]. Refusals of single operations are in their submissions.
    pub fn commit_group(&mut self, group: &[Arc<dyn Work>]) -> Result<i64> {
        // A panic half-way through an operation would leave a transaction open that no code below
        // understands; the disk has the last whole state, so the process ends and starts from there.
        let abort_on_panic = AbortOnPanic;
        let outcome = self.commit_group_inner(group);
        std::mem::forget(abort_on_panic);
        outcome.map(|()| self.position.map_or(0, |position| position.sequence))
    }

    fn commit_group_inner(&mut self, group: &[Arc<dyn Work>]) -> Result<()> {
        let executed = match self.execute_group(group, false) {
            Ok(Attempt::NeedsIsolation) => self.execute_group(group, true),
            executed => executed,
        };
        let executed = match executed {
            Ok(Attempt::Executed(executed)) => executed,
            Ok(Attempt::NeedsIsolation) => unreachable!("with savepoints each operation is undone alone"),
            Err(error) => {
                self.roll_back();
                return Err(error);
            }
        };
        if executed.statements == 0 {
            // Every operation was a refusal or only looked: there is nothing to make durable.
            self.roll_back();
            return Ok(());
        }
        let mut row = None;
        if let Some(log) = executed.log.filter(|log| !log.is_empty()) {
            let body = log.encode();
            if body.len() > LOG_BODY_BYTES {
                self.roll_back();
                return Err(Error::Invalid("this is too much for one commit; split it".into()));
            }
            let next = LogRow::after(self.position.as_ref(), self.copy_state.epoch.number, unix_ms_now(), body);
            match self.append(&next) {
                Ok(pruned) => row = Some((next, pruned)),
                Err(error) => {
                    self.roll_back();
                    return Err(error);
                }
            }
        }
        self.commit()?;
        if executed.has_written_logins {
            self.logins_written.fetch_add(1, Ordering::SeqCst);
        }
        self.chain_head = executed.chain_head;
        if let Some((row, pruned)) = row {
            self.publish(row, &pruned);
        }
        Ok(())
    }

    /// Makes the open transaction durable.
    pub(super) fn commit(&mut self) -> Result<()> {
        if let Some(stamp) = &mut self.stamp
            && let Err(error) = stamp.before_commit(&self.connection)
        {
            self.roll_back();
            return Err(open_error(error));
        }
        if let Err(error) = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            self.roll_back();
            return Err(match storage_error(error) {
                Error::DiskFull => Error::DiskFull,
                other => Error::OutcomeUnknown(other.to_string()),
            });
        }
        if let Some(Err(error)) = self.stamp.as_mut().map(Stamp::after_commit) {
            // The next start asks the books whether the log is theirs.
            log::warn!("the lock file could not be written: {}", IoWords(&error));
        }
        // It is on disk; the clients are told so only if that is where somebody will find it.
        match self.watch.as_ref().map(|watch| watch.check()) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(Lost::Database(text) | Lost::Beside(text))) => Err(Error::OutcomeUnknown(text)),
        }
    }

    /// Adds a row to the replication log, within the open transaction, and takes the oldest away if it is too long.
    pub(super) fn append(&self, row: &LogRow) -> Result<Pruned> {
        let sql = "INSERT INTO replication_log (sequence, epoch, digest, at_unix_ms, body) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut insert = self.connection.prepare_cached(sql).map_err(storage_error)?;
        let Position { sequence, epoch, digest } = row.position;
        insert.execute(params![sequence, epoch, digest, row.at_unix_ms, row.body]).map_err(storage_error)?;
        self.prune(sequence).map_err(storage_error)
    }

    /// Deletes a few of the oldest rows of a log that is too long, never the newest one.
    fn prune(&self, last: i64) -> rusqlite::Result<Pruned> {
        if self.log_bytes <= self.log_bytes_max && last - self.log_first <= LOG_GROUPS {
            return Ok(Pruned { first: self.log_first, bytes: 0 });
        }
        let first = (self.log_first + LOG_PRUNE_GROUPS).min(last);
        let sql = "SELECT coalesce(sum(length(body)), 0) FROM replication_log WHERE sequence < ?1";
        let bytes = self.connection.prepare_cached(sql)?.query_row([first], |row| row.get(0))?;
        self.connection.prepare_cached("DELETE FROM replication_log WHERE sequence < ?1")?.execute([first])?;
        Ok(Pruned { first, bytes })
    }

    /// Notes a row of the log that is durable now.
    pub(super) fn publish(&mut self, row: LogRow, pruned: &Pruned) {
        if self.position.is_none() {
            self.log_first = row.position.sequence;
        } else {
            self.log_first = pruned.first;
        }
        self.log_bytes += i64::try_from(row.body.len()).unwrap_or(i64::MAX) - pruned.bytes;
        self.position = Some(row.position);
        self.feed.publish(Arc::new(row));
    }

    /// Opens a transaction and runs each operation in it, with a savepoint around each if `isolated`.
    fn execute_group(&mut self, group: &[Arc<dyn Work>], isolated: bool) -> Result<Attempt> {
        self.run_statement("BEGIN IMMEDIATE")?;
        let writing = match self.copy_state.refusal() {
            Some(refusal) => Writing::Refused(refusal),
            None if self.copy_state.is_logging => Writing::Logged(GroupLog::default()),
            None => Writing::Plain,
        };
        let mut tx = Tx::new(&self.connection, self.chain_head, writing);
        for work in group {
            for index in 0..work.len() {
                // A batch that happens all or none is undone alone from the start: one savepoint, not a second run of
                // everything that shares its commit. So are the operations of an owner who had others run again lately.
                let guarded = isolated || work.weight() > work.len() || self.is_suspect(work.owner());
                let (written_before, head_before) = (tx.statements_written, tx.chain_head);
                let mark = match &tx.writing {
                    Writing::Logged(log) => Some(log.mark()),
                    Writing::Plain | Writing::Refused(_) => None,
                };
                if guarded {
                    self.run_statement("SAVEPOINT operation")?;
                }
                tx.last_failure = None;
                let succeeded = work.run(index, &mut tx);
                if self.connection.is_autocommit() {
                    // SQLite gave up the transaction by itself, as it may on a full disk or an I/O error; then
                    // nothing of the group was changed.
                    let cause = tx.last_failure.take();
                    return Err(cause.unwrap_or_else(|| Error::Database("SQLite gave up the transaction".into())));
                }
                if !succeeded && tx.statements_written > written_before {
                    if !guarded {
                        self.suspect(work.owner());
                        self.roll_back();
                        return Ok(Attempt::NeedsIsolation);
                    }
                    self.run_statement("ROLLBACK TO operation")?;
                    tx.statements_written = written_before;
                    tx.chain_head = head_before;
                    if let (Writing::Logged(log), Some(mark)) = (&mut tx.writing, mark) {
                        log.cut_back(mark);
                    }
                }
                if guarded {
                    self.run_statement("RELEASE operation")?;
                }
            }
        }
        let log = match tx.writing {
            Writing::Logged(log) => Some(log),
            Writing::Plain | Writing::Refused(_) => None,
        };
        Ok(Attempt::Executed(Executed {
            chain_head: tx.chain_head,
            statements: tx.statements_written,
            has_written_logins: tx.has_written_logins,
            log,
        }))
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
}

/// A lock file that can't be written is a failure of the disk.
fn open_error(error: OpenError) -> Error {
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
