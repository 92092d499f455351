//! Version 5: its tables, and the rows of version 4 in them. Histories become chains, customers become accounts and
//! holders.
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

/// What a payment touches apart from what it doesn't, and histories without indexes.
///
/// A payment writes whole pages, so it costs what its rows are wide and how many pages they are on. Names and numbers of
/// people stood in the rows of their money, and each row of `transactions` added to two indexes, on two pages somewhere
/// in the middle. Now money is in a table of numbers alone, and each row points to the row before it of its payer and
/// of its receiver, each account to its newest: a history is followed from there.
pub(super) const TABLES: &str = "
CREATE TABLE accounts (
    account_num INTEGER PRIMARY KEY CHECK (account_num > 0),
    balance INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    incoming INTEGER NOT NULL DEFAULT 0,
    newest_transaction INTEGER,
    is_open INTEGER NOT NULL DEFAULT 1 CHECK (is_open IN (0, 1)),
    CHECK (0 <= held AND held <= balance AND balance <= 9999999999999999),
    CHECK (incoming >= 0 AND balance + incoming <= 9999999999999999),
    CHECK (is_open OR balance = 0)
) STRICT;

-- An account that is closed has a date of closing, and its holder may open another one.
CREATE TABLE account_holders (
    account_num INTEGER PRIMARY KEY CHECK (account_num > 0),
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    aadhar_num TEXT CHECK (aadhar_num IS NULL OR length(aadhar_num) = 12),
    phone_num TEXT CHECK (phone_num IS NULL OR length(phone_num) = 10),
    sms INTEGER NOT NULL DEFAULT 0 CHECK (sms IN (0, 1)),
    opened_unix_ms INTEGER NOT NULL,
    closed_unix_ms INTEGER
) STRICT;

-- `kind` has its names in kind.rs; `type` is computed where it is read, and is stored nowhere.
CREATE TABLE transactions_chained (
    transaction_id INTEGER PRIMARY KEY CHECK (transaction_id > 0),
    from_account INTEGER NOT NULL,
    to_account INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0 AND amount <= 9999999999999999),
    kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 8),
    type TEXT GENERATED ALWAYS AS (CASE kind WHEN 1 THEN 'opening' WHEN 2 THEN 'deposit' WHEN 3 THEN 'withdrawal'
                                             WHEN 4 THEN 'transfer' WHEN 5 THEN 'closing' WHEN 6 THEN 'transfer_out'
                                             WHEN 7 THEN 'transfer_in' WHEN 8 THEN 'settlement' END) VIRTUAL,
    date INTEGER NOT NULL,
    from_previous INTEGER CHECK (from_previous < transaction_id),
    to_previous INTEGER CHECK (to_previous < transaction_id),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    txid TEXT,
    leg INTEGER,
    peer TEXT,
    note TEXT CHECK (note IS NULL OR kind = 8),
    CHECK (from_account <> to_account),
    CHECK ((txid IS NULL) = (leg IS NULL))
) STRICT;
";

/// The tables that [`move_rows`] has filled take the place of those before them.
pub(super) const IN_PLACE: &str = "
-- With the tables go their indexes and triggers.
DROP TABLE transactions;
ALTER TABLE transactions_chained RENAME TO transactions;
-- Of legs alone: a movement within the branch is not in it, and costs it nothing.
CREATE UNIQUE INDEX transactions_leg ON transactions (txid, leg) WHERE txid IS NOT NULL;
CREATE TRIGGER transactions_no_update BEFORE UPDATE ON transactions
BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END;
CREATE TRIGGER transactions_no_delete BEFORE DELETE ON transactions
BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END;

DROP TABLE customers;
CREATE UNIQUE INDEX account_holders_aadhar ON account_holders (aadhar_num)
    WHERE closed_unix_ms IS NULL AND aadhar_num IS NOT NULL;
CREATE UNIQUE INDEX account_holders_phone ON account_holders (phone_num)
    WHERE closed_unix_ms IS NULL AND phone_num IS NOT NULL;
CREATE VIEW customers AS
    SELECT account_num, first_name, last_name, aadhar_num, phone_num, sms, balance, held, incoming,
           CASE WHEN is_open THEN 'open' ELSE 'closed' END AS status, opened_unix_ms, closed_unix_ms
    FROM accounts JOIN account_holders USING (account_num);
-- What a class tries first with another program: to give an account money under the old name. The audit finds it.
CREATE TRIGGER customers_balance INSTEAD OF UPDATE OF balance ON customers
BEGIN UPDATE accounts SET balance = new.balance WHERE account_num = new.account_num; END;
";

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
