//! Executing a primary's groups at a replica, in a transaction that the writer has opened.
//!
//! Each group is executed together with its own row of the log, so what a replica has executed and what it says it has
//! are one and the same. Rows come from another machine, whose program may be another version and whose disk may be
//! damaged, so nothing in them is trusted: the number must be the next one, the epoch no older one, the digest must
//! chain to the row before, each statement must be one that the funnel itself lets through, and it must change as many
//! rows here as at the primary.

use std::fmt::Display;

use protocol::Epoch;
use rusqlite::{Connection, ffi};

use crate::dbs_exec::commit_log::Appended;
use crate::dbs_exec::commit_log::determinism::why_unfit;
use crate::dbs_exec::commit_log::group_log::{LogError, LogRow, Position, Statement, decode};
use crate::dbs_exec::connection::storage_error;
use crate::dbs_exec::replication_log::ReplicationLog;
use crate::dbs_exec::replication_log::copy_state::{CopyState, EpochStart};
use crate::error::{Error, Result};
use crate::limits::LOG_TEXTS;

/// Why a replica executes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The rows are not the next ones: the sender has to begin again after the last row here.
    Gap(String),
    /// The books here are not the primary's; the text names the group and what is wrong with it.
    Diverged(String),
    /// The database failed, or it is closing.
    Failed(Error),
}

impl From<Error> for ApplyError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<LogError> for ApplyError {
    fn from(error: LogError) -> Self {
        Self::Diverged(error.to_string())
    }
}

/// Groups that were executed, in a transaction that is still open.
pub struct Applied {
    /// Their rows.
    pub appended: Vec<Appended>,
    /// What this copy is with them: they may have begun an epoch.
    pub copy_state: CopyState,
}

/// A group that could not be executed.
pub struct Rejected {
    /// How many before it could be.
    pub applied: usize,
    /// What is wrong with it.
    pub why: ApplyError,
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self { applied: 0, why: error.into() }
    }
}

impl ReplicationLog {
    /// Executes groups one after another, each with its own row of the log.
    ///
    /// # Errors
    /// The first group that can't be executed; the transaction is then to be rolled back.
    pub fn execute_rows(&self, transaction: &Connection, rows: &[LogRow]) -> Result<Applied, Rejected> {
        let mut before = self.position();
        let mut applied = Applied { appended: Vec::with_capacity(rows.len()), copy_state: self.copy_state() };
        for (index, row) in rows.iter().enumerate() {
            let executed = check_next(row, before.as_ref(), &applied.copy_state)
                .and_then(|()| self.execute_row(transaction, row, before.as_ref(), &mut applied.copy_state));
            applied.appended.push(executed.map_err(|why| Rejected { applied: index, why })?);
            before = Some(row.position);
        }
        Ok(applied)
    }

    fn execute_row(
        &self,
        transaction: &Connection,
        row: &LogRow,
        before: Option<&Position>,
        copy_state: &mut CopyState,
    ) -> Result<Appended, ApplyError> {
        let executed = decode(&row.body, |statement| self.execute_statement(transaction, statement));
        executed.map_err(|error| match error {
            ApplyError::Diverged(why) => {
                ApplyError::Diverged(format!("group {} cannot be executed here: {why}", row.position.sequence))
            }
            ApplyError::Gap(_) | ApplyError::Failed(_) => error,
        })?;
        if row.position.epoch > copy_state.epoch.number {
            // The first row of an epoch is how a promotion reaches the copies that follow the new primary.
            let epoch = Epoch { number: row.position.epoch, id: row.epoch_id() };
            let began = EpochStart {
                epoch: epoch.clone(),
                after_sequence: before.map_or(0, |before| before.sequence),
                after_digest: before.map(|before| before.digest),
                began_unix_ms: row.at_unix_ms,
                heard_sequence: None,
                silent_ms: None,
            };
            began.insert(transaction).map_err(storage_error)?;
            // This copy may have heard of a still later one; it must not listen to less than before.
            copy_state.heard = copy_state.heard.clone().or_later(epoch.clone());
            copy_state.epoch = epoch;
            copy_state.write(transaction).map_err(storage_error)?;
        }
        Ok(self.insert(transaction, row.clone())?)
    }

    fn execute_statement(&self, transaction: &Connection, logged: &Statement<'_>) -> Result<(), ApplyError> {
        self.check_text(logged.sql)?;
        // Only what SQLite says of the rows or the tables tells of a difference; a disk that fails, a file that is locked
        // or a machine without memory tell nothing, and are tried again.
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(
                ffi::ErrorCode::ConstraintViolation
                | ffi::ErrorCode::TypeMismatch
                | ffi::ErrorCode::TooBig
                | ffi::ErrorCode::Unknown,
            )
            | None => diverged(error, logged.sql),
            Some(_) => ApplyError::Failed(storage_error(error)),
        };
        let mut statement = transaction.prepare_cached(logged.sql).map_err(failed)?;
        let changed = statement.execute(rusqlite::params_from_iter(&logged.params)).map_err(failed)?;
        if changed != logged.changed {
            // The same statement on the same rows changes as many: the rows were others before it.
            let counts = format!("it changed {} rows at the primary and {changed} here", logged.changed);
            return Err(diverged(counts, logged.sql));
        }
        Ok(())
    }

    /// The primary holds this bank's key, yet its statements are held to what the funnel lets through. Each text is
    /// checked once: the program has some forty, and executes them by the thousand.
    fn check_text(&self, sql: &str) -> Result<(), ApplyError> {
        let mut checked = self.checked_texts.lock();
        if checked.contains(sql) {
            return Ok(());
        }
        if let Some(why) = why_unfit(sql) {
            return Err(ApplyError::Diverged(format!("{why}: {sql}")));
        }
        // A primary that sends ever new texts costs time, not memory.
        if checked.len() < LOG_TEXTS {
            checked.insert(sql.to_string());
        }
        Ok(())
    }
}

fn diverged(why: impl Display, sql: &str) -> ApplyError {
    ApplyError::Diverged(format!("{why} ({sql})"))
}

/// Whether a row is the one that comes next.
fn check_next(row: &LogRow, before: Option<&Position>, copy_state: &CopyState) -> Result<(), ApplyError> {
    let next = before.map_or(0, |before| before.sequence) + 1;
    let Position { sequence, epoch, .. } = row.position;
    if sequence != next {
        // Nothing is wrong with the books: messages were lost, and the stream begins again after the last group here.
        return Err(ApplyError::Gap(format!("group {sequence} came where group {next} comes next")));
    }
    // Of a primary that was replaced: what it still writes is none of this branch's.
    if epoch < copy_state.epoch.number {
        return Err(ApplyError::Gap(format!(
            "group {sequence} is of epoch {epoch}, and this is epoch {}",
            copy_state.epoch.number
        )));
    }
    if !row.follows(before) {
        return Err(ApplyError::Diverged(format!(
            "the running digest differs at group {sequence}: the log before it, or the group itself, is not the primary's"
        )));
    }
    Ok(())
}
