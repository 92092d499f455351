//! What a person settles at a participant (rule 9), and what happens when the coordinator speaks after all.
//!
//! A person settles when the coordinator seems gone for good. It may come back, so the participant goes on asking, and
//! compares: the two agree, or the transaction is mixed for ever. What the person chose is never overwritten.

use std::sync::Arc;

use protocol::TxId;

use super::answers::acknowledge;
use super::entry::Entry;
use super::{Participant, ParticipantState};
use crate::error::ResolveError;
use crate::output::{LedgerAction, Notice, Output};
use crate::record::{Outcome, Record};
use crate::transfer::PeerAddr;

impl Participant {
    /// Settles a transaction in doubt by an operator's order. It is recorded as such, and never changed again; if the
    /// coordinator says otherwise later, it is marked mixed.
    ///
    /// # Errors
    /// Nothing has been done: the transaction is not in doubt.
    pub fn resolve_by_hand(&mut self, txid: &TxId, outcome: Outcome, reason: &str) -> Result<Output, ResolveError> {
        if self.recovering {
            return Err(ResolveError::Recovering);
        }
        match self.state(txid) {
            // Nothing was promised here, so nothing is held that a person could free.
            ParticipantState::Unknown => return Err(ResolveError::Unknown),
            // The write may be just the outcome, or the promise that is refused; a person must not settle what may be
            // over.
            ParticipantState::Preparing
            | ParticipantState::Settling(_)
            | ParticipantState::Confirming(_)
            | ParticipantState::Mixing(_) => return Err(ResolveError::UnderWay),
            // A person's word does not stand above a decision, nor above another person's: what is in the books stays.
            ParticipantState::Settled(outcome) | ParticipantState::Mixed(outcome) => {
                return Err(ResolveError::Settled(outcome));
            }
            // In doubt: the one state in which everybody else may already know what this branch does not.
            ParticipantState::Prepared => {}
        }
        let mut entry = self.take(txid).ok_or(ResolveError::Unknown)?;
        entry.by_hand = true;
        // Without a coordinator nobody will ever confirm it or say otherwise: a person's word is the last.
        let is_last_word = entry.coordinator().is_none();
        entry.confirmed = is_last_word;
        let output = self.settle(entry, outcome, Some(Arc::from(reason)));
        Ok(if is_last_word { output.record(Record::Confirmed { txid: txid.clone() }) } else { output })
    }

    /// The coordinator says how it decided what a person has settled here as `ours`.
    pub(super) fn compare(&mut self, entry: Entry, from: &PeerAddr, ours: Outcome, theirs: Outcome) -> Output {
        let txid = entry.txid.clone();
        if ours == theirs {
            // The person guessed right: to the coordinator it is as if it had been told in time.
            self.confirm(entry, ours).and(acknowledge(&txid, from, theirs, false))
        } else {
            // It is acknowledged all the same, as mixed. Otherwise it would be delivered for ever to one that will
            // never follow.
            self.mix(entry, ours, theirs).and(acknowledge(&txid, from, theirs, true))
        }
    }

    /// The coordinator agrees. That is durable before the acknowledgement: afterwards the coordinator may forget, and
    /// would answer "aborted" to a participant that asked again.
    pub(super) fn confirm(&mut self, mut entry: Entry, ours: Outcome) -> Output {
        let txid = entry.txid.clone();
        entry.enter(ParticipantState::Confirming(ours));
        entry.due = None;
        self.keep(entry);
        Output::new(&txid).record(Record::Confirmed { txid: txid.clone() }).tell(Notice::Confirmed { txid })
    }

    /// The coordinator disagrees. Nothing is overwritten: the money may be spent, or owed to somebody. The difference is
    /// booked beside it on the suspense account, and told.
    pub(super) fn mix(&mut self, mut entry: Entry, ours: Outcome, theirs: Outcome) -> Output {
        let txid = entry.txid.clone();
        entry.enter(ParticipantState::Mixing(ours));
        entry.due = None;
        let output = Output::new(&txid)
            .record(Record::Mixed { txid: txid.clone(), ours, theirs })
            .tell(Notice::Mixed { txid, ours, theirs });
        let output = match &entry.held {
            Some(held) => output.ledger(LedgerAction::Suspense { ours, theirs }, held),
            None => output,
        };
        self.keep(entry);
        output
    }
}
