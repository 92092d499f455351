//! What a transfer between branches does to this branch's accounts.
//!
//! The four ledger operations of the protocol, each a function on an open transaction: *hold* reserves,
//! *apply* turns what is reserved into rows and balances, *release* gives it back, *suspense* books what was
//! settled by hand and turned out wrong. Only a hold may be refused, because what is prepared can always be
//! committed: a withdrawal's money is held, a deposit has its room reserved and keeps its account open.
//!
//! The other side of each leg is the branch's own account *due* with the branch at the other end: what was
//! sent there and what came from there. Over all branches these accounts cancel out, except for what is on
//! its way.

use protocol::{AccountNum, BranchName};
use serde::{Deserialize, Serialize};
use two_phase_commit::{LedgerAction, LedgerOp, Leg, Outcome, PeerAddr, Side, Transfer};

use crate::bank::account_state::{self, AccountState};
use crate::bank::movements::{self, Booking, Entry, Kind};
use crate::bank::outbox;
use crate::dbs_exec::{SUSPENSE, Tx};
use crate::error::{Error, Result};
use crate::sms::text::{self, Party};
use crate::transfer::records::{self, OUTSIDE};

/// Who pays, as the transfer's note tells the receiving branch, for its text message.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Payer {
    /// The paying account.
    pub account: AccountNum,
    /// The customer's name.
    pub name: String,
}

/// Carries out one ledger operation.
///
/// # Errors
/// The refusal of a hold; for the others only a database error.
pub fn carry_out(tx: &mut Tx<'_>, own_name: &BranchName, op: &LedgerOp, booking: &Booking) -> Result<()> {
    // The only operation on legs that are not here: their counterparts in this branch's own books.
    if let LedgerAction::SettleElsewhere { ours } = op.action {
        return op.transfer.legs.iter().try_for_each(|leg| settle_elsewhere(tx, &op.transfer, leg, ours, booking));
    }
    for leg in op.transfer.local_legs() {
        match op.action {
            LedgerAction::Hold => hold(tx, own_name, &op.transfer, leg)?,
            LedgerAction::Apply => apply(tx, own_name, &op.transfer, leg, booking)?,
            LedgerAction::Release => release(tx, leg)?,
            LedgerAction::Suspense { ours, theirs: _ } => suspend(tx, own_name, &op.transfer, leg, ours, booking)?,
            // Done above: its legs are none of this branch's.
            LedgerAction::SettleElsewhere { .. } => {}
        }
    }
    Ok(())
}

/// The branch at the other end of a leg.
#[must_use]
pub fn peer_of(own_name: &BranchName, transfer: &Transfer, leg: &Leg) -> String {
    let own = PeerAddr::from(own_name);
    match &transfer.coordinator {
        // The coordinator's legs come in pairs: 2k takes from the payer what 2k + 1 gives to a receiver.
        Some(coordinator) if *coordinator == own => {
            let partner = transfer.legs.iter().find(|other| other.index == (leg.index ^ 1));
            partner.and_then(|partner| partner.branch.as_ref()).unwrap_or(&own).to_string()
        }
        Some(coordinator) => coordinator.to_string(),
        None => OUTSIDE.to_string(),
    }
}

fn hold(tx: &mut Tx<'_>, own_name: &BranchName, transfer: &Transfer, leg: &Leg) -> Result<()> {
    // Before anything is promised under an id: one that has ended, or is the coordinator's own, would be paid twice.
    records::refuse_known(tx, own_name, transfer)?;
    let mut account = account_state::find_open(tx, leg.account)?;
    match leg.side {
        // The money stays in the balance and is no longer available, so nobody else spends it between vote and commit.
        Side::Withdraw => {
            let available = account.available();
            if leg.amount > available {
                return Err(Error::InsufficientFunds { available });
            }
            account.held = account.held.checked_add(leg.amount).expect("what is held stays below the balance");
        }
        // Room is proved now, with all that is promised to this account already: a commit must not find it full.
        Side::Deposit => {
            let incoming = account.incoming.checked_add(leg.amount);
            let incoming = incoming.filter(|incoming| account.balance.checked_add(*incoming).is_some());
            account.incoming = incoming.ok_or(Error::BalanceLimit(leg.account))?;
        }
    }
    account_state::store(tx, &account)
}

fn apply(tx: &mut Tx<'_>, own_name: &BranchName, transfer: &Transfer, leg: &Leg, booking: &Booking) -> Result<()> {
    // It is open still: an account with money held or room reserved can't be closed.
    let mut account = account_state::find_open(tx, leg.account)?;
    let peer = peer_of(own_name, transfer, leg);
    let due = movements::due_account(tx, &peer)?;
    // What was reserved is spent with the same write of the row: there is no instant at which it is neither.
    give_back(&mut account, leg);
    let entry = |kind| Entry {
        amount: leg.amount,
        kind,
        leg: Some((transfer.txid.as_str(), leg_number(leg))),
        peer: Some(&peer),
        note: None,
    };
    match leg.side {
        Side::Withdraw => {
            // What was held leaves the balance: the customer pays, and this branch owes it to the other one.
            account.balance = account.balance.checked_sub(leg.amount).expect("held money is part of the balance");
            let (from, to) = (movements::Side::Customer(&mut account), movements::Side::Own(due));
            movements::book(tx, from, to, &entry(Kind::TransferOut), booking)?;
            // For the text message alone.
            let receiver = transfer.legs.iter().find(|other| other.index == (leg.index ^ 1));
            outbox::add(tx, leg.account, booking, |_| {
                let to = receiver.map_or(leg.account, |receiver| receiver.account);
                let party = Party { account: to, name: None, branch: Some(&peer) };
                Ok(text::debited(leg.account, leg.amount, booking.date_unix_ms, &party))
            })
        }
        Side::Deposit => {
            // The customer is paid, and the other branch owes it to this one.
            account.balance = account.balance.checked_add(leg.amount).expect("the room was reserved");
            let (from, to) = (movements::Side::Own(due), movements::Side::Customer(&mut account));
            movements::book(tx, from, to, &entry(Kind::TransferIn), booking)?;
            outbox::add(tx, leg.account, booking, |_| {
                // Another branch's free text: whatever it says, the money is credited. Only the message's wording
                // depends on it.
                let payer = serde_json::from_str::<Payer>(&transfer.note).ok();
                let name = payer.as_ref().map(|payer| payer.name.as_str());
                let from = payer.as_ref().map_or(leg.account, |payer| payer.account);
                let party = Party { account: from, name, branch: Some(&peer) };
                Ok(text::credited(leg.account, leg.amount, booking.date_unix_ms, &party))
            })
        }
    }
}

fn release(tx: &mut Tx<'_>, leg: &Leg) -> Result<()> {
    let mut account = account_state::find_open(tx, leg.account)?;
    give_back(&mut account, leg);
    account_state::store(tx, &account)
}

/// Takes what a leg reserves out of what is reserved.
fn give_back(account: &mut AccountState, leg: &Leg) {
    match leg.side {
        Side::Withdraw => {
            let held = account.held.checked_sub(leg.amount);
            account.held = held.expect("what a leg holds is part of what is held");
        }
        Side::Deposit => {
            let incoming = account.incoming.checked_sub(leg.amount);
            account.incoming = incoming.expect("what a leg reserves is part of what is reserved");
        }
    }
}

/// Books the difference between what a person settled here and what the coordinator had decided.
///
/// The rows in the books stay. What the other branch has booked and this one has not (or the reverse) moves
/// between the due account, which then agrees with the other branch's, and the suspense account, where it
/// stands until people have sorted it out.
fn suspend(
    tx: &mut Tx<'_>,
    own_name: &BranchName,
    transfer: &Transfer,
    leg: &Leg,
    ours: Outcome,
    booking: &Booking,
) -> Result<()> {
    let peer = peer_of(own_name, transfer, leg);
    let due = movements::due_account(tx, &peer)?;
    // A deposit that was paid here and never sent, or a withdrawal that was not made here and has been
    // received there: this branch is short of the money. In the other two cases it has too much.
    let is_short = matches!((leg.side, ours), (Side::Deposit, Outcome::Committed) | (Side::Withdraw, Outcome::Aborted));
    book_difference(tx, transfer, leg, &peer, due, is_short, booking)
}

/// Books the difference between what was decided here and what is true of a leg at another branch: its counterpart
/// here moves from the due account, which then agrees with the other branch's, to the suspense account, or back.
fn settle_elsewhere(tx: &mut Tx<'_>, transfer: &Transfer, leg: &Leg, ours: Outcome, booking: &Booking) -> Result<()> {
    let Some(peer) = leg.branch.as_ref().map(ToString::to_string) else { return Ok(()) };
    let due = movements::due_account(tx, &peer)?;
    // A deposit there that was taken from the payer here and never paid leaves this branch with too much; one that was
    // paid there and not taken here makes it short.
    let is_short = matches!((leg.side, ours), (Side::Deposit, Outcome::Aborted) | (Side::Withdraw, Outcome::Committed));
    book_difference(tx, transfer, leg, &peer, due, is_short, booking)
}

fn book_difference(
    tx: &mut Tx<'_>,
    transfer: &Transfer,
    leg: &Leg,
    peer: &str,
    due: i64,
    is_short: bool,
    booking: &Booking,
) -> Result<()> {
    let (from, to) = if is_short { (SUSPENSE, due) } else { (due, SUSPENSE) };
    let entry = Entry {
        amount: leg.amount,
        kind: Kind::Settlement,
        // Below zero, so that it stands beside the leg's own row.
        leg: Some((transfer.txid.as_str(), -1 - leg_number(leg))),
        peer: Some(peer),
        note: None,
    };
    movements::book(tx, movements::Side::Own(from), movements::Side::Own(to), &entry, booking)?;
    Ok(())
}

fn leg_number(leg: &Leg) -> i64 {
    i64::from(leg.index)
}
