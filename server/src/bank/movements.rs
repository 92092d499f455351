//! Movements of money: each changes its balances and writes its row in one transaction.
//!
//! Every movement has a debit and a credit side. Where one side is no customer it is one of the branch's
//! own accounts, so that what customers hold always equals what moved out of own accounts less what moved
//! into them: the books balance by themselves at every instant.

use protocol::{AccountNum, Money};

use super::account_state::{self, AccountState};
use super::{accounts, outbox};
pub use crate::dbs_exec::Kind;
use crate::dbs_exec::{CASH, ChainedRow, Previous, Query as _, Row, TOTAL_CARRY, Tx, params};
use crate::error::{Error, Result};
use crate::sms::text::{self, Party};

/// What a movement needs to know besides accounts and amount. It is made outside the transaction, because
/// an operation must not read a clock.
#[derive(Clone, Copy, Debug)]
pub struct Booking {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub date_unix_ms: i64,
    /// Whether this branch sends text messages at all.
    pub sms: bool,
}

/// What a movement is, besides its two sides.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// How much.
    pub amount: Money,
    /// What sort of movement.
    pub kind: Kind,
    /// The inter-branch transfer, and which leg of it.
    pub leg: Option<(&'a str, i64)>,
    /// The branch at the other end.
    pub peer: Option<&'a str>,
    /// Why a person booked it, where a person did.
    pub note: Option<&'a str>,
}

impl Entry<'_> {
    /// A movement within this branch.
    const fn local(amount: Money, kind: Kind) -> Self {
        Self { amount, kind, leg: None, peer: None, note: None }
    }
}

/// One side of a movement.
#[derive(Debug)]
pub enum Side<'a> {
    /// A customer's account, read in this transaction, its balance changed and checked already: a rule such as "what is
    /// held can't be spent" is another one for each kind of movement.
    Customer(&'a mut AccountState),
    /// One of the branch's own accounts. Nothing refuses it anything.
    Own(i64),
}

/// Both accounts of a transfer, after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// The payer's balance.
    pub from_balance: Money,
    /// The receiver's balance.
    pub to_balance: Money,
}

/// Cash into an account; returns the new balance.
///
/// # Errors
/// [`Error::NoSuchAccount`], [`Error::AccountClosed`], [`Error::BalanceLimit`].
pub fn deposit(tx: &mut Tx<'_>, number: AccountNum, amount: Money, booking: &Booking) -> Result<Money> {
    pay_in(tx, number, amount, Kind::Deposit, booking)
}

/// Cash out of an account; returns the new balance.
///
/// # Errors
/// [`Error::NoSuchAccount`], [`Error::AccountClosed`], [`Error::InsufficientFunds`].
pub fn withdraw(tx: &mut Tx<'_>, number: AccountNum, amount: Money, booking: &Booking) -> Result<Money> {
    pay_out(tx, number, amount, Kind::Withdrawal, booking)
}

/// From one account of this branch to another.
///
/// # Errors
/// [`Error::SameAccount`], [`Error::NoSuchAccount`], [`Error::AccountClosed`], [`Error::InsufficientFunds`],
/// [`Error::BalanceLimit`]. Everything is looked at before anything is written.
pub fn transfer(
    tx: &mut Tx<'_>,
    from: AccountNum,
    to: AccountNum,
    amount: Money,
    booking: &Booking,
) -> Result<Transferred> {
    if from == to {
        return Err(Error::SameAccount(from));
    }
    let mut payer = account_state::find_open(tx, from)?;
    let mut receiver = account_state::find_open(tx, to)?;
    payer.debit(amount)?;
    receiver.credit(amount)?;
    let entry = Entry::local(amount, Kind::Transfer);
    book(tx, Side::Customer(&mut payer), Side::Customer(&mut receiver), &entry, booking)?;
    outbox::add(tx, from, booking, |tx| {
        let name = accounts::find(tx, to)?.name();
        let party = Party { account: to, name: Some(&name), branch: None };
        Ok(text::debited(from, amount, booking.date_unix_ms, &party))
    })?;
    outbox::add(tx, to, booking, |tx| {
        let name = accounts::find(tx, from)?.name();
        let party = Party { account: from, name: Some(&name), branch: None };
        Ok(text::credited(to, amount, booking.date_unix_ms, &party))
    })?;
    Ok(Transferred { from_balance: payer.balance, to_balance: receiver.balance })
}

/// From cash into an account, as a deposit or as an opening balance; returns the new balance.
pub(super) fn pay_in(
    tx: &mut Tx<'_>,
    number: AccountNum,
    amount: Money,
    kind: Kind,
    booking: &Booking,
) -> Result<Money> {
    let mut account = account_state::find_open(tx, number)?;
    account.credit(amount)?;
    book(tx, Side::Own(CASH), Side::Customer(&mut account), &Entry::local(amount, kind), booking)?;
    outbox::add(tx, number, booking, |_| {
        Ok(match kind {
            Kind::Opening => text::opened(number, amount, booking.date_unix_ms),
            Kind::Deposit
            | Kind::Withdrawal
            | Kind::Transfer
            | Kind::Closing
            | Kind::TransferOut
            | Kind::TransferIn
            | Kind::Settlement => text::deposited(number, amount, booking.date_unix_ms),
        })
    })?;
    Ok(account.balance)
}

/// From an account to cash, as a withdrawal or when it closes; returns the new balance.
pub(super) fn pay_out(
    tx: &mut Tx<'_>,
    number: AccountNum,
    amount: Money,
    kind: Kind,
    booking: &Booking,
) -> Result<Money> {
    let mut account = account_state::find_open(tx, number)?;
    account.debit(amount)?;
    book(tx, Side::Customer(&mut account), Side::Own(CASH), &Entry::local(amount, kind), booking)?;
    outbox::add(tx, number, booking, |_| {
        Ok(match kind {
            Kind::Closing => text::closed(number, amount, booking.date_unix_ms),
            Kind::Opening
            | Kind::Deposit
            | Kind::Withdrawal
            | Kind::Transfer
            | Kind::TransferOut
            | Kind::TransferIn
            | Kind::Settlement => text::withdrawn(number, amount, booking.date_unix_ms),
        })
    })?;
    Ok(account.balance)
}

/// Writes a movement: both sides, and the row that names them. The one place where a row is booked, so that no account
/// ever misses a link of its history: the row points to the newest row of either customer, and takes its place.
/// Returns the row's number.
///
/// # Errors
/// Failure of the database.
pub fn book(tx: &mut Tx<'_>, from: Side<'_>, to: Side<'_>, entry: &Entry<'_>, booking: &Booking) -> Result<i64> {
    let transaction_id = tx.next_transaction_id();
    let (from_account, from_previous) = write_side(tx, from, OwnSide::Debited, entry.amount, transaction_id)?;
    let (to_account, to_previous) = write_side(tx, to, OwnSide::Credited, entry.amount, transaction_id)?;
    let row = ChainedRow {
        transaction_id,
        from_account,
        to_account,
        amount_paise: entry.amount.paise(),
        kind: Some(entry.kind),
        date_unix_ms: booking.date_unix_ms,
        txid: entry.leg.map(|(txid, _)| txid),
        leg: entry.leg.map(|(_, leg)| leg),
        peer: entry.peer,
        note: entry.note,
    };
    tx.append_transaction(&row, Previous { from: from_previous, to: to_previous })?;
    Ok(transaction_id)
}

/// Writes one side. Returns its number and the row before this one in its history.
fn write_side(
    tx: &mut Tx<'_>,
    side: Side<'_>,
    own_side: OwnSide,
    amount: Money,
    transaction_id: i64,
) -> Result<(i64, Option<i64>)> {
    match side {
        Side::Customer(account) => {
            let previous = account.newest_transaction.replace(transaction_id);
            account_state::store(tx, account)?;
            Ok((account.number.as_i64(), previous))
        }
        // Own accounts have no history of their own: they stand on half of all rows, and nobody asks for it.
        Side::Own(number) => {
            move_own(tx, number, own_side, amount)?;
            Ok((number, None))
        }
    }
}

/// Reads a column of paise.
pub(super) fn read_money(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<Money> {
    let paise: i64 = row.get(column)?;
    Money::from_paise(paise).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, paise))
}

/// The due accounts are numbered downwards from below this.
const DUE_ACCOUNTS_BELOW: i64 = -1000;

/// Which side of a movement an own account stands on.
#[derive(Clone, Copy, Debug)]
enum OwnSide {
    /// Money moves out of it.
    Debited,
    /// Money moves into it.
    Credited,
}

/// Counts a movement in the own account's running totals. They have no end (see [`TOTAL_CARRY`]), so that what was
/// prepared can always be booked, whatever was booked before.
fn move_own(tx: &mut Tx<'_>, own_account: i64, side: OwnSide, amount: Money) -> Result<()> {
    let write = match side {
        OwnSide::Debited => {
            "UPDATE own_accounts SET debited_carry = debited_carry + (debited + ?2) / ?3,
                                     debited = (debited + ?2) % ?3 WHERE account_num = ?1"
        }
        OwnSide::Credited => {
            "UPDATE own_accounts SET credited_carry = credited_carry + (credited + ?2) / ?3,
                                     credited = (credited + ?2) % ?3 WHERE account_num = ?1"
        }
    };
    match tx.execute(write, params![own_account, amount.paise(), TOTAL_CARRY])? {
        1 => Ok(()),
        _ => Err(Error::Database(format!("there is no own account {own_account}"))),
    }
}

/// The number of the branch's own account *due* with `peer`, made at the first use.
///
/// # Errors
/// Failure of the database.
pub fn due_account(tx: &mut Tx<'_>, peer: &str) -> Result<i64> {
    let find = "SELECT account_num FROM own_accounts WHERE peer = ?1";
    if let Some(number) = tx.query_opt(find, params![peer], |row| row.get(0))? {
        return Ok(number);
    }
    let lowest: Option<i64> = tx.query_opt("SELECT min(account_num) FROM own_accounts", params![], |row| row.get(0))?;
    let number = lowest.unwrap_or(0).min(DUE_ACCOUNTS_BELOW) - 1;
    tx.execute(
        "INSERT INTO own_accounts (account_num, name, peer) VALUES (?1, ?2, ?3)",
        params![number, format!("due {peer}"), peer],
    )?;
    Ok(number)
}
