//! What a person does by hand, with a reason: moving a difference out of suspense.

use protocol::Total;
use protocol::answer::SuspenseCleared;
use protocol::request::ClearSuspense;

use super::operation::to_json;
use crate::bank::movements::Booking;
use crate::bank::suspense::{self, Clearing};
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::limits::REASON_BYTES;

/// What is to be moved out of suspense.
///
/// # Errors
/// [`Error::Invalid`].
pub fn clearing(params: ClearSuspense) -> Result<Clearing> {
    let ClearSuspense { txid, account_no, cash, amount, reason } = params;
    if account_no.is_some() == cash {
        return Err(Error::Invalid("name either the account that it goes to or comes from, or cash".into()));
    }
    let amount = amount.map(protocol::request::Amount::to_move).transpose()?;
    Ok(Clearing { txid, account: account_no, amount, reason: reason_of(&reason)? })
}

/// Moves it; gives the answer as JSON.
///
/// # Errors
/// As [`suspense::clear`].
pub fn clear_suspense(tx: &mut Tx<'_>, clearing: &Clearing, booking: &Booking) -> Result<String> {
    let cleared = suspense::clear(tx, clearing, booking)?;
    let other = clearing.account.map_or_else(|| "cash".to_string(), |account| account.to_string());
    let (from, to) = if cleared.is_out { ("suspense".into(), other) } else { (other, "suspense".into()) };
    Ok(to_json(&SuspenseCleared {
        transaction_id: cleared.transaction_id,
        txid: clearing.txid.clone(),
        amount: cleared.amount,
        from,
        to,
        left: Total::from_paise(cleared.left_paise),
    }))
}

/// The reason of what a person does by hand, as it is recorded.
///
/// # Errors
/// [`Error::Invalid`] for none, or one that is too long.
pub fn reason_of(text: &str) -> Result<String> {
    let reason = text.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES {
        return Err(Error::Invalid(format!(
            "settling by hand needs a reason of at most {REASON_BYTES} bytes, which is recorded"
        )));
    }
    Ok(reason.to_string())
}
