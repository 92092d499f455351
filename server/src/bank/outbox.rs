//! The outbox of text messages: rows written with the movement that they tell of.
//!
//! A message is a row in the same SQLite transaction as its movement, so there is never one without the
//! other, and delivering it later can neither delay nor fail the movement. A delivered message is deleted;
//! one that was given up stays, with the reason.

use std::sync::Arc;

use protocol::AccountNum;

use super::movements::Booking;
use crate::clock::unix_ms_now;
use crate::dbs_exec::{Confirmed, DbsExec, Query as _, Tx, params};
use crate::error::{Error, Result};
use crate::limits::{SMS_CONFIRM_WAIT, SMS_KEPT_BACK};
use crate::running_time::{self, RunningTime};
use crate::sms::{Outbox, OutboxError, OutboxMessage};

/// Adds a message to the customer of an account, if the branch sends any and the customer wants them. Only then is it
/// looked up who that is, and the text made.
///
/// # Errors
/// Failure of the database.
pub fn add(
    tx: &mut Tx<'_>,
    account: AccountNum,
    booking: &Booking,
    body: impl FnOnce(&Tx<'_>) -> Result<String>,
) -> Result<()> {
    if !booking.sms {
        return Ok(());
    }
    let wants = "SELECT phone_num FROM account_holders WHERE account_num = ?1 AND sms AND phone_num IS NOT NULL";
    let phone: Option<String> = tx.query_opt(wants, params![account.as_i64()], |row| row.get(0))?;
    let Some(phone) = phone else { return Ok(()) };
    let body = body(tx)?;
    // It has the movement's date; when it is due, and since when it fails, counts in running time.
    // The number is bound, because a replica must give the same one; SQLite's counter sees to it that none comes again.
    let last = "SELECT seq FROM sqlite_sequence WHERE name = 'sms_outbox'";
    let last: Option<i64> = tx.query_opt(last, params![], |row| row.get(0))?;
    tx.execute(
        "INSERT INTO sms_outbox (id, phone_num, body, created_unix_ms, due_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![last.unwrap_or(0) + 1, phone, body, booking.date_unix_ms, running_time::stamp(tx)?],
    )?;
    Ok(())
}

/// The outbox as the sender thread sees it.
pub struct SqlOutbox {
    dbs: Arc<DbsExec>,
    running_time: Arc<RunningTime>,
    /// Whether messages are due that replicas do not have.
    is_kept_back: bool,
}

impl SqlOutbox {
    /// The outbox of a branch.
    #[must_use]
    pub fn new(dbs: Arc<DbsExec>, running_time: Arc<RunningTime>) -> Self {
        Self { dbs, running_time, is_kept_back: false }
    }
}

impl From<Error> for OutboxError {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}

impl Outbox for SqlOutbox {
    fn now_unix_ms(&self) -> i64 {
        self.running_time.now_unix_ms()
    }

    fn due(&mut self, limit: usize) -> Result<Vec<OutboxMessage>, OutboxError> {
        let now_unix_ms = self.now_unix_ms();
        self.is_kept_back = false;
        let (due, position) = self.dbs.read(|reader| {
            let due = reader.query_all(
                "SELECT id, phone_num, body, created_unix_ms, attempts, failing_since_unix_ms FROM sms_outbox
                 WHERE given_up_unix_ms IS NULL AND due_unix_ms <= ?1 ORDER BY due_unix_ms, id LIMIT ?2",
                params![now_unix_ms, i64::try_from(limit).unwrap_or(i64::MAX)],
                |row| {
                    Ok(OutboxMessage {
                        id: row.get(0)?,
                        phone: row.get(1)?,
                        body: row.get(2)?,
                        created_unix_ms: row.get(3)?,
                        attempts: row.get(4)?,
                        failing_since_unix_ms: row.get(5)?,
                    })
                },
            )?;
            Ok((due, reader.last_position()?))
        })?;
        // A message leaves the branch: where replicas must have its movement first, not before they have.
        let sequence = position.map_or(0, |position| position.sequence);
        match self.dbs.feed().wait_safe(sequence, Some(SMS_CONFIRM_WAIT)) {
            Confirmed::Yes => Ok(due),
            Confirmed::NotInTime | Confirmed::Stopping => {
                self.is_kept_back = true;
                Ok(Vec::new())
            }
        }
    }

    fn delivered(&mut self, id: i64) -> Result<(), OutboxError> {
        self.dbs.execute(move |tx| tx.execute("DELETE FROM sms_outbox WHERE id = ?1", params![id]))?;
        Ok(())
    }

    fn retry_at(&mut self, id: i64, attempts: u32, at_unix_ms: i64, why: &str) -> Result<(), OutboxError> {
        let (why, now_unix_ms) = (why.to_string(), self.now_unix_ms());
        self.dbs.execute(move |tx| {
            tx.execute(
                "UPDATE sms_outbox SET attempts = ?2, due_unix_ms = ?3, last_error = ?4,
                     failing_since_unix_ms = coalesce(failing_since_unix_ms, ?5) WHERE id = ?1",
                params![id, attempts, at_unix_ms, why, now_unix_ms],
            )
        })?;
        Ok(())
    }

    fn given_up(&mut self, id: i64, why: &str) -> Result<(), OutboxError> {
        // For people to read: by the wall clock.
        let (why, now_unix_ms) = (why.to_string(), unix_ms_now());
        self.dbs.execute(move |tx| {
            tx.execute(
                "UPDATE sms_outbox SET given_up_unix_ms = ?2, last_error = ?3 WHERE id = ?1",
                params![id, now_unix_ms, why],
            )
        })?;
        Ok(())
    }

    fn next_due_unix_ms(&mut self) -> Result<Option<i64>, OutboxError> {
        if self.is_kept_back {
            let later = i64::try_from(SMS_KEPT_BACK.as_millis()).unwrap_or(i64::MAX);
            return Ok(Some(self.now_unix_ms().saturating_add(later)));
        }
        let next = self.dbs.read(|reader| {
            reader.query_opt(
                "SELECT due_unix_ms FROM sms_outbox WHERE given_up_unix_ms IS NULL ORDER BY due_unix_ms LIMIT 1",
                params![],
                |row| row.get(0),
            )
        });
        Ok(next?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::passwords::HashCost;
    use crate::bank::{Bank, BankSettings};

    #[test]
    fn a_message_leaves_when_replicas_have_what_it_tells_of() {
        let directory = tempfile::tempdir().unwrap();
        let dbs = Arc::new(DbsExec::open(&directory.path().join("bank.db"), |_| {}).unwrap());
        let settings = BankSettings {
            name: "Pune".parse().unwrap(),
            opening_balance: protocol::Money::ZERO,
            hash_cost: HashCost::OWASP,
        };
        Bank::open(Arc::clone(&dbs), settings, None).unwrap();
        dbs.start_logging(b"salt", 0).unwrap();
        dbs.execute(|tx| {
            tx.execute(
                "INSERT INTO sms_outbox (id, phone_num, body, created_unix_ms, due_unix_ms)
                 VALUES (1, '9876543210', 'paid', 0, 0)",
                params![],
            )
        })
        .unwrap();
        let running_time = Arc::new(RunningTime::start(&dbs, 0).unwrap());
        let mut outbox = SqlOutbox::new(Arc::clone(&dbs), running_time);
        assert_eq!(outbox.due(10).unwrap().len(), 1, "nobody is waited for");
        let feed = dbs.feed();
        feed.announce(1);
        assert!(outbox.due(10).unwrap().is_empty(), "the branch has not started");
        feed.require(1);
        assert!(outbox.due(10).unwrap().is_empty());
        assert!(outbox.next_due_unix_ms().unwrap() > Some(outbox.now_unix_ms()), "it is looked again later");
        let last = dbs.position().unwrap().sequence;
        feed.connected("a", 1, last);
        assert_eq!(outbox.due(10).unwrap().len(), 1);
    }
}
