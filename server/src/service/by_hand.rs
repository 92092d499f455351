//! What a person does by hand, with a reason: settling a transfer, and moving a difference out of suspense.
//!
//! Both take a `request_id`: what was settled can't be settled again, and who lost the answer should get it.

use protocol::answer::{SuspenseCleared, TxStatus};
use protocol::{Total, TxId};
use two_phase_commit::Outcome;

use super::Service;
use crate::bank::movements::Booking;
use crate::bank::suspense::{self, Clearing};
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{KeptAnswer, Meaning, RequestKey, Stored};
use crate::limits::REASON_BYTES;
use crate::transfer::WithWrite;

/// How a person settles a transfer.
#[derive(Clone, Debug)]
pub struct Settling {
    /// Which transfer.
    pub txid: TxId,
    /// How.
    pub outcome: Outcome,
    /// Why; it is recorded.
    pub reason: String,
}

impl Settling {
    /// What it means, for its fingerprint.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        Meaning::of(&(&self.txid, self.outcome.to_string(), &self.reason))
    }
}

/// Settles a transfer by hand, once under `key`.
///
/// # Errors
/// As [`crate::transfer::Engine::resolve`], [`Error::RequestIdReused`], or failure of the database.
pub fn settle(service: &Service, settling: &Settling, key: Option<RequestKey>) -> Result<()> {
    let Settling { txid, outcome, reason } = settling;
    let Some(key) = key else { return service.engine.resolve(txid, *outcome, reason, None) };
    let dbs = service.bank.dbs();
    // The answer was lost, and the person asks again. It is settled.
    if key.look_up(dbs)?.is_some() {
        return Ok(());
    }
    let answer = KeptAnswer::of(&TxStatus { outcome: outcome.to_string() });
    let kept = Kept { key: key.clone(), stored: Stored::answer(answer) };
    match service.engine.resolve(txid, *outcome, reason, Some(Box::new(kept))) {
        // The first one under this id may have come in between, and what it settled can't be settled again. It has
        // settled it in the same way: another outcome would be another request.
        Err(refusal) if key.look_up(dbs)?.is_none() => Err(refusal),
        Ok(()) | Err(_) => Ok(()),
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

/// Moves a difference out of suspense.
///
/// # Errors
/// As [`suspense::clear`].
pub fn clear_suspense(tx: &mut Tx<'_>, clearing: &Clearing, booking: &Booking) -> Result<SuspenseCleared> {
    let cleared = suspense::clear(tx, clearing, booking)?;
    let other = clearing.account.map_or_else(|| "cash".to_string(), |account| account.to_string());
    let (from, to) = if cleared.is_out { ("suspense".into(), other) } else { (other, "suspense".into()) };
    Ok(SuspenseCleared {
        transaction_id: cleared.transaction_id,
        txid: clearing.txid.clone(),
        amount: cleared.amount,
        from,
        to,
        left: Total::from_paise(cleared.left_paise),
    })
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
