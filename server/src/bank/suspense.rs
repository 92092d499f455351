//! The way out of suspense: a person moves a difference to whom it belongs.
//!
//! A transfer that was settled by hand, and whose other side had ended otherwise, leaves a difference on the suspense
//! account (`transfer::ledger`). People find out whose it is; then it is moved to or from a customer, or paid out of or
//! into cash, as a row of its own that has their reason and is chained like every other. Nothing that was booked
//! before is changed. Never more is moved than stands there for that transfer, so a difference can't be cleared twice.
//!
//! A payment whose other side was lost (its branch was put back to an older state, say) stands in no suspense yet, and
//! no transfer under way will mend it. A person says which branch has not booked it; then it is moved into suspense,
//! so that both branches agree on what one owes the other, and out again in the same transaction.

use std::collections::BTreeMap;

use protocol::leg_sum::payment_number;
use protocol::{AccountNum, Money, TxId};

use super::account_state;
use super::movements::{self, Booking, Entry, Kind, Side};
use super::outbox;
use crate::dbs_exec::{CASH, Query, SUSPENSE, Tx, params};
use crate::error::{Error, Result};
use crate::sms::text;

/// The rows that clear a transfer's difference are legs from here on downwards; above are those that made it.
const CLEARING_LEGS_FROM: i64 = -1_000_000;
const _: () = assert!(CLEARING_LEGS_FROM < -1 - two_phase_commit::LEGS_MAX.cast_signed() as i64);

/// What a person wants to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clearing {
    /// The transfer whose difference it is.
    pub txid: TxId,
    /// To or from this customer; cash without one.
    pub account: Option<AccountNum>,
    /// How much of it; all without it.
    pub amount: Option<Money>,
    /// The branch that has not booked its side, and never will.
    pub not_booked_by: Option<String>,
    /// Why.
    pub reason: String,
}

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The row.
    pub transaction_id: i64,
    /// How much.
    pub amount: Money,
    /// Whether it went out of suspense, to the customer or cash; else from them into it.
    pub is_out: bool,
    /// What still stands there for the transfer, in paise; negative where money is lacking.
    pub left_paise: i128,
}

/// What stands in suspense for a transfer, in paise: above zero when there is too much money here, below when there is
/// too little.
///
/// # Errors
/// Failure of the database.
pub fn standing(query: &impl Query, txid: &TxId) -> Result<i128> {
    let mut paise = 0;
    query.query_each(
        "SELECT CASE WHEN to_account = ?2 THEN amount ELSE -amount END FROM transactions
         WHERE txid = ?1 AND ?2 IN (from_account, to_account)",
        params![txid.as_str(), SUSPENSE],
        |row| {
            paise += i128::from(row.get::<_, i64>(0)?);
            Ok(())
        },
    )?;
    Ok(paise)
}

/// Moves a difference out of suspense, or what is lacking into it.
///
/// # Errors
/// [`Error::NothingInSuspense`]; [`Error::CannotResolve`] while the transfer is under way; [`Error::Invalid`] for more than stands there; [`Error::NoSuchAccount`],
/// [`Error::AccountClosed`], [`Error::InsufficientFunds`], [`Error::BalanceLimit`].
pub fn clear(tx: &mut Tx<'_>, clearing: &Clearing, booking: &Booking) -> Result<Cleared> {
    let Clearing { txid, account, amount, not_booked_by, reason } = clearing;
    if let Some(peer) = not_booked_by {
        suspend_unmatched(tx, txid, peer, reason, booking)?;
    }
    let stands = standing(tx, txid)?;
    let most = Money::from_paise(i64::try_from(stands.unsigned_abs()).unwrap_or(i64::MAX)).unwrap_or(Money::MAX);
    if most.is_zero() {
        return Err(Error::NothingInSuspense(txid.clone()));
    }
    let amount = amount.unwrap_or(most);
    if amount > most {
        return Err(Error::Invalid(format!("only Rs {most} of transfer {txid} is in suspense")));
    }
    let is_out = stands > 0;
    let mut account = account.map(|number| account_state::find_open(tx, number)).transpose()?;
    if let Some(account) = &mut account {
        if is_out { account.credit(amount)? } else { account.debit(amount)? }
    }
    let leg = Some((txid.as_str(), next_leg(tx, txid)?));
    let entry = Entry { amount, kind: Kind::Settlement, leg, peer: None, note: Some(reason) };
    let other = account.as_mut().map_or(Side::Own(CASH), Side::Customer);
    let (from, to) = if is_out { (Side::Own(SUSPENSE), other) } else { (other, Side::Own(SUSPENSE)) };
    let transaction_id = movements::book(tx, from, to, &entry, booking)?;
    if let Some(number) = clearing.account {
        outbox::add(tx, number, booking, |_| Ok(text::settled(number, amount, is_out, booking.date_unix_ms)))?;
    }
    let moved = i128::from(amount.paise());
    Ok(Cleared { transaction_id, amount, is_out, left_paise: stands - if is_out { moved } else { -moved } })
}

/// Moves what a transfer's payments have made `peer` owe this branch, or this branch it, into suspense.
fn suspend_unmatched(tx: &mut Tx<'_>, txid: &TxId, peer: &str, reason: &str, booking: &Booking) -> Result<()> {
    refuse_under_way(tx, txid)?;
    let due = "SELECT account_num FROM own_accounts WHERE peer = ?1";
    let due: i64 =
        tx.query_opt(due, params![peer], |row| row.get(0))?.ok_or_else(|| Error::NothingInSuspense(txid.clone()))?;
    // By payment: the leg that was booked here, and what it and its corrections make.
    let mut payments: BTreeMap<i64, (Option<i64>, i128)> = BTreeMap::new();
    tx.query_each(
        "SELECT leg, CASE WHEN to_account = ?2 THEN amount ELSE -amount END FROM transactions
         WHERE txid = ?1 AND ?2 IN (from_account, to_account)",
        params![txid.as_str(), due],
        |row| {
            let leg: i64 = row.get(0)?;
            let payment = payments.entry(payment_number(leg)).or_default();
            payment.0 = payment.0.or_else(|| Some(leg).filter(|leg| *leg >= 0));
            payment.1 += i128::from(row.get::<_, i64>(1)?);
            Ok(())
        },
    )?;
    let mut is_any = false;
    for (leg, net) in payments.into_values() {
        let amount = i64::try_from(net.unsigned_abs()).ok().and_then(Money::from_paise);
        let (Some(leg), Some(amount)) = (leg, amount.filter(|amount| !amount.is_zero())) else { continue };
        let (from, to) = if net > 0 { (due, SUSPENSE) } else { (SUSPENSE, due) };
        // It stands for the side that is missing, as a correction of that leg would.
        let leg = Some((txid.as_str(), -1 - (leg ^ 1)));
        let entry = Entry { amount, kind: Kind::Settlement, leg, peer: Some(peer), note: Some(reason) };
        movements::book(tx, Side::Own(from), Side::Own(to), &entry, booking)?;
        is_any = true;
    }
    if is_any { Ok(()) } else { Err(Error::NothingInSuspense(txid.clone())) }
}

/// What is under way ends by itself, or by `resolve`.
fn refuse_under_way(query: &impl Query, txid: &TxId) -> Result<()> {
    let open = query.query_opt(
        "SELECT 1 FROM prepared WHERE txid = ?1 AND state = 'prepared'
         UNION ALL SELECT 1 FROM coordinated WHERE txid = ?1 AND state <> 'ended'
         UNION ALL SELECT 1 FROM contradicted WHERE txid = ?1 LIMIT 1",
        params![txid.as_str()],
        |_| Ok(()),
    )?;
    match open {
        Some(()) => {
            Err(Error::CannotResolve(format!("transfer {txid} is under way here still; list_pending shows it")))
        }
        None => Ok(()),
    }
}

fn next_leg(query: &impl Query, txid: &TxId) -> Result<i64> {
    let sql = "SELECT min(leg) FROM transactions WHERE txid = ?1";
    let lowest: Option<i64> = query.query_opt(sql, params![txid.as_str()], |row| row.get(0))?.flatten();
    Ok(lowest.map_or(CLEARING_LEGS_FROM, |lowest| (lowest - 1).min(CLEARING_LEGS_FROM)))
}
