//! What a movement touches of an account: one row of the narrow table `accounts`.
//!
//! Every payment writes two of these rows, and with each row the whole page that it stands on goes to the log and is
//! forced to disk. So the table has numbers alone, some 20 bytes a row: what is paid, what is reserved, whether it may
//! be, and where the account's history begins. Whose the account is stands in `account_holders`, which a payment never
//! opens; the view `customers` shows both together (`accounts.rs`).

use protocol::{AccountNum, Money};

use super::accounts::account_num;
use super::movements::read_money;
use crate::dbs_exec::{Query, Row, Tx, params};
use crate::error::{Error, Result};

/// One row of `accounts`, read to be changed and stored again in the same transaction.
///
/// Invariant, kept by the schema: `0 <= held <= balance` and `balance + incoming <= Money::MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Its number.
    pub number: AccountNum,
    /// What the account holds.
    pub balance: Money,
    /// How much of it is reserved by prepared withdrawals.
    pub held: Money,
    /// Room reserved by prepared deposits.
    pub incoming: Money,
    /// The newest row of `transactions` in which it stands: its history begins there.
    pub newest_transaction: Option<i64>,
    /// Whether it is open.
    pub is_open: bool,
}

impl AccountState {
    /// What can be spent: balance less held.
    #[must_use]
    pub fn available(&self) -> Money {
        self.balance.checked_sub(self.held).expect("the schema keeps held at or below balance")
    }

    /// Takes an amount from what can be spent.
    ///
    /// # Errors
    /// [`Error::InsufficientFunds`].
    pub fn debit(&mut self, amount: Money) -> Result<()> {
        // Not from the balance: what is held was promised to another branch.
        let available = self.available();
        if amount > available {
            return Err(Error::InsufficientFunds { available });
        }
        self.balance = self.balance.checked_sub(amount).expect("the amount is at most what is available");
        Ok(())
    }

    /// Adds an amount.
    ///
    /// # Errors
    /// [`Error::BalanceLimit`].
    pub fn credit(&mut self, amount: Money) -> Result<()> {
        let balance = self.balance.checked_add(amount);
        // Room that prepared deposits have reserved is not free.
        let has_room = balance.is_some_and(|balance| balance.checked_add(self.incoming).is_some());
        self.balance = balance.filter(|_| has_room).ok_or(Error::BalanceLimit(self.number))?;
        Ok(())
    }

    /// By the columns' places: looking for them by name costs more than reading them.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number: i64 = row.get(0)?;
        Ok(Self {
            number: account_num(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))?,
            balance: read_money(row, 1)?,
            held: read_money(row, 2)?,
            incoming: read_money(row, 3)?,
            newest_transaction: row.get(4)?,
            is_open: row.get(5)?,
        })
    }
}

/// The account with that number, open or closed.
///
/// # Errors
/// [`Error::NoSuchAccount`] when there never was one.
pub fn find(query: &impl Query, number: AccountNum) -> Result<AccountState> {
    let sql = "SELECT account_num, balance, held, incoming, newest_transaction, is_open
               FROM accounts WHERE account_num = ?1";
    query.query_opt(sql, params![number.as_i64()], AccountState::read)?.ok_or(Error::NoSuchAccount(number))
}

/// The open account with that number.
///
/// # Errors
/// [`Error::NoSuchAccount`] or [`Error::AccountClosed`].
pub fn find_open(query: &impl Query, number: AccountNum) -> Result<AccountState> {
    let account = find(query, number)?;
    if account.is_open { Ok(account) } else { Err(Error::AccountClosed(number)) }
}

/// Writes the row of an account that was read in this transaction, and was checked by whoever changed it.
///
/// One statement for all that can change: a movement changes the balance and the newest transaction together, the two
/// ends of a transfer between branches also what is reserved, and what one statement writes is looked for once.
///
/// # Errors
/// Failure of the database.
pub fn store(tx: &mut Tx<'_>, account: &AccountState) -> Result<()> {
    tx.execute(
        "UPDATE accounts SET balance = ?2, held = ?3, incoming = ?4, newest_transaction = ?5 WHERE account_num = ?1",
        params![
            account.number.as_i64(),
            account.balance.paise(),
            account.held.paise(),
            account.incoming.paise(),
            account.newest_transaction
        ],
    )?;
    Ok(())
}
