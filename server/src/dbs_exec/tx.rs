//! What an operation sees of the database: statements with bound parameters, and nothing else.
//!
//! [`Tx`] is an open write transaction, [`Reader`] a read-only snapshot; [`Query`] is what both can do, so
//! a look-up is written once. Statements are `&'static str`: a statement that is pieced together from
//! input cannot even be passed. No write statement may depend on the clock, on chance or on the order of
//! rows: such values are bound. So the statements of a commit, replayed in order, give the same tables.

use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use crate::dbs_exec::chain::{ChainHead, ChainedRow};
use crate::dbs_exec::commit_log::group_log::{GroupLog, Mark};
use crate::dbs_exec::commit_log::{Writing, determinism};
use crate::dbs_exec::connection::storage_error;
use crate::dbs_exec::kind::Kind;
use crate::error::{Error, Result};

/// Bound parameters, as `params![…]` makes them.
pub type Params<'a> = &'a [&'a dyn ToSql];

/// Keeps the connection inside `dbs_exec`: no other module can name this trait, so none can call it.
mod sealed {
    pub trait Connected {
        fn connection(&self) -> &rusqlite::Connection;
    }
}
use sealed::Connected;

/// Looking things up, in a write transaction or in a snapshot.
pub trait Query: Connected {
    /// The first row that the statement returns, if any.
    ///
    /// # Errors
    /// [`crate::error::Error::Database`] and its kin when SQLite fails.
    fn query_opt<T>(
        &self,
        sql: &'static str,
        params: Params<'_>,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.connection().prepare_cached(sql).map_err(storage_error)?;
        statement.query_row(params, read).optional().map_err(storage_error)
    }

    /// All rows that the statement returns. Give it a LIMIT: every row is in memory at once.
    ///
    /// # Errors
    /// As [`Query::query_opt`].
    fn query_all<T>(
        &self,
        sql: &'static str,
        params: Params<'_>,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection().prepare_cached(sql).map_err(storage_error)?;
        let rows = statement.query_map(params, read).map_err(storage_error)?;
        rows.collect::<rusqlite::Result<_>>().map_err(storage_error)
    }

    /// Shows every row to `each`, one at a time, in bounded memory.
    ///
    /// # Errors
    /// As [`Query::query_opt`], or the first error of `each`.
    fn query_each(
        &self,
        sql: &'static str,
        params: Params<'_>,
        mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let mut statement = self.connection().prepare_cached(sql).map_err(storage_error)?;
        let mut rows = statement.query(params).map_err(storage_error)?;
        while let Some(row) = rows.next().map_err(storage_error)? {
            each(row).map_err(storage_error)?;
        }
        Ok(())
    }
}

/// The rows before a new one in the histories of its two accounts; none of an account that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// Of the account that is debited.
    pub from: Option<i64>,
    /// Of the account that is credited.
    pub to: Option<i64>,
}

/// An open write transaction, as an operation sees it.
pub struct Tx<'c> {
    connection: &'c Connection,
    /// Write statements executed so far; tells whether a failed operation left anything to undo.
    pub(super) statements_written: u64,
    pub(super) chain_head: ChainHead,
    /// The error of the last write statement that failed.
    pub(super) last_failure: Option<Error>,
    writing: Writing,
    /// Whether a login was written.
    pub(super) has_written_logins: bool,
}

/// Where a transaction stands before an operation, for the case that the operation is undone.
#[derive(Clone, Copy)]
pub(super) struct TxMark {
    statements_written: u64,
    chain_head: ChainHead,
    log: Option<Mark>,
}

impl<'c> Tx<'c> {
    pub(super) fn new(connection: &'c Connection, chain_head: ChainHead, writing: Writing) -> Self {
        Self { connection, statements_written: 0, chain_head, last_failure: None, writing, has_written_logins: false }
    }

    pub(super) fn mark(&self) -> TxMark {
        let log = match &self.writing {
            Writing::Logged(log) => Some(log.mark()),
            Writing::Plain | Writing::Refused(_) => None,
        };
        TxMark { statements_written: self.statements_written, chain_head: self.chain_head, log }
    }

    pub(super) fn has_written_since(&self, mark: &TxMark) -> bool {
        self.statements_written > mark.statements_written
    }

    /// Forgets what was noted since the mark; SQLite has undone it.
    pub(super) fn cut_back(&mut self, mark: TxMark) {
        self.statements_written = mark.statements_written;
        // The rows are gone from the table; the next one is chained to the last that is left.
        self.chain_head = mark.chain_head;
        if let (Writing::Logged(log), Some(mark)) = (&mut self.writing, mark.log) {
            log.cut_back(mark);
        }
    }

    /// What is to be appended to the commit log; none when nothing was written, or it isn't logged.
    pub(super) fn into_log(self) -> Option<GroupLog> {
        match self.writing {
            // A group that only looked, or only refused, has no row in the log: replicas would confirm nothing.
            Writing::Logged(log) if !log.is_empty() => Some(log),
            Writing::Logged(_) | Writing::Plain | Writing::Refused(_) => None,
        }
    }

    /// Executes one write statement and returns the number of rows it changed. This is the one place where rows are
    /// written, and so the one place where what replicas are to execute is logged.
    ///
    /// # Errors
    /// [`crate::error::Error::Database`] and its kin when SQLite refuses or fails; at a replica, that it is one.
    pub fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<usize> {
        determinism::assert_deterministic(sql);
        // Before anything is written: at a replica an operation may still look, and its refusal leaves nothing to undo.
        if let Writing::Refused(error) = &self.writing {
            return Err(error.clone());
        }
        // Prepared once for each connection: the program has some forty, and executes them by the thousand.
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        // Counted before it runs: a statement that fails half-way counts as written.
        self.statements_written += 1;
        self.has_written_logins |= writes_logins(sql);
        let changed = statement.execute(params).map_err(|error| {
            // Kept for the case that SQLite gives up the whole transaction for it: then this is what went wrong, whatever
            // the operation makes of it.
            let error = storage_error(error);
            self.last_failure = Some(error.clone());
            error
        })?;
        // After it was executed: a replica must change as many rows, and executes nothing that failed here.
        if let Writing::Logged(log) = &mut self.writing {
            log.push(sql, params, changed).map_err(|error| Error::Database(error.to_string()))?;
        }
        Ok(changed)
    }

    /// The number that the next row of `transactions` gets.
    #[must_use]
    pub fn next_transaction_id(&self) -> i64 {
        self.chain_head.transaction_id + 1
    }

    /// Appends one row to `transactions`, chained to the one before, and to those before it of its two accounts.
    ///
    /// # Errors
    /// As [`Tx::execute`].
    ///
    /// # Panics
    /// When the row's number is not [`Tx::next_transaction_id`]: the caller's mistake.
    pub fn append_transaction(&mut self, row: &ChainedRow<'_>, previous: Previous) -> Result<()> {
        // The head moves only when the row is there: an operation that goes on after a failed insert chains to the
        // last row that is.
        let head = self.chain_head.after(row);
        self.execute(
            "INSERT INTO transactions
                 (transaction_id, from_account, to_account, amount, kind, date, from_previous, to_previous, hash,
                  txid, leg, peer, note)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            rusqlite::params![
                row.transaction_id,
                row.from_account,
                row.to_account,
                row.amount_paise,
                row.kind.map(Kind::number),
                row.date_unix_ms,
                previous.from,
                previous.to,
                head.hash,
                row.txid,
                row.leg,
                row.peer,
                row.note
            ],
        )?;
        self.chain_head = head;
        Ok(())
    }
}

/// Whether a write statement is one on the table of logins.
pub(super) fn writes_logins(sql: &str) -> bool {
    sql.contains(" auth ")
}

impl Query for Tx<'_> {}

impl Connected for Tx<'_> {
    fn connection(&self) -> &Connection {
        self.connection
    }
}

/// A read-only snapshot: everything read through one `Reader` is of one instant.
pub struct Reader<'c> {
    connection: &'c Connection,
}

impl<'c> Reader<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection }
    }

    pub(super) fn raw(&self) -> &'c Connection {
        self.connection
    }
}

impl Query for Reader<'_> {}

impl Connected for Reader<'_> {
    fn connection(&self) -> &Connection {
        self.connection
    }
}
