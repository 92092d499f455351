//! The rows of version 4 in the tables of version 5: histories become chains, customers become accounts and holders.
//!
//! One pass over `transactions` in the order of its rows knows all that a chain is made of: the newest row so far of
//! each account. That takes some 30 bytes of memory for each account, for as long as the pass lasts. The pass runs inside
//! the migration's transaction, as everything there does, so a stop in the middle, by a kill or for want of space,
//! leaves version 4 as it was, and the next start begins anew. Until it commits, the old rows and the new stand in the
//! file and its log beside each other: it needs about twice the database's size of free space. What the old ones took
//! is used again by later rows.
//!
//! Nothing is recomputed that anybody relies on: numbers, dates and hashes of rows are moved as they are.

use std::collections::HashMap;
use std::time::Instant;

use rusqlite::types::{ToSqlOutput, Type};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::dbs_exec::kind::Kind;
use crate::limits::{MIGRATION_PROGRESS, MIGRATION_PROGRESS_ROWS};

/// Fills the new tables from the old ones.
///
/// # Errors
/// SQLite's; also a row that only somebody who went round the old tables' checks can have written.
pub(super) fn move_rows(transaction: &Connection) -> rusqlite::Result<()> {
    let newest = move_transactions(transaction)?;
    move_customers(transaction, &newest)
}

/// Moves the rows of `transactions`, each with the rows before it of its two accounts. Returns the newest of each account.
fn move_transactions(transaction: &Connection) -> rusqlite::Result<HashMap<i64, i64>> {
    let last = "SELECT transaction_id FROM transactions ORDER BY transaction_id DESC LIMIT 1";
    let rows: i64 = transaction.query_row(last, [], |row| row.get(0)).optional()?.unwrap_or(0);
    let mut progress = Progress { rows, told: Instant::now() };
    let mut newest = HashMap::new();
    let mut old = transaction.prepare(
        "SELECT transaction_id, from_account, to_account, amount, type, date, hash, txid, leg, peer, note
         FROM transactions ORDER BY transaction_id",
    )?;
    let mut new = transaction.prepare(
        "INSERT INTO transactions_chained
             (transaction_id, from_account, to_account, amount, kind, date, from_previous, to_previous, hash, txid, leg,
              peer, note)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    let mut found = old.query([])?;
    while let Some(row) = found.next()? {
        let (transaction_id, from, to): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let kind = row.get_ref(4)?.as_str()?;
        let kind = Kind::from_text(kind).ok_or_else(|| {
            let text = format!("transaction {transaction_id} is of no type that there is: {kind}");
            rusqlite::Error::FromSqlConversionFailure(4, Type::Text, text.into())
        })?;
        let mut previous =
            |account: i64| is_customer(account).then(|| newest.insert(account, transaction_id)).flatten();
        let (from_previous, to_previous) = (previous(from), previous(to));
        let as_it_is = |column: usize| row.get_ref(column).map(ToSqlOutput::Borrowed);
        new.execute(params![
            transaction_id,
            from,
            to,
            as_it_is(3)?,
            kind.number(),
            as_it_is(5)?,
            from_previous,
            to_previous,
            as_it_is(6)?,
            as_it_is(7)?,
            as_it_is(8)?,
            as_it_is(9)?,
            as_it_is(10)?
        ])?;
        progress.tell(transaction_id);
    }
    Ok(newest)
}

fn move_customers(transaction: &Connection, newest: &HashMap<i64, i64>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "INSERT INTO account_holders
             (account_num, first_name, last_name, aadhar_num, phone_num, sms, opened_unix_ms, closed_unix_ms)
             SELECT account_num, first_name, last_name, aadhar_num, phone_num, sms, opened_unix_ms, closed_unix_ms
             FROM customers ORDER BY account_num",
    )?;
    let mut old = transaction
        .prepare("SELECT account_num, balance, held, incoming, status = 'open' FROM customers ORDER BY account_num")?;
    let mut new = transaction.prepare(
        "INSERT INTO accounts (account_num, balance, held, incoming, newest_transaction, is_open)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut found = old.query([])?;
    while let Some(row) = found.next()? {
        let number: i64 = row.get(0)?;
        let as_it_is = |column: usize| row.get_ref(column).map(ToSqlOutput::Borrowed);
        new.execute(params![number, as_it_is(1)?, as_it_is(2)?, as_it_is(3)?, newest.get(&number), as_it_is(4)?])?;
    }
    Ok(())
}

/// The branch's own accounts have no history.
fn is_customer(account: i64) -> bool {
    account > 0
}

/// Says now and then how far it is: a branch of some years takes minutes, in which it doesn't listen yet.
struct Progress {
    rows: i64,
    told: Instant,
}

impl Progress {
    fn tell(&mut self, done: i64) {
        if done % MIGRATION_PROGRESS_ROWS == 0 && self.told.elapsed() >= MIGRATION_PROGRESS {
            log::info!("the tables are brought to version 5: {done} of {} transactions are moved", self.rows);
            self.told = Instant::now();
        }
    }
}
