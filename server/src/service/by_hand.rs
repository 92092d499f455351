//! What a person does by hand, with a reason: settling a transfer, and moving a difference out of suspense.
//!
//! Both take a `request_id`: what was settled can't be settled again, and who lost the answer should get it.

use protocol::Total;
use protocol::answer::{SuspenseCleared, TxStatus};
use protocol::request::{Action, ClearSuspense, RequestFrame, Resolve};
use serde_json::json;
use two_phase_commit::Outcome;

use super::Service;
use super::access::Caller;
use super::operations::to_json;
use crate::bank::movements::Booking;
use crate::bank::suspense::{self, Clearing};
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{RequestKey, Stored};
use crate::limits::REASON_BYTES;
use crate::transfer::WithWrite;

/// Settles a transfer by hand.
///
/// # Errors
/// [`Error::Invalid`] without an outcome and a reason, or as [`crate::transfer::Engine::resolve`].
pub fn resolve(service: &Service, caller: Caller, frame: &RequestFrame<'_>) -> Result<String> {
    let params: Resolve = frame.params()?;
    let outcome = match params.outcome.as_str() {
        "commit" | "committed" => Outcome::Committed,
        "abort" | "aborted" => Outcome::Aborted,
        _ => return Err(Error::Invalid("the outcome is commit or abort".into())),
    };
    let reason = reason_of(&params.reason)?;
    let answer = to_json(&TxStatus { outcome: outcome.to_string() });
    let Some(id) = frame.request_id() else {
        return service.engine.resolve(&params.txid, outcome, &reason, None).map(|()| answer);
    };
    let meaning = json!([params.txid, outcome.to_string(), reason]);
    let key = RequestKey::new(caller.id_owner(), id, Action::Resolve, &meaning, frame.params_text());
    if let Some(stored) = key.look_up(service.bank.dbs())? {
        return Ok(stored.answer);
    }
    let kept = Kept { key: key.clone(), stored: Stored::answer(answer.clone()) };
    match service.engine.resolve(&params.txid, outcome, &reason, Some(Box::new(kept))) {
        Ok(()) => Ok(answer),
        // The first one under this id may have come in between, and what it settled can't be settled again.
        Err(refusal) => match key.look_up(service.bank.dbs())? {
            Some(stored) => Ok(stored.answer),
            None => Err(refusal),
        },
    }
}

/// Keeps the answer with the settling, if its id is still free. The settling itself is decided and can't fail for it.
struct Kept {
    key: RequestKey,
    stored: Stored,
}

impl WithWrite for Kept {
    fn check(&mut self, _tx: &Tx<'_>) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        match self.key.find(tx) {
            Ok(None) => self.key.store(tx, &self.stored),
            Ok(Some(_)) | Err(Error::RequestIdReused) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What is to be moved out of suspense.
///
/// # Errors
/// [`Error::Invalid`].
pub fn clearing(params: ClearSuspense) -> Result<Clearing> {
    let ClearSuspense { txid, account_no, cash, amount, not_booked_by, reason } = params;
    if account_no.is_some() == cash {
        return Err(Error::Invalid("name either the account that it goes to or comes from, or cash".into()));
    }
    let amount = amount.map(protocol::request::Amount::to_move).transpose()?;
    let not_booked_by = not_booked_by.map(|branch| branch.to_string());
    Ok(Clearing { txid, account: account_no, amount, not_booked_by, reason: reason_of(&reason)? })
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
