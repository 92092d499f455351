//! What replication asks of the funnel: to execute a primary's groups, to change what this copy is, to read the log.
//!
//! Whatever writes takes the writer's mutex, so it is alone with the database as a group is, and is one SQLite
//! transaction (`DbsExec::write_alone`). The replication log is told afterwards, still under the mutex; whatever
//! ends this copy's role also ends its writing, and a new role begins with the database opened again.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use protocol::{Epoch, EpochOrder};
use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::dbs_exec::DbsExec;
use crate::dbs_exec::commit_log::group_log::{LogRow, Position, marker_body};
use crate::dbs_exec::commit_log::{CommitError, CommitLog as _};
use crate::dbs_exec::connection::storage_error;
use crate::dbs_exec::replication_log::apply::{ApplyError, Rejected};
use crate::dbs_exec::replication_log::compare::{self, SharedTable, Slice};
use crate::dbs_exec::replication_log::copy_state::{CopyRole, CopyState, EpochStart, last_position};
use crate::dbs_exec::replication_log::feed::Feed;
use crate::dbs_exec::replication_log::rows_after;
use crate::dbs_exec::tx::{Query as _, Reader};
use crate::dbs_exec::writer::Writer;
use crate::error::{Error, Result};

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

impl DbsExec {
    /// What this copy is.
    #[must_use]
    pub fn copy_state(&self) -> CopyState {
        self.replication_log.copy_state()
    }

    /// The end of the log; none when nothing was ever logged or executed here.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.replication_log.position()
    }

    /// What replicas are sent, and how far they are.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        self.replication_log.feed()
    }

    /// Keeps about so much of the replication log, in bytes, from now on.
    pub fn keep_log(&self, bytes: i64) {
        self.replication_log.keep(bytes);
    }

    /// Executes groups of the primary, all in one transaction, each with its own row of the log. Returns the last
    /// number. When one of them can't be executed, those before it are kept.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply(&self, rows: &[LogRow]) -> Result<i64, ApplyError> {
        // Before the mutex is taken: waiting for space with it would keep the checkpoint out that makes the space.
        self.wal_gate.wait_for_space();
        let mut writer = self.open_writer()?;
        // With the mutex held: a promotion that came first has ended this.
        if self.is_closed() {
            return Err(Error::Stopping.into());
        }
        let applied = self.apply_all(&mut writer, rows).or_else(|Rejected { applied, why }| {
            // What came before the one that doesn't fit is the primary's still.
            if applied > 0 {
                self.apply_all(&mut writer, &rows[..applied]).map_err(|rejected| rejected.why)?;
            }
            Err(why)
        });
        self.checkpointer.note();
        applied
    }

    fn apply_all(&self, writer: &mut Writer, rows: &[LogRow]) -> Result<i64, Rejected> {
        let applied = self.write_alone(writer, |transaction| self.replication_log.execute_rows(transaction, rows))?;
        // Whatever these groups wrote: the sessions here look at their passwords again.
        writer.logins_written.fetch_add(1, Ordering::SeqCst);
        self.replication_log.set_copy_state(applied.copy_state);
        for appended in applied.appended {
            self.replication_log.publish(appended);
        }
        Ok(self.replication_log.last_sequence())
    }

    /// Changes what this copy is, durably.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn change_copy_state(&self, change: impl FnOnce(&mut CopyState)) -> Result<()> {
        let mut writer = self.open_writer()?;
        let mut copy_state = self.copy_state();
        change(&mut copy_state);
        if copy_state == self.copy_state() {
            return Ok(());
        }
        self.write_copy_state(&mut writer, copy_state, None, None)
    }

    /// Makes this copy a replica of the primary at an address, durably, and ends all writing here.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn demote(&self, primary: &str) -> Result<()> {
        let mut writer = self.open_writer()?;
        let mut copy_state = self.copy_state();
        copy_state.begin_to_follow(primary);
        self.write_copy_state(&mut writer, copy_state, None, None)?;
        // Still under the mutex: the next leader finds the funnel closed, so no group of the old role comes after this.
        self.refuse_all();
        Ok(())
    }

    /// As [`DbsExec::demote`], once another copy has all that this primary has committed: that copy is to take its place.
    ///
    /// From the call on nothing is committed. `has_all` is given the end of the log, and returns when the other copy has
    /// the log up to there; it may wait, since no lock is held meanwhile.
    ///
    /// # Errors
    /// That of `has_all`: this copy stays the primary, and what was held back is committed now. Else as
    /// [`DbsExec::demote`].
    pub fn hand_over(&self, primary: &str, has_all: impl FnOnce(Option<Position>) -> Result<()>) -> Result<()> {
        let end = {
            let mut writer = self.open_writer()?;
            // With the mutex held no group is under way, and the next leader looks at this before it begins one.
            writer.is_handing_over = true;
            self.position()
        };
        let _ends = HandingOver(self);
        has_all(end)?;
        self.demote(primary)
    }

    /// Notes that another copy is the primary of this epoch, which is higher or contradicts this copy's, durably, and
    /// ends all writing here.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn fence(&self, epoch: &Epoch) -> Result<()> {
        let mut writer = self.open_writer()?;
        let before = self.copy_state();
        let heard = match epoch.stands_to(&before.heard) {
            // What is told of a conflict is the other one.
            EpochOrder::Conflict => epoch.clone(),
            EpochOrder::Newer | EpochOrder::Same | EpochOrder::Older => before.heard.clone().or_later(epoch.clone()),
        };
        // A replica goes on following; it only knows now which epochs it may not listen to any more.
        let role = if before.role == CopyRole::Primary { CopyRole::Fenced } else { before.role };
        self.write_copy_state(&mut writer, CopyState { role, heard, ..before }, None, None)?;
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
        let before = self.copy_state();
        if before.is_logging {
            return Ok(());
        }
        // The log begins with a row that changes nothing, and whose digest no other log has: copies that were never the
        // same can't take each other's rows for their own.
        let row = LogRow::after(self.position().as_ref(), before.epoch.number, now_unix_ms, marker_body(salt));
        self.write_copy_state(&mut writer, CopyState { is_logging: true, ..before }, Some(row), None)
    }

    /// Makes this copy, which is a replica or was replaced, the primary of an epoch above all that were heard of.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is the primary or has nothing to go on from, or what the database fails with.
    pub fn promote(&self, order: &PromotionOrder) -> Result<EpochStart> {
        let mut writer = self.open_writer()?;
        let (before, position) = (self.copy_state(), self.position());
        match before.role {
            CopyRole::Primary => return Err(Error::Invalid("this copy is the primary".into())),
            CopyRole::Replica if position.is_none() => {
                return Err(Error::Invalid("this replica has no copy of the books yet to go on from".into()));
            }
            // One that never had a replica begins its log now.
            CopyRole::Replica | CopyRole::Fenced => {}
        }
        // Above every epoch that anybody has heard of, so that whoever hears of this one prefers it.
        let heard = before.heard.number.max(order.heard_elsewhere);
        let number = Epoch::new(heard, "").next_number();
        let number = number.ok_or_else(|| Error::Invalid(format!("there is no epoch above {heard}")))?;
        // The epoch's first row has nothing in it but the salt: its digest, and so the epoch's id, is like no other's.
        let row = LogRow::after(position.as_ref(), number, order.now_unix_ms, marker_body(&order.salt));
        let epoch = Epoch { number, id: row.epoch_id() };
        let began = EpochStart {
            epoch: epoch.clone(),
            after_sequence: position.map_or(0, |position| position.sequence),
            after_digest: position.map(|position| position.digest),
            began_unix_ms: order.now_unix_ms,
            heard_sequence: order.heard_sequence,
            silent_ms: order.silent_ms,
        };
        self.write_copy_state(&mut writer, before.promoted(epoch), Some(row), Some(&began))?;
        // What is under way in the old role ends; the new one begins with the database opened again.
        self.refuse_all();
        Ok(began)
    }

    /// Makes this copy, which has all of a log elsewhere, the primary of the epoch that its process has claimed there.
    /// The row that opens the epoch goes into that log like any other.
    ///
    /// # Errors
    /// [`CommitError`]; where the row may be in the log all the same, this copy takes it from there.
    pub fn take_over(&self, number: i64, salt: &[u8], now_unix_ms: i64) -> Result<EpochStart, CommitError> {
        let mut writer = self.open_writer()?;
        let (before, position) = (self.copy_state(), self.position());
        let (Some(elsewhere), Some(position)) = (&self.elsewhere, position) else {
            return Err(Error::Database("there is no commit log to go on with".into()).into());
        };
        let row = LogRow::after(Some(&position), number, now_unix_ms, marker_body(salt));
        let epoch = Epoch { number, id: row.epoch_id() };
        let began = EpochStart {
            epoch: epoch.clone(),
            after_sequence: position.sequence,
            after_digest: Some(position.digest),
            began_unix_ms: now_unix_ms,
            heard_sequence: None,
            silent_ms: None,
        };
        let copy_state = before.promoted(epoch);
        let appended = self.write_alone(&mut writer, |transaction| {
            copy_state.write(transaction).map_err(storage_error)?;
            began.insert(transaction).map_err(storage_error)?;
            elsewhere.append_row(self.replication_log.insert(transaction, row)?)
        })?;
        self.replication_log.set_copy_state(copy_state);
        self.replication_log.publish(appended);
        // What is under way in the old role ends; the new one begins with the database opened again.
        self.refuse_all();
        Ok(began)
    }

    /// Writes what this copy is, and with it a row of the log and the beginning of an epoch where there are any.
    fn write_copy_state(
        &self,
        writer: &mut Writer,
        copy_state: CopyState,
        row: Option<LogRow>,
        began: Option<&EpochStart>,
    ) -> Result<()> {
        // One transaction: a crash leaves the old role with the old log, or the new one with its first row.
        let appended = self.write_alone(writer, |transaction| {
            copy_state.write(transaction).map_err(storage_error)?;
            began.map_or(Ok(()), |began| began.insert(transaction)).map_err(storage_error)?;
            row.map(|row| self.replication_log.insert(transaction, row)).transpose()
        })?;
        self.replication_log.set_copy_state(copy_state);
        if let Some(appended) = appended {
            self.replication_log.publish(appended);
        }
        Ok(())
    }

    /// Remembers other copies of this branch in place of those before.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn set_members(&self, addresses: &[String]) -> Result<()> {
        let mut writer = self.open_writer()?;
        self.write_alone(&mut writer, |transaction| write_members(transaction, addresses).map_err(storage_error))
    }

    /// The writer, unless the database is closed.
    fn open_writer(&self) -> Result<MutexGuard<'_, Writer>> {
        let writer = self.writer.lock();
        if writer.is_closed { Err(Error::Stopping) } else { Ok(writer) }
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
        let sql = "SELECT sequence, epoch, digest FROM replication_log WHERE sequence = ?1";
        self.read(|reader| reader.query_opt(sql, params![sequence], Position::read))
    }

    /// Where each epoch began, the oldest first.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn epochs(&self) -> Result<Vec<EpochStart>> {
        self.read(|reader| reader.query_all(EpochStart::SELECT, params![], EpochStart::read))
    }

    /// Other copies of this branch that were heard of.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn members(&self) -> Result<Vec<String>> {
        let sql = "SELECT address FROM replication_members ORDER BY address";
        self.read(|reader| reader.query_all(sql, params![], |row| row.get(0)))
    }
}

/// While it is there, no group is begun.
struct HandingOver<'d>(&'d DbsExec);

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        self.0.writer.lock().is_handing_over = false;
        self.0.hand_over_ended.notify_all();
    }
}

fn write_members(transaction: &Connection, addresses: &[String]) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM replication_members", [])?;
    let mut insert = transaction.prepare_cached("INSERT INTO replication_members (address) VALUES (?1)")?;
    addresses.iter().try_for_each(|address| insert.execute([address]).map(drop))
}

impl Reader<'_> {
    /// As [`DbsExec::log_after`], in this snapshot.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn log_after(&self, sequence: i64, bytes: usize) -> Result<Option<Vec<LogRow>>> {
        rows_after(self.raw(), sequence, bytes).map_err(storage_error)
    }

    /// The last row of the log in this snapshot.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn last_position(&self) -> Result<Option<Position>> {
        last_position(self.raw()).map_err(storage_error)
    }

    /// The tables that all copies share, by name.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn shared_tables(&self) -> Result<Vec<SharedTable>> {
        compare::shared_tables(self.raw()).map_err(storage_error)
    }

    /// The next `rows` rows of a table after `after`.
    ///
    /// # Errors
    /// [`Error::Database`] and its kin when SQLite fails.
    pub fn slice(&self, table: &SharedTable, after: Option<&[Value]>, rows: usize) -> Result<Slice> {
        compare::slice(self.raw(), table, after, rows).map_err(storage_error)
    }
}
