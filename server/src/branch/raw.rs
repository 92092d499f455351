//! The raw actions of two-phase commit, for outside programs. They may be repeated as they are: their transaction's id
//! says which they are.

use protocol::answer::TxStatus;
use protocol::request::{OneTx, Prepare};
use two_phase_commit::{Outcome, Side};

use crate::error::Result;
use crate::service::Service;
use crate::service::operations::to_json;

/// Prepares one leg.
///
/// # Errors
/// As [`crate::transfer::Engine::prepare`].
pub fn prepare(service: &Service, side: Side, params: &Prepare) -> Result<String> {
    let amount = params.amount.to_move()?;
    service.engine.prepare(&params.txid, side, params.account_no, amount, params.coordinator.as_deref())?;
    Ok(r#"{"vote":"yes"}"#.into())
}

/// Settles what an outside program has prepared.
///
/// # Errors
/// As [`crate::transfer::Engine::decide`].
pub fn decide(service: &Service, params: &OneTx, outcome: Outcome) -> Result<String> {
    service.engine.decide(&params.txid, outcome)?;
    Ok(to_json(&TxStatus { outcome: outcome.to_string() }))
}
