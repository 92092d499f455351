//! Asks all branches for their events of one transfer.

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::TxId;
use protocol::answer::{Run, Status, TxStatus};
use protocol::event::Event;
use protocol::request::{Action, NoParams, OneTx, Watch};
use teaching::trace::{Transfer, Witness};

use crate::branch::Branch;
use crate::error::ClientError;
use crate::peers::{self, Peer};

/// Asks the branch, and then the others that it knows.
///
/// # Errors
/// When that branch can't be reached or refuses. Another one's failure is noted in its [`Witness`].
pub fn gather(mut asked: Branch, txid: &TxId) -> Result<Transfer, ClientError> {
    let status: TxStatus = asked.ask(Action::TxStatus, &OneTx { txid: txid.clone() })?.result()?;
    let (mut witnesses, mut events) = (Vec::new(), Vec::new());
    for (index, peer) in peers::all(asked)?.into_iter().enumerate() {
        let Peer { name, addresses, mut branch } = peer;
        let mut witness = Witness { branch: name, addresses, started_unix_ms: None, run: None, unreachable: None };
        match hear(&mut branch, txid, &mut events) {
            Ok((run, started_unix_ms)) => (witness.run, witness.started_unix_ms) = (run, started_unix_ms),
            Err(error) if index == 0 => return Err(error),
            Err(error) => witness.unreachable = Some(error.to_string()),
        }
        witnesses.push(witness);
    }
    Ok(Transfer::new(txid.clone(), Some(status.outcome), witnesses, events))
}

/// Appends a branch's events. Returns its run and the time of its start.
fn hear(branch: &mut Branch, txid: &TxId, events: &mut Vec<Event>) -> Result<(Option<Run>, Option<u64>), ClientError> {
    let status: Status = branch.ask(Action::Status, &NoParams {})?.result()?;
    let params = Watch { after: None, txid: Some(txid.clone()), follow: false };
    let patience = Some(branch.timeout());
    let mut heard = Vec::new();
    branch.stream(Action::Watch, &params, patience, |reply| {
        let event: Option<Event> = reply.result()?;
        let goes_on = event.is_some();
        heard.extend(event);
        Ok(goes_on)
    })?;
    events.extend(heard);
    if let Some(run) = status.run {
        return Ok((Some(run), Some(run.started_unix_ms)));
    }
    // An older one says since how many seconds it runs.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now_unix_ms = now.and_then(|since_1970| u64::try_from(since_1970.as_millis()).ok());
    let started = now_unix_ms.map(|now_unix_ms| now_unix_ms.saturating_sub(status.uptime_seconds.saturating_mul(1000)));
    Ok((None, started))
}
