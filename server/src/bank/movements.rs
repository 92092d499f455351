//! Movements of money: each changes its balances and writes its row in one transaction.
//!
//! Every movement has a debit and a credit side. Where one side is no customer it is one of the branch's
//! own accounts, so that what customers hold always equals what moved out of own accounts less what moved
//! into them: the books balance by themselves at every instant.

use protocol::{AccountNum, Money};

use super::accounts::{self, Account};
use super::outbox;
use crate::dbs_exec::{CASH, ChainedRow, Query as _, Row, TOTAL_CARRY, Tx, params};
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

/// The `type` column of `transactions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The balance that a new account starts with.
    Opening,
    /// Cash paid in.
    Deposit,
    /// Cash paid out.
    Withdrawal,
    /// From one customer of this branch to another.
    Transfer,
    /// The balance paid out when an account closes.
    Closing,
    /// To another branch.
    TransferOut,
    /// From another branch.
    TransferIn,
    /// A difference, after a transfer was settled by hand and its coordinator said otherwise.
    Settlement,
}

impl Kind {
    /// The text that the table has.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::Transfer => "transfer",
            Self::Closing => "closing",
            Self::TransferOut => "transfer_out",
            Self::TransferIn => "transfer_in",
            Self::Settlement => "settlement",
        }
    }

    /// The kind of that text.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text {
            "opening" => Self::Opening,
            "deposit" => Self::Deposit,
            "withdrawal" => Self::Withdrawal,
            "transfer" => Self::Transfer,
            "closing" => Self::Closing,
            "transfer_out" => Self::TransferOut,
            "transfer_in" => Self::TransferIn,
            "settlement" => Self::Settlement,
            _ => return None,
        })
    }
}

/// One row to be of `transactions`, without its number and its hash.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The account that is debited.
    pub from: i64,
    /// The account that is credited.
    pub to: i64,
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
    const fn local(from: i64, to: i64, amount: Money, kind: Kind) -> Self {
        Self { from, to, amount, kind, leg: None, peer: None, note: None }
    }
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
    let payer = accounts::find_open(tx, from)?;
    let receiver = accounts::find_open(tx, to)?;
    let from_balance = debited(&payer, amount)?;
    let to_balance = credited(&receiver, amount)?;
    set_balance(tx, from, from_balance)?;
    set_balance(tx, to, to_balance)?;
    append(tx, &Entry::local(from.as_i64(), to.as_i64(), amount, Kind::Transfer), booking)?;
    let (payer_name, receiver_name) = (payer.name(), receiver.name());
    outbox::add(tx, &payer, booking, || {
        let party = Party { account: to, name: Some(&receiver_name), branch: None };
        text::debited(from, amount, booking.date_unix_ms, &party)
    })?;
    outbox::add(tx, &receiver, booking, || {
        let party = Party { account: from, name: Some(&payer_name), branch: None };
        text::credited(to, amount, booking.date_unix_ms, &party)
    })?;
    Ok(Transferred { from_balance, to_balance })
}

/// From cash into an account, as a deposit or as an opening balance; returns the new balance.
pub(super) fn pay_in(
    tx: &mut Tx<'_>,
    number: AccountNum,
    amount: Money,
    kind: Kind,
    booking: &Booking,
) -> Result<Money> {
    let account = accounts::find_open(tx, number)?;
    let balance = credited(&account, amount)?;
    move_own(tx, CASH, OwnSide::Debited, amount)?;
    set_balance(tx, number, balance)?;
    append(tx, &Entry::local(CASH, number.as_i64(), amount, kind), booking)?;
    outbox::add(tx, &account, booking, || match kind {
        Kind::Opening => text::opened(number, amount, booking.date_unix_ms),
        Kind::Deposit
        | Kind::Withdrawal
        | Kind::Transfer
        | Kind::Closing
        | Kind::TransferOut
        | Kind::TransferIn
        | Kind::Settlement => text::deposited(number, amount, booking.date_unix_ms),
    })?;
    Ok(balance)
}

/// From an account to cash, as a withdrawal or when it closes; returns the new balance.
pub(super) fn pay_out(
    tx: &mut Tx<'_>,
    number: AccountNum,
    amount: Money,
    kind: Kind,
    booking: &Booking,
) -> Result<Money> {
    let account = accounts::find_open(tx, number)?;
    let balance = debited(&account, amount)?;
    move_own(tx, CASH, OwnSide::Credited, amount)?;
    set_balance(tx, number, balance)?;
    append(tx, &Entry::local(number.as_i64(), CASH, amount, kind), booking)?;
    outbox::add(tx, &account, booking, || match kind {
        Kind::Closing => text::closed(number, amount, booking.date_unix_ms),
        Kind::Opening
        | Kind::Deposit
        | Kind::Withdrawal
        | Kind::Transfer
        | Kind::TransferOut
        | Kind::TransferIn
        | Kind::Settlement => text::withdrawn(number, amount, booking.date_unix_ms),
    })?;
    Ok(balance)
}

/// Reads a column of paise.
pub(super) fn read_money(row: &Row<'_>, column: impl rusqlite::RowIndex) -> rusqlite::Result<Money> {
    let paise: i64 = row.get(column)?;
    Money::from_paise(paise).ok_or(rusqlite::Error::IntegralValueOutOfRange(0, paise))
}

/// The balance after a debit: what is held can't be spent.
pub(super) fn debited(account: &Account, amount: Money) -> Result<Money> {
    let available = account.available();
    if amount > available {
        return Err(Error::InsufficientFunds { available });
    }
    Ok(account.balance.checked_sub(amount).expect("the amount is at most what is available"))
}

/// The balance after a credit.
pub(super) fn credited(account: &Account, amount: Money) -> Result<Money> {
    let balance = account.balance.checked_add(amount);
    // Room that prepared deposits have reserved is not free.
    let has_room = balance.is_some_and(|balance| balance.checked_add(account.incoming).is_some());
    balance.filter(|_| has_room).ok_or(Error::BalanceLimit(account.number))
}

/// Sets a balance that was computed and checked by the caller.
///
/// # Errors
/// Failure of the database.
pub fn set_balance(tx: &mut Tx<'_>, number: AccountNum, balance: Money) -> Result<()> {
    tx.execute("UPDATE customers SET balance = ?2 WHERE account_num = ?1", params![number.as_i64(), balance.paise()])?;
    Ok(())
}

/// The due accounts are numbered downwards from below this.
const DUE_ACCOUNTS_BELOW: i64 = -1000;

/// Which side of a movement an own account stands on.
#[derive(Clone, Copy, Debug)]
pub enum OwnSide {
    /// Money moves out of it.
    Debited,
    /// Money moves into it.
    Credited,
}

/// Counts a movement in the own account's running totals. They have no end (see [`TOTAL_CARRY`]), so that what was
/// prepared can always be booked, whatever was booked before.
///
/// # Errors
/// Failure of the database.
pub fn move_own(tx: &mut Tx<'_>, own_account: i64, side: OwnSide, amount: Money) -> Result<()> {
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

/// Appends a movement's row to the books.
///
/// # Errors
/// Failure of the database.
pub fn append(tx: &mut Tx<'_>, entry: &Entry<'_>, booking: &Booking) -> Result<()> {
    tx.append_transaction(&ChainedRow {
        transaction_id: tx.next_transaction_id(),
        from_account: entry.from,
        to_account: entry.to,
        amount_paise: entry.amount.paise(),
        kind: entry.kind.as_str(),
        date_unix_ms: booking.date_unix_ms,
        txid: entry.leg.map(|(txid, _)| txid),
        leg: entry.leg.map(|(_, leg)| leg),
        peer: entry.peer,
        note: entry.note,
    })
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
