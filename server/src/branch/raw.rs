//! The raw actions of two-phase commit, for outside programs, and settling by hand.
//!
//! The raw ones may be repeated as they are: their transaction's id says which they are. Settling by hand takes a
//! `request_id`, because what was settled can't be settled again, and who lost the answer should get it.

use protocol::answer::TxStatus;
use protocol::request::{Action, OneTx, Prepare, RequestFrame, Resolve};
use serde_json::json;
use two_phase_commit::{Outcome, Side};

use super::Context;
use super::access::Caller;
use super::operation::to_json;
use crate::dbs_exec::Tx;
use crate::error::{Error, Result};
use crate::idempotency::{RequestKey, Stored};
use crate::transfer::WithWrite;

/// Prepares one leg.
///
/// # Errors
/// As [`crate::transfer::Engine::prepare`].
pub fn prepare(context: &Context, side: Side, params: &Prepare) -> Result<String> {
    let amount = params.amount.to_move()?;
    context.engine.prepare(&params.txid, side, params.account_no, amount, params.coordinator.as_deref())?;
    Ok(r#"{"vote":"yes"}"#.into())
}

/// Settles what an outside program has prepared.
///
/// # Errors
/// As [`crate::transfer::Engine::decide`].
pub fn decide(context: &Context, params: &OneTx, outcome: Outcome) -> Result<String> {
    context.engine.decide(&params.txid, outcome)?;
    Ok(to_json(&TxStatus { outcome: outcome.to_string() }))
}

/// Settles a transfer by hand.
///
/// # Errors
/// [`Error::Invalid`] without an outcome and a reason, or as [`crate::transfer::Engine::resolve`].
pub fn resolve(context: &Context, caller: Caller, frame: &RequestFrame<'_>) -> Result<String> {
    let params: Resolve = frame.params()?;
    let outcome = match params.outcome.as_str() {
        "commit" | "committed" => Outcome::Committed,
        "abort" | "aborted" => Outcome::Aborted,
        _ => return Err(Error::Invalid("the outcome is commit or abort".into())),
    };
    let reason = params.reason.trim();
    if reason.is_empty() || reason.len() > 500 {
        return Err(Error::Invalid("settling by hand needs a reason of at most 500 bytes, which is recorded".into()));
    }
    let answer = to_json(&TxStatus { outcome: outcome.to_string() });
    let Some(id) = frame.request_id() else {
        return context.engine.resolve(&params.txid, outcome, reason, None).map(|()| answer);
    };
    let meaning = json!([params.txid, outcome.to_string(), reason]);
    let key = RequestKey::new(caller.id_owner(), id, Action::Resolve, &meaning, frame.params_text());
    if let Some(stored) = key.look_up(context.bank.dbs())? {
        return Ok(stored.answer);
    }
    let kept = Kept { key: key.clone(), stored: Stored::answer(answer.clone()) };
    match context.engine.resolve(&params.txid, outcome, reason, Some(Box::new(kept))) {
        Ok(()) => Ok(answer),
        // The first one under this id may have come in between, and what it settled can't be settled again.
        Err(refusal) => match key.look_up(context.bank.dbs())? {
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
