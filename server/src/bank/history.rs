//! Looking back: the rows of `transactions`, newest first, in pages.

use protocol::{AccountNum, Money};

use super::movements::read_money;
use crate::dbs_exec::{Query, Row, params};
use crate::error::Result;

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
            kind: row.get("type")?,
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
        "SELECT transaction_id, date, type, amount, txid, leg, transactions.peer AS peer, note,
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
/// Both indexes are walked from their end, and no further than the page needs.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn of_account(
    query: &impl Query,
    account: AccountNum,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Transaction>> {
    query.query_all(
        "WITH page AS (
             SELECT * FROM (SELECT * FROM transactions WHERE from_account = ?1 AND transaction_id < ?2
                            ORDER BY transaction_id DESC LIMIT ?3)
             UNION ALL
             SELECT * FROM (SELECT * FROM transactions WHERE to_account = ?1 AND transaction_id < ?2
                            ORDER BY transaction_id DESC LIMIT ?3)
         )
         SELECT transaction_id, date, type, amount, txid, leg, page.peer AS peer, note,
                coalesce(debit.name, CAST(from_account AS TEXT)) AS from_name,
                coalesce(credit.name, CAST(to_account AS TEXT)) AS to_name
         FROM page
         LEFT JOIN own_accounts AS debit ON debit.account_num = from_account
         LEFT JOIN own_accounts AS credit ON credit.account_num = to_account
         ORDER BY transaction_id DESC LIMIT ?3",
        params![account.as_i64(), before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)],
        Transaction::read,
    )
}
