//! What replication asks of the funnel: to execute a primary's groups, to change what this copy is, to read the log.
//!
//! Each of these takes the writer's mutex, so it is alone with the database as a group is, and each is one SQLite
//! transaction. A group is executed together with its own row of the log: what a replica has executed and what it
//! says it has are one and the same.

use parking_lot::MutexGuard;
use protocol::{Epoch, EpochOrder};
use rusqlite::{OptionalExtension as _, ffi, params};

use crate::dbs_exec::commit_log::group_log::{LogError, LogRow, Position, Statement, decode, marker_body};
use crate::dbs_exec::replication_log::copy_state::{CopyRole, CopyState, EpochStart};
use crate::dbs_exec::writer::{Pruned, Writer};
use crate::dbs_exec::{DbsExec, storage_error};
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

/// What a promotion is made of.
#[derive(Clone, Debug)]
pub struct PromotionOrder {
    /// When.
    pub now_unix_ms: i64,
    /// What tells this promotion from every other of the same number: drawn for it.
    pub salt: [u8; 32],
    /// The highest number of an epoch that other copies have heard of.
    pub heard_elsewhere: i64,
    /// The number that the old primary was last heard to have reached.
    pub heard_sequence: Option<i64>,
    /// How long the old primary has been silent, in milliseconds.
    pub silent_ms: Option<i64>,
}

/// Why one group could not be executed.
enum Unfit {
    Diverged(String),
    Failed(Error),
}

impl From<LogError> for Unfit {
    fn from(error: LogError) -> Self {
        Self::Diverged(error.to_string())
    }
}

impl DbsExec {
    /// What this copy is.
    #[must_use]
    pub fn copy_state(&self) -> CopyState {
        self.copy_state.lock().clone()
    }

    /// The end of the log; none when nothing was ever logged or executed here.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.feed().last()
    }

    /// The writer, unless the database is closed.
    fn open_writer(&self) -> Result<MutexGuard<'_, Writer>> {
        let writer = self.writer.lock();
        if writer.is_closed { Err(Error::Stopping) } else { Ok(writer) }
    }

    /// Changes what this copy is, durably.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn change_copy_state(&self, change: impl FnOnce(&mut CopyState)) -> Result<()> {
        let mut writer = self.open_writer()?;
        let mut copy_state = writer.copy_state.clone();
        change(&mut copy_state);
        if copy_state == writer.copy_state {
            return Ok(());
        }
        writer.write_copy_state(copy_state)?;
        self.note_copy_state(&writer);
        Ok(())
    }

    /// Makes this copy a replica of the primary at an address, durably, and ends all writing here.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn demote(&self, primary: &str) -> Result<()> {
        let mut writer = self.open_writer()?;
        let mut copy_state = writer.copy_state.clone();
        copy_state.begin_to_follow(primary);
        writer.write_copy_state(copy_state)?;
        self.note_copy_state(&writer);
        self.refuse_all();
        Ok(())
    }

    /// Keeps what is on disk where it can be looked at without waiting for a group.
    fn note_copy_state(&self, writer: &Writer) {
        let mut known = self.copy_state.lock();
        if *known != writer.copy_state {
            *known = writer.copy_state.clone();
        }
    }

    /// Notes that another copy is the primary of this epoch, which is higher or contradicts this copy's, durably, and
    /// ends all writing here.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn fence(&self, epoch: &Epoch) -> Result<()> {
        let mut writer = self.open_writer()?;
        let known = writer.copy_state.heard.clone();
        let heard = match epoch.stands_to(&known) {
            // What is told of a conflict is the other one.
            EpochOrder::Conflict => epoch.clone(),
            EpochOrder::Newer | EpochOrder::Same | EpochOrder::Older => known.or_later(epoch.clone()),
        };
        let role = if writer.copy_state.role == CopyRole::Primary { CopyRole::Fenced } else { writer.copy_state.role };
        let copy_state = CopyState { role, heard, ..writer.copy_state.clone() };
        writer.write_copy_state(copy_state)?;
        self.note_copy_state(&writer);
        if role == CopyRole::Fenced {
            self.refuse_all();
        }
        Ok(())
    }

    /// Begins to log groups, if that was not begun before. `salt` tells this log from every other.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn start_logging(&self, salt: &[u8], now_unix_ms: i64) -> Result<()> {
        let mut writer = self.open_writer()?;
        if writer.copy_state.is_logging {
            return Ok(());
        }
        let copy_state = CopyState { is_logging: true, ..writer.copy_state.clone() };
        let row = LogRow::after(writer.position.as_ref(), copy_state.epoch.number, now_unix_ms, marker_body(salt));
        writer.in_transaction(copy_state, Some(row), None)?;
        self.note_copy_state(&writer);
        Ok(())
    }

    /// Makes this copy, which is a replica or was replaced, the primary of an epoch above all that were heard of.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is the primary or has nothing to go on from, or what the database fails with.
    pub fn promote(&self, order: &PromotionOrder) -> Result<EpochStart> {
        let mut writer = self.open_writer()?;
        let position = writer.position;
        match writer.copy_state.role {
            CopyRole::Primary => return Err(Error::Invalid("this copy is the primary".into())),
            CopyRole::Replica if position.is_none() => {
                return Err(Error::Invalid("this replica has no copy of the books yet to go on from".into()));
            }
            // One that never had a replica begins its log now.
            CopyRole::Replica | CopyRole::Fenced => {}
        }
        let heard = writer.copy_state.heard.number.max(order.heard_elsewhere);
        let number = Epoch::new(heard, "").next_number();
        let number = number.ok_or_else(|| Error::Invalid(format!("there is no epoch above {heard}")))?;
        let row = LogRow::after(position.as_ref(), number, order.now_unix_ms, marker_body(&order.salt));
        let epoch = Epoch { number, id: row.epoch_id() };
        let copy_state = CopyState {
            role: CopyRole::Primary,
            epoch: epoch.clone(),
            heard: epoch.clone(),
            is_logging: true,
            promoted_from: writer.copy_state.primary.clone().or_else(|| writer.copy_state.promoted_from.clone()),
            primary: None,
            diverged: None,
            wants_snapshot: false,
            started_with: writer.copy_state.started_with.clone(),
        };
        let began = EpochStart {
            epoch,
            after_sequence: position.map_or(0, |position| position.sequence),
            after_digest: position.map(|position| position.digest),
            began_unix_ms: order.now_unix_ms,
            heard_sequence: order.heard_sequence,
            silent_ms: order.silent_ms,
        };
        writer.in_transaction(copy_state, Some(row), Some(&began))?;
        self.note_copy_state(&writer);
        // What is under way in the old role ends; the new one begins with the database opened again.
        self.refuse_all();
        Ok(began)
    }

    /// Executes groups of the primary, all in one transaction, each with its own row of the log. Returns the last
    /// number. When one of them can't be executed, those before it are kept.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply(&self, rows: &[LogRow]) -> Result<i64, ApplyError> {
        self.wal_gate.wait_for_space();
        let mut writer = self.open_writer()?;
        // With the mutex held: a promotion that came first has ended this.
        if self.is_closed() {
            return Err(Error::Stopping.into());
        }
        let applied = writer.apply(rows);
        self.note_copy_state(&writer);
        if let Err(ApplyError::Failed(error @ Error::OutcomeUnknown(_))) = &applied {
            self.stop_for(&mut writer, error);
        }
        self.checkpointer.note();
        applied
    }

    /// The log after `sequence`: whole rows, up to about `bytes` of them. `None` when it no longer reaches back.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn log_after(&self, sequence: i64, bytes: usize) -> Result<Option<Vec<LogRow>>> {
        self.read(|reader| reader.log_after(sequence, bytes))
    }

    /// The row of the log with this number, if it is still there.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn position_at(&self, sequence: i64) -> Result<Option<Position>> {
        self.read(|reader| {
            let sql = "SELECT sequence, epoch, digest FROM replication_log WHERE sequence = ?1";
            crate::dbs_exec::tx::Query::query_opt(reader, sql, params![sequence], |row| {
                Ok(Position { sequence: row.get(0)?, epoch: row.get(1)?, digest: row.get(2)? })
            })
        })
    }

    /// Where each epoch began, the oldest first.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn epochs(&self) -> Result<Vec<EpochStart>> {
        self.read(|reader| {
            crate::dbs_exec::tx::Query::query_all(reader, EpochStart::SELECT, params![], EpochStart::read)
        })
    }

    /// Other copies of this branch that were heard of.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn members(&self) -> Result<Vec<String>> {
        self.read(|reader| {
            let sql = "SELECT address FROM replication_members ORDER BY address";
            crate::dbs_exec::tx::Query::query_all(reader, sql, params![], |row| row.get(0))
        })
    }

    /// Remembers other copies of this branch in place of those before.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn set_members(&self, addresses: &[String]) -> Result<()> {
        let mut writer = self.open_writer()?;
        writer.run_statement("BEGIN IMMEDIATE")?;
        let written = writer.write_members(addresses).map_err(storage_error);
        writer.end(written)
    }
}

impl Writer {
    fn write_members(&self, addresses: &[String]) -> rusqlite::Result<()> {
        self.connection.prepare_cached("DELETE FROM replication_members")?.execute([])?;
        for address in addresses {
            self.connection
                .prepare_cached("INSERT INTO replication_members (address) VALUES (?1)")?
                .execute([address])?;
        }
        Ok(())
    }

    fn write_copy_state(&mut self, copy_state: CopyState) -> Result<()> {
        self.in_transaction(copy_state, None, None)
    }

    /// Writes the copy state, a row of the log and the beginning of an epoch, in a transaction of their own.
    fn in_transaction(&mut self, copy_state: CopyState, row: Option<LogRow>, began: Option<&EpochStart>) -> Result<()> {
        self.run_statement("BEGIN IMMEDIATE")?;
        let written = copy_state.write(&self.connection).map_err(storage_error).and_then(|()| {
            began.map_or(Ok(()), |began| began.insert(&self.connection)).map_err(storage_error)?;
            row.as_ref().map(|row| self.append(row)).transpose()
        });
        let pruned = self.end(written)?;
        self.copy_state = copy_state;
        if let (Some(row), Some(pruned)) = (row, pruned) {
            self.publish(row, &pruned);
        }
        Ok(())
    }

    /// Commits what was written, or undoes it.
    fn end<T>(&mut self, written: Result<T>) -> Result<T> {
        match written {
            Ok(value) => {
                self.commit()?;
                Ok(value)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn apply(&mut self, rows: &[LogRow]) -> Result<i64, ApplyError> {
        match self.apply_all(rows) {
            Err((index, unfit)) => {
                // What came before the unfit one is the primary's still.
                if index > 0 {
                    self.apply_all(&rows[..index]).map_err(|(_, unfit)| unfit)?;
                }
                Err(unfit)
            }
            Ok(last) => Ok(last),
        }
    }

    fn apply_all(&mut self, rows: &[LogRow]) -> Result<i64, (usize, ApplyError)> {
        let failed = |error: Error| (0, ApplyError::Failed(error));
        self.run_statement("BEGIN IMMEDIATE").map_err(failed)?;
        let mut before = self.position;
        let mut copy_state = self.copy_state.clone();
        let mut pruned = Vec::with_capacity(rows.len());
        let mut statements = 0;
        for (index, row) in rows.iter().enumerate() {
            let applied = check_next(row, before.as_ref(), &copy_state)
                .and_then(|()| self.apply_one(row, before.as_ref(), &mut copy_state, &mut statements));
            match applied {
                Ok(taken) => pruned.push(taken),
                Err(error) => {
                    self.roll_back();
                    return Err((index, error));
                }
            }
            before = Some(row.position);
        }
        self.commit().map_err(failed)?;
        // Whatever these groups wrote: the sessions here look at their passwords again.
        self.logins_written.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.copy_state = copy_state;
        for (row, pruned) in rows.iter().zip(&pruned) {
            self.publish(row.clone(), pruned);
        }
        Ok(before.map_or(0, |before| before.sequence))
    }

    fn apply_one(
        &self,
        row: &LogRow,
        before: Option<&Position>,
        copy_state: &mut CopyState,
        statements: &mut u64,
    ) -> Result<Pruned, ApplyError> {
        let sequence = row.position.sequence;
        let executed = decode(&row.body, |statement| {
            *statements += 1;
            self.execute_logged(statement)
        });
        executed.map_err(|unfit| match unfit {
            Unfit::Diverged(why) => ApplyError::Diverged(format!("group {sequence} cannot be executed here: {why}")),
            Unfit::Failed(error) => ApplyError::Failed(error),
        })?;
        if row.position.epoch > copy_state.epoch.number {
            let epoch = Epoch { number: row.position.epoch, id: row.epoch_id() };
            let began = EpochStart {
                epoch: epoch.clone(),
                after_sequence: before.map_or(0, |before| before.sequence),
                after_digest: before.map(|before| before.digest),
                began_unix_ms: row.at_unix_ms,
                heard_sequence: None,
                silent_ms: None,
            };
            began.insert(&self.connection).map_err(storage_error)?;
            copy_state.heard = copy_state.heard.clone().or_later(epoch.clone());
            copy_state.epoch = epoch;
            copy_state.write(&self.connection).map_err(storage_error)?;
        }
        Ok(self.append(row)?)
    }

    fn execute_logged(&self, logged: &Statement<'_>) -> Result<(), Unfit> {
        // The primary holds this bank's key, yet its statements are held to what the funnel lets through. Each text is
        // looked at once: the program has some forty, and executes them by the thousand.
        if !self.fit_texts.borrow().contains(logged.sql) {
            if let Some(why) = crate::dbs_exec::commit_log::determinism::why_unfit(logged.sql) {
                return Err(Unfit::Diverged(format!("{why}: {}", logged.sql)));
            }
            let mut fit_texts = self.fit_texts.borrow_mut();
            if fit_texts.len() < LOG_TEXTS {
                fit_texts.insert(logged.sql.to_string());
            }
        }
        // Only what SQLite says of the rows or the tables tells of a difference; a disk that fails, a file that is locked
        // or a machine without memory tell nothing, and are tried again.
        let trouble = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(
                ffi::ErrorCode::ConstraintViolation
                | ffi::ErrorCode::TypeMismatch
                | ffi::ErrorCode::TooBig
                | ffi::ErrorCode::Unknown,
            )
            | None => Unfit::Diverged(format!("{error} ({})", logged.sql)),
            Some(_) => Unfit::Failed(storage_error(error)),
        };
        let mut statement = self.connection.prepare_cached(logged.sql).map_err(trouble)?;
        let changed = statement.execute(rusqlite::params_from_iter(&logged.params)).map_err(trouble)?;
        if changed != logged.changed {
            return Err(Unfit::Diverged(format!(
                "it changed {} rows at the primary and {changed} here ({})",
                logged.changed, logged.sql
            )));
        }
        Ok(())
    }
}

/// Whether a row is the one that comes next.
fn check_next(row: &LogRow, before: Option<&Position>, copy_state: &CopyState) -> Result<(), ApplyError> {
    let next = before.map_or(0, |before| before.sequence) + 1;
    let Position { sequence, epoch, .. } = row.position;
    if sequence != next {
        return Err(ApplyError::Gap(format!("group {sequence} came where group {next} comes next")));
    }
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

impl crate::dbs_exec::tx::Reader<'_> {
    /// As [`DbsExec::log_after`], in this snapshot.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn log_after(&self, sequence: i64, bytes: usize) -> Result<Option<Vec<LogRow>>> {
        let mut statement = self
            .raw()
            .prepare_cached(
                "SELECT sequence, epoch, digest, at_unix_ms, body FROM replication_log WHERE sequence > ?1 ORDER BY sequence",
            )
            .map_err(storage_error)?;
        let mut found = statement.query([sequence]).map_err(storage_error)?;
        let (mut rows, mut taken) = (Vec::new(), 0);
        while let Some(row) = found.next().map_err(storage_error)? {
            let read = || -> rusqlite::Result<LogRow> {
                Ok(LogRow {
                    position: Position { sequence: row.get(0)?, epoch: row.get(1)?, digest: row.get(2)? },
                    at_unix_ms: row.get(3)?,
                    body: row.get(4)?,
                })
            };
            let row = read().map_err(storage_error)?;
            if rows.is_empty() && row.position.sequence != sequence + 1 {
                return Ok(None);
            }
            taken += row.body.len();
            rows.push(row);
            if taken >= bytes {
                break;
            }
        }
        Ok(Some(rows))
    }

    /// The last row of the log in this snapshot.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn last_position(&self) -> Result<Option<Position>> {
        crate::dbs_exec::replication_log::copy_state::last_position(self.raw())
            .optional()
            .map(Option::flatten)
            .map_err(storage_error)
    }
}
