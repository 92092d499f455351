//! Looking back: the rows of `transactions`, newest first, in pages.
//!
//! The whole branch's rows are read by their numbers, backwards. An account's are read along its chain: the account
//! points to its newest row, and each row to the one before it of its payer and of its receiver. No index says which
//! rows an account has, because an index costs each payment two pages somewhere in its middle, and a history is asked
//! for far less often than money is moved. A page begins where the one before it ended, and that is a row of the
//! account's own, so it is found at once; only who asks for rows below a number of somebody else's has it looked for.

use protocol::{AccountNum, Money};

use super::account_state;
use super::movements::{Kind, read_money};
use crate::dbs_exec::{Query, Row, params};
use crate::error::{Error, Result};
use crate::limits::HISTORY_SEARCH_ROWS;

/// One row of `transactions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// 1, 2, 3, … in the order in which they happened.
    pub transaction_id: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub date_unix_ms: i64,
    /// `deposit`, `transfer`, …
    pub kind: String,
    /// The account that was debited: a number, or the name of an own account such as `cash`.
    pub from: String,
    /// The account that was credited, likewise.
    pub to: String,
    /// How much.
    pub amount: Money,
    /// The inter-branch transfer that this is a leg of.
    pub txid: Option<String>,
    /// Which leg of it.
    pub leg: Option<i64>,
    /// The branch at the other end.
    pub peer: Option<String>,
    /// Why a person booked it, where a person did.
    pub note: Option<String>,
}

impl Transaction {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            transaction_id: row.get("transaction_id")?,
            date_unix_ms: row.get("date")?,
            kind: Kind::from_number(row.get("kind")?).map_or("unknown", Kind::as_str).into(),
            from: row.get("from_name")?,
            to: row.get("to_name")?,
            amount: read_money(row, "amount")?,
            txid: row.get("txid")?,
            leg: row.get("leg")?,
            peer: row.get("peer")?,
            note: row.get("note")?,
        })
    }
}

/// The newest `limit` rows with ids below `before`, of the whole branch.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn all(query: &impl Query, before: Option<i64>, limit: usize) -> Result<Vec<Transaction>> {
    query.query_all(
        "SELECT transaction_id, date, kind, amount, txid, leg, transactions.peer AS peer, note,
                coalesce(debit.name, CAST(from_account AS TEXT)) AS from_name,
                coalesce(credit.name, CAST(to_account AS TEXT)) AS to_name
         FROM transactions
         LEFT JOIN own_accounts AS debit ON debit.account_num = from_account
         LEFT JOIN own_accounts AS credit ON credit.account_num = to_account
         WHERE transaction_id < ?1 ORDER BY transaction_id DESC LIMIT ?2",
        params![before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)],
        Transaction::read,
    )
}

/// The newest `limit` rows with ids below `before` in which `account` stands on either side.
///
/// # Errors
/// [`Error::NoSuchAccount`]; [`Error::Database`] when SQLite fails, or when the chain leads nowhere.
pub fn of_account(
    query: &impl Query,
    account: AccountNum,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Transaction>> {
    let mut next = newest_below(query, account, before)?;
    let mut found = Vec::new();
    while let Some(transaction_id) = next
        && found.len() < limit
    {
        let row = query.query_opt(
            "SELECT transaction_id, date, kind, amount, txid, leg, transactions.peer AS peer, note,
                    coalesce(debit.name, CAST(from_account AS TEXT)) AS from_name,
                    coalesce(credit.name, CAST(to_account AS TEXT)) AS to_name,
                    CASE ?2 WHEN from_account THEN from_previous WHEN to_account THEN to_previous END AS previous
             FROM transactions
             LEFT JOIN own_accounts AS debit ON debit.account_num = from_account
             LEFT JOIN own_accounts AS credit ON credit.account_num = to_account
             WHERE transaction_id = ?1",
            params![transaction_id, account.as_i64()],
            |row| Ok((Transaction::read(row)?, row.get("previous")?)),
        )?;
        let (transaction, previous) = row.ok_or_else(|| broken(account, transaction_id))?;
        found.push(transaction);
        next = older(account, transaction_id, previous)?;
    }
    Ok(found)
}

/// The newest row of an account with an id below `before`.
fn newest_below(query: &impl Query, account: AccountNum, before: Option<i64>) -> Result<Option<i64>> {
    let newest = account_state::find(query, account)?.newest_transaction;
    let (Some(mut link), Some(before)) = (newest, before) else { return Ok(newest) };
    if link < before {
        return Ok(newest);
    }
    if let Some(link) = link_of(query, account, before)? {
        return older(account, before, link.previous);
    }
    // The number is of another's row, or of none. Whoever moves little has a short way along the chain, whoever moves
    // much stands on many of the branch's rows: so both ways are gone by turns, and the one that is short ends it.
    let mut scanned = before;
    loop {
        for _ in 0..HISTORY_SEARCH_ROWS {
            let found = link_of(query, account, link)?.ok_or_else(|| broken(account, link))?;
            match older(account, link, found.previous)? {
                Some(previous) if previous >= before => link = previous,
                below => return Ok(below),
            }
        }
        let scan = "SELECT max(transaction_id) FROM transactions
                    WHERE transaction_id < ?2 AND transaction_id >= ?3 AND ?1 IN (from_account, to_account)";
        let from = scanned.saturating_sub(HISTORY_SEARCH_ROWS);
        let found = query.query_opt(scan, params![account.as_i64(), scanned, from], |row| row.get(0))?.flatten();
        if found.is_some() {
            return Ok(found);
        }
        scanned = from;
    }
}

/// A row as a link of an account's chain.
struct Link {
    previous: Option<i64>,
}

/// The row with that id, if the account stands on it.
fn link_of(query: &impl Query, account: AccountNum, transaction_id: i64) -> Result<Option<Link>> {
    query.query_opt(
        "SELECT CASE ?2 WHEN from_account THEN from_previous ELSE to_previous END FROM transactions
         WHERE transaction_id = ?1 AND ?2 IN (from_account, to_account)",
        params![transaction_id, account.as_i64()],
        |row| Ok(Link { previous: row.get(0)? }),
    )
}

/// What a row points to. Only backwards, or a chain that somebody has altered might be followed for ever.
fn older(account: AccountNum, transaction_id: i64, previous: Option<i64>) -> Result<Option<i64>> {
    match previous {
        Some(previous) if previous >= transaction_id => Err(broken(account, transaction_id)),
        previous => Ok(previous),
    }
}

fn broken(account: AccountNum, transaction_id: i64) -> Error {
    Error::Database(format!(
        "the history of account {account} breaks off at transaction {transaction_id}: audit the books"
    ))
}
