//! The raw actions of two-phase commit, for outside programs. They may be repeated as they are: their transaction's id
//! says which they are.

use protocol::answer::TxStatus;
use protocol::request::{OneTx, Prepare};
use two_phase_commit::{Outcome, Side};

use super::Context;
use super::operation::to_json;
use crate::error::Result;

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
