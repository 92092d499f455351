//! Accounts: opening, closing, looking up, listing. Each a function on an open transaction or a snapshot.
//!
//! An account is two rows: its money in `accounts`, which payments read and write (`account_state.rs`), and whose it is
//! in `account_holders`. The view `customers` shows both as one row, for whoever looks at a whole account.

use protocol::{AccountNum, Money};

use super::account_state;
use super::movements::{self, Booking, Kind};
use super::passwords::PasswordVersion;
use crate::dbs_exec::{Query, Row, Tx, params};
use crate::error::{Error, Result};

/// A customer's whole account, as one row of the view `customers` has it.
///
/// Invariant, kept by the schema: `0 <= held <= balance` and `balance + incoming <= Money::MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub number: AccountNum,
    /// The customer's first name.
    pub first_name: String,
    /// The customer's last name; may be empty when the account was made with one name.
    pub last_name: String,
    /// 12 digits; an account made over the branch protocol may have none.
    pub aadhaar: Option<String>,
    /// 10 digits; an account made over the branch protocol may have none.
    pub phone: Option<String>,
    /// Whether the customer wants a text message for each movement.
    pub sms: bool,
    /// What the account holds.
    pub balance: Money,
    /// How much of it is reserved by prepared withdrawals.
    pub held: Money,
    /// Room reserved by prepared deposits.
    pub incoming: Money,
    /// Whether it is open.
    pub is_open: bool,
}

impl Account {
    /// What can be spent: balance less held.
    #[must_use]
    pub fn available(&self) -> Money {
        self.balance.checked_sub(self.held).expect("the schema keeps held at or below balance")
    }

    /// First and last name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.first_name, self.last_name).trim().to_string()
    }

    /// Reads a row by the columns' places, in the order in which [`find`] and [`list`] name them.
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number: i64 = row.get(0)?;
        Ok(Self {
            number: account_num(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))?,
            first_name: row.get(1)?,
            last_name: row.get(2)?,
            aadhaar: row.get(3)?,
            phone: row.get(4)?,
            sms: row.get(5)?,
            balance: movements::read_money(row, 6)?,
            held: movements::read_money(row, 7)?,
            incoming: movements::read_money(row, 8)?,
            is_open: row.get_ref(9)?.as_str()? == "open",
        })
    }
}

/// The account with that number, open or closed.
///
/// # Errors
/// [`Error::NoSuchAccount`] when there never was one.
pub fn find(query: &impl Query, number: AccountNum) -> Result<Account> {
    let sql = "SELECT account_num, first_name, last_name, aadhar_num, phone_num, sms, balance, held, incoming, status
               FROM customers WHERE account_num = ?1";
    query.query_opt(sql, params![number.as_i64()], Account::read)?.ok_or(Error::NoSuchAccount(number))
}

/// The open account with that number.
///
/// # Errors
/// [`Error::NoSuchAccount`] or [`Error::AccountClosed`].
pub fn find_open(query: &impl Query, number: AccountNum) -> Result<Account> {
    let account = find(query, number)?;
    if account.is_open { Ok(account) } else { Err(Error::AccountClosed(number)) }
}

/// Up to `limit` accounts with numbers above `after`, in ascending order: the open ones, or all.
///
/// # Errors
/// [`Error::Database`] when SQLite fails.
pub fn list(query: &impl Query, after: Option<AccountNum>, with_closed: bool, limit: usize) -> Result<Vec<Account>> {
    query.query_all(
        "SELECT account_num, first_name, last_name, aadhar_num, phone_num, sms, balance, held, incoming, status
         FROM customers WHERE account_num > ?1 AND (status = 'open' OR ?2) ORDER BY account_num LIMIT ?3",
        params![after.map_or(0, AccountNum::as_i64), with_closed, i64::try_from(limit).unwrap_or(i64::MAX)],
        Account::read,
    )
}

/// What is needed to open an account.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The number that it is to have, or the next free one.
    pub number: Option<AccountNum>,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// 12 digits.
    pub aadhaar: Option<String>,
    /// 10 digits.
    pub phone: Option<String>,
    /// Whether text messages are wanted.
    pub sms: bool,
    /// The PHC string of the password; without one there is no menu login.
    pub password_hash: Option<String>,
    /// Credited from cash as a transaction of its own, unless zero.
    pub opening_balance: Money,
}

/// Opens an account and returns its number.
///
/// # Errors
/// [`Error::AccountExists`], [`Error::DuplicateAadhaar`], [`Error::DuplicatePhone`].
pub fn open(tx: &mut Tx<'_>, opening: &Opening, booking: &Booking) -> Result<AccountNum> {
    refuse_duplicates(tx, opening)?;
    let number = match opening.number {
        Some(number) if exists(tx, number)? => return Err(Error::AccountExists(number)),
        Some(number) => number,
        None => take_next_number(tx)?,
    };
    tx.execute("INSERT INTO accounts (account_num) VALUES (?1)", params![number.as_i64()])?;
    tx.execute(
        "INSERT INTO account_holders
             (account_num, first_name, last_name, aadhar_num, phone_num, sms, opened_unix_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            number.as_i64(),
            opening.first_name,
            opening.last_name,
            opening.aadhaar,
            opening.phone,
            opening.sms,
            booking.date_unix_ms
        ],
    )?;
    if let Some(hash) = &opening.password_hash {
        set_password_hash(tx, number.as_i64(), hash)?;
    }
    if !opening.opening_balance.is_zero() {
        movements::pay_in(tx, number, opening.opening_balance, Kind::Opening, booking)?;
    }
    Ok(number)
}

/// Closes an account: pays its balance out to cash as a transaction of its own, and returns what was paid.
///
/// # Errors
/// [`Error::NoSuchAccount`], [`Error::AccountClosed`], [`Error::MoneyHeld`].
pub fn close(tx: &mut Tx<'_>, number: AccountNum, booking: &Booking) -> Result<Money> {
    let account = account_state::find_open(tx, number)?;
    if !account.held.is_zero() || !account.incoming.is_zero() {
        return Err(Error::MoneyHeld(number));
    }
    if !account.balance.is_zero() {
        movements::pay_out(tx, number, account.balance, Kind::Closing, booking)?;
    }
    tx.execute("UPDATE accounts SET is_open = 0 WHERE account_num = ?1", params![number.as_i64()])?;
    // The date is what frees the Aadhaar and phone number for another account.
    tx.execute(
        "UPDATE account_holders SET closed_unix_ms = ?2 WHERE account_num = ?1",
        params![number.as_i64(), booking.date_unix_ms],
    )?;
    tx.execute("DELETE FROM auth WHERE account_num = ?1", params![number.as_i64()])?;
    Ok(account.balance)
}

/// The stored PHC string of an account's password; account 0 is the administrator.
///
/// # Errors
/// [`Error::Database`] when SQLite fails.
pub fn password_hash(query: &impl Query, account_num: i64) -> Result<Option<String>> {
    query.query_opt("SELECT password FROM auth WHERE account_num = ?1", params![account_num], |row| row.get(0))
}

/// Which password an account has; account 0 is the administrator.
///
/// # Errors
/// [`Error::Database`] when SQLite fails.
pub fn password_version(query: &impl Query, account_num: i64) -> Result<Option<PasswordVersion>> {
    Ok(password_hash(query, account_num)?.map(|hash| PasswordVersion::of(&hash)))
}

/// Stores the PHC string of an account's password; account 0 is the administrator.
///
/// # Errors
/// [`Error::Database`] when SQLite fails.
pub fn set_password_hash(tx: &mut Tx<'_>, account_num: i64, hash: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO auth (account_num, password) VALUES (?1, ?2)
         ON CONFLICT (account_num) DO UPDATE SET password = excluded.password",
        params![account_num, hash],
    )?;
    Ok(())
}

/// A customer's number from the integer that the tables hold; `None` for the branch's own accounts.
#[must_use]
pub fn account_num(number: i64) -> Option<AccountNum> {
    u64::try_from(number).ok().and_then(AccountNum::new)
}

fn exists(query: &impl Query, number: AccountNum) -> Result<bool> {
    let sql = "SELECT 1 FROM accounts WHERE account_num = ?1";
    Ok(query.query_opt(sql, params![number.as_i64()], |_| Ok(()))?.is_some())
}

fn refuse_duplicates(tx: &Tx<'_>, opening: &Opening) -> Result<()> {
    let holder = "SELECT account_num FROM account_holders WHERE aadhar_num = ?1 AND closed_unix_ms IS NULL";
    if opening.aadhaar.is_some() && tx.query_opt(holder, params![opening.aadhaar], |_| Ok(()))?.is_some() {
        return Err(Error::DuplicateAadhaar);
    }
    let holder = "SELECT account_num FROM account_holders WHERE phone_num = ?1 AND closed_unix_ms IS NULL";
    if opening.phone.is_some() && tx.query_opt(holder, params![opening.phone], |_| Ok(()))?.is_some() {
        return Err(Error::DuplicatePhone);
    }
    Ok(())
}

/// Takes the next free account number. Numbers that were given by hand in the meantime are passed over.
fn take_next_number(tx: &mut Tx<'_>) -> Result<AccountNum> {
    let next = tx.query_opt("SELECT next_account_num FROM branch", params![], |row| row.get::<_, i64>(0))?;
    let mut candidate = next.ok_or_else(|| Error::Database("the table branch has no row".into()))?;
    loop {
        let number = account_num(candidate)
            .ok_or_else(|| Error::Invalid("there are no account numbers left at this branch".into()))?;
        candidate += 1;
        if !exists(tx, number)? {
            tx.execute("UPDATE branch SET next_account_num = ?1", params![candidate])?;
            return Ok(number);
        }
    }
}
