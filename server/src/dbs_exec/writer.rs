//! The writing connection: a group of operations becomes one durable SQLite transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::chain::ChainHead;
use super::group::Work;
use super::tx::Tx;
use super::{OpenError, storage_error};
use crate::error::{Error, Result};
use crate::limits::WRITER_CACHE_KIB;

/// The one connection that writes.
///
/// Invariant: between two groups no transaction is open, and `chain_head` is the last row on disk.
pub struct Writer {
    connection: Connection,
    chain_head: ChainHead,
    statements_since_checkpoint: u64,
}

/// How a try at a group ended short of its commit.
enum Attempt {
    /// Everything was executed; the transaction is open.
    Executed(ChainHead, u64),
    /// An operation failed after it had written: the group must be executed again with savepoints.
    NeedsIsolation,
}

impl Writer {
    /// Takes over a connection to a migrated database.
    pub fn new(connection: Connection) -> Result<Self, OpenError> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Checkpoints belong to the checkpointer, off the writers' path.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        let chain_head = connection
            .query_row(
                "SELECT transaction_id, hash FROM transactions ORDER BY transaction_id DESC LIMIT 1",
                [],
                |row| Ok(ChainHead { transaction_id: row.get(0)?, hash: row.get(1)? }),
            )
            .optional()?
            .unwrap_or(ChainHead::GENESIS);
        // A log that a crash has left behind counts as something to move.
        Ok(Self { connection, chain_head, statements_since_checkpoint: 1 })
    }

    /// Write statements that were committed since the last call of [`Writer::checkpointed`].
    pub fn statements_since_checkpoint(&self) -> u64 {
        self.statements_since_checkpoint
    }

    /// Notes that a checkpoint has moved what was written so far.
    pub fn checkpointed(&mut self) {
        self.statements_since_checkpoint = 0;
    }

    /// Executes a group in one transaction and makes it durable.
    ///
    /// # Errors
    /// What befell the group as a whole: nothing of it was changed, unless the error is
    /// [`Error::OutcomeUnknown`]. Refusals of single operations are in their submissions.
    pub fn commit_group(&mut self, group: &[Arc<dyn Work>]) -> Result<()> {
        // A panic half-way through an operation would leave a transaction open that no code below
        // understands; the disk has the last whole state, so the process ends and starts from there.
        let abort_on_panic = AbortOnPanic;
        let outcome = self.commit_group_inner(group);
        std::mem::forget(abort_on_panic);
        outcome
    }

    fn commit_group_inner(&mut self, group: &[Arc<dyn Work>]) -> Result<()> {
        let executed = match self.execute_group(group, false) {
            Ok(Attempt::NeedsIsolation) => self.execute_group(group, true),
            executed => executed,
        };
        let (chain_head, statements) = match executed {
            Ok(Attempt::Executed(chain_head, statements)) => (chain_head, statements),
            Ok(Attempt::NeedsIsolation) => unreachable!("with savepoints each operation is undone alone"),
            Err(error) => {
                self.roll_back();
                return Err(error);
            }
        };
        if statements == 0 {
            // Every operation was a refusal or only looked: there is nothing to make durable.
            self.roll_back();
            return Ok(());
        }
        if let Err(error) = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
            self.roll_back();
            return Err(match storage_error(error) {
                Error::DiskFull => Error::DiskFull,
                other => Error::OutcomeUnknown(other.to_string()),
            });
        }
        self.chain_head = chain_head;
        self.statements_since_checkpoint += statements;
        Ok(())
    }

    /// Opens a transaction and runs each operation in it, with a savepoint around each if `isolated`.
    fn execute_group(&mut self, group: &[Arc<dyn Work>], isolated: bool) -> Result<Attempt> {
        self.run_statement("BEGIN IMMEDIATE")?;
        let mut tx = Tx::new(&self.connection, self.chain_head);
        for work in group {
            for index in 0..work.len() {
                let (written_before, head_before) = (tx.statements_written, tx.chain_head);
                if isolated {
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
                    if !isolated {
                        self.roll_back();
                        return Ok(Attempt::NeedsIsolation);
                    }
                    self.run_statement("ROLLBACK TO operation")?;
                    tx.statements_written = written_before;
                    tx.chain_head = head_before;
                }
                if isolated {
                    self.run_statement("RELEASE operation")?;
                }
            }
        }
        Ok(Attempt::Executed(tx.chain_head, tx.statements_written))
    }

    fn run_statement(&self, sql: &'static str) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).map_err(storage_error)?;
        statement.execute([]).map_err(storage_error)?;
        Ok(())
    }

    /// Ends the open transaction, if there still is one, without a trace.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.run_statement("ROLLBACK")
        {
            log::error!("the database could not roll back: {error}");
        }
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
