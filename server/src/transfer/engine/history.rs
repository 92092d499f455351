//! What the engine has done, as events for whoever watches: transitions, durable records, movements of money.

use protocol::event::Movement;
use two_phase_commit::{LedgerAction, LedgerOp, Side, Step};

use super::{Engine, Task};
use crate::transfer::events::{Happened, record_name};

impl Engine {
    /// Under the machines' lock, so that a transaction's transitions are noted in their order.
    pub(super) fn note_transition(&self, step: &Step) {
        if let Some(transition) = step.transition {
            self.events.add(&step.output.txid, Happened::State(transition));
        }
    }

    /// After the write and before anything is sent, so that no message seems to come before what it stands on.
    pub(super) fn note_written(&self, task: &Task) {
        let output = &task.output;
        for record in &output.records {
            let happened = Happened::Recorded { record: record_name(record), forced: record.is_forced() };
            self.events.add(&output.txid, happened);
        }
        for LedgerOp { action, transfer } in &output.ledger_ops {
            for leg in transfer.local_legs() {
                if let Some(what) = movement(*action, leg.side) {
                    self.events.add(&output.txid, Happened::Moved { account: leg.account, amount: leg.amount, what });
                }
            }
        }
    }
}

/// What a ledger operation does to a leg's account; nothing where it is between the branch's own accounts.
const fn movement(action: LedgerAction, side: Side) -> Option<Movement> {
    match (action, side) {
        (LedgerAction::Hold, Side::Withdraw) => Some(Movement::Held),
        (LedgerAction::Hold, Side::Deposit) => Some(Movement::Reserved),
        (LedgerAction::Apply, Side::Withdraw) => Some(Movement::Debited),
        (LedgerAction::Apply, Side::Deposit) => Some(Movement::Credited),
        (LedgerAction::Release, Side::Withdraw | Side::Deposit) => Some(Movement::Released),
        // Between the branch's own accounts: no customer's money moves.
        (LedgerAction::Suspense { .. } | LedgerAction::SettleElsewhere { .. }, Side::Withdraw | Side::Deposit) => None,
    }
}
